"""Files are replaced as a whole or not at all."""

import json
import multiprocessing
import os
import subprocess
import sys

import pytest

from extract import files
from extract.files import (
    NoFile,
    is_sealed,
    opened,
    read_remembered,
    read_sealed,
    remove_abandoned,
    write_remembered,
    write_sealed,
    write_text,
    written_aside,
)


def test_the_file_is_there_only_once_it_is_whole(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with written_aside(path) as aside:
        aside.write_text("half")
        assert aside.parent == path.parent
        assert not path.exists()
    assert path.read_text() == "half"
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def write_and_fail():
        with written_aside(path) as aside:
            aside.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_and_fail()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_text_is_replaced(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "eins")
    write_text(path, "zwei ü 犬")
    assert path.read_text(encoding="utf-8") == "zwei ü 犬"


def make_folder(path):
    path.mkdir()
    (path / "inside").touch()


def make_loop(path):
    path.symlink_to(path.name)


def make_link_to_nothing(path):
    path.symlink_to("gone")


def make_device(path):
    path.symlink_to("/dev/zero")


def make_huge(path):
    path.touch()
    os.truncate(path, 1 << 40)


ODD = [make_folder, os.mkfifo, make_loop, make_link_to_nothing, make_device]


@pytest.mark.parametrize("make", ODD)
def test_what_is_no_file_is_not_opened(tmp_path, make):
    make(tmp_path / "odd")
    with pytest.raises(NoFile):
        opened(tmp_path / "odd")


def test_a_link_to_a_file_is_opened_and_what_is_gone_is_gone(tmp_path):
    (tmp_path / "file").write_text("text")
    (tmp_path / "link").symlink_to("file")
    with opened(tmp_path / "link") as file:
        assert file.read() == b"text"
    with pytest.raises(FileNotFoundError):
        opened(tmp_path / "gone")


VALUE = {"a": [1, 0.1, None, "ü\udcff"], "b": {}}


def test_a_value_is_remembered_as_readable_json(tmp_path):
    write_remembered(tmp_path / "a.json", VALUE)
    assert read_remembered(tmp_path / "a.json") == VALUE
    assert json.loads((tmp_path / "a.json").read_text())["value"] == VALUE


def test_every_bit_of_what_is_remembered_counts(tmp_path):
    path = tmp_path / "a.json"
    write_remembered(path, VALUE)
    whole = path.read_bytes()
    for at in range(8 * len(whole)):
        changed = bytearray(whole)
        changed[at // 8] ^= 1 << at % 8
        path.write_bytes(changed)
        assert read_remembered(path) is None
    for left in range(len(whole)):
        path.write_bytes(whole[:left])
        assert read_remembered(path) is None
    path.write_bytes(whole + b"\n")
    assert read_remembered(path) is None


def test_every_bit_of_what_is_sealed_counts(tmp_path):
    path = tmp_path / "a.checkpoint"
    write_sealed(path, b"\0\xffbody")
    assert read_sealed(path) == b"\0\xffbody"
    assert is_sealed(path)
    whole = path.read_bytes()
    for at in range(8 * len(whole)):
        changed = bytearray(whole)
        changed[at // 8] ^= 1 << at % 8
        path.write_bytes(changed)
        assert read_sealed(path) is None
    for left in range(len(whole)):
        path.write_bytes(whole[:left])
        assert read_sealed(path) is None
        assert not is_sealed(path)
    path.write_bytes(whole)
    path.rename(tmp_path / "b.checkpoint")  # another's: it is of another training
    assert [read_sealed(own) for own in (path, tmp_path / "b.checkpoint")] == [None, None]


@pytest.mark.parametrize("make", ODD)
def test_of_what_is_no_file_nothing_is_read(tmp_path, make):
    make(tmp_path / "odd")
    assert read_sealed(tmp_path / "odd") is None


def test_of_two_that_were_swapped_neither_is_believed(tmp_path):
    one, two = tmp_path / "1.json", tmp_path / "2.json"
    write_remembered(one, 1)
    write_remembered(two, 2)
    one.rename(tmp_path / "3"), two.rename(one), (tmp_path / "3").rename(two)
    assert [read_remembered(path) for path in (one, two)] == [None, None]


@pytest.mark.parametrize("make", [*ODD, make_huge])
def test_whatever_is_in_its_place_is_forgotten_and_replaced(tmp_path, make):
    path = tmp_path / "a.json"
    make(path)
    assert read_remembered(path) is None
    write_remembered(path, VALUE)
    assert read_remembered(path) == VALUE


def test_nothing_is_remembered_where_nothing_is(tmp_path):
    assert read_remembered(tmp_path / "a.json") is None
    (tmp_path / "file").touch()
    assert read_remembered(tmp_path / "file" / "a.json") is None


def half_write(folder, ready, go_on):
    with written_aside(folder / "a.txt") as aside:
        aside.write_text("half")
        ready.set()
        go_on.wait()
        os.kill(os.getpid(), 9)


def test_what_a_dead_process_left_is_removed_and_what_a_live_one_writes_is_not(tmp_path):
    """A clock a day ahead removed a part that was being written."""
    context = multiprocessing.get_context("fork")
    ready, go_on = context.Event(), context.Event()
    process = context.Process(target=half_write, args=(tmp_path, ready, go_on))
    process.start()
    ready.wait()
    (half,) = tmp_path.iterdir()
    os.utime(half, (1, 1))
    remove_abandoned(tmp_path)
    assert half.exists()
    with written_aside(tmp_path / "own.txt") as own:
        own.touch()
        remove_abandoned(tmp_path)
        assert own.exists()
    go_on.set()
    process.join()
    assert half.exists()
    remove_abandoned(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["own.txt"]


def test_another_machines_files_stay(tmp_path, monkeypatch):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    names = [f".tmp-{'0' * 12}-{dead.pid}-12345678", ".tmp-1-abc-a.h5", ".tmp-", "a.h5"]
    for name in names:
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (1, 1))
    remove_abandoned(tmp_path)
    remove_abandoned(tmp_path / "gone")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    monkeypatch.setattr(files, "_host", lambda: "0" * 12)
    remove_abandoned(tmp_path)
    assert not (tmp_path / names[0]).exists()


def test_a_folder_that_goes_while_it_is_made_is_made_again(tmp_path, monkeypatch):
    folder, mkdir, calls = tmp_path / "parts", os.mkdir, []

    def removed_at_once(path, mode=0o777):
        calls.append(path)
        if len(calls) == 1:  # another process removes it between mkdir's error and the look at it
            raise FileExistsError(17, "File exists", str(path))
        mkdir(path, mode)

    monkeypatch.setattr(os, "mkdir", removed_at_once)
    files.again_where_gone(lambda: folder.mkdir(exist_ok=True))
    assert folder.is_dir()
    assert len(calls) == 2


def test_a_file_in_a_folders_place_is_said(tmp_path):
    (tmp_path / "parts").touch()
    with pytest.raises(FileExistsError):
        files.again_where_gone(lambda: (tmp_path / "parts").mkdir(exist_ok=True))


def test_a_use_is_noted_of_a_link_and_not_of_what_it_leads_to(tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    target.touch()
    link.symlink_to(target)
    for path in (target, link):
        os.utime(path, (0, 0), follow_symlinks=False)
    files.note_use(link)
    assert target.stat().st_mtime == 0
    assert link.lstat().st_mtime > 0
