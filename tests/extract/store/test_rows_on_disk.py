"""Rows are found at their place in a file, and bytes that have changed are noticed."""

import zlib

import numpy as np
import pytest

from extract.store.rows_on_disk import Column, WrongBytes, gather, widened

STEP = 8


@pytest.fixture
def rows():
    return np.random.default_rng(0).normal(size=(50, 5)).astype(np.float16)


@pytest.fixture
def column(tmp_path, rows):
    """The rows in chunks of 8 that lie in a file in no order, with gaps between them."""
    padded = np.concatenate([rows, np.zeros((-len(rows) % STEP, 5), rows.dtype)])
    blocks = [padded[at : at + STEP] for at in range(0, len(rows), STEP)]
    offsets, data = np.zeros(len(blocks), int), b""
    for i in np.random.default_rng(1).permutation(len(blocks)):
        offsets[i] = len(data) + 3
        data += b"gap" + blocks[i].tobytes()
    (tmp_path / "rows").write_bytes(data)
    checksums = np.array([zlib.crc32(block) for block in blocks], np.uint32)
    checked = np.zeros(len(blocks), bool)
    return Column(
        tmp_path / "rows", len(data), rows.dtype, rows.shape, STEP, offsets, checksums, checked
    )


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("task_bytes", [1, 200, 1 << 20])
def test_rows_come_to_their_places(column, rows, dtype, task_bytes, monkeypatch):
    monkeypatch.setattr("extract.store.rows_on_disk.TASK_BYTES", task_bytes)
    for wanted in (np.arange(50), np.array([0]), np.array([3, 3, 3, 49, 49]), np.array([7, 8, 40])):
        where = np.random.default_rng(2).permutation(len(wanted))
        for _ in range(2):
            out = np.full((len(wanted), 7), -1, dtype)
            gather([(column, wanted, where, out[:, 1:6])])
            assert np.array_equal(out[where, 1:6], rows[wanted].astype(dtype))
            assert (out[:, [0, 6]] == -1).all()


def test_a_checksum_is_looked_at_once(column, rows, monkeypatch):
    sizes, crc32 = [], zlib.crc32
    monkeypatch.setattr(
        "extract.store.rows_on_disk.zlib.crc32",
        lambda block: sizes.append(len(block)) or crc32(block),
    )
    out = np.empty((2, 5), np.float32)
    for _ in range(3):
        gather([(column, np.array([9, 49]), np.arange(2), out)])
    assert sizes == [8, 8]
    assert column.checked.nonzero()[0].tolist() == [1, 6]
    assert np.array_equal(out, rows[[9, 49]])


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda data: data[:-1], "size is not"),
        (lambda data: data + b"x", "size is not"),
        (lambda data: data[:3] + bytes([data[3] ^ 1]) + data[4:], "wrong checksum"),
    ],
)
def test_wrong_bytes_are_named(column, spoil, reason):
    column.path.write_bytes(spoil(column.path.read_bytes()))
    with pytest.raises(WrongBytes, match=reason) as caught:
        gather([(column, np.arange(50), np.arange(50), np.empty((50, 5), np.float32))])
    assert caught.value.path == column.path


def test_an_offset_beyond_the_end_is_wrong_bytes(column):
    column.offsets[2] = column.file_size - 4
    with pytest.raises(WrongBytes, match="ends too early"):
        gather([(column, np.array([16]), np.arange(1), np.empty((1, 5), np.float32))])


def test_a_file_that_is_gone_is_said_as_that(column):
    column.path.unlink()
    with pytest.raises(FileNotFoundError):
        gather([(column, np.array([16]), np.arange(1), np.empty((1, 5), np.float32))])


def test_every_float16_is_widened_exactly():
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    finite = every[np.isfinite(every)]
    for values in (every, finite, finite[::-1].reshape(-1, 2), *np.split(every, 64), every[:0]):
        wide = widened(values, np.dtype(np.float32))
        assert wide.dtype == np.float32
        assert np.array_equal(wide.view(np.uint32), values.astype(np.float32).view(np.uint32))


@pytest.mark.parametrize(("given", "wanted"), [(np.float32, np.float32), (np.float16, np.float16)])
def test_other_types_stay(given, wanted):
    values = np.ones((3, 2), given)
    assert widened(values, np.dtype(wanted)) is values
