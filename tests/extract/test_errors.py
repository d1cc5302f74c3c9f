"""Tests of extract/errors.py: which errors are of memory, and how too large a size is said."""

import numpy as np
import pytest
import torch

from extract import ExtractError, load_backbone
from extract.errors import is_out_of_memory, too_large


@pytest.mark.parametrize(
    ("error", "is_of_memory"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: 8192 bytes"), True),
        (RuntimeError("size mismatch"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_errors_of_memory(error, is_of_memory):
    assert is_out_of_memory(error) == is_of_memory


def test_numpys_error_of_memory_is_one():
    with pytest.raises(MemoryError) as caught:
        np.empty(1 << 60, np.uint8)
    assert is_out_of_memory(caught.value)


def test_a_size_is_said_as_it_is_given():
    assert str(too_large(9, 9)).startswith("size=9 is too large for this machine")
    assert str(too_large(9, 8)).startswith("size=(9, 8) is too large for this machine")


def refuse(*_):
    raise RuntimeError("DefaultCPUAllocator: can't allocate memory: 8192 bytes")


@pytest.mark.parametrize(
    "where", [("extract.backbones.card.available", lambda: 1 << 20),
              ("extract.layers.probe_layers", refuse)]
)  # fmt: skip
def test_a_size_without_room_is_refused_before_and_after_it_is_tried(where, monkeypatch):
    """PyTorch's own paragraph came out; with swap, nothing for minutes."""
    monkeypatch.setattr(*where)
    backbone = load_backbone("mobilenet_v3_small", "random", size=512)
    with pytest.raises(ExtractError, match="size=512 is too large for this machine"):
        backbone.card  # noqa: B018
