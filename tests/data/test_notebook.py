"""Tests of data/notebook.py: what a notebook shows of samples, whatever their names and files."""

import base64
import io
import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from data import Samples, notebook, read_image_folder

ROGUE = "<img src=x onerror=alert(1)>"


class Tags(HTMLParser):
    """The elements of a page, each with its attributes, and the text between them."""

    def __init__(self, page):
        super().__init__()
        self.found, self.open, self.words = [], [], ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag != "img":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words += f"{data} "


def pictures(page):
    """The pictures of a page, opened; None for each that can't be shown."""
    found = []
    for tag, attributes in Tags(page).found:
        if tag == "img":
            data = base64.b64decode(attributes["src"].removeprefix("data:image/jpeg;base64,"))
            found.append(Image.open(io.BytesIO(data)))
        elif attributes.get("class") == "none quiet":
            found.append(None)
    return found


def rows(page):
    """The cells of the tables' rows."""
    lines = re.findall(r"<tr[^>]*>(.*?)</tr>", page, re.DOTALL)
    return [re.findall(r"<t[hd][^>]*>([^<]*)", line) for line in lines]


def test_classes_are_counted_the_largest_first_and_a_few_images_are_shown(make_tree):
    folder = make_tree(
        "train/a/1.png", "train/b/1.png", "train/b/2.png", "test/a/2.png", "test/b/3.png"
    )
    (folder / "train/b/note.txt").write_text("")
    page = read_image_folder(folder)._repr_html_()
    assert rows(page)[:3] == [
        ["class", "images", "train", "test", ""],
        ["b", "3", "2", "1", ""],
        ["a", "2", "1", "1", ""],
    ]
    assert [picture.size for picture in pictures(page)] == [(6, 4)] * 5
    assert "passed over: 1 .txt" in Tags(page).words


def test_names_are_escaped_and_the_page_runs_and_asks_for_nothing(tmp_path):
    path = tmp_path / "<b onclick=alert(1)>\x1b[31m.png"
    Image.new("RGB", (4, 4)).save(path, "PNG")
    samples = Samples(
        [str(path), ROGUE],
        [ROGUE, "caf\udce9"],
        name=f"</style>{ROGUE}",
        passed_over={ROGUE: 2},
        problems=((ROGUE, ROGUE),),
        notes=(ROGUE,),
    )
    page = samples._repr_html_()
    tags = Tags(page)
    assert tags.open == []
    assert {tag for tag, _ in tags.found}.isdisjoint({"script", "b", "a", "link", "iframe"})
    images = [attributes for tag, attributes in tags.found if tag == "img"]
    assert [own["src"][:11] for own in images] == ["data:image/"]
    assert not any(name.startswith("on") for _, own in tags.found for name in own)
    assert tags.words.count(ROGUE) == 5  # title, class, passed over, note, caption
    page.encode()  # bytes that are no UTF-8 can't be sent to a browser
    assert "\x1b" not in page


@pytest.mark.parametrize(
    "samples",
    [
        Samples([]),
        Samples([], labels=[]),
        Samples([], labels=[], classes=("a",), groups=[], split=[]),
        Samples(["a.png"], ["a"])[:0],
    ],
)
def test_an_empty_set_is_a_view_too(samples):
    assert "0 images" in Tags(samples._repr_html_()).words


def test_files_that_are_gone_or_damaged_are_said_and_the_others_shown(tmp_path):
    good, cut = tmp_path / "good.png", tmp_path / "cut.png"
    Image.effect_noise((64, 64), 90).save(good)
    cut.write_bytes(good.read_bytes()[:200])
    page = Samples([str(tmp_path / "gone.png"), str(cut), str(good)], [*"abc"])._repr_html_()
    assert [picture and picture.size for picture in pictures(page)] == [None, None, (64, 64)]


def test_a_lazy_sequence_that_fails_is_no_error():
    class Broken:
        def __len__(self):
            return 2

        def __getitem__(self, row):
            raise KeyError(row)

    assert pictures(Samples(["x/1", "x/2"], pixels=Broken())._repr_html_()) == [None, None]


def test_an_image_that_holds_its_file_is_left_as_it_was(tmp_path):
    """Once its pixels are read it has other features than its file."""
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        page = Samples(["a"], pixels=[image])._repr_html_()
        assert len(pictures(page)) == 1
        assert image.fp is not None
        assert image.tile


def test_the_view_stays_small_with_many_classes_and_images():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (400, 96, 96, 3)).astype(np.uint8)
    names = [f"class {i % 200:03} {'x' * 90}" for i in range(400)]
    page = Samples([f"set/{i}" for i in range(400)], names, pixels=pixels)._repr_html_()
    assert len(pictures(page)) == notebook.MOST_PICTURES
    assert f"{200 - notebook.MOST_CLASSES} classes more with 376 images" in Tags(page).words
    assert len(page) < 60_000


def test_of_every_class_an_image_comes_before_a_second_of_any():
    labels = ["a"] * 50 + ["b"] * 2 + ["c"]
    pixels = np.zeros((53, 4, 4, 3), np.uint8)
    page = Samples([str(i) for i in range(53)], labels, pixels=pixels)._repr_html_()
    shown = re.findall(r"<figcaption>(\w)</figcaption>", page)
    assert (shown[:3], sorted(shown)) == (["a", "b", "c"], [*"aaabbc"])


def test_no_picture_is_made_once_the_time_is_up(monkeypatch):
    monkeypatch.setattr(notebook, "SECONDS", -1)
    pixels = np.zeros((9, 4, 4, 3), np.uint8)
    page = Samples([str(i) for i in range(9)], pixels=pixels)._repr_html_()
    assert len(pictures(page)) == 1


def test_samples_need_none_of_it_before_they_are_shown():
    code = "import sys, data; data.Samples; assert not {'markupsafe', 'jinja2'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
