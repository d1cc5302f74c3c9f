"""The examples in the docstrings of `data` run as they stand."""

import doctest
import importlib
import pkgutil

import pytest

import data

MODULES = [module.name for module in pkgutil.iter_modules(data.__path__, "data.")]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


@pytest.mark.parametrize("name", data.__all__)
def test_every_public_name_has_an_example(name):
    if name != "DataError":
        assert ">>> " in getattr(data, name).__doc__
