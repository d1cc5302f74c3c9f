"""Folders, manifests and named sets become Samples; what can't be an image is counted, not lost."""

import json
import os

import numpy as np
import pytest

from data import (
    DataError,
    find_images,
    read_image_folder,
    read_images,
    read_manifest,
    read_named_set,
)


def below(folder, paths):
    return [os.path.relpath(path, folder).replace(os.sep, "/") for path in paths]


def test_a_sub_folder_is_a_class(make_tree):
    folder = make_tree(
        "dog/2.JPG",
        "dog/deep/er/1.png",
        "cat/x.jpg",
        "cat/notes.txt",
        "cat/.hidden.jpg",
        "loose.jpg",
    )
    samples = read_image_folder(folder)
    assert below(folder, samples.paths) == ["cat/x.jpg", "dog/2.JPG", "dog/deep/er/1.png"]
    assert samples.labels.tolist() == ["cat", "dog", "dog"]
    assert samples.classes == ("cat", "dog")
    assert (samples.split, samples.groups, samples.problems) == (None, None, ())
    assert samples.passed_over == {
        ".txt": 1,
        "hidden": 1,
        "image outside the class folders": 1,
    }
    assert samples.name == folder.name


@pytest.mark.parametrize(
    ("parts", "sides"),
    [
        (("train", "test"), {"train": "train", "test": "test"}),
        (("train", "val"), {"train": "train", "val": "test"}),
        (("train", "val", "test"), {"train": "train", "val": "train", "test": "test"}),
    ],
)
def test_train_val_test_folders_are_the_split(make_tree, parts, sides):
    folder = make_tree(*(f"{part}/{label}/1.jpg" for part in parts for label in "ab"), ".git/x.jpg")
    samples = read_images(folder)
    assert samples.labels.tolist() == ["a", "b"] * len(parts)
    assert samples.split.tolist() == [
        sides[path.split("/")[0]] for path in below(folder, samples.paths)
    ]


@pytest.mark.parametrize("names", [("train/1.jpg", "plane/1.jpg"), ("val/1.jpg", "test/1.jpg")])
def test_other_folders_called_train_or_test_are_classes(make_tree, names):
    samples = read_image_folder(make_tree(*names))
    assert samples.split is None
    assert samples.classes == tuple(sorted(name.split("/")[0] for name in names))


def test_unlabelled_takes_any_folder(make_tree):
    folder = make_tree("b.jpg", "deep/a.jpg")
    samples = read_image_folder(folder, labelled=False)
    assert below(folder, samples.paths) == ["b.jpg", "deep/a.jpg"]
    assert (samples.labels, samples.classes) == (None, ())


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "no images found .passed over: nothing.; expected files like .jpg"),
        (("1.jpg", "2.jpg"), "2 images but no class folders; expected .*CLASS"),
        (("train/1.jpg", "test/a/1.jpg"), "1 image but no class folders; expected .*train.CLASS"),
        (("a/notes.txt",), "1 .txt, 1 class folder without images"),
        (
            ("train/a/1.jpg", "test/a/1.jpg", "test/b/1.jpg"),
            "class 'b' has test images but none in train",
        ),
    ],
)
def test_folders_that_can_not_be_used(make_tree, names, message):
    with pytest.raises(DataError, match=message):
        read_image_folder(make_tree(*names))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere", "no such file or folder; expected a folder of images, a manifest"),
        ("digitz", "did you mean digits"),
        ("set.zip", "is a file of another kind"),
        ("nowhere.csv", "can't be read as a manifest"),
    ],
)
def test_sources_that_can_not_be_used(make_tree, monkeypatch, source, message):
    monkeypatch.chdir(make_tree("set.zip"))
    with pytest.raises(DataError, match=message):
        read_images(source)


def test_links_pipes_and_folders_named_like_images_are_problems(make_tree):
    folder = make_tree("a/1.jpg", "a/x.jpg/inside.png")
    (folder / "a/gone.jpg").symlink_to("nothing.jpg")
    (folder / "a/loop.jpg").symlink_to("loop.jpg")
    (folder / "a/same.png").symlink_to("1.jpg")
    os.mkfifo(folder / "a/pipe.jpg")
    samples = read_image_folder(folder)
    assert below(folder, samples.paths) == ["a/1.jpg", "a/same.png"]
    assert {(below(folder, [path])[0], reason) for path, reason in samples.problems} == {
        ("a/gone.jpg", "is a link to a missing file"),
        ("a/loop.jpg", "is a link that leads back to itself"),
        ("a/pipe.jpg", "is a named pipe"),
        ("a/x.jpg", "is a directory"),
    }


def test_folders_linked_in_a_circle_end(make_tree):
    folder = make_tree("a/1.jpg", "a/deep/2.jpg")
    (folder / "a/deep/up").symlink_to(folder / "a")
    (folder / "a/again").symlink_to(folder / "a")
    samples = read_image_folder(folder)
    assert below(folder, samples.paths) == ["a/1.jpg", "a/deep/2.jpg"]
    assert samples.passed_over == {"link to a folder above it": 2}


ROWS = [
    {"path": "1.jpg", "label": "a", "group": "g1", "split": "train"},
    {"path": "in/2.jpg", "label": "b", "group": "g2", "split": "val"},
    {"path": "gone.jpg", "label": "b", "group": "g2", "split": "train"},
    {"path": "3.jpg", "label": "a", "group": "g3", "split": "test"},
]


def as_csv(rows):
    return "\n".join([",".join(rows[0]), *(",".join(row.values()) for row in rows)])


def as_json_lines(rows):
    return "\n\n".join(json.dumps(row) for row in rows)


@pytest.mark.parametrize(("suffix", "write"), [(".csv", as_csv), (".jsonl", as_json_lines)])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_manifest_gives_labels_groups_and_split(make_tree, suffix, write, encoding):
    folder = make_tree("1.jpg", "in/2.jpg", "3.jpg")
    manifest = folder / f"photos{suffix}"
    rows = [*ROWS[:3], {**ROWS[3], "path": str(folder / "3.jpg")}]
    manifest.write_text(write(rows), encoding=encoding)
    # "b" has its only image in val, which is training here
    samples = read_images(manifest)
    assert below(folder, samples.paths) == ["1.jpg", "in/2.jpg", "3.jpg"]
    assert samples.labels.tolist() == ["a", "b", "a"]
    assert samples.groups.tolist() == ["g1", "g2", "g3"]
    assert samples.split.tolist() == ["train", "train", "test"]
    assert samples.problems == ((str(folder / "gone.jpg"), "no such file"),)
    assert samples.name == "photos"


@pytest.mark.parametrize(
    ("name", "text", "labelled", "labels", "notes"),
    [
        ("m.csv", "path, label\n1.jpg, cat\n", True, ["cat"], ()),
        ("m.csv", 'path,label\n"1.jpg","big, cat"\n\n', True, ["big, cat"], ()),
        ("m.csv", "path\n1.jpg\n", False, None, ()),
        (
            "m.csv",
            "path,label,splt\n1.jpg,cat,test\n",
            True,
            ["cat"],
            ("not used: column 'splt' (did you mean split?); expected path,label[,group][,split]",),
        ),
        ("m.jsonl", '{"path": "1.jpg", "label": 7}\n', True, ["7"], ()),
        ("m.jsonl", '{"path": "1.jpg", "label": null}\n', False, None, ()),
    ],
)
def test_manifests_in_small_variations(make_tree, name, text, labelled, labels, notes):
    manifest = make_tree("1.jpg") / name
    manifest.write_text(text)
    samples = read_manifest(manifest, labelled=labelled)
    assert (None if samples.labels is None else samples.labels.tolist()) == labels
    assert (samples.split, samples.notes) == (None, notes)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("m.txt", "1.jpg a", "not a manifest by its name; expected one ending in .csv or .jsonl"),
        ("m.csv", "", "has no rows; expected path,label"),
        ("m.csv", "file,label\n1.jpg,a\n", "has the columns file, label; expected path,label"),
        ("m.csv", "path,label\n1.jpg,a\n1.jpg,\n", "line 3: no label; every row needs one"),
        (
            "m.csv",
            "path,label,group\n1.jpg,a,g\n1.jpg,a,\n",
            "line 3: no group; other rows have one",
        ),
        (
            "m.csv",
            "path,label,split\n1.jpg,a,dev\n",
            "line 2: split is 'dev'; expected one of train, val, test",
        ),
        ("m.csv", "path,label\n1.jpg,a,b\n", "line 2: more cells than the header has"),
        ("m.csv", 'path,label\n"1.jpg,a\n', "can't be read as a manifest"),
        (
            "m.csv",
            "path,label\ngone.jpg,a\n",
            "none of its 1 files is there, first .*gone.jpg: no such file",
        ),
        ("m.csv", b"path,label\n1.jpg,caf\xe9\n", "UTF-8"),
        ("m.jsonl", '{"path": "1.jpg", "label": "a"}\n{"path"\n', "line 2: not JSON"),
        ("m.jsonl", "[1]\n", r"line 1: '\[1\]' came; expected an object"),
        ("m.jsonl", '{"path": "1.jpg", "label": 0.5}\n', "line 1: label is 0.5; expected text"),
    ],
)
def test_bad_rows_name_their_line(make_tree, name, text, message):
    manifest = make_tree("1.jpg") / name
    manifest.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=message) as caught:
        read_manifest(manifest)
    assert "\n" not in str(caught.value)


def test_digits():
    samples = read_images("digits")
    assert (len(samples), samples.paths[0], samples.paths[-1]) == (
        1797,
        "digits/0001",
        "digits/1797",
    )
    assert samples.classes == tuple("0123456789")
    assert (samples.split, samples.name) == (None, "digits")
    first = samples.inputs[0]
    assert (first.shape, first.dtype, first.min(), first.max()) == (
        (8, 8, 3),
        np.uint8,
        0,
        239,
    )  # 15 of 16
    assert (first[..., 0] == first[..., 2]).all()
    assert read_named_set("digits", labelled=False).labels is None


def test_a_folder_called_digits_needs_a_path(make_tree, monkeypatch):
    monkeypatch.chdir(make_tree("digits/a/1.jpg"))
    assert len(read_images("digits")) == 1797
    assert len(read_images("./digits")) == 1


def test_find_images_takes_files_as_named_and_folders_by_suffix(make_tree):
    folder = make_tree("b/2.jpg", "b/1.png", "b/notes.txt", "photo.raw", "b/.x.jpg")
    images, problems = find_images([folder / "photo.raw", folder / "b", folder / "gone.jpg"])
    assert below(folder, images) == ["photo.raw", "b/1.png", "b/2.jpg"]
    assert problems == [(str(folder / "gone.jpg"), "no such file")]
    assert find_images(folder / "b/2.jpg")[0] == [str(folder / "b/2.jpg")]
