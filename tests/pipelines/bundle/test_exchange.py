"""Whenever a save over a bundle is killed, a reader finds the old one or the new one, whole."""

import os
import subprocess
import sys

import pytest

from pipelines.bundle import exchange
from pipelines.bundle.exchange import clear_leftovers, find_folder, folder_aside

# for each number a child that dies before its call of that number among those that rename or
# remove; the first one has none such and says how many there are
KILLED = """
import os, signal, sys
from pathlib import Path
from pipelines.bundle import exchange

count = at = 0

def deadly(call):
    def dying(*args, **kwargs):
        global count
        count += 1
        if count == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*args, **kwargs)
    return dying

for name in ("rename", "unlink", "rmdir", "mkdir"):
    setattr(os, name, deadly(getattr(os, name)))
found = exchange._find_exchange() if sys.argv[1] == "exchange" else None
exchange._find_exchange = lambda: found and deadly(found)

def save():
    os.chdir(str(at))
    with exchange.folder_aside(Path("bundle")) as aside:
        (aside / "one").write_text("new")
        (aside / "two").write_text("new")

save()
os.chdir("..")
calls = count
print(calls, flush=True)
for at in range(1, calls + 1):
    if not (child := os.fork()):
        count = 0
        save()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL, at
"""
MOST_CALLS = 40
HOWS = ["exchange", "fallback"] if exchange._find_exchange() else ["fallback"]


def content_of(folder):
    return {file.name: file.read_text() for file in sorted(folder.iterdir())}


def save(folder, text):
    with folder_aside(folder) as aside:
        for name in ("one", "two"):
            (aside / name).write_text(text)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="kills processes")
@pytest.mark.parametrize("how", HOWS)
def test_killed_at_any_call_one_of_the_two_is_there(tmp_path, how):
    old, new = ({"one": text, "two": text} for text in ("old", "new"))
    for at in range(MOST_CALLS):
        save(tmp_path / str(at) / "bundle", "old")
    command = [sys.executable, "-c", KILLED, how]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    calls = int(done.stdout)
    assert 4 <= calls < MOST_CALLS
    assert content_of(tmp_path / "0" / "bundle") == new
    seen = []
    for at in range(1, calls + 1):
        place = tmp_path / str(at)
        found = content_of(find_folder(place / "bundle"))
        assert found in (old, new)
        seen.append(found)
        if how == "exchange":
            assert (place / "bundle").is_dir()
        save(place / "bundle", "next")
        assert os.listdir(place) == ["bundle"]
        assert content_of(place / "bundle") == {"one": "next", "two": "next"}
    assert seen[0] == old
    assert seen[-1] == new


@pytest.mark.parametrize("how", HOWS)
def test_a_link_to_a_folder_stays_one(tmp_path, monkeypatch, how):
    if how == "fallback":
        monkeypatch.setattr(exchange, "_find_exchange", lambda: None)
    save(tmp_path / "kept" / "bundle", "old")
    (tmp_path / "link").symlink_to(tmp_path / "kept" / "bundle")
    save(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert content_of(tmp_path / "kept" / "bundle") == {"one": "new", "two": "new"}


def test_an_error_leaves_the_old_one_and_nothing_beside_it(tmp_path):
    save(tmp_path / "bundle", "old")
    with pytest.raises(OSError, match="full"), folder_aside(tmp_path / "bundle"):
        raise OSError("disk full")
    assert os.listdir(tmp_path) == ["bundle"]
    assert content_of(tmp_path / "bundle")["one"] == "old"


def test_a_rename_that_fails_half_way_puts_the_old_one_back(tmp_path, monkeypatch):
    monkeypatch.setattr(exchange, "_find_exchange", lambda: None)
    save(tmp_path / "bundle", "old")
    real = exchange.Path.rename

    def failing(path, target):
        if path.name == "new":
            raise OSError("no")
        return real(path, target)

    monkeypatch.setattr(exchange.Path, "rename", failing)
    with pytest.raises(OSError, match="no"):
        save(tmp_path / "bundle", "new")
    assert os.listdir(tmp_path) == ["bundle"]
    assert content_of(tmp_path / "bundle")["one"] == "old"


def leftover(folder, place=None, pid=None, start=None):
    pid = os.getpid() if pid is None else pid
    start = exchange._start(pid) or "00000000" if start is None else start
    path = folder / f".tmp-{place or exchange._place()}-{pid}-{start}-01234567"
    (path / "new").mkdir(parents=True)
    return path


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="processes are told by /proc")
def test_only_what_dead_processes_of_this_machine_left_is_cleared(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    gone = leftover(tmp_path, pid=child.pid)
    another_of_that_number = leftover(tmp_path, start="deadbeef")
    at_work = leftover(tmp_path)
    elsewhere = leftover(tmp_path, place="deadbeef", pid=child.pid)
    ones_own = tmp_path / ".tmp-notes"
    ones_own.mkdir()
    clear_leftovers(tmp_path)
    assert not gone.exists()
    assert not another_of_that_number.exists()
    assert at_work.exists()
    assert elsewhere.exists()
    assert ones_own.exists()
