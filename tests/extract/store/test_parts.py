"""A part is a file of whole-row chunks, or is not written."""

import hashlib
from dataclasses import replace

import h5py
import numpy as np
import pytest

from extract.store import description, parts
from extract.store.description import MAGIC, Layout, read_description
from extract.store.parts import as_keys, read_index, write_part
from extract.store.rows_on_disk import WrongBytes


@pytest.mark.parametrize("width", [3, 1280, 60_000, 400_000])
def test_chunks_are_whole_rows_of_about_half_a_megabyte(tmp_path, width):
    n = max(2, 3 * (1 << 19) // (4 * width))
    path = write_part(
        tmp_path,
        "recipe",
        np.zeros((n, 16), np.uint8),
        {"a:avg": np.zeros((n, width), np.float32)},
        {},
    )
    with h5py.File(path) as file:
        chunk = file["taps/a:avg"].chunks
    assert chunk[1] == width
    assert chunk[0] == 1 or 1 << 18 <= chunk[0] * width * 4 <= 1 << 20


def test_a_column_that_is_short_is_not_written(tmp_path):
    ids, rows = np.zeros((40, 16), np.uint8), np.zeros((40, 7), np.float32)
    with pytest.raises(ValueError, match="a:avg has 39 rows, expected 40"):
        write_part(tmp_path, "recipe", ids, {"a:avg": rows[:39]}, {})
    assert not list(tmp_path.iterdir())


@pytest.fixture
def part(tmp_path):
    """A part of 40 rows of two taps, one of them padded in its last chunk."""
    ids = np.random.default_rng(0).integers(0, 256, (40, 16), np.uint8)
    rows = np.random.default_rng(1).normal(size=(40, 7))
    columns = {"a:avg": rows.astype(np.float32), "b:max": rows.astype(np.float16)}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(parts, "CHUNK_BYTES", 900)
        return write_part(tmp_path, "recipe", ids, columns, {"engine": "torch"})


def read_all(path):
    """Whatever a reader takes from a part; WrongBytes where it is not as written."""
    part = read_index(path)
    every, out = np.arange(40), np.empty((40, 7), np.float32)
    part.column("a:avg").copy(every, every, out)
    part.check()
    return part.recipe, part.taps, part.keys.tolist(), part.provenance, out.tolist()


def test_other_programs_read_a_part_as_the_reader_does(part):
    read = read_index(part)
    assert (read.recipe, read.taps) == ("recipe", {"a:avg", "b:max"})
    assert read.provenance == {"engine": "torch"}
    with h5py.File(part) as file:
        assert dict(file.attrs) == {"engine": "torch"}
        for name in ("a:avg", "b:max"):
            dataset, column = file[f"taps/{name}"], read.column(name)
            assert (dataset.dtype, dataset.shape) == (column.dtype, column.shape)
            out = np.empty(column.shape, column.dtype)
            column.copy(np.arange(40), np.arange(40), out)
            assert np.array_equal(dataset[:], out)
        assert np.array_equal(as_keys(file["ids"][:]), read.keys)


@pytest.mark.parametrize("step", [61, pytest.param(5, marks=pytest.mark.slow)])
def test_every_bit_of_a_part_counts(part, step):
    whole = part.read_bytes()
    for at in range(0, len(whole), step):
        changed = bytearray(whole)
        changed[at] ^= 1 << at // step % 8
        part.write_bytes(changed)
        with pytest.raises(WrongBytes):
            read_all(part)


def test_a_part_cut_short_or_longer_is_no_part(part):
    whole = part.read_bytes()
    for left in (*range(0, len(whole), 97), len(whole) - 1):
        part.write_bytes(whole[:left])
        with pytest.raises(WrongBytes):
            read_all(part)
    part.write_bytes(whole + b"\n")
    with pytest.raises(WrongBytes, match="does not end as a part"):
        read_all(part)


def described(part, **changes):
    """The part with another description, its digest and length made to fit."""
    with open(part, "rb") as file:
        before = read_description(part, file)
    after = replace(before, **changes)
    part.write_bytes(part.read_bytes()[: -len(before.to_bytes())] + after.to_bytes())
    return after


def with_layout(described, name, **changes):
    return {**described.datasets, name: replace(described.datasets[name], **changes)}


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("taps/a:avg", {"dtype": "|O"}, r"is of '\|O', expected"),
        ("taps/a:avg", {"dtype": ["<f4"]}, "unhashable"),
        ("taps/a:avg", {"width": 1 << 40}, "behind its end|in one place"),
        ("taps/a:avg", {"step": 1}, "is not 40 rows in chunks of 1"),
        ("taps/a:avg", {"step": 0}, "is not 40 rows in chunks of 0"),
        ("taps/a:avg", {"offsets": [-8, 0]}, "is none"),
        ("taps/a:avg", {"offsets": [0.5, 0]}, "is none"),
        ("taps/a:avg", {"offsets": "ab"}, "is none"),
        ("taps/a:avg", {"width": True}, "is none"),
        ("taps/a:avg", {"crc32": []}, "is not 40 rows"),
        ("ids", {"width": 17}, "not 16 bytes|behind its end|in one place"),
        ("ids", {"dtype": "<f4"}, "not 16 bytes"),
    ],
)
def test_a_description_of_nonsense_is_refused_though_its_digest_is_right(
    part, name, changes, reason
):
    with open(part, "rb") as file:
        now = read_description(part, file)
    described(part, datasets=with_layout(now, name, **changes))
    with pytest.raises(WrongBytes, match=reason):
        read_all(part)


@pytest.mark.parametrize("rows", [1 << 40, 1 << 62, -1, "40", None, 41])
def test_rows_that_are_not_there_are_not_made_room_for(part, rows):
    described(part, rows=rows)
    with pytest.raises(WrongBytes):
        read_all(part)


@pytest.mark.parametrize(
    "changes", [{"provenance": 3}, {"provenance": {"engine": 3}}, {"recipe": 3}, {"datasets": {}}]
)
def test_texts_that_are_none_are_refused(part, changes):
    described(part, **changes)
    with pytest.raises(WrongBytes):
        read_all(part)


def test_a_chunk_of_no_rows_is_not_made_room_for(part):
    with open(part, "rb") as file:
        now = read_description(part, file)
    empty = Layout("|u1", 16, 1 << 40, [], [])
    described(part, rows=0, datasets={"ids": empty}, rest=now.rest)
    with pytest.raises(WrongBytes, match="in chunks of"):
        read_index(part)


def test_rows_that_lie_in_one_place_twice_are_refused(part):
    with open(part, "rb") as file:
        now = read_description(part, file)
    one = now.datasets["taps/a:avg"]
    twice = {**now.datasets, "taps/c:avg": one}
    described(part, datasets=twice)
    with pytest.raises(WrongBytes, match="in one place"):
        read_all(part)


@pytest.mark.parametrize("text", [b"[" * 300_000, b"[]", b"{}", b"\xff", b'{"schema": 1}'])
def test_a_text_of_another_kind_is_refused(part, text):
    digest = hashlib.blake2b(text, digest_size=16).digest()
    part.write_bytes(part.read_bytes() + text + description.END.pack(len(text), digest, MAGIC))
    with pytest.raises(WrongBytes):
        read_all(part)
