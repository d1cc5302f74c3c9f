"""The examples in the docstrings of `pipelines.exploration` run as they stand."""

import doctest
import importlib
import pkgutil

import pytest

from pipelines import exploration

MODULES = [
    module.name for module in pkgutil.iter_modules(exploration.__path__, "pipelines.exploration.")
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0
