"""Images by URL: read as those of a folder, with few requests, and one line for what fails."""

import io
import shutil
import sys

import pytest
from PIL import Image

from data import (
    DataError,
    ImageError,
    correct_labels,
    find_images,
    open_image,
    read_bytes,
    read_corrections,
    read_image_folder,
    read_images,
    read_mask_folder,
    remote,
    settle_reading,
)
from data import images as reading_images
from data.manifests import read_listed

LAYOUTS = [
    ("a/1.jpg", "b/2.png", "a/notes.txt", "loose.jpg", ".hidden/1.jpg", "b/Thumbs.db"),
    ("train/a/1.jpg", "train/b/1.jpg", "val/a/2.jpg", "val/b/2.jpg", "labels/readme.txt"),
    ("train/a/1.jpg", "train/b/1.jpg", "val/a/2.jpg", "test/b/2.jpg", "test/a/3.jpg"),
    ("photos/all/a/x/1.jpg", "photos/all/b/y/1.jpg"),
    ("a/deep/er/1.jpg", "a/2.jpg", "b/1.JPEG", "c/none.txt", "odd.jpg/1.txt"),
]


def stored(bucket, make_tree, *names):
    """The images in the bucket, and as a folder -> (url, folder)."""
    folder = make_tree(*(f"local/photos/{name}" for name in names)) / "local" / "photos"
    shutil.copytree(folder, bucket.folder / "photos")
    return f"{bucket.url}/photos", str(folder)


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("names", LAYOUTS)
def test_a_folder_by_url_is_read_as_the_folder_itself(bucket, make_tree, names, labelled):
    url, folder = stored(bucket, make_tree, *names)
    there, here = read_image_folder(url, labelled), read_image_folder(folder, labelled)
    assert [path.removeprefix(url) for path in there.paths] == [
        path.removeprefix(folder) for path in here.paths
    ]
    for name in ("labels", "split", "groups"):
        ours, theirs = getattr(there, name), getattr(here, name)
        assert (ours is None and theirs is None) or ours.tolist() == theirs.tolist()
    assert there.passed_over == here.passed_over
    assert [why for _, why in there.problems] == [why for _, why in here.problems]
    assert [note.replace(url, folder) for note in there.notes] == list(here.notes)
    assert (there.name, there.classes) == (here.name, here.classes)


def test_the_same_questions_about_the_level_of_the_classes(bucket, make_tree):
    url, folder = stored(bucket, make_tree, "x/a/1.jpg", "x/b/1.jpg", "y/a/1.jpg", "y/b/1.jpg")
    said = []
    for source in (url, folder):
        with pytest.raises(DataError) as error:
            read_images(source)
        said.append(str(error.value).replace(source, "HERE"))
    assert said[0] == said[1]
    assert read_images(url, class_level=2).classes == ("a", "b")


def test_listing_asks_once_a_folder_and_an_image_is_one_request(bucket, make_tree):
    url, _ = stored(bucket, make_tree, *(f"{name}/{i}.jpg" for name in "ab" for i in range(30)))
    samples = read_images(url + "/")
    assert (bucket.calls["ls"], bucket.calls["cat_file"]) == (3, 0)
    for path in samples.paths:
        assert open_image(path).size == (6, 4)
    assert bucket.calls["cat_file"] == 60


def test_names_of_the_listing_alone_make_the_folders(bucket):
    # as of a store that has keys and no folders, with a key in place of one
    found = {"bucket/p/a/1.jpg": {"size": 3, "type": "file"}, "bucket/p/b/": {"size": 0}}
    remote._remember("s3://bucket/p", "bucket/p", found)
    assert sorted((e.name, e.is_dir()) for e in remote.scan("s3://bucket/p")) == [
        ("a", True),
        ("b", True),
    ]
    assert [(e.path, e.is_file()) for e in remote.scan("s3://bucket/p/a")] == [
        ("s3://bucket/p/a/1.jpg", True)
    ]
    assert list(remote.scan("s3://bucket/p/b")) == []


def test_a_listing_is_anew_each_time_a_folder_is_read(bucket, make_tree):
    url, _ = stored(bucket, make_tree, "a/1.jpg", "b/1.jpg")
    assert len(read_images(url)) == 2
    shutil.copy(bucket.folder / "photos/a/1.jpg", bucket.folder / "photos/a/2.jpg")
    assert len(read_images(url)) == 3


@pytest.mark.parametrize("at_url", [True, False])
def test_a_manifest_there_and_one_of_urls_here(bucket, make_tree, tmp_path, at_url):
    url, _ = stored(bucket, make_tree, "1.jpg", "2.jpg", "deep/3.jpg")
    folder, base = (bucket.folder / "photos", "") if at_url else (tmp_path, f"{url}/")
    rows = [f"{base}1.jpg,cat", f"{base}2.jpg,dog", f"{base}gone.jpg,cat", f"{base}deep/3.jpg,dog"]
    (folder / "pets.csv").write_text("\n".join(["path,label", *rows]))
    samples = read_images(f"{url}/pets.csv" if at_url else folder / "pets.csv")
    assert samples.paths == (f"{url}/1.jpg", f"{url}/2.jpg", f"{url}/deep/3.jpg")
    assert samples.labels.tolist() == ["cat", "dog", "dog"]
    assert samples.problems == ((f"{url}/gone.jpg", "no such file"),)
    assert samples.notes == ()


def test_a_long_manifest_lists_a_folder_instead_of_asking_for_each_file(bucket, make_tree):
    names = [f"{i:02d}.jpg" for i in range(40)]
    url, _ = stored(bucket, make_tree, *names)
    (bucket.folder / "photos" / "pets.jsonl").write_text(
        "\n".join(f'{{"path": "{name}", "label": "{int(name[:2]) % 2}"}}' for name in names)
    )
    bucket.calls.clear()
    assert len(read_images(f"{url}/pets.jsonl")) == 40
    assert bucket.calls["ls"] == 1
    asked = [call for call in bucket.calls.elements() if call != "info"]
    assert asked == ["cat_file", "ls"]


def test_a_file_that_came_after_its_folder_was_listed_is_found(bucket, make_tree):
    url, _ = stored(bucket, make_tree, *(f"{i}.jpg" for i in range(8)))
    assert find_images([f"{url}/{i}.jpg" for i in range(8)])[1] == []
    shutil.copy(bucket.folder / "photos/1.jpg", bucket.folder / "photos/new.jpg")
    assert find_images(f"{url}/new.jpg") == ([f"{url}/new.jpg"], [])
    assert find_images(f"{url}/gone.jpg") == ([], [(f"{url}/gone.jpg", "no such file")])


def test_of_folders_in_one_that_was_listed_alone_nothing_is_believed(bucket, make_tree):
    url, _ = stored(bucket, make_tree, *(f"{i}.jpg" for i in range(6)), "deep/7.jpg", "deep/8.jpg")
    assert find_images([f"{url}/{i}.jpg" for i in range(6)])[1] == []
    assert {entry.name: entry.is_dir() for entry in remote.scan(url)}["deep"]
    assert {entry.name for entry in remote.scan(f"{url}/deep")} == {"7.jpg", "8.jpg"}


def test_a_server_that_lists_nothing_is_not_asked_for_each_file(bucket, make_tree):
    names = [f"{i:02d}.jpg" for i in range(40)]
    url, _ = stored(bucket, make_tree, *names)
    bucket.fail("ls", *[PermissionError("no listing")] * 20)
    assert find_images([f"{url}/{name}" for name in [*names, "gone.jpg"]])[1] == []
    assert bucket.calls["ls"] <= 5
    assert bucket.calls["info"] <= 9
    with pytest.raises(ImageError, match="no such file"):
        read_bytes(f"{url}/gone.jpg")


def test_rows_of_a_table_one_by_one(bucket, make_tree, tmp_path):
    url, _ = stored(bucket, make_tree, "1.jpg")
    (tmp_path / "t.csv").write_text(f"path,site\n{url}/1.jpg,3\n{url}/2.jpg,4\n")
    assert list(read_listed(tmp_path / "t.csv")) == [
        (f"{url}/1.jpg", None, {"site": "3"}),
        (f"{url}/2.jpg", "no such file", {"site": "4"}),
    ]


def test_masks_and_corrected_labels(bucket, make_tree, tmp_path):
    url, _ = stored(bucket, make_tree, "a/1.jpg", "b/2.jpg", "more/3.jpg")
    shutil.copytree(bucket.folder / "photos" / "a", bucket.folder / "masks" / "a")
    (bucket.folder / "masks/a/1.jpg").rename(bucket.folder / "masks/a/1.png")
    assert read_mask_folder(f"{url}/a", f"{bucket.url}/masks/a") == (
        [f"{url}/a/1.jpg"],
        [f"{bucket.url}/masks/a/1.png"],
    )
    (bucket.folder / "fixes.csv").write_text(f"path,label\n{url}/a/1.jpg,b\n{url}/more/3.jpg,a\n")
    samples = read_images(url)[:2]
    corrected = correct_labels(samples, read_corrections(f"{bucket.url}/fixes.csv"))
    assert corrected.labels.tolist() == ["b", "b", "a"]
    assert corrected.train_only.tolist() == [False, False, True]


def test_a_range_over_deep_images_there_is_that_over_them_here(bucket, make_tree):
    url, folder = stored(bucket, make_tree, "1.jpg")
    for number in range(3):
        deep = Image.new("I;16", (4, 4), 1000 * number + 500)
        for place in (f"{folder}/{number}.png", bucket.folder / f"photos/{number}.png"):
            deep.save(place)
    names = ["1.jpg", "0.png", "1.png", "2.png"]
    here = settle_reading(inputs=[f"{folder}/{name}" for name in names])
    assert here.intensity is not None
    assert settle_reading(inputs=[f"{url}/{name}" for name in names]) == here


def test_a_large_file_is_read_block_by_block(bucket, monkeypatch):
    file = io.BytesIO()
    Image.effect_noise((40, 30), 90).save(file, "PNG")
    (bucket.folder / "1.png").write_bytes(file.getvalue())
    for at in (100, len(file.getvalue()), len(file.getvalue()) + 1):
        monkeypatch.setattr(reading_images, "LOOKED_AT", at)
        assert read_bytes(f"{bucket.url}/1.png") == file.getvalue()
        assert b"".join(reading_images.read_blocks(f"{bucket.url}/1.png")) == file.getvalue()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"<html>", "not a readable image: begins with b'<html>'; expected one of JPEG"),
        (None, "no such file"),
    ],
)
def test_what_is_no_image(bucket, content, reason):
    if content is not None:
        (bucket.folder / "1.jpg").write_bytes(content)
    with pytest.raises(ImageError) as error:
        read_bytes(f"{bucket.url}/1.jpg")
    assert error.value.reason.startswith(reason)


def test_what_fails_once_is_tried_again_and_what_is_refused_is_not(bucket, make_tree):
    url, _ = stored(bucket, make_tree, "a/1.jpg", "b/1.jpg")
    bucket.fail("cat_file", ConnectionResetError("gone"), TimeoutError(), None)
    assert open_image(f"{url}/a/1.jpg").size == (6, 4)
    bucket.calls.clear()
    bucket.fail("cat_file", PermissionError("Forbidden"))
    with pytest.raises(ImageError, match=r"1.jpg: can't be read \(permission denied\)$"):
        read_bytes(f"{url}/a/1.jpg")
    assert bucket.calls["cat_file"] == 1


def test_a_host_that_fails_is_not_waited_for_a_file_at_a_time(bucket, make_tree):
    url, _ = stored(bucket, make_tree, "a/1.jpg", "b/1.jpg")
    refused = [ConnectionRefusedError(111, "Connection refused")] * 4
    bucket.fail("cat_file", *refused)
    for _ in range(2):
        with pytest.raises(ImageError, match="the connection was refused"):
            read_bytes(f"{url}/a/1.jpg")
    assert bucket.calls["cat_file"] == 4
    assert read_bytes(f"{url}/a/1.jpg")[:2] == b"\xff\xd8"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (PermissionError("Access Denied"), "can't be read (permission denied)"),
        (TimeoutError(), "can't be read (no answer in time)"),
        (ConnectionRefusedError(), "can't be read (the connection was refused)"),
        (RuntimeError("odd\n thing"), "can't be read (odd thing)"),
    ],
)
def test_a_listing_that_fails_is_one_line(bucket, make_tree, error, words):
    url, _ = stored(bucket, make_tree, "a/1.jpg", "b/1.jpg")
    bucket.fail("ls", *[error] * 3)
    with pytest.raises(DataError) as raised:
        read_images(url)
    assert str(raised.value) == f"{url}: {words}; give a folder of images"


@pytest.mark.parametrize("read", [read_images, read_corrections])
def test_a_table_that_is_not_there_is_one_line(bucket, read):
    with pytest.raises(DataError, match=r"gone.csv.*No such file or directory"):
        read(f"{bucket.url}/gone.csv")


def test_an_empty_folder_and_a_file_in_the_place_of_one(bucket):
    (bucket.folder / "photos").mkdir()
    (bucket.folder / "notes").write_text("none")
    with pytest.raises(DataError, match="no images found"):
        read_image_folder(f"{bucket.url}/photos", labelled=False)
    with pytest.raises(DataError, match="notes: is a file; give a folder of images"):
        read_image_folder(f"{bucket.url}/notes")


def test_a_folder_below_that_can_t_be_listed_is_an_error_and_no_class_less(bucket, make_tree):
    url, _ = stored(bucket, make_tree, "a/1.jpg", "b/1.jpg")
    bucket.fail("ls", None, PermissionError("b"))
    with pytest.raises(DataError, match="permission denied"):
        read_images(url)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("s3://bucket/photos", "s3:// needs a package that is not installed: pip install s3fs"),
        ("gs://bucket/photos", "gs:// needs a package that is not installed: pip install gcsfs"),
        ("az://bucket/photos", "az:// needs a package that is not installed: pip install adlfs"),
        ("nosuch://bucket/photos", "fsspec knows no protocol nosuch; expected one such as s3"),
        ("zip://a::s3://bucket/b.zip", "a URL inside another is not read"),
        ("memory://nowhere", "no such file; give a folder of images"),
    ],
)
def test_sources_that_can_t_be_read(source, words, monkeypatch):
    for package in ("s3fs", "gcsfs", "adlfs"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(DataError) as error:
        read_images(source)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_without_fsspec_its_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    remote._file_system.cache_clear()
    with pytest.raises(DataError, match=r'fsspec.*: pip install "permafrost\[remote\]"'):
        read_images("s3://bucket/photos")


def test_offline_no_file_system_is_asked_but_memory(bucket, make_tree, monkeypatch):
    url, _ = stored(bucket, make_tree, "a/1.jpg")
    monkeypatch.setenv("PERMAFROST_OFFLINE", "1")
    bucket.calls.clear()
    with pytest.raises(DataError, match="--offline"):
        read_images(url)
    with pytest.raises(ImageError, match="--offline"):
        read_bytes(f"{url}/a/1.jpg")
    assert not bucket.calls
    with pytest.raises(DataError, match="no such file"):
        read_images("memory://nowhere")


@pytest.mark.parametrize(
    ("info", "is_told"),
    [
        ({"size": 3, "ETag": '"abc"'}, True),
        ({"size": 3, "mtime": 1e9}, True),
        ({"size": 3, "updated": "2020-01-01T00:00:00Z"}, True),
        ({"size": 3, "mtime": 4e9}, False),
        ({"size": 3, "updated": "yesterday"}, False),
        ({"size": 3}, False),
    ],
)
def test_what_tells_a_version(info, is_told):
    assert (remote._entry(info).version is not None) is is_told


@pytest.mark.parametrize(("settled", "n_requests"), [(0.0, 2), (60.0, 4)])
def test_an_image_is_held_for_a_second_time_unless_it_may_be_changing(
    bucket, make_tree, monkeypatch, settled, n_requests
):
    monkeypatch.setattr(remote, "SETTLED_SECONDS", settled)
    url, folder = stored(bucket, make_tree, "a/1.jpg", "b/1.jpg")
    read_images(url)
    for _ in range(4):
        assert read_bytes(f"{url}/a/1.jpg") == read_bytes(f"{folder}/a/1.jpg")
    assert bucket.calls["cat_file"] == n_requests


def test_what_is_held_has_room_for_so_much(monkeypatch):
    monkeypatch.setattr(remote, "HELD_BYTES", 10)
    held, one = remote.Held(), remote.Entry(6, "1")
    for name in ("a", "b"):
        held.hold((name, one), b"123456")
    assert (held.give_up(("a", one)), held.give_up(("b", one))) == (b"123456", None)
    held.hold(("b", one), b"1234567890")
    held.clear()
    held.hold(("c", one), b"1234567890")
    assert held.give_up(("c", one)) == b"1234567890"
    assert held.give_up(("c", one)) is None
