"""Tests of pipelines/cache.py."""

import json
import os
import re
import time

import numpy as np
import pytest

from extract import FeatureStore, Recipe, Tap
from pipelines.cache import main
from tests.extract.store.tuned_files import write_tuned_files

TAPS = [Tap("early", "avg"), Tap("late", "grid3")]
RECIPE = Recipe("torchvision.resnet18", "0123456789abcdef", "box-bilinear:96x64:crop1", "float32")


@pytest.fixture
def cache(tmp_path):
    """A cache of seven rows of two taps."""
    store = FeatureStore(tmp_path / "cache")
    with store.writer(RECIPE) as writer:
        ids = np.random.default_rng(0).integers(0, 256, (7, 16), np.uint8)
        writer.add(ids, {tap: np.ones((7, 100), np.float32) for tap in TAPS})
    return store.cache


@pytest.fixture
def call(cache, capsys):
    """Call `pipelines.cache` -> (exit code, stdout, stderr)."""

    def look_after(*arguments):
        code = main([*map(str, arguments), "--cache", str(cache)])
        return code, *capsys.readouterr()

    return look_after


def age(cache, days):
    stamp = time.time() - days * 24 * 3600
    for path in cache.rglob("*"):
        os.utime(path, (stamp, stamp))


def the_part(cache):
    return next(cache.glob("*/parts/*.h5"))


def test_a_list_says_what_is_kept_in_words(cache, call):
    code, out, err = call("list")
    header, row, *_ = out.splitlines()
    assert (code, err) == (0, "")
    assert header.split()[:7] == [
        "recipe", "backbone", "weights", "size", "numerics", "view", "taps",
    ]  # fmt: skip
    assert re.split(r"\s{2,}", row)[:8] == [
        RECIPE.id[:8], "torchvision.resnet18", "01234567", "96x64", "float32", "plain", "2", "7",
    ]  # fmt: skip
    assert re.search(r"^in all: \d+\.\d KB in ", out, re.MULTILINE)


def test_a_list_of_nothing(tmp_path, capsys):
    assert main(["list", "--cache", str(tmp_path / "none")]) == 0
    none = tmp_path / "none"
    assert capsys.readouterr().out == f"nothing is kept in {none}: there is no such folder\n"
    assert not none.exists()
    none.mkdir()
    assert main(["list", "--cache", str(none)]) == 0
    assert capsys.readouterr().out == f"nothing is kept in {none}\n"


def test_a_list_names_what_lies_beside_the_recipes(cache, call):
    for name in ("ids/a.json", "backbones/b.json", "ids/c.damaged", "ids/.tmp-1", "thesis.txt"):
        (cache / name).parent.mkdir(exist_ok=True)
        (cache / name).write_bytes(b"0123456789")
    out = call("list")[1]
    for line in (
        "image ids: 1 file, 10 bytes",
        "backbones' cards: 1 file, 10 bytes",
        "set aside as damaged: 1 file, 10 bytes",
        "temporary files: 1 file, 10 bytes",
        "not the store's: 1 file",
    ):
        assert line in out.splitlines()


def test_tuned_networks_are_listed_checked_and_pruned(cache, call):
    network = write_tuned_files(cache)
    training = network.with_suffix(".checkpoint")
    out = call("list")[1]
    for line in (
        f"tuned networks: 1 file, {network.stat().st_size} bytes",
        f"how they were tuned: 1 file, {network.with_suffix('.json').stat().st_size} bytes",
        "unfinished trainings: 1 file, 232 bytes",
    ):
        assert line in out.splitlines()
    others = json.loads(call("list", "--json")[1])["others"]
    assert others["tuned network"] == [1, network.stat().st_size]
    assert others["unfinished training"] == [1, 232]
    assert call("verify")[0] == 0
    training.write_bytes(training.read_bytes()[:-1])
    code, out, _ = call("verify", "--repair")
    assert (code, out.splitlines()[0]) == (
        0,
        f"damaged: {training}: it is not as it was written; removed",
    )
    age(cache, 40)
    _, out, _ = call("prune", "--older-than", "30d")
    assert f"removed: tuned network {network}, " in out
    assert not list((cache / "tuned").iterdir())


def test_the_list_as_json(cache, call):
    found = json.loads(call("list", "--json")[1])
    (one,) = found["recipes"]
    assert (one["id"], one["rows"], one["taps"]) == (RECIPE.id, 7, list(map(str, TAPS)))
    assert one["recipe"]["numerics"] == "float32"
    assert found["n_bytes"] == sum(path.stat().st_size for path in cache.rglob("*.*"))


def test_a_whole_store_is_said_to_be_so(call):
    code, out, _ = call("verify")
    assert code == 0
    assert re.fullmatch(r"2 files, [\d.]+ KB read in .*: none damaged\n", out)


def test_damage_is_one_line_each_and_exit_1_until_it_is_repaired(cache, call):
    part = the_part(cache)
    os.truncate(part, 100)
    code, out, err = call("verify")
    assert (code, err) == (1, "")
    assert [str(part) in line for line in out.splitlines()] == [True, False, False]
    assert out.startswith("damaged: ")
    code, out, err = call("verify", "--repair")
    assert (code, err) == (0, "")
    assert out.splitlines()[0].endswith("; set aside")
    assert call("verify")[0] == 0
    assert call("list")[1].count("set aside as damaged: 1 file") == 1


def test_names_that_are_no_text_are_printed_all_the_same(cache, call, capsys):
    name = os.fsdecode(b"caf\xe9\n\x1b[31m.h5")
    (the_part(cache).parent / name).touch()
    for action in ("verify", "list", "prune"):
        _, out, err = call(action)
        assert "Error" not in err
        assert "\x1b" not in out
        out.encode()
    assert call("verify", "--json")[0] == 1
    odd = cache.with_name(os.fsdecode(b"caf\xe9\n\x1b[31m"))
    for action in ("verify", "list", "prune"):
        assert main([action, "--cache", str(odd)]) == (0 if action == "list" else 2)
        assert r"caf\xe9\x0a\x1b[31m" in "".join(capsys.readouterr())


def test_prune_says_what_goes_and_what_was_freed(cache, call):
    age(cache, 40)
    size = sum(path.stat().st_size for path in cache.rglob("*.*"))
    code, out, _ = call("prune", "--older-than", "30d", "--dry-run")
    assert code == 0
    assert f"would be removed: recipe {cache / RECIPE.id}" in out
    assert the_part(cache).exists()
    _, out, _ = call("prune", "--older-than", "30d")
    assert f"removed: recipe {cache / RECIPE.id}" in out
    assert f"1 removed, {size / 1000:.1f} KB; 0 bytes left" in out
    assert not (cache / RECIPE.id).exists()


def test_prune_spares_what_was_just_used(cache, call):
    _, out, _ = call("prune", "--max-size", "1KB")
    assert "used of late" in out
    assert the_part(cache).exists()


@pytest.mark.parametrize("action", ["verify", "prune"])
def test_a_folder_that_is_no_cache_is_refused(tmp_path, capsys, action):
    """`verify --cache typo` found nothing damaged and ended with 0."""
    assert main([action, "--cache", str(tmp_path / "typo")]) == 2
    assert "typo: no such folder; expected" in capsys.readouterr().err
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").touch()
    assert main([action, "--cache", str(tmp_path / "photos")]) == 2
    assert "no cache, it holds 1 file that no run kept there, such as a.jpg" in (
        capsys.readouterr().err
    )
    (tmp_path / "empty").mkdir()
    assert main([action, "--cache", str(tmp_path / "empty")]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["list", "--repair"], "--repair belongs to verify, not to list"),
        (["verify", "--older-than", "3d"], "--older-than belongs to prune, not to verify"),
        (["prune", "--older-than", "3"], "'3': expected an age such as 30d"),
        (["prune", "--older-than", "soon"], "'soon': expected an age such as 30d"),
        (["prune", "--max-size", "20"], "'20': expected a size such as 20GB"),
        (["prune", "--max-size", "-1GB"], "expected"),
        (["tidy"], "invalid choice: 'tidy'"),
        ([], "required: action"),
    ],
)
def test_wrong_calls_exit_2(call, arguments, message, capsys):
    try:
        code, _, err = call(*arguments)
    except SystemExit as error:
        code, err = error.code, capsys.readouterr().err
    assert code == 2
    assert message in err.splitlines()[-1]
    assert "Traceback" not in err
