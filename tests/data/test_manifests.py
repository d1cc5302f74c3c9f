"""Tables as people and programs write them: read with a note, or refused in one line."""

import json
import os
import random
import tracemalloc

import pytest

from data import DataError, read_manifest
from data.names import as_cell

FUZZED = 300  # a benchmark raises it
LONGEST = 300


@pytest.fixture
def table(make_tree):
    """table(text, name="m.csv") -> the samples of a manifest beside 1.jpg, in/2.jpg, 3.jpg."""
    folder = make_tree("set/1.jpg", "set/in/2.jpg", "set/3.jpg", "out.jpg") / "set"

    def read(text, name="m.csv", **options):
        (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_manifest(folder / name, **options)

    return read


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("path,cat,dog\n1.jpg,1,0\n", "no column 'label'; has path, cat, dog"),
        ("path,label,label\n1.jpg,a,b\n", "two columns 'label'"),
        ("Path,path,label\n1.jpg,1.jpg,b\n", "two columns 'path'"),
        ("path,label\n1.jpg,1\n3.jpg,1.0\n", "labels '1' and '1.0' are one number"),
        ("path,label\n1.jpg,nan\n", "line 2: label is 'nan'"),
        ("path,label\n1.jpg,<NA>\n", "line 2: label is '<NA>'"),
        ("path,label\n1.jpg,a\n./1.jpg,b\n", "line 3: .* has the label 'b', and 'a' in line 2"),
        (
            "path,label,split\n1.jpg,a,train\n1.jpg,a,test\n",
            "line 3: .* has the split 'test', and 'train' in line 2",
        ),
        ('path,label\n"1.jpg,a\n3.jpg,b\n', "is a quote never closed"),
        ('path,label\n"1.jpg"x,a\n', "is a quote never closed, or a letter behind"),
        ("path,label\n1\0.jpg,a\n", "line 2: path is .*, which holds a NUL"),
        ("path,label\n" + "x" * (1 << 20), "a line of over a million characters"),
        (b"path,label\n1.jpg,caf\xe9\n", "in UTF-8"),
        (b"\xff\xfep\0a\0t\0h", "can't be read as a manifest"),
    ],
)
def test_tables_without_a_safe_reading_are_refused_in_one_line(table, text, why):
    with pytest.raises(DataError, match=why) as error:
        table(text)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('{"path": "1.jpg", "label": "a", "label": "b"}', "the key 'label' comes twice"),
        ('{"path": "1.jpg", "label": true}', "label is True; expected text"),
        ('{"path": "1.jpg", "label": NaN}', "label is nan; expected text"),
        ('{"path": "\\ud800.jpg", "label": "a"}', "half of a surrogate pair"),
        ("[" * 100_000, "not JSON"),
        ('{"path": ["1.jpg"], "label": "a"}', "path is .*; expected text"),
    ],
)
def test_json_lines_that_are_refused(table, line, why):
    with pytest.raises(DataError, match=why) as error:
        table(line + "\n", "m.jsonl")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("path,label\n1.jpg,cat\n3.jpg,Cat\n", "classes 'Cat' and 'cat' are almost one name"),
        ("path,label,is_valid\n1.jpg,a,1\n", "not used: column 'is_valid'"),
        ("path,label\nin\\2.jpg,a\n", r"1 path with backslashes is read as with /"),
        ("path;label\n1.jpg;a\n", "cells are separated by ';'"),
        ("path\tlabel\n1.jpg\ta\n", "cells are separated by"),
        ("path,label\n1.jpg,none\n3.jpg,b\n", "1 row has the label 'none'"),
        ("path,label\n1.jpg,a\n./1.jpg,a\n", "1 row lists a path once more"),
        ("path,label\n../out.jpg,a\n", "1 path leads out of the manifest's folder"),
    ],
)
def test_what_may_be_meant_otherwise_is_noted(table, text, note):
    samples = table(text)
    assert len(samples) == text.count("\n") - 1
    assert [note in words for words in samples.notes] == [True]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_marks_of_spreadsheets(table, encoding):
    samples = table("Path,LABEL\r\n1.jpg,é\r\n3.jpg,b\r\n".encode(encoding))
    assert samples.labels.tolist() == ["é", "b"]


def test_codes_are_no_numbers(table):
    assert table("path,label\n1.jpg,01\n3.jpg,1\n").classes == ("01", "1")


@pytest.mark.parametrize(
    "name", ["=1+1.jpg", "caf\udce9.jpg", "a\nb.jpg", "'=x.jpg", r"a\xe9.jpg", "\x1b[31m.jpg"]
)
def test_names_written_by_our_own_tables_are_read_back(tmp_path, name):
    from pipelines.report.files import write_csv

    (tmp_path / name).touch()
    label = os.path.splitext(name)[0].strip()
    write_csv(tmp_path / "m.csv", ("path", "label"), [(name, label)])
    samples = read_manifest(tmp_path / "m.csv")
    assert samples.paths == (str(tmp_path / name),)
    assert samples.labels.tolist() == [label]
    assert (tmp_path / "m.csv").read_text(encoding="utf-8").count("\n") == 2
    assert as_cell(name) in (tmp_path / "m.csv").read_text(encoding="utf-8")


PIECES = [
    *("path", "label", "group", "split", "1.jpg", "in/2.jpg", "train", "test", "cat", "nan"),
    *(",", ";", "\t", "\n", "\r", '"', "'", "\\", "\0", "{", "}", "[", ":", "=", "../", "/"),
    *("\udce9", "\ud800", "\u202e", "é", "🦭", "1.0", "1", "null", "true", "\ufeff", "\\xe9"),
]


def fuzzed(rng, suffix):
    """The bytes of a table: a sound one with pieces put in and taken out, or pieces alone."""
    if suffix == ".csv":
        text = "path,label,group,split\n1.jpg,cat,g,train\nin/2.jpg,dog,h,test\n3.jpg,cat,i,train\n"
    else:
        rows = [{"path": "1.jpg", "label": "cat"}, {"path": "in/2.jpg", "label": 3}]
        text = "\n".join(map(json.dumps, rows))
    if rng.random() < 0.2:
        text = "".join(rng.choices(PIECES, k=rng.randrange(LONGEST)))
    for _ in range(rng.randrange(6)):
        at = rng.randrange(len(text) + 1)
        text = (
            text[:at]
            + rng.choice(PIECES) * rng.choice([1, 1, 1, 2, 50])
            + text[at + rng.randrange(3) :]
        )
    data = bytearray(text.encode(rng.choice(["utf-8", "utf-8", "utf-16"]), "surrogatepass"))
    for _ in range(rng.randrange(3)):
        if data:
            data[rng.randrange(len(data))] = rng.randrange(256)
    return bytes(data)


@pytest.mark.slow
def test_fuzzed_tables_end_in_samples_or_our_own_error(table):
    rng = random.Random(0)
    read, refused = 0, []
    tracemalloc.start()
    for number in range(FUZZED):
        suffix = (".csv", ".jsonl")[number % 2]
        try:
            read += len(table(fuzzed(rng, suffix), f"m{suffix}", labelled=rng.random() < 0.8)) > 0
        except DataError as error:
            refused.append(str(error))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 0 < read < FUZZED
    assert [words for words in refused if "\n" in words] == []
    assert peak < 100e6


def test_paths_of_a_runs_own_table_lead_on_from_where_it_was_started(tmp_path, monkeypatch):
    (tmp_path / "photos").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "photos" / "1.jpg").touch()
    table = tmp_path / "out" / "test_predictions.csv"
    table.write_text("path,label\nphotos/1.jpg,a\n")
    monkeypatch.chdir(tmp_path)
    samples = read_manifest("out/test_predictions.csv")
    assert samples.paths == ("photos/1.jpg",)
    assert samples.notes == ("1 path is relative to the working folder, first photos/1.jpg",)
    # what lies beside the table comes first
    (tmp_path / "out" / "photos").mkdir()
    (tmp_path / "out" / "photos" / "1.jpg").touch()
    assert read_manifest("out/test_predictions.csv").paths == ("out/photos/1.jpg",)
