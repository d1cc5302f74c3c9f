"""Tests of pipelines/results_folder.py: what was there is kept until all that is new is there."""

import contextlib
import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines import results_folder as module
from pipelines.bundle import exchange
from pipelines.errors import WorkFailed, WrongCall
from pipelines.report.files import disk_errors_named
from pipelines.results_folder import EXPLORATION, RUN, refuse_others, results_folder

HEAD = dict.fromkeys(("schema", "data", "leaderboard", "chosen"))
HOWS = ["exchange", "fallback"] if exchange._find_exchange() else ["fallback"]
BRIEF = ("--heads", "knn", "--layers", "features.4", "--pooling", "avg", "--baselines", "off")
RUNS = 4  # processes at once, into one folder
TURNS = 8  # of each

# for each number a child that ends before its call of that number among those that rename or
# remove; the first one has none such and says how many there are
KILLED = """
import os, signal, sys
from pathlib import Path
from pipelines import results_folder as module

count = at = 0

def deadly(call):
    def dying(*args, **kwargs):
        global count
        count += 1
        if count == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*args, **kwargs)
    return dying

for name in ("rename", "replace", "unlink", "rmdir", "mkdir"):
    setattr(os, name, deadly(getattr(os, name)))
module.exchange = deadly(module.exchange)

def run():
    with module.results_folder(f"{at}/out") as folder:
        for name in ("results.json", "test_predictions.csv"):
            (folder.aside / name).write_text(sys.argv[1])
        (folder.aside / "model").mkdir()
        (folder.aside / "model" / "bundle.json").write_text(sys.argv[1])
    return count

calls = run()
print(calls, flush=True)
for at in range(1, calls + 1):
    if not (child := os.fork()):
        count = 0
        run()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL, at
"""
MOST_CALLS = 60
TURN = """
import os, sys
from pipelines.errors import WrongCall
from pipelines.results_folder import results_folder
done = 0
while done < int(sys.argv[1]):
    try:
        with results_folder("out") as folder:
            os.close(os.open("alone", os.O_CREAT | os.O_EXCL))
            (folder.aside / "results.json").write_text("of a run")
            os.unlink("alone")
        done += 1
    except WrongCall as error:
        assert "another run is at work in out" in str(error), error
"""


def text_of(name):
    """A results.json that says which run it is of."""
    return json.dumps({**HEAD, "data": name})


def write(out, name, *, more=()):
    """A run's results, made by the way that is tested."""
    with results_folder(out) as folder:
        for file in ("results.json", "test_predictions.csv", *more):
            (folder.aside / file).write_text(text_of(name))
        (folder.aside / "model").mkdir()
        (folder.aside / "model" / "bundle.json").write_text(text_of(name))


def content_of(folder):
    return {
        str(file.relative_to(folder)): file.read_text("latin-1")
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name not in module.HIDDEN
    }


def results_named(name, *more):
    files = ("model/bundle.json", "results.json", "test_predictions.csv", *more)
    return {file: text_of(name) for file in sorted(files)}


@pytest.fixture(params=HOWS)
def how(request, monkeypatch):
    """Both by exchanging the folders and where the file system can't."""
    if request.param == "fallback":
        monkeypatch.setattr(exchange, "_find_exchange", lambda: None)
    return request.param


def test_results_take_the_place_of_earlier_ones_as_a_whole(tmp_path, how):
    write(tmp_path / "out", "old", more=["bad_images.csv"])
    with results_folder(tmp_path / "out") as folder:
        (folder.aside / "results.json").write_text(text_of("new"))
        assert content_of(tmp_path / "out") == results_named("old", "bad_images.csv")
    assert content_of(tmp_path / "out") == {"results.json": text_of("new")}
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, WorkFailed, OSError])
def test_what_ends_a_run_leaves_earlier_results_whole(tmp_path, error, how):
    write(tmp_path / "out", "old")

    def end():
        with results_folder(tmp_path / "out") as folder:
            (folder.aside / "results.json").write_text("half")
            raise error("ended")

    with pytest.raises(error, match="ended"):
        end()
    assert content_of(tmp_path) == {f"out/{k}": v for k, v in results_named("old").items()}
    assert os.listdir(tmp_path) == ["out"]
    assert not (tmp_path / "out" / module.LOCK).exists()


def test_a_folder_that_is_empty_at_the_end_is_gone(tmp_path):
    with contextlib.suppress(RuntimeError), results_folder(tmp_path / "out"):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_without_a_folder_there_is_none():
    with results_folder(None) as folder:
        assert folder is None


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="kills processes")
@pytest.mark.skipif(HOWS == ["fallback"], reason="folders can't be exchanged")
def test_killed_at_any_call_the_old_or_the_new_results_are_there(tmp_path):
    for at in range(MOST_CALLS):
        write(tmp_path / str(at) / "out", "old")
    command = [sys.executable, "-c", KILLED, text_of("new")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    calls = int(done.stdout)
    assert 8 <= calls < MOST_CALLS
    seen = []
    for at in range(1, calls + 1):
        out = tmp_path / str(at) / "out"
        refuse_others(out)
        seen.append(content_of(out))
        assert seen[-1] in (results_named("old"), results_named("new")), at
        write(out, "next")
        assert os.listdir(out.parent) == ["out"]
        assert content_of(out) == results_named("next")
    assert seen[0] == results_named("old")
    assert seen[-1] == results_named("new")


def test_a_second_run_into_a_folder_in_use_is_refused(tmp_path):
    out = tmp_path / "out"
    with results_folder(out) as folder:
        (folder.aside / "results.json").write_text("first")
        for place in (out, tmp_path / "link"):
            if place != out:
                place.symlink_to(out)
            with pytest.raises(WrongCall, match="another run is at work in"), results_folder(place):
                pass
    assert content_of(out) == {"results.json": "first"}


@pytest.mark.skipif(os.name != "posix", reason="kills processes")
def test_a_killed_run_blocks_nobody(tmp_path):
    code = (
        "import os, signal\nfrom pipelines.results_folder import results_folder\n"
        "with results_folder('out'):\n    os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path).returncode == -9
    assert os.listdir(tmp_path / "out") == [module.LOCK]
    refuse_others(tmp_path / "out")
    write(tmp_path / "out", "next")
    assert os.listdir(tmp_path) == ["out"]
    assert content_of(tmp_path / "out") == results_named("next")


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="locks of files")
def test_many_runs_at_once_are_in_it_one_by_one(tmp_path):
    command = [sys.executable, "-c", TURN, str(TURNS)]
    runs = [
        subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
        for _ in range(RUNS)
    ]
    errors = [run.communicate(timeout=100)[1] for run in runs]
    assert errors == [""] * RUNS
    assert content_of(tmp_path) == {"out/results.json": "of a run"}


def a_strangers_results(out):
    (out / "results.json").write_text('{"mine": 1}')


def no_json(out):
    (out / "results.json").write_text("{")


def a_thesis(out):
    (out / "thesis.tex").touch()


def a_list_of_ones_own(out):
    (out / "bad_images.csv").write_text("nr,why\n")


def predictions_of_ones_own(out):
    (out / "test_predictions.csv").write_text("id,label\n")


@pytest.mark.parametrize(
    "fill",
    [a_strangers_results, no_json, a_thesis, a_list_of_ones_own, predictions_of_ones_own],
)
def test_a_folder_that_is_no_runs_is_refused_and_left_as_it_is(tmp_path, fill):
    (tmp_path / "out").mkdir()
    fill(tmp_path / "out")
    before = content_of(tmp_path / "out")
    name = next(iter(before))
    with pytest.raises(WrongCall, match=rf"holds .*{name}.*choose another folder with --out"):
        refuse_others(tmp_path / "out")
    assert content_of(tmp_path / "out") == before


@pytest.mark.parametrize("name", [".DS_Store", module.LOCK, module.TRIAL, None])
def test_an_empty_folder_and_what_nobody_wrote_is_no_reason(tmp_path, name):
    refuse_others(tmp_path / "nowhere")
    if name:
        (tmp_path / name).touch()
    refuse_others(tmp_path)


def test_a_cache_may_lie_in_the_folder(tmp_path):
    (tmp_path / "out" / "kept" / "ids").mkdir(parents=True)
    refuse_others(tmp_path / "out", tmp_path / "out" / "kept")
    with pytest.raises(WrongCall, match="'kept' and no run's results"):
        refuse_others(tmp_path / "out", tmp_path / "cache")


def test_a_cache_may_not_lie_where_results_take_its_place(tmp_path):
    place = tmp_path / "out" / "model"
    with pytest.raises(WrongCall, match=r"--cache .*out/model/kept lies where results go"):
        refuse_others(tmp_path / "out", place / "kept")


def test_what_one_has_put_beside_a_runs_results_stays(tmp_path, how):
    write(tmp_path / "out", "old", more=["bad_images.csv"])
    (tmp_path / "out" / "notes").mkdir()
    (tmp_path / "out" / "notes" / "1.txt").write_text("mine")
    refuse_others(tmp_path / "out")
    write(tmp_path / "out", "new")
    assert content_of(tmp_path / "out") == results_named("new") | {"notes/1.txt": "mine"}
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize(
    ("kind", "name"),
    [(RUN, "clusters.csv"), (RUN, "to_label.csv"), (EXPLORATION, "unlabelled.csv")],
)
def test_what_another_command_would_write_is_ones_own(tmp_path, kind, name, how):
    out = tmp_path / "out"
    for turn in ("old", "new"):
        with results_folder(out, kind) as folder:
            (folder.aside / "results.json").write_text(json.dumps(dict.fromkeys(kind.keys, turn)))
        if turn == "old":
            (out / name).write_text("labels")
    refuse_others(out, kind=kind)
    assert (out / name).read_text() == "labels"


def test_a_link_to_a_folder_stays_one_and_its_mode_too(tmp_path, how):
    write(tmp_path / "kept" / "out", "old")
    (tmp_path / "kept" / "out").chmod(0o750)
    (tmp_path / "link").symlink_to(tmp_path / "kept" / "out")
    write(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert content_of(tmp_path / "kept" / "out") == results_named("new")
    assert (tmp_path / "kept" / "out").stat().st_mode & 0o777 == 0o750


def test_the_folder_that_one_stands_in_stays_the_same(tmp_path, monkeypatch):
    write(tmp_path / "out", "old")
    monkeypatch.chdir(tmp_path / "out")
    before = (tmp_path / "out").stat().st_ino
    write(".", "new")
    assert (tmp_path / "out").stat().st_ino == before
    assert content_of(tmp_path / "out") == results_named("new")


def not_beside(monkeypatch, folder):
    """As of a mount: nothing moves from beside it into it."""
    replace = os.replace

    def refusing(source, target):
        if Path(target).parent == folder and not Path(source).is_relative_to(folder):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        return replace(source, target)

    monkeypatch.setattr(os, "replace", refusing)


def test_a_folder_that_is_a_mount_is_written_in_itself(tmp_path, monkeypatch):
    write(tmp_path / "out", "old")
    not_beside(monkeypatch, tmp_path / "out")
    with results_folder(tmp_path / "out") as folder:
        assert folder.aside.is_relative_to(tmp_path / "out")
        (folder.aside / "results.json").write_text(text_of("new"))
    assert content_of(tmp_path / "out") == {"results.json": text_of("new")}
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("failing", range(1, 7))
def test_where_a_file_cant_be_moved_all_are_put_back(tmp_path, monkeypatch, failing):
    monkeypatch.setattr(exchange, "_find_exchange", lambda: None)
    write(tmp_path / "out", "old")
    rename, calls = os.rename, []

    def counted(source, target):
        calls.append(source)
        if len(calls) == failing:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        rename(source, target)

    monkeypatch.setattr(os, "rename", counted)
    with pytest.raises(WorkFailed, match=r"can't write .*out .Input/output error"):
        write(tmp_path / "out", "new")
    assert content_of(tmp_path / "out") == results_named("old")
    assert os.listdir(tmp_path) == ["out"]


def test_a_disk_that_is_full_at_the_end_leaves_earlier_results(tmp_path, monkeypatch):
    write(tmp_path / "out", "old")

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(module, "sync_tree", full)
    with pytest.raises(WorkFailed, match=r"No space left on device.*choose another folder"):
        write(tmp_path / "out", "new")
    assert content_of(tmp_path / "out") == results_named("old")


def test_a_full_disk_is_told_by_the_place_that_a_file_was_to_have(tmp_path):
    with (
        pytest.raises(WorkFailed, match=r"can't write .*/out/results\.json"),
        results_folder(tmp_path / "out") as folder,
        folder.writing("results.json"),
    ):
        raise OSError(errno.ENOSPC, "full")
    with pytest.raises(WorkFailed, match="there"), disk_errors_named(tmp_path / "there"):
        raise OSError("no")
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cant_be_written_is_a_wrong_call(tmp_path):
    (tmp_path / "file").touch()
    for out in (tmp_path / "file", tmp_path / "file" / "out"):
        with pytest.raises(WrongCall, match="another folder with --out"), results_folder(out):
            pass


# the same of a whole run


def test_a_run_that_fails_leaves_the_earlier_results_and_its_list(photos, run, tmp_path):
    (photos / "cats" / "odd.png").write_text("no image")
    assert run(photos, *BRIEF)[0] == 0
    before = content_of(tmp_path / "out")
    assert "bad_images.csv" in before
    for i in range(4):
        (photos / "cats" / f"broken{i}.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut")
    code, _, err = run(photos, *BRIEF)
    after = content_of(tmp_path / "out")
    listed = after.pop("failed_bad_images.csv")
    assert (code, after) == (1, before)
    assert f"see {tmp_path / 'out' / 'failed_bad_images.csv'}" in err.splitlines()[-1]
    assert len(listed.splitlines()) == 6
    for file in photos.rglob("broken*"):
        file.unlink()
    assert run(photos, *BRIEF)[0] == 0
    assert not (tmp_path / "out" / "failed_bad_images.csv").exists()


def test_after_a_run_that_failed_the_next_one_takes_its_folder(photos, run, tmp_path):
    for i in range(2):
        (photos / "cats" / f"broken{i}.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut")
    assert run(photos, *BRIEF)[0] == 1
    assert os.listdir(tmp_path / "out") == ["bad_images.csv"]
    for file in photos.rglob("broken*"):
        file.unlink()
    assert run(photos, *BRIEF)[0] == 0
    assert sorted(os.listdir(tmp_path / "out")) == [
        *("images.csv", "model", "report.html", "results.json", "test_predictions.csv")
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    "stage", ["job.write_predictions", "job.write_bundle", "results_folder.write_results"]
)
def test_a_disk_that_fails_in_any_file_leaves_the_earlier_run(
    photos, run, tmp_path, monkeypatch, stage
):
    run(photos, *BRIEF)
    before = content_of(tmp_path / "out")

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(f"pipelines.{stage}", full)
    code, _, err = run(photos, *BRIEF, "--heads", "ridge")
    assert code == 1
    assert "No space left on device" in err.splitlines()[-1]
    assert str(tmp_path / "out") in err.splitlines()[-1]
    assert content_of(tmp_path / "out") == before
    assert sorted(os.listdir(tmp_path)) == ["cache", "out", "photos"]


def test_a_strangers_folder_is_refused_before_the_images_are_read(photos, run, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "results.json").write_text('{"mine": 1}')
    code, _, err = run(photos)
    assert (code, len(err.splitlines())) == (2, 1)
    assert "holds a results.json that no run wrote" in err
    assert content_of(tmp_path / "out") == {"results.json": '{"mine": 1}'}
    assert not (tmp_path / "cache").exists()


def test_a_folder_in_use_is_refused_before_the_pass(photos, run, tmp_path):
    with results_folder(tmp_path / "out"):
        code, _, err = run(photos)
    assert code == 2
    assert "another run is at work in" in err.splitlines()[-1]
    assert not list((tmp_path / "cache").rglob("*.h5"))


def test_a_bundle_is_read_while_another_run_is_at_work(photos, run, tmp_path):
    from pipelines import load_classifier

    run(photos, *BRIEF)
    with results_folder(tmp_path / "out") as folder:
        path = str(next(photos.rglob("*.png")))
        assert load_classifier(tmp_path / "out" / "model").predict([path])
        shutil.copytree(tmp_path / "out" / "model", folder.aside / "model")
    assert load_classifier(tmp_path / "out" / "model").predict([path])
