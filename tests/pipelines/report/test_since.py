"""Tests of pipelines/report/since.py: what a run says of the one before it, however damaged."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from pipelines.evaluation.comparison import paired_interval
from pipelines.report.images import ImageTable, read_images, write_images
from pipelines.report.since import Earlier, compare_since, read_earlier, since_in_words

FEW = ["--layers", "features.4", "--pooling", "avg", "--heads", "knn", "--baselines", "off"]
RESULTS = {
    "settings": {"seed": 0, "heads": ["knn"]},
    "backbones": [{"sha256": "ab"}],
    "versions": {"torch": "2"},
    "chosen": {"head": "knn", "tap": "a:avg"},
}


def table(parts, labels, predicted, start=0):
    n = len(parts)
    figures = np.zeros(n)
    return ImageTable(
        path=np.array([f"{start + i}.png" for i in range(n)], object),
        id=np.array([f"{start + i:032x}" for i in range(n)], object),
        part=np.array([{"e": "test", "r": "train"}[own] for own in parts], object),
        label=np.array(list(labels), object),
        predicted=np.array(list(predicted), object),
        probability=figures,
        probability_of_label=figures,
        familiarity=figures,
        x=figures,
        y=figures,
    )


def compared(then, now, results=RESULTS):
    earlier = Earlier("before/results.json", then, dict(results["settings"]))
    return compare_since(earlier, now, RESULTS)


def test_both_are_judged_by_the_labels_of_now_on_the_images_that_both_tested():
    then = table("eeeeeerr", "aabbabab", "abbaabab")
    # image 1 is relabelled as it was answered, image 3 is answered right now, image 5 no longer;
    # image 6 was trained on and is tested now, image 7 is gone, two are new
    now = table("eeeeeee", "abbbaba", "abbbaaa")
    now = ImageTable(
        **{
            name: np.concatenate([getattr(now, name), getattr(table("re", "ab", "ab", 50), name)])
            for name in vars(now)
        }
    )
    found = compared(then, now)
    assert found["n_compared"] == 6
    assert found["accuracy_then_by_its_labels"] == pytest.approx(4 / 6)
    assert found["accuracy_then"] == pytest.approx(5 / 6)
    assert found["accuracy_now"] == pytest.approx(5 / 6)
    assert found["difference_by_labels"] == pytest.approx(1 / 6)
    assert (found["n_righted"], found["n_wronged"]) == (1, 1)
    assert (found["low"], found["high"]) == paired_interval(np.array([0, 0, 0, 1, 0, -1.0]))
    assert found["verdict"] == "can't tell"
    assert found["labels_changed"] == [{"path": "1.png", "part": "test", "then": "a", "now": "b"}]
    counts = {"n_labels_changed": 1, "n_labels_changed_tested": 1}
    counts |= {"n_added": 2, "n_gone": 1, "n_moved": 1}
    assert {name: found[name] for name in counts} == counts
    first, second = since_in_words(found)
    assert "on the 6 test images of both, by the labels of now, accuracy 0.8333 then" in first
    assert "1 from wrong to right, 1 back" in first
    assert second == (
        "  1 label changed, 1 of test images, which alone moves the earlier run by +0.1667; "
        "images: 2 added, 1 gone, 1 on the other side of the split"
    )


def test_what_was_asked_otherwise_is_named():
    same = table("er", "ab", "ab")
    then = {"settings": {"seed": 1, "heads": ["knn", "ridge"], "gone": 3}}
    found = compared(same, same, then)
    assert found["settings_changed"] == [
        {"name": "seed", "then": 1, "now": 0},
        {"name": "heads", "then": ["knn", "ridge"], "now": ["knn"]},
    ]
    assert since_in_words(found)[1] == "  other: seed 1 → 0, heads knn,ridge → knn"


def test_without_shared_test_images_one_line_says_so():
    found = compared(table("er", "ab", "ab"), table("re", "ab", "ab"))
    problem = "none of its test images is one of this run"
    assert found == {"file": "before/results.json", "problem": problem}
    assert since_in_words(found) == [f"not compared with before/results.json: {problem}"]
    assert since_in_words(None) == []


@pytest.fixture(scope="module")
def before(tmp_path_factory, photos_of_the_module, small_run):
    """A run, which tests only look at: the folder that holds its `out`."""
    place = tmp_path_factory.mktemp("before")
    code, _, err = small_run(photos_of_the_module, place, *FEW, "--report", "off")
    assert code == 0, err
    return place


def cut(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


DAMAGES = {
    "results cut": ("results.json", cut),
    "results of nothing": ("results.json", lambda file: file.write_text("[]")),
    "no split": ("results.json", lambda file: file.write_text('{"versions": {}, "backbones": []}')),
    "nested": ("results.json", lambda file: file.write_text("[" * 100_000)),
    "no results": ("results.json", lambda file: file.unlink()),
    "images cut": ("images.csv", cut),
    "no images": ("images.csv", lambda file: file.unlink()),
    "an older table": ("images.csv", lambda file: file.write_text("path,id,part\na,00,test\n")),
    "bytes": ("images.csv", lambda file: file.write_bytes(b"\xff\x00,\n\x00")),
    "a folder": ("images.csv", lambda file: (file.unlink(), file.mkdir())),
    "a huge cell": ("images.csv", lambda file: file.write_text(f'path,id\n"{"x" * 200_000}",1\n')),
}


ADVISED = {
    "about": "depth",
    "sentence": "all layers may do better",
    "command": ["python", "-m", "pipelines.run", "photos"],
    "follows": "run",
    "settings": {"layers": "all"},
    "promise": "better",
}


def advise(folder, advised):
    file = folder / "results.json"
    file.write_text(json.dumps(json.loads(file.read_bytes()) | {"advised": advised}))


def test_what_a_run_advised_is_read(before, tmp_path):
    shutil.copytree(before / "out", tmp_path / "out")
    rows = [ADVISED, ADVISED | {"command": None, "promise": None}]
    advise(tmp_path / "out", [*rows, {"about": "of a version with fewer keys"}])
    assert read_earlier(tmp_path / "out").advised == rows


@pytest.mark.parametrize(
    "advised",
    [
        7,
        [None],
        [ADVISED | {"promise": "gold"}],
        [ADVISED | {"promise": ["better"]}],
        [ADVISED | {"command": "python -m pipelines.run"}],
        [ADVISED | {"command": ["python", 3]}],
        [ADVISED | {"settings": ["layers"]}],
        [ADVISED | {"settings": None}],
        [ADVISED | {"follows": None}],
    ],
)
def test_advice_that_is_none_has_a_problem_and_raises_nothing(before, tmp_path, advised):
    shutil.copytree(before / "out", tmp_path / "out")
    advise(tmp_path / "out", advised)
    found = read_earlier(tmp_path / "out")
    assert found.images is None
    assert found.problem.endswith("results.json is not as this version writes it")


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_run_has_a_problem_and_raises_nothing(before, tmp_path, damage):
    name, do = DAMAGES[damage]
    shutil.copytree(before / "out", tmp_path / "out")
    assert read_earlier(tmp_path / "out").problem is None
    do(tmp_path / "out" / name)
    found = read_earlier(tmp_path / "out")
    assert found.images is None
    assert name in found.problem


def test_images_of_another_run_are_noticed(before, tmp_path):
    shutil.copytree(before / "out", tmp_path / "out")
    images = read_images(tmp_path / "out" / "images.csv")
    parts = np.where(images.part == "test", "train", "test").astype(object)
    write_images(tmp_path / "out" / "images.csv", replace(images, part=parts))
    assert "images.csv is not as this version" in read_earlier(tmp_path / "out").problem


def test_a_run_over_another_one_says_what_changed(
    before, photos_of_the_module, small_run, tmp_path
):
    for name in ("out", "cache"):
        shutil.copytree(before / name, tmp_path / name)
    first = read_images(tmp_path / "out" / "images.csv")
    mended = first.path[first.part == "train"][0]
    other = {"cats": "dogs", "dogs": "cats"}[first.label[first.part == "train"][0]]
    (tmp_path / "fixes.csv").write_text(f"path,label\n{mended},{other}\n")
    fixes = ["--labels", str(tmp_path / "fixes.csv"), "--cv", "2", "--report", "on"]
    split = ["--split", str(before / "out")]
    code, said, err = small_run(photos_of_the_module, tmp_path, *FEW, *fixes, *split)
    assert code == 0, err
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    found = results["compared"]
    assert found["file"] == str(before / "out" / "results.json")
    assert found["n_compared"] == results["data"]["n_test"]
    assert found["accuracy_now"] == pytest.approx(results["chosen"]["test_accuracy"])
    assert [own["path"] for own in found["labels_changed"]] == [mended]
    assert "labels" in {own["name"] for own in found["settings_changed"]}
    assert f"since {found['file']}: on the {found['n_compared']} test images of both" in said
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert "Since the earlier run" in page
    assert 'data-key="/compared/difference"' in page
    assert "The labels that changed" in page


def test_a_run_over_a_damaged_one_is_not_compared(
    before, photos_of_the_module, small_run, tmp_path
):
    for name in ("out", "cache"):
        shutil.copytree(before / name, tmp_path / name)
    (tmp_path / "out" / "images.csv").write_bytes(b"\xff\xfe")
    code, said, err = small_run(photos_of_the_module, tmp_path, *FEW, "--report", "off")
    assert code == 0, err
    [line] = [line for line in said.splitlines() if line.startswith("not compared")]
    assert "images.csv is not as this version writes it" in line
    assert read_earlier(tmp_path / "out").problem is None
