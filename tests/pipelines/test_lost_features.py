"""A run ends with the same figures whatever becomes of the kept features on its way."""

import json
import os
import re
import shutil

import h5py
import pytest

from data import images
from pipelines import job, results_folder
from pipelines.features import FeatureTable

TIMES = re.compile(
    r"seconds|images_per_second|in_words|command|bottleneck|engine|from_store|computed|^compared$"
)
# before which read of a run, counted from 1: the audit's, the search's; and from the end: the test
# rows' by the heads and by the reference, the audit's last, the map's, the curve's
STAGES = (1, 2, -7, -5, -4, -3, -2, -1)


def without_times(value):
    """Results without what may differ between two runs."""
    if isinstance(value, list):
        return [without_times(item) for item in value]
    if isinstance(value, dict):
        return {key: without_times(own) for key, own in value.items() if not TIMES.search(key)}
    return value


def damage_every_part(cache):
    """Flip a byte in the first chunk of each tap of each part, thumbnails included."""
    for path in cache.glob("*/parts/*.h5"):
        with h5py.File(path) as file:
            offsets = [tap.id.get_chunk_info(0).byte_offset for tap in file["taps"].values()]
        data = bytearray(path.read_bytes())
        for offset in offsets:
            data[offset] ^= 64
        path.write_bytes(data)


@pytest.fixture
def run_harmed(photos, run, tmp_path, monkeypatch):
    """run_harmed(harm, at) harms the cache before the `at`-th read -> (results, rows of each)."""
    read = FeatureTable.read

    def call(harm=None, at=0):
        reads = []

        def noting(table, source, rows=None):
            reads.append(len(table.samples) if rows is None else len(rows))
            if len(reads) == at:
                harm(tmp_path / "cache")
            return read(table, source, rows)

        monkeypatch.setattr(FeatureTable, "read", noting)
        short = ["--heads", "knn", "--baselines", "off", "--pooling", "avg"]
        code, _, err = run(photos, *short, "--layers", "features.4,features.6")
        assert code == 0, err
        text = (tmp_path / "out" / "results.json").read_text(encoding="utf-8")
        return without_times(json.loads(text)), reads

    return call


@pytest.mark.slow
@pytest.mark.parametrize("harm", [damage_every_part, shutil.rmtree])
def test_features_lost_before_any_stage_change_no_figure(run_harmed, harm):
    """A flipped byte in a chunk that only test rows need ended a run after the whole search."""
    expected, reads = run_harmed()
    assert (reads[0], reads[1], *reads[-5:]) == (24, 18, 6, 24, 24, 18, 18)
    for stage in STAGES:
        found, _ = run_harmed(harm, stage % (len(reads) + 1))
        assert found == expected, stage


def every_seventh(photos):
    return sorted(photos.rglob("*.png"))[::7]


def remove_images(photos, cache):
    for path in every_seventh(photos):
        path.unlink()


def replace_images(photos, cache):
    others = [path.read_bytes() for path in every_seventh(photos)]
    for path, other in zip(every_seventh(photos), others[1:] + others[:1], strict=True):
        path.write_bytes(other)


def break_images(photos, cache):
    for path in every_seventh(photos):
        path.write_bytes(path.read_bytes()[:300])


# of a job, in their order; the baselines' own passes are the ones that read images again
JOB_STAGES = (
    "settle_copies",
    "find_baselines",
    "trace",
    "score_choice",
    "audit_images",
    "leave_classifier",
    "write_results",
)
HARMS = {
    "cache removed": lambda photos, cache: shutil.rmtree(cache),
    "parts damaged": lambda photos, cache: damage_every_part(cache),
    "images removed": remove_images,
    "images replaced": replace_images,
    "images broken": break_images,
}


@pytest.fixture
def run_harmed_before(photos, run, tmp_path, monkeypatch):
    """run_harmed_before(stage, harm) -> (exit code, its results or None, stderr)."""
    short = ["--heads", "knn", "--pooling", "avg", "--layers", "features.4,features.6"]

    def call(stage, harm):
        home = results_folder if stage == "write_results" else job
        work = getattr(home, stage)

        def harmed(*arguments):
            harm(photos, tmp_path / "cache")
            return work(*arguments)

        with monkeypatch.context() as patched:
            patched.setattr(home, stage, harmed)
            code, _, err = run(photos, *short)
        text = (tmp_path / "out" / "results.json").read_text("utf-8")  # an earlier run's, perhaps
        return code, None if code else without_times(json.loads(text)), err

    return call


@pytest.mark.slow
@pytest.mark.parametrize("harm", HARMS)
def test_what_is_lost_or_changed_before_any_stage_changes_no_figure(
    harm, run_harmed_before, photos, tmp_path
):
    """With the cache in place images are not needed any more, but for the baselines; and for the
    patches that a page shows, which are no figures."""
    shutil.copytree(photos, tmp_path / "kept")
    _, expected, _ = run_harmed_before("settle_copies", lambda *_: None)
    for place, stage in enumerate(JOB_STAGES):
        shutil.rmtree(tmp_path / "cache", ignore_errors=True)
        code, found, err = run_harmed_before(stage, HARMS[harm])
        if "images" in harm and place <= JOB_STAGES.index("find_baselines"):
            said = f"{every_seventh(tmp_path / 'kept')[0].name}: it has changed during the run: "
            assert (stage, code, found) == (stage, 1, None)
            assert said in err.splitlines()[-1]
        else:
            assert (stage, code) == (stage, 0), err
            seen, expected_seen = found.pop("seen"), {**expected}.pop("seen")
            assert found == {name: own for name, own in expected.items() if name != "seen"}, stage
            if "images" not in harm:
                assert seen == expected_seen, stage
            kept = [own["channel"] for own in expected_seen["channels"]]
            assert [own["channel"] for own in seen["channels"]] == kept, stage
        shutil.rmtree(photos)
        shutil.copytree(tmp_path / "kept", photos)


def test_bytes_are_read_twice_on_a_first_run_and_never_again(photos, run, tmp_path, monkeypatch):
    """Once for an image's id and once in the pass, which makes the audit's thumbnail as well; and
    of the few that a page shows patches of twice more: to find the places, and to cut them out."""
    opened, seen = images._open, []

    def noting(path):
        seen.append(str(path))
        return opened(path)

    monkeypatch.setattr("data.images._open", noting)
    for path in photos.rglob("*.png"):
        os.utime(path, (path.stat().st_mtime - 3600,) * 2)
    monkeypatch.setattr("extract.store.ids.SETTLED_SECONDS", 0.0)  # of the time of change, too
    run(photos, "--heads", "knn", "--baselines", "off")
    found = json.loads((tmp_path / "out" / "results.json").read_bytes())["seen"]
    assert len(set(seen)) == 24
    assert len(seen) == 48 + 2 * found["n_images"]
    seen.clear()
    code, _, err = run(photos, "--heads", "knn", "--baselines", "off")
    assert code == 0, err
    assert seen == []
