"""Tests of save_pixels and load_pixels."""

import json

import numpy as np
import pytest
from sklearn.base import clone

from pipelines import load_pixels, save_pixels
from pipelines.errors import BundleError
from pipelines.pixels.kept import FILE


@pytest.fixture
def saved(classifier, drawn, tmp_path):
    """(the classifier, the folder that it is in)."""
    fitted = clone(classifier).fit(*drawn)
    return fitted, save_pixels(fitted, tmp_path / "model")


def test_what_is_loaded_predicts_the_same(saved, drawn):
    fitted, folder = saved
    loaded = load_pixels(folder, cache=False)
    assert all(map(np.array_equal, loaded.predict(drawn[0]), fitted.predict(drawn[0])))
    assert loaded.get_params() == {
        **fitted.get_params(),
        "cache": False,
        "numerics": "auto",  # what it became is kept
    }
    assert loaded.numerics_ == "float32"
    save_pixels(loaded, folder)  # over its own


@pytest.mark.parametrize("name", [FILE, "head.skops"])
def test_a_file_that_is_not_as_written_is_refused(saved, name):
    _, folder = saved
    (folder / name).write_bytes((folder / name).read_bytes()[:-40])
    with pytest.raises(BundleError, match=r"holds no classifier of pixels|is not what was written"):
        load_pixels(folder)


def test_other_weights_are_refused(saved):
    _, folder = saved
    content = json.loads((folder / FILE).read_text())
    content["parameters"]["seed"] = 1
    (folder / FILE).write_text(json.dumps(content))
    with pytest.raises(BundleError, match="fitted on other weights of mobilenet_v3_small"):
        load_pixels(folder, cache=False)


def test_a_forest_and_a_folder_of_something_else_are_refused(saved, tmp_path):
    fitted, _ = saved
    with pytest.raises(BundleError, match="a forest of pixels is not kept"):
        save_pixels(clone(fitted).set_params(head="forest"), tmp_path / "forest")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("")
    with pytest.raises(BundleError, match="exists and holds no"):
        save_pixels(fitted, tmp_path / "full")
