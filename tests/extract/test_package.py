"""The room's door: what importing it takes along."""

import subprocess
import sys

import pytest

import extract

LIGHT = (
    "import sys, extract; {use}; "
    "print([m for m in ('torch', 'torchvision', 'h5py') if m in sys.modules])"
)


@pytest.mark.parametrize(
    "use", ["extract.__all__", "extract.Recipe, extract.Tap, extract.parse_taps, extract.Backbone"]
)
def test_importing_takes_no_torch_and_no_h5py(use):
    done = subprocess.run(
        [sys.executable, "-c", LIGHT.format(use=use)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_every_public_name_is_there():
    for name in extract.__all__:
        assert getattr(extract, name).__name__ == name
    assert set(extract.__all__) <= set(dir(extract))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Extractor'"):
        extract.Extractor  # noqa: B018
