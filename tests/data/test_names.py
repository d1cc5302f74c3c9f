"""Names fit for a screen and for a CSV cell, and back."""

import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.names import as_cell, from_cell, shown

HARD = [
    "plain.jpg",
    "caf\udce9.jpg",
    "a\nb\r\x1b]0;title\x07.jpg",
    "=1+1",
    "'=1+1",
    "''=1",
    "'quoted'.jpg",
    "-5",
    "@SUM(A1)",
    "\t=1",
    r"a\xe9.jpg",
    r"a\\xe9\u1234\x",
    r"C:\photos\x.jpg",
    "\u202egpj.exe",
    "\x85\x80",
    "🦭 ❄️ e\u0301",
    "\udcff\\\udcfe",
]


@pytest.mark.parametrize("name", HARD)
def test_a_cell_gives_the_name_back(name):
    cell = as_cell(name)
    assert from_cell(cell) == name
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert cell.encode("utf-8")
    assert not set(cell) & {"\n", "\x1b"}


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(codec=None) | st.sampled_from("\\'=x0é\udce9\n\x1bu"), max_size=12))
def test_any_name_comes_back_through_a_csv_file(name):
    file = io.StringIO(newline="")
    csv.writer(file).writerow([as_cell(name), "behind"])
    text = file.getvalue().encode("utf-8").decode("utf-8")
    assert [from_cell(cell) for cell in next(csv.reader(io.StringIO(text, newline="")))] == [
        name,
        "behind",
    ]


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("caf\udce9", r"caf\xe9"),
        ("a\x1b[31mb\nc", r"a\x1b[31mb\x0ac"),
        ("a\u202eb\u2028", r"a\u202eb\u2028"),
        ("\ud800\x9b", r"\ud800\u009b"),
        ("=1 🦭 é\\", "=1 🦭 é\\"),
    ],
)
def test_a_screen_shows_what_it_can(name, wanted):
    assert shown(name) == wanted
