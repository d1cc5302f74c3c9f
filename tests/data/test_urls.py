"""Names of places: what is a URL, what is a path of this machine, and how the two are joined."""

from pathlib import Path

import pytest

from data import DataError
from data.urls import as_place, has_urls, is_url, join


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("s3://bucket/photos", True),
        ("GS://bucket", True),
        ("memory://", True),
        ("abfs://container@account.dfs.core.windows.net/photos", True),
        ("photos", False),
        ("/photos://cat", False),
        ("C:\\photos", False),
        ("torchvision:MNIST", False),
        (Path("s3://bucket"), False),
    ],
)
def test_what_is_a_url(place, expected):
    assert is_url(place) is expected


@pytest.mark.parametrize(
    ("source", "place"),
    [
        ("file:///data/photos", "/data/photos"),
        ("local:///data/photos", "/data/photos"),
        ("s3://bucket/photos//", "s3://bucket/photos"),
        ("S3://Bucket/photos/", "s3://Bucket/photos"),
        ("memory:///", "memory://"),
        ("photos/", "photos/"),
        (Path("photos"), "photos"),
    ],
)
def test_a_folder_of_this_machine_by_a_url_is_its_path(source, place):
    assert as_place(source) == place


@pytest.mark.parametrize(
    ("folder", "name", "joined"),
    [
        ("s3://bucket/tables", "a/1.jpg", "s3://bucket/tables/a/1.jpg"),
        ("s3://bucket/tables", "../a/./1.jpg", "s3://bucket/a/1.jpg"),
        ("s3://bucket/tables", "/data/1.jpg", "/data/1.jpg"),
        ("s3://bucket/tables", "gs://other/1.jpg", "gs://other/1.jpg"),
        ("tables", "gs://other/1.jpg", "gs://other/1.jpg"),
        ("tables", "file:///data/1.jpg", "/data/1.jpg"),
        ("tables", "../a/1.jpg", "tables/../a/1.jpg"),
    ],
)
def test_names_below_a_folder(folder, name, joined):
    assert join(folder, name) == joined


def test_images_that_open_as_they_are_asked_for_are_not_asked():
    class Lazy(list):
        def __iter__(self):
            raise AssertionError("an image was opened")

    class Images:
        __getitem__ = Lazy.__iter__

    assert has_urls(["1.jpg", "s3://bucket/2.jpg"])
    assert not has_urls(["1.jpg"])
    assert not has_urls(Images())


def test_a_path_with_a_slash_too_few_is_refused():
    assert as_place("file://localhost/photos") == "/photos"
    with pytest.raises(DataError, match=r"file://tmp/x: no folder .* expected file:///tmp/x"):
        as_place("file://tmp/x")
