"""torchvision's families of constructors, on classes of our own put in torchvision's place."""

import numpy as np
import pytest
from PIL import Image

from data import DataError, read_images
from data.torchvision_sets import read_torchvision_set

datasets = pytest.importorskip("torchvision.datasets")


class Fake:
    """`sizes[part]` images, the i-th of them i pixels wide; every opened index is noted."""

    opened = ()

    def _fill(self, n, names):
        self.n = n
        self.classes = list(names)

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        type(self).opened += (i,)
        return Image.new("L", (i + 1, 1)), i % 2


class ByTrain(Fake):
    def __init__(self, root, train=True, transform=None, download=False):
        assert download
        self._fill(4 if train else 2, ["cat", "dog"])
        self.targets = [i % 2 for i in range(self.n)]


class BySplit(Fake):
    known = ("train", "val", "test")

    def __init__(self, root, split="train", download=False):
        if split not in self.known:
            raise ValueError(f"Unknown value '{split}' for argument split.")
        self._fill({"train": 3, "trainval": 3, "val": 2, "test": 1}[split], ["cat", "dog"])
        self._labels = [i % 2 for i in range(self.n)]


class TrainVal(BySplit):
    known = ("train", "val")


class TrainvalTest(BySplit):
    known = ("trainval", "test")


class Whole(Fake):
    def __init__(self, root):
        self._fill(3, [("crane", "bird"), ("crane", "bird")])
        self.y = np.array([0, 1, 0])


class Unkept(Fake):
    def __init__(self, root):
        self._fill(3, [])


class Broken(Fake):
    def __init__(self, root, split="train", download=False):
        raise RuntimeError("Dataset not found\nor corrupted.")


class NoPart(BySplit):
    known = ("digits",)


class OutOfRange(Fake):
    def __init__(self, root):
        self._fill(2, ["cat"])
        self.labels = [0, -1]


@pytest.fixture(autouse=True)
def fakes(monkeypatch):
    for kind in (
        ByTrain,
        BySplit,
        TrainVal,
        TrainvalTest,
        Whole,
        Unkept,
        Broken,
        NoPart,
        OutOfRange,
    ):
        monkeypatch.setattr(datasets, kind.__name__, kind, raising=False)
        monkeypatch.setattr(kind, "opened", ())


@pytest.mark.parametrize(
    ("kind", "parts", "split", "labels"),
    [
        (ByTrain, "train 4 test 2", "train 4 test 2", "cat dog cat dog cat dog"),
        (BySplit, "train 3 val 2 test 1", "train 5 test 1", "cat dog cat cat dog cat"),
        (TrainVal, "train 3 val 2", "train 3 test 2", "cat dog cat cat dog"),
        (TrainvalTest, "train 3 test 1", "train 3 test 1", "cat dog cat cat"),
        (Whole, "all 3", None, "crane, bird (0)|crane, bird (1)|crane, bird (0)"),
        (Unkept, "all 3", None, "0 1 0"),
    ],
)
def test_families(tmp_path, kind, parts, split, labels):
    samples = read_torchvision_set(kind.__name__, tmp_path)
    words = parts.split()
    expected = [
        f"torchvision:{kind.__name__}/{part}/{i:06d}"
        for part, n in zip(words[::2], words[1::2], strict=True)
        for i in range(1, int(n) + 1)
    ]
    assert samples.paths == tuple(expected)
    assert samples.labels.tolist() == labels.split("|" if "|" in labels else None)
    if split is None:
        assert samples.split is None
    else:
        words = split.split()
        assert (
            samples.split.tolist() == np.repeat(words[::2], [int(n) for n in words[1::2]]).tolist()
        )


def test_images_are_opened_one_by_one(tmp_path):
    samples = read_torchvision_set("ByTrain", tmp_path)
    assert ByTrain.opened == ()
    assert samples.inputs[5].size == (2, 1)  # the second of the test part
    assert samples[samples.split == "test"].inputs[0].size == (1, 1)
    assert [image.size for image in samples.inputs[3:5]] == [(4, 1), (1, 1)]
    assert ByTrain.opened == (1, 0, 3, 0)


def test_the_default_folder_is_the_users_cache(monkeypatch):
    roots = []
    monkeypatch.setattr(
        Whole, "__init__", lambda self, root: roots.append(root) or Unkept.__init__(self, root)
    )
    assert read_images("torchvision:Whole", labelled=False).labels is None
    assert roots[0].replace("\\", "/").endswith("permafrost/torchvision")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("flowers101", "no such data set; did you mean Flowers102"),
        ("Zzz", "no such data set; see torchvision.datasets"),
        ("Broken", r"can't be downloaded or read \(Dataset not found or corrupted.\)"),
        ("NoPart", "has no part named train, val or test"),
        ("OutOfRange", "labels outside its 1 classes"),
    ],
)
def test_sets_that_can_not_be_used(tmp_path, name, message):
    with pytest.raises(DataError, match=message):
        read_torchvision_set(name, tmp_path)


@pytest.mark.parametrize("offline", ["", "1"])
def test_nothing_is_downloaded_offline(tmp_path, monkeypatch, offline):
    asked = []

    def init(self, root, download=False):
        asked.append(download)
        raise RuntimeError("Dataset not found. You can use download=True to download it")

    monkeypatch.setattr(Whole, "__init__", init)
    monkeypatch.setenv("PERMAFROST_OFFLINE", offline)
    with pytest.raises(DataError) as refused:
        read_torchvision_set("Whole", tmp_path)
    line = str(refused.value)
    assert asked == [not offline]
    assert str(tmp_path) in line
    assert ("PERMAFROST_OFFLINE" in line and "copy what is in FOLDER" in line) is bool(offline)
