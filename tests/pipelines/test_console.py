"""Tests of pipelines/console.py: every error as one line, worded as what is typed."""

import argparse
import json

import pytest

from data import DataError
from extract import ExtractError
from pipelines.__main__ import main as permafrost
from pipelines.console import in_full, run_command


def said(error, capsys):
    def fail(options):
        raise error

    run_command(fail, argparse.ArgumentParser(), [])
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ExtractError('give weights="random"'), "give --weights random"),
        (DataError("give class_level=2 if a"), "give --class-level 2 if a"),
        (DataError("photos/page=2/x.jpg is gone"), "photos/page=2/x.jpg is gone"),
        (DataError("page=2/x.jpg is gone"), "page=2/x.jpg is gone"),
        (DataError("a\nb\x1b[31m.jpg is gone"), r"a\x0ab\x1b[31m.jpg is gone"),
        (
            RuntimeError("Error(s) in loading:\n\tMissing keys\n" + "x" * 5000),
            "RuntimeError: Error(s) in loading: (run with --debug for the traceback)",
        ),
        (KeyError(), "KeyError: KeyError (run with --debug for the traceback)"),
    ],
)
def test_errors_are_one_line(error, line, capsys):
    assert said(error, capsys) == f"error: {line}\n"


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 9 TiB"),
        RuntimeError("CUDA out of memory. Tried to allocate 9 TiB.\n" + "See documentation\n" * 50),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: " + "9" * 1000),
    ],
)
def test_lack_of_memory_is_said_with_what_to_do(error, capsys):
    line = said(error, capsys)
    assert len(line.splitlines()) == 1
    assert len(line) < 400
    assert "--size or the number of --layers is too large for this machine" in line


def test_the_script_finds_ones_own_modules_as_python_m_does(tmp_path, monkeypatch, capsys):
    import sys

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place not in ("", ".")])
    monkeypatch.setattr(sys, "argv", ["permafrost", "--version"])
    assert permafrost() == 0
    assert sys.path[-1] == str(tmp_path)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--poling", "avg"], "unknown: --poling avg: did you mean --pooling?"),
        (["--basline=off"], "unknown: --basline=off: did you mean --baselines?"),
        (["--zzzzzz"], "unknown: --zzzzzz"),
        (["--kept-views", "4"], "unknown: --kept-views 4: an option of tune, and not of run"),
        (["more", "words"], "unknown: more words"),
    ],
)
def test_a_mistyped_option_is_answered_with_the_nearest(words, said, capsys):
    from pipelines.run import main

    with pytest.raises(SystemExit) as ended:
        main(["photos", *words])
    assert ended.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1] == f"pipelines.run: error: {said}"


@pytest.mark.parametrize(
    ("typed", "full"),
    [
        ("photos --weig random --see=3", "photos --weights random --seed=3"),
        ("--class 2 --class-w balanced", "--class 2 --class-weight balanced"),
        ("--views plain --quie --zzz -1", "--views plain --quiet --zzz -1"),
        ("--lay all -- --lay", "--layers all -- --lay"),
    ],
)
def test_what_is_typed_short_is_written_in_full(typed, full):
    from pipelines.run import build_parser

    assert in_full(build_parser(), typed.split()) == full.split()


def test_a_run_names_its_call_in_full(run, photos, tmp_path):
    given = ["--head", "knn", "--lay=features.4", "--pool", "avg", "--basel", "off"]
    code, _, err = run(photos, *given, "--rep", "off", "--qui")
    assert code == 0, err
    command = json.loads((tmp_path / "out" / "results.json").read_text("utf-8"))["command"]
    assert command[5:14] == [
        *(str(photos), "--heads", "knn", "--layers=features.4", "--pooling", "avg"),
        *("--baselines", "off", "--report"),
    ]


@pytest.mark.parametrize("command", ["run", "extract"])
def test_quiet_is_the_result_alone(photos, small, tmp_path, capsys, command):
    from importlib import import_module

    (photos / "cats" / "bad.png").write_bytes(b"none")
    few = ["--layers", "features.4", "--pooling", "avg", "--cache", str(tmp_path / "cache")]
    if command == "run":
        few += ["--heads", "knn", "--baselines", "off", "--views", "plain", "--report", "off"]
        few += ["--out", str(tmp_path / "out")]
    arguments = [word for word in small if command == "run" or word not in ("--cv", "3")]
    main = import_module(f"pipelines.{command}").main
    assert main([str(photos), *arguments, *few, "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert out
    assert err == ""
    main([str(photos), *arguments, *few])
    assert capsys.readouterr().err


def test_an_option_of_run_alone_is_named_as_such_by_others(capsys):
    from pipelines.tune import main

    with pytest.raises(SystemExit):
        main(["photos", "--final=all"])
    assert capsys.readouterr().err.endswith("--final=all: an option of run, and not of tune\n")


def test_commands_take_all_that_is_said_to_be_theirs():
    from pipelines import explore, run, segment, tune
    from pipelines.console import EXPLORING_OPTIONS, OPTIONS, PIXEL_OPTIONS, TUNING_OPTIONS

    others = TUNING_OPTIONS.keys() | EXPLORING_OPTIONS.keys() | PIXEL_OPTIONS.keys()
    of_commands = {
        run: OPTIONS.keys() - others,
        tune: TUNING_OPTIONS.keys(),
        explore: EXPLORING_OPTIONS.keys(),
        segment: PIXEL_OPTIONS.keys(),
    }
    for command, options in of_commands.items():
        assert options <= {action.dest for action in command.build_parser()._actions}
