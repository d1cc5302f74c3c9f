"""Tests of extract/allocator.py."""

import ctypes
import sys

import numpy as np
import pytest

from extract import allocator


class Calls:
    """Stands for glibc: notes what it is asked."""

    def __init__(self):
        self.said = []

    def mallopt(self, option, value):
        self.said.append((option, value))

    def malloc_trim(self, pad):
        self.said.append("trim")


@pytest.fixture
def libc(monkeypatch):
    """A glibc that only notes, on Linux."""
    calls = Calls()
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", lambda name: calls)
    return calls


def test_blocks_are_kept_inside_and_given_back_after_an_error_too(libc):
    def fail():
        with allocator.kept_memory():
            assert [value for _, value in libc.said] == [allocator.LARGEST] * 2
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert libc.said[2:] == [*allocator.USUAL.items(), "trim"]


@pytest.mark.parametrize(
    ("platform", "library"), [("darwin", None), ("win32", None), ("linux", object())]
)
def test_without_glibc_nothing_is_asked(monkeypatch, platform, library):
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
    with allocator.kept_memory():
        pass


def test_this_machines_allocator_still_works():
    with allocator.kept_memory():
        total = sum(float(np.ones(1 << 20).sum()) for _ in range(5))
    assert total == 5 * 2**20
