"""No bundle that was damaged, or made by an enemy, gives another answer or another error."""

import contextlib
import io
import json
import os
import random
import resource
import shutil
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from extract import FeatureExtractor
from heads import fit_calibration, head_scores, make_head
from heads.blended import BlendedHead, Member
from heads.rows import training_rows
from pipelines import BundleError, ImageClassifier, load_classifier, save_classifier
from pipelines.bundle.description import render
from pipelines.bundle.files import describe_files

DAMAGED = 150  # a benchmark raises both
FORGED = 400
MOST_SECONDS = 10
MOST_BYTES = 500e6


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (24, 40, 40, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory, images):
    """An SVM, kNN and a blend with weights of its own, each with its answers."""
    folder = tmp_path_factory.mktemp("bundles")
    found = {}
    for name, make in (("svm", one_head("rbf_svm")), ("knn", one_head("knn")), ("blend", blend)):
        classifier = make(folder, images)
        save_classifier(classifier, folder / name)
        found[name] = (folder / name, answers_of(classifier, images))
    return found


def answers_of(classifier, images):
    return classifier.predict(images).tolist(), classifier.predict_proba(images)


def one_head(name):
    def make(folder, images):
        extractor = FeatureExtractor(backbone="histogram", cache=False)
        X, y = extractor.transform(images), np.array(["a", "b", "ç"])[np.arange(24) % 3]
        return ImageClassifier().assemble(extractor, *fitted(name, X, y))

    return make


def fitted(name, X, y):
    head = make_head(name).fit(X, y)
    scores = None if name == "knn" else fit_calibration(head_scores(head, X), y, head.classes_)
    return head, scores, training_rows(head, X)


def blend(folder, images):
    import torch

    from extract import load_backbone

    network = load_backbone("squeezenet1_1", "random", seed=3, size=32).network
    torch.save(network.state_dict(), folder / "w.pth")
    extractor = FeatureExtractor(
        "features.3+features.4", backbone="squeezenet1_1", weights=str(folder / "w.pth"), size=32,
        cache=False,
    )  # fmt: skip
    X, y = extractor.transform(images), np.array(["a", "b"])[np.arange(24) % 2]
    members = []
    for name, columns in (("knn", (0, 128)), ("rbf_svm", (0, 128)), ("lda", (128, 256))):
        head, calibration, rows = fitted(name, X[:, slice(*columns)], y)
        members.append(Member(name, {}, 1 / 3, estimator=head, calibration=calibration,
                              columns=columns, rows=rows))  # fmt: skip
    return ImageClassifier().assemble(extractor, BlendedHead(members))


def damage(folder, rng):
    """Flip a bit, cut a file, or swap two files or two blocks of one."""
    files = sorted(folder.iterdir())
    file = rng.choice(files)
    data = bytearray(file.read_bytes())
    at = rng.randrange(len(data))
    kind = rng.randrange(6)
    if kind <= 2:
        data[at] ^= 1 << rng.randrange(8)
    elif kind == 3:
        del data[at:]
    elif kind == 4:
        other = rng.randrange(len(data))
        data[at : at + 8], data[other : other + 8] = data[other : other + 8], data[at : at + 8]
    else:
        other = rng.choice([own for own in files if own != file])
        other_data = other.read_bytes()
        other.write_bytes(data)
        data = other_data
    file.write_bytes(bytes(data))


def damaged_answers(bundles, images, tmp_path, count, seed=0):
    """(refused, taken) of `count` damaged bundles; an answer that differs fails."""
    rng, refused, taken = random.Random(seed), 0, 0
    for number in range(count):
        name = rng.choice(sorted(bundles))
        original, (labels, shares) = bundles[name]
        folder = tmp_path / "damaged"
        shutil.copytree(original, folder)
        damage(folder, rng)
        try:
            loaded = load_classifier(folder)
        except BundleError as error:
            refused += 1
            assert_a_line(error)
        else:
            taken += 1
            found = answers_of(loaded, images)
            assert found[0] == labels, (number, name)
            assert np.array_equal(found[1], shares), (number, name)
        shutil.rmtree(folder)
    return refused, taken


def assert_a_line(error):
    assert str(error).isprintable()
    assert len(str(error)) < 1500


@pytest.mark.slow
def test_no_damage_gives_another_answer(bundles, images, tmp_path):
    refused, taken = damaged_answers(bundles, images, tmp_path, DAMAGED)
    assert refused >= 0.9 * (refused + taken)


@pytest.mark.parametrize("name", ["bundle.json", "head.skops", "rows.npy"])
def test_a_bit_flipped_anywhere_in_a_file_is_told(bundles, tmp_path, name):
    folder = tmp_path / "bundle"
    shutil.copytree(bundles["svm"][0], folder)
    data = (folder / name).read_bytes()
    for at in range(0, len(data), max(len(data) // 40, 1)):
        (folder / name).write_bytes(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
        with pytest.raises(BundleError, match=r"bundle"):
            load_classifier(folder)


@pytest.mark.parametrize("name", ["svm", "knn"])
def test_without_its_rows_a_head_is_refused(bundles, tmp_path, name):
    """kNN divided by zero in compiled code and took the process along."""
    folder = tmp_path / "bundle"
    shutil.copytree(bundles[name][0], folder)
    (folder / "rows.npy").unlink()
    with pytest.raises(BundleError, match=r"rows\.npy: No such file"):
        load_classifier(folder)
    seal(folder)
    with pytest.raises(BundleError, match="is without the training rows it keeps"):
        load_classifier(folder)


def seal(folder, content=None):
    """Give all files the checksums of what they hold now."""
    file = folder / "bundle.json"
    content = content or json.loads(file.read_bytes())
    file.unlink(missing_ok=True)
    file.write_bytes(render({**content, "files": describe_files(folder)}))


ROWS = {
    "cut": lambda rows: rows[:3],
    "NaN": lambda rows: np.full_like(rows, np.nan),
    "wider": lambda rows: np.hstack([rows, rows]),
    "double": lambda rows: rows.astype(np.float64),
    "flat": lambda rows: rows.ravel(),
    "none": lambda rows: rows[:0],
    "objects": lambda rows: np.array([None]),
}


@pytest.mark.parametrize("name", ["svm", "knn"])
@pytest.mark.parametrize("how", ROWS)
def test_rows_that_do_not_belong_to_the_head_are_refused(bundles, tmp_path, name, how):
    folder = tmp_path / "bundle"
    shutil.copytree(bundles[name][0], folder)
    rows = np.load(folder / "rows.npy")
    np.save(folder / "rows.npy", ROWS[how](rows), allow_pickle=True)
    seal(folder)
    with pytest.raises(BundleError):
        load_classifier(folder)


@pytest.mark.parametrize("how", ["file", "folder", "link", "pipe", "outside"])
def test_what_no_run_wrote_there_is_refused_unopened(bundles, tmp_path, how):
    folder = tmp_path / "bundle"
    shutil.copytree(bundles["svm"][0], folder)
    if how == "file":
        (folder / "evil.py").write_text("raise SystemExit('ran')")
    elif how == "folder":
        (folder / "more").mkdir()
    elif how in ("link", "pipe"):
        (folder / "head.skops").rename(tmp_path / "elsewhere")
        if how == "link":
            (folder / "head.skops").symlink_to(tmp_path / "elsewhere")
        else:
            os.mkfifo(folder / "head.skops")
    else:
        content = json.loads((folder / "bundle.json").read_bytes())
        content["files"]["../elsewhere"] = content["files"]["rows.npy"]
        (folder / "bundle.json").write_bytes(render(content))
    with pytest.raises(BundleError, match=r"no run wrote there|no plain file|list of files"):
        load_classifier(folder)


def test_what_a_file_browser_leaves_is_passed_over(bundles, images, tmp_path):
    folder = tmp_path / "bundle"
    shutil.copytree(bundles["svm"][0], folder)
    (folder / ".DS_Store").write_bytes(b"0")
    (folder / "@eaDir").mkdir()
    assert load_classifier(folder).predict(images).tolist() == bundles["svm"][1][0]


NAMES = [
    ("evil:make", "torchvision.resnet18"),
    ("evil:make", "torchvision.evil:make"),
    ("evil:make", "permafrost.evil:make/1"),
    ("evil:make", "own:evil:0:"),
    ("evil", "torchvision.evil"),
    ("module:evil:make", "torchvision.module:evil:make"),
    ("pixels", "torchvision.pixels"),
    ("../evil", "torchvision.../evil"),
    ("resnet18", "permafrost.resnet18/1"),
]


@pytest.mark.parametrize(("name", "architecture"), NAMES)
def test_no_code_that_a_bundle_names_is_imported(
    bundles, tmp_path, monkeypatch, name, architecture
):
    folder = tmp_path / "bundle"
    shutil.copytree(bundles["svm"][0], folder)
    (tmp_path / "evil.py").write_text("raise SystemExit('imported')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.syspath_prepend("")
    content = json.loads((folder / "bundle.json").read_bytes())
    content["extractors"][0]["backbone"]["name"] = name
    content["extractors"][0]["recipe"]["architecture"] = architecture
    seal(folder, content)
    asked = []
    monkeypatch.setattr(sys, "meta_path", [Listener(asked), *sys.meta_path])
    with pytest.raises(BundleError):
        load_classifier(folder)
    ours = ("data", "extract", "heads", "pipelines", "sklearn", "torch", "torchvision", "numpy")
    assert {module.split(".")[0] for module in asked} - set(ours) - sys.stdlib_module_names == set()


class Listener:
    """Notes what is asked of the import system, and finds nothing."""

    def __init__(self, asked):
        self.asked = asked

    def find_spec(self, name, path=None, target=None):
        self.asked.append(name)


def test_weights_of_a_path_that_a_bundle_names_are_not_opened(bundles, tmp_path):
    folder = tmp_path / "bundle"
    shutil.copytree(bundles["blend"][0], folder)
    (folder / "weights-0.safetensors").unlink()
    seal(folder)
    with pytest.raises(BundleError, match="list of files has too few"):
        load_classifier(folder)


ODD = [
    None, True, -1, 0, 1, 3, 2**31, 2**63, 10**400, 1e308, -0.0, 0.5, "", "a", "\x1b[2J", "a\nb",
    "..", "/etc/passwd", "evil:make", "x" * 10_000, [], {}, [[]], [None] * 3, ["a"], {"a": 1},
]  # fmt: skip


def forge(folder, rng):
    """Change a bundle as an enemy would: values, arrays, heads, with right checksums."""
    content = json.loads((folder / "bundle.json").read_bytes())
    kind = rng.randrange(4)
    if kind == 0:
        for _ in range(rng.randint(1, 3)):
            change_value(content, rng)
        rewritten = render(content) if rng.random() < 0.5 else None
        if rewritten is None:
            seal(folder, content)
        else:
            (folder / "bundle.json").write_bytes(rewritten)
        return
    files = sorted(folder.iterdir())
    if kind == 1:
        forge_array(rng.choice([own for own in files if own.suffix == ".npy"]), rng)
    elif kind == 2:
        forge_head(rng.choice([own for own in files if own.suffix == ".skops"]), rng)
    else:
        file = rng.choice([own for own in files if own.suffix != ".json"])
        data = bytearray(file.read_bytes())
        for _ in range(rng.randint(1, 5)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        file.write_bytes(data[: rng.choice([len(data), rng.randrange(len(data))])])
    seal(folder, content)


def change_value(tree, rng):
    """Replace, remove, double or add one value somewhere in a tree of JSON."""
    spots = []

    def walk(node):
        for key in node if isinstance(node, dict) else range(len(node)):
            spots.append((node, key))
            if isinstance(node[key], (dict, list)):
                walk(node[key])

    walk(tree)
    node, key = rng.choice(spots)
    kind = rng.randrange(5)
    if kind == 0:
        del node[key]
    elif kind == 1 and isinstance(node, dict):
        node[rng.choice(["extra", "..", key + "_"])] = rng.choice(ODD)
    elif kind == 2:
        node[key] = rng.choice(spots)[0]  # it may hold itself: the renderer refuses that
        try:
            json.dumps(tree)
        except (ValueError, RecursionError):
            node[key] = []
    else:
        node[key] = rng.choice(ODD)


def forge_array(file, rng):
    array = np.load(file)
    kind = rng.randrange(6)
    if kind == 0:
        array = array[: rng.randrange(len(array) + 1)]
    elif kind == 1:
        array = array.astype(rng.choice(["f2", "f4", "f8", "i4", "u4", "?", "c8", "S4"]))
    elif kind == 2:
        array = array.reshape(-1)
    elif kind == 3:
        array = np.array(array)
        array.ravel()[rng.randrange(array.size)] = rng.choice([0, 1, 255, 60000])
    elif kind == 4:
        array = np.concatenate([array, array])
    else:
        array = array.T
    np.save(file, array)


def forge_head(file, rng):
    """Change nodes, or arrays, of a skops file."""
    with zipfile.ZipFile(file) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    schema = json.loads(files["schema.json"])
    for _ in range(rng.randint(1, 3)):
        if rng.random() < 0.5:
            change_value(schema, rng)
            continue
        name = rng.choice([own for own in files if own.endswith(".npy")])
        try:
            array = np.load(io.BytesIO(files[name]))
        except ValueError:
            continue
        out = io.BytesIO()
        np.save(out, forged(array, rng))
        files[name] = out.getvalue()
    with contextlib.suppress(ValueError, RecursionError):
        files["schema.json"] = json.dumps(schema).encode()
    with zipfile.ZipFile(file, "w", rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])) as new:
        for name, data in files.items():
            if rng.random() > 0.01:
                new.writestr(name, data)


def forged(array, rng):
    kind = rng.randrange(5)
    if kind == 0:
        return array[..., : rng.randrange(4)] if array.ndim else array[None]
    if kind == 1 and array.dtype.kind in "fiu" and array.size:
        array = np.array(array)
        value = rng.choice([0, -1, 10**6, 2**31 - 1, np.nan, np.inf])
        with np.errstate(invalid="ignore"):
            array.ravel()[rng.randrange(array.size)] = np.array(value).astype(array.dtype)
        return array
    if kind == 2:
        return np.concatenate([np.atleast_1d(array)] * 2)
    if kind == 3 and array.dtype.kind in "fiu":
        return array.astype(rng.choice(["f4", "f8", "i4", "i8", "u1"]))
    return np.zeros(rng.choice([(0,), (3,), (1, 1), (1000, 1000), ()]))


def peak_bytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def forged_answers(bundles, images, tmp_path, count, seed=0):
    """(refused, taken, longest seconds, bytes taken beside) of `count` forged bundles."""
    rng, refused, taken, longest = random.Random(seed), 0, 0, 0.0
    for own, _ in bundles.values():
        load_classifier(own).predict(images)
    before = peak_bytes()
    folder = Path(tmp_path, "forged")
    for _ in range(count):
        shutil.copytree(bundles[rng.choice(sorted(bundles))][0], folder)
        forge(folder, rng)
        start = time.perf_counter()
        try:
            loaded = load_classifier(folder, on_warning=lambda line: None)
        except BundleError as error:
            refused += 1
            assert_a_line(error)
        else:
            taken += 1
            labels, shares = answers_of(loaded, images)
            assert set(labels) <= set(loaded.classes_.tolist())
            assert shares.shape == (len(images), len(loaded.classes_))
        longest = max(longest, time.perf_counter() - start)
        shutil.rmtree(folder)
    return refused, taken, longest, peak_bytes() - before


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_an_enemy_gets_a_bundle_error_or_a_classifier(bundles, images, tmp_path):
    refused, taken, longest, grown = forged_answers(bundles, images, tmp_path, FORGED)
    assert refused + taken == FORGED
    assert refused > FORGED / 2
    assert longest < MOST_SECONDS
    assert grown < MOST_BYTES
