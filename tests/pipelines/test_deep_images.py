"""Images deeper than 8 bits: one range for the whole set, in the recipe, the bundle and predict."""

import json

import numpy as np
import pytest
from PIL import Image

QUICK = ["--layers", "features.3", "--pooling", "avg", "--heads", "logistic", "--baselines", "off"]


def deepen(photos, low=0, high=255, suffix=".tif"):
    """The photos again as gray of 16 bits, 0..255 spread over low..high, none of which says so."""
    for file in sorted(photos.rglob("*.png")):
        gray = np.asarray(Image.open(file).convert("L"), float)
        values = np.rint(low + gray * (high - low) / 255).astype(np.uint16)
        file.unlink()
        Image.fromarray(values).save(file.with_suffix(suffix))
    return photos


def results_of(out):
    return json.loads((out / "results.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize(("low", "high"), [(0, 255), (200, 4095), (1000, 1600)])
def test_a_range_is_found_over_the_set(photos, run, tmp_path, low, high):
    code, _, err = run(deepen(photos, low, high), *QUICK)
    assert code == 0
    line = next(line for line in err.splitlines() if "deeper than 8 bits" in line)
    assert "--intensity LOW:HIGH" in line
    results = results_of(tmp_path / "out")
    assert results["audit"]["n_flat"] == 0
    found_low, found_high = results["data"]["intensity"]
    spread = high - low
    assert low - 0.05 * spread <= found_low <= low + 0.3 * spread
    assert high - 0.3 * spread <= found_high <= high + 0.05 * spread


@pytest.mark.slow
def test_predict_reads_a_single_image_by_the_range_of_the_training_images(photos, run, tmp_path):
    from pipelines import load_classifier

    assert run(deepen(photos, 0, 4095), *QUICK)[0] == 0
    classifier = load_classifier(tmp_path / "out" / "model")
    low, high = results_of(tmp_path / "out")["data"]["intensity"]
    # half as bright as any training image: by a range of its own it would look like them
    dim, mirror = tmp_path / "dim.tif", tmp_path / "dim.png"
    values = np.tile(np.linspace(low, low + (high - low) / 8, 48), (40, 1))
    Image.fromarray(values.astype(np.uint16)).save(dim)
    as_8_bits = np.rint(np.clip((values - low) / (high - low), 0, 1) * 255).astype(np.uint8)
    Image.fromarray(as_8_bits).save(mirror)
    deep, plain = classifier.predict_proba([dim, mirror])
    np.testing.assert_allclose(deep, plain, atol=0.02)
    assert np.abs(deep - plain).max() < 0.02


@pytest.mark.slow
def test_a_given_range_is_another_recipe_and_stays(photos, run, tmp_path):
    deepen(photos, 0, 4095)
    ids = set()
    for intensity in ("0:4095", "0:8190", "full"):
        code, _, err = run(photos, *QUICK, "--intensity", intensity)
        assert code == 0
        assert "deeper than 8 bits" not in err
        ids.add(results_of(tmp_path / "out")["backbone"]["recipe"])
    assert len(ids) == 3


@pytest.mark.slow
def test_a_range_may_begin_below_zero(photos, run, tmp_path):
    deepen(photos, 0, 400)
    assert run(photos, *QUICK, "--intensity", "-1000:400")[0] == 0
    assert results_of(tmp_path / "out")["data"]["intensity"] == [-1000, 400]


@pytest.mark.slow
def test_the_full_range_of_dim_images_is_flat_and_counted(photos, run, tmp_path):
    code, out, _ = run(deepen(photos, 0, 255), *QUICK, "--intensity", "full")
    assert code == 0
    assert results_of(tmp_path / "out")["audit"]["n_flat"] == 24
    assert "came out flat" in out


def test_photos_of_8_bits_have_no_range(photos, run, tmp_path):
    code, _, err = run(photos, *QUICK)
    assert code == 0
    assert "deeper than 8 bits" not in err
    assert results_of(tmp_path / "out")["data"]["intensity"] is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--intensity", "9:3"], "--intensity"),
        (["--intensity", "bright"], "--intensity"),
        (["--intensity", "nan:3"], "--intensity"),
        (["--page", "0"], "--page"),
        (["--channels", "0,1"], "--channels"),
        (["--channels", "red"], "--channels"),
        (["--channels", "-1"], "--channels"),
    ],
)
def test_a_wrong_reading_is_one_line(photos, run, arguments, message):
    code, _, err = run(photos, *QUICK, *arguments)
    assert code == 2
    assert message in err.splitlines()[-1]
    assert len(err.splitlines()) == 1


@pytest.mark.slow
def test_the_range_comes_from_the_training_images_alone(photos, run, tmp_path):
    """A bright test image must not move the range."""
    deepen(photos, 0, 1000)
    rows = ["path,label,split"]
    for kind in ("cats", "dogs"):
        files = sorted((photos / kind).iterdir())
        rows += [f"{file},{kind},{'test' if i < 3 else 'train'}" for i, file in enumerate(files)]
        values = np.asarray(Image.open(files[0])).astype(int) * 60
        Image.fromarray(values.astype(np.uint16)).save(files[0])
    manifest = tmp_path / "photos.csv"
    manifest.write_text("\n".join(rows) + "\n")
    assert run(manifest, *QUICK)[0] == 0
    assert results_of(tmp_path / "out")["data"]["intensity"][1] <= 1050


@pytest.mark.slow
def test_pages_and_channels_are_chosen(run, tmp_path):
    import tifffile

    rng = np.random.default_rng(0)
    for kind, band in (("cats", 3), ("dogs", 4)):
        (tmp_path / "bands" / kind).mkdir(parents=True)
        for number in range(10):
            pixels = rng.integers(0, 60, (40, 40, 6), np.uint8)
            pixels[..., band] += 150
            tifffile.imwrite(
                tmp_path / "bands" / kind / f"{number}.tif",
                pixels,
                photometric="minisblack",
                planarconfig="contig",
            )
    code, _, err = run(tmp_path / "bands", *QUICK)
    assert code == 1
    assert "--channels" in err
    code, _, err = run(tmp_path / "bands", *QUICK, "--channels", "3,4,0")
    assert code == 0, err
    assert results_of(tmp_path / "out")["chosen"]["test_accuracy"] == 1.0


@pytest.mark.slow
def test_notes_on_pixels_are_listed_and_remembered(photos, run, tmp_path):
    """A file of two pages and one without its end are used; the store's rows keep their notes."""
    import tifffile

    first, second = sorted((photos / "cats").iterdir())[:2]
    page = np.asarray(Image.open(first).convert("L"))
    first.unlink()
    tifffile.imwrite(first.with_suffix(".tif"), np.stack([page, 255 - page]))
    second.write_bytes(second.read_bytes().removesuffix(b"IEND\xaeB`\x82")[:-4])
    for computed in (24, 0):
        code, _, err = run(photos, *QUICK)
        assert code == 0
        assert "2 images are used with a note" in err
        results = results_of(tmp_path / "out")
        assert results["extraction"]["computed"] == computed
        assert (results["data"]["n_bad"], results["data"]["n_noted"]) == (0, 2)
        rows = (tmp_path / "out" / "bad_images.csv").read_text().splitlines()
        assert rows[0] == "path,reason,note"
        assert rows[1].endswith(",,1 of 2 pages")
        assert len(rows) == 3


@pytest.mark.slow
def test_predict_says_which_page_it_read(photos, run, tmp_path, capsys):
    import tifffile

    from pipelines.predict import main

    assert run(photos, *QUICK)[0] == 0
    pages = tmp_path / "pages.tif"
    tifffile.imwrite(pages, np.zeros((3, 40, 48), np.uint8), photometric="minisblack")
    capsys.readouterr()
    assert main([str(tmp_path / "out" / "model"), str(pages), "--json"]) == 0
    assert capsys.readouterr().err == f"note: {pages}: 1 of 3 pages\n"


@pytest.mark.slow
def test_renaming_a_deep_image_computes_nothing_again(photos, run, tmp_path):
    deepen(photos, 0, 4095)
    assert run(photos, *QUICK)[0] == 0
    first = min((photos / "cats").iterdir())
    first.rename(first.with_name("zzz.tif"))
    assert run(photos, *QUICK)[0] == 0
    assert results_of(tmp_path / "out")["extraction"]["computed"] == 0
