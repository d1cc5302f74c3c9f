"""Samples checks its fields and slices like an array."""

import subprocess
import sys

import numpy as np
import pytest

import data
from data import DataError, Samples
from data.samples import PixelRows

PATHS = ("a.jpg", "b.jpg", "c.jpg", "d.jpg")


@pytest.fixture
def samples():
    return Samples(
        PATHS,
        labels=["x", "y", "x", "y"],
        groups=["1", "1", "2", "2"],
        split=["train", "train", "test", "test"],
        name="four",
        passed_over={"hidden": 1},
        problems=(("e.jpg", "no such file"),),
    )


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (slice(1, 3), [1, 2]),
        (slice(None, None, -1), [3, 2, 1, 0]),
        ([2, 0, 2], [2, 0, 2]),
        (np.array([3]), [3]),
        (np.array([True, False, False, True]), [0, 3]),
        (np.zeros(4, bool), []),
    ],
)
def test_a_slice_is_samples_again(samples, rows, expected):
    part = samples[rows]
    assert part.paths == tuple(PATHS[i] for i in expected)
    for name in ("labels", "groups", "split"):
        assert getattr(part, name).tolist() == getattr(samples, name)[expected].tolist()
    assert (part.classes, part.name) == (("x", "y"), "four")
    assert (part.passed_over, part.problems) == ({}, ())


def test_one_index_is_refused(samples):
    with pytest.raises(TypeError, match="a slice, an array of indices or a boolean mask"):
        samples[1]


def test_pixels_are_fetched_only_when_asked_for():
    class Source(list):
        fetched = ()

        def __getitem__(self, i):
            self.fetched += (i,)
            return super().__getitem__(i)

    source = Source("abcd")
    part = Samples(PATHS, pixels=source)[1:][[2, 0]]
    assert source.fetched == ()
    assert isinstance(part.inputs, PixelRows)
    assert (len(part.inputs), part.inputs[0], part.inputs[-1], list(part.inputs[1:])) == (
        2,
        "d",
        "b",
        ["b"],
    )
    assert source.fetched == (3, 1, 1)


def test_inputs_are_the_paths_of_files(samples):
    assert samples.inputs == list(PATHS)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"labels": ["x"]}, r"labels has shape \(1,\) for 4 paths"),
        ({"groups": [["1"]] * 4}, r"groups has shape \(4, 1\) for 4 paths"),
        ({"pixels": [0]}, "pixels has 1 images for 4 paths"),
        ({"labels": list("xyxz"), "classes": ("x", "y")}, "labels holds 'z'; expected one of x, y"),
        (
            {"split": ["train", "val", "test", "test"]},
            "split holds 'val'; expected one of train, test",
        ),
    ],
)
def test_fields_that_do_not_fit_are_refused(fields, message):
    with pytest.raises(DataError, match=message):
        Samples(PATHS, **fields)


def test_every_public_name_is_there():
    assert all(hasattr(data, name) for name in data.__all__)
    assert set(data.__all__) <= set(dir(data))
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        _ = data.nothing_of_the_kind


def test_reading_a_folder_loads_neither_torch_nor_sklearn(make_tree):
    folder = make_tree("x/1.jpg")
    code = (
        "import sys, data; data.read_images(sys.argv[1]); "
        "print({'torch', 'sklearn'} & set(sys.modules))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, folder], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "set()"
