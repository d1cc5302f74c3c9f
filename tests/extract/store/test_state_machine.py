"""Any sequence of writes, kills, damage, prunes and repairs: a read is right or says missing."""

import contextlib
import itertools
import os
import shutil
import sys
import tempfile
import threading
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from extract import ExtractError, FeatureStore, Recipe, Tap, prune_cache, verify_cache
from extract.store import DamagedPart, feature_store, id_index, pruning, upkeep

RUNS, STEPS = 8, 20  # a benchmark can raise the slow ones
SLOW_RUNS, SLOW_STEPS = 40, 30
N = 12
TAPS = (Tap("early", "avg"), Tap("late", "grid3"))
RECIPES = tuple(Recipe("net", "digest", "box", "float32", view=v) for v in ("plain", "flipped"))
RNG = np.random.default_rng(0)
IDS = RNG.integers(0, 256, (N, 16), np.uint8)
ROWS = {
    (recipe.id, str(tap)): RNG.normal(size=(N, width)).astype(np.float32)
    for recipe, (tap, width) in itertools.product(RECIPES, zip(TAPS, (5, 9), strict=True))
}
LIFE = 12  # steps in which a store may grow before all of it goes
OLD = 100 * 24 * 3600.0

recipes = st.sampled_from(RECIPES)
some_taps = st.sampled_from([TAPS[:1], TAPS[1:], TAPS])
some_rows = st.lists(st.integers(0, N - 1), min_size=1, max_size=N, unique=True)


def flip(path, where, bit):
    data = bytearray(path.read_bytes())
    if data:
        data[where % len(data)] ^= 1 << bit
        path.write_bytes(data)


def flip_a_row(path, where, bit):
    """Most of a small file is no row: one flip in twenty would hit one."""
    data = path.read_bytes()
    rows = [row.tobytes() for values in ROWS.values() for row in values]
    places = [data.index(row) for row in rows if row in data]
    flip(path, places[where % len(places)] + where % 20 if places else where, bit)


def truncate(path, where, bit):
    os.truncate(path, where % (path.stat().st_size + 1))


def in_its_place(make):
    def corrupt(path, where, bit):
        path.unlink()
        make(path)

    return corrupt


def make_full_folder(path):
    path.mkdir()
    (path / "inside").touch()


DAMAGES = {
    "flip": flip,
    "flip a row": flip_a_row,
    "truncate": truncate,
    "empty": in_its_place(Path.touch),
    "folder": in_its_place(Path.mkdir),
    "full folder": in_its_place(make_full_folder),
    "FIFO": in_its_place(os.mkfifo),
    "loop": in_its_place(lambda path: path.symlink_to(path.name)),
    "link to nothing": in_its_place(lambda path: path.symlink_to("nothing")),
    "device": in_its_place(lambda path: path.symlink_to("/dev/zero")),
}
damages = st.tuples(
    st.sampled_from([*DAMAGES, *["flip a row"] * 8, "truncate"]),
    st.integers(0, 1 << 20),
    st.integers(0, 7),
)


class StoreMachine(RuleBasedStateMachine):
    """`kept` are the cells (recipe, tap, row) that must be there; any other may be.

    `damaged` are files that are not as they were written, `unused` ids of recipes that nothing
    used for long.
    """

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.store = FeatureStore(self.folder / "cache")
        self.kept = set()
        self.damaged = set()
        self.unused = set()
        self.steps_since_all_went = 0

    def teardown(self):
        try:
            self.verify(repair=False)
            for recipe in RECIPES:
                self.another_process()
                self.read(recipe, TAPS, range(N))
        finally:
            shutil.rmtree(self.folder)

    # what a store is for

    @rule(recipe=recipes, taps=some_taps, rows=some_rows)
    def add(self, recipe, taps, rows):
        self._add(recipe, taps, rows)
        self.kept |= cells(recipe, taps, rows)

    @rule(recipe=recipes, taps=some_taps, rows=some_rows)
    def extract(self, recipe, taps, rows):
        for _ in range(len(self._parts()) + 2):  # each look may meet one more damaged part
            lacking = self._used(recipe).missing(recipe, taps, IDS[rows]).any(axis=1)
            if lacking.any():
                self._add(recipe, taps, np.array(rows)[lacking])
            with contextlib.suppress(DamagedPart):
                found = self.store.read(recipe, taps, IDS[rows])
                break
        assert np.array_equal(found, whole(recipe, taps, rows))
        # a part that is damaged elsewhere goes as a whole once that is seen
        self.kept |= cells(recipe, taps, rows) & self._held()

    @rule(recipe=recipes, taps=some_taps, rows=some_rows)
    def read(self, recipe, taps, rows):
        lacking = self._used(recipe).missing(recipe, taps, IDS[rows])
        for (i, row), (j, tap) in itertools.product(enumerate(rows), enumerate(taps)):
            if (recipe.id, str(tap), row) in self.kept:
                assert not lacking[i, j], "a row that was kept is missing"
            if lacking[i, j]:
                continue
            found = self._read_row(recipe, tap, row)
            if found is None:
                assert (recipe.id, str(tap), row) not in self.kept, "a row that was kept is gone"
            else:
                assert np.array_equal(found, whole(recipe, [tap], [row])), "a wrong row"

    @rule(recipe=recipes)
    def compact(self, recipe):
        self._used(recipe).compact(recipe)

    # what happens to it

    @rule(recipe=recipes, taps=some_taps, rows=some_rows, calls=st.integers(1, 400))
    def killed_while_adding(self, recipe, taps, rows, calls):
        pid = os.fork()
        if not pid:
            try:
                killed_after(calls)
                self._add(recipe, taps, rows)
            finally:
                os._exit(0)
        os.waitpid(pid, 0)

    @rule(recipe=recipes, calls=st.integers(1, 600))
    def killed_while_compacting(self, recipe, calls):
        pid = os.fork()
        if not pid:
            try:
                killed_after(calls)
                self.store.compact(recipe)
            finally:
                os._exit(0)
        os.waitpid(pid, 0)

    @rule(
        recipe=recipes,
        taps=some_taps,
        rows=some_rows,
        name=st.sampled_from(["fsync", "replace", "open", "mkdir"]),
        call=st.integers(0, 3),
    )
    def disk_full_while_adding(self, recipe, taps, rows, name, call):
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(os, name, failing(getattr(os, name), call))
            before = set(self.unused)
            try:
                self._add(recipe, taps, rows)
            except ExtractError:
                self.unused = before  # nothing may have been written that would tell of a use

    @precondition(lambda self: set(self._parts()) - self.damaged)
    @rule(data=st.data(), damage=damages)
    def corrupt(self, data, damage):
        # a bit that is flipped twice would be whole again
        path = data.draw(st.sampled_from(sorted(set(self._parts()) - self.damaged)))
        name, where, bit = damage
        self._no_more(path)
        before = path.read_bytes() if path.is_file() else None
        if path.is_file():
            DAMAGES[name](path, where, bit)
        if not path.is_file() or path.read_bytes() != before:
            self.damaged.add(path)

    @precondition(lambda self: len(self._parts()) > 1)
    @rule(data=st.data())
    def swap(self, data):
        one, two = (data.draw(st.sampled_from(self._parts())) for _ in "12")
        if one != two and not {one, two} & self.damaged:
            self._no_more(one, two)  # an index that names one of them is believed until it is read
            if one.parent != two.parent:  # else it is only the names of two whole parts
                self.damaged |= {one, two}
            aside = self.folder / "aside"
            os.replace(one, aside)
            os.replace(two, one)
            os.replace(aside, two)

    @precondition(lambda self: set(self._indexes()) - self.damaged)
    @rule(data=st.data(), damage=damages)
    def corrupt_index(self, data, damage):
        path = data.draw(st.sampled_from(sorted(set(self._indexes()) - self.damaged)))
        before = path.read_bytes() if path.is_file() else None
        if path.is_file():
            DAMAGES[damage[0]](path, *damage[1:])
        if not path.is_file() or path.read_bytes() != before:
            self.damaged.add(path)

    @precondition(lambda self: set(self._descriptions()) - self.damaged)
    @rule(data=st.data(), damage=damages)
    def corrupt_recipe(self, data, damage):
        path = data.draw(st.sampled_from(sorted(set(self._descriptions()) - self.damaged)))
        before = path.read_bytes() if path.is_file() else None
        if path.is_file():
            DAMAGES[damage[0]](path, *damage[1:])
        if not path.is_file() or path.read_bytes() != before:
            self.damaged.add(path)

    @precondition(lambda self: self.steps_since_all_went > LIFE)
    @rule()
    def remove_everything(self):
        self.steps_since_all_went = 0
        shutil.rmtree(self.store.cache, ignore_errors=True)
        self.kept.clear()
        self.damaged.clear()

    @rule()
    def another_process(self):
        """One that has seen nothing yet."""
        feature_store._known.cache_clear()

    # upkeep

    @rule(recipe=recipes)
    def long_unused(self, recipe):
        for path in (self.store.cache / recipe.id).rglob("*"):
            with contextlib.suppress(OSError):
                stat = path.lstat()
                os.utime(path, (stat.st_atime - OLD, stat.st_mtime - OLD), follow_symlinks=False)
        self.unused.add(recipe.id)

    @rule(max_bytes=st.sampled_from([None, 0, 10_000]))
    def prune(self, max_bytes):
        done = prune_cache(self.store.cache, older_than=OLD / 2, max_bytes=max_bytes)
        gone = {one.path.name for one in done.removed if one.kind == "recipe"}
        assert gone <= self.unused, "a recipe that was just used is removed"
        self.kept = {cell for cell in self.kept if cell[0] not in gone}

    @precondition(lambda self: self.steps_since_all_went > LIFE)
    @rule()
    def ruthless_prune(self):
        self.steps_since_all_went = 0
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(pruning, "GRACE_SECONDS", -1.0)
            prune_cache(self.store.cache, max_bytes=0)
        self.kept.clear()

    @rule(repair=st.booleans())
    def verify(self, repair):
        there = {path for path in self.damaged if os.path.lexists(path) and not is_written(path)}
        found = verify_cache(self.store.cache, repair=repair)
        assert {one.path for one in found.damaged} == there
        if repair:
            assert found.whole
            assert not verify_cache(self.store.cache).damaged
            self.damaged.clear()

    @invariant()
    def no_temporary_file_is_listed(self):
        assert not [path for path in self._parts() if path.name.startswith(".")]
        self.steps_since_all_went += 1

    # how

    def _read_row(self, recipe, tap, row):
        """The row, or None where no part holds it any more; each try may meet a damaged one."""
        for _ in range(len(self._parts()) + 1):
            with contextlib.suppress(DamagedPart):
                return self.store.read(recipe, [tap], IDS[[row]])
        return None

    def _add(self, recipe, taps, rows):
        with self._used(recipe).writer(recipe) as writer:
            writer.add(IDS[rows], {tap: ROWS[recipe.id, str(tap)][rows] for tap in taps})

    def _used(self, recipe):
        self.unused.discard(recipe.id)
        return self.store

    def _parts(self):
        return sorted(self.store.cache.glob("*/parts/*.h5"))

    def _indexes(self):
        return sorted(self.store.cache.glob("*/index/*.index"))

    def _descriptions(self):
        return sorted(self.store.cache.glob("*/recipe.json"))

    def _no_more(self, *victims):
        """What these parts alone held may be missing from now on."""
        self.kept -= set().union(*map(cells_of, victims)) - self._held(*victims)

    def _held(self, *but):
        """The cells of all parts that are as they were written."""
        return set().union(*map(cells_of, set(self._parts()) - self.damaged - set(but)))


def is_written(path):
    """Whether a recipe.json is as it was written: the next writer replaces a damaged one."""
    texts = {recipe.id: recipe.to_json().encode() for recipe in RECIPES}
    return path.is_file() and path.read_bytes() == texts.get(path.parent.name)


def cells(recipe, taps, rows):
    return {(recipe.id, str(tap), row) for tap in taps for row in rows}


def cells_of(part):
    """What a part that is as it was written holds."""
    if not part.is_file():
        return set()
    try:
        with h5py.File(part, "r", locking=False) as file:
            ids = [bytes(one) for one in file["ids"][:]]
            rows = [row for row in range(N) if IDS[row].tobytes() in ids]
            return {(part.parent.parent.name, tap, row) for tap in file["taps"] for row in rows}
    except (OSError, LookupError, ValueError, TypeError, RuntimeError):
        return set()


def whole(recipe, taps, rows):
    return np.concatenate([ROWS[recipe.id, str(tap)][rows] for tap in taps], axis=1)


def killed_after(calls):
    """Have this process end at its n-th call from here, in whichever thread that is."""
    count = itertools.count()

    def end(frame, event, argument):
        if next(count) >= calls:
            os._exit(0)

    threading.setprofile(end)
    sys.setprofile(end)


def failing(function, call):
    count = itertools.count()

    def fails(*args, **kwargs):
        if next(count) == call:
            raise OSError(28, "No space left on device")
        return function(*args, **kwargs)

    return fails


def run(runs, steps, monkeypatch):
    monkeypatch.setattr(upkeep, "SMALL_PARTS", 1)
    monkeypatch.setattr(id_index, "LOOSE_ROWS", 15)  # more than a part has, fewer than two
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large]
    machine = StoreMachine.TestCase
    machine.settings = settings(
        max_examples=runs,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        suppress_health_check=checks,
    )
    machine("runTest").runTest()


def test_a_read_is_right_or_says_missing(monkeypatch):
    run(RUNS, STEPS, monkeypatch)


@pytest.mark.slow
def test_a_read_is_right_or_says_missing_for_long(monkeypatch):
    run(SLOW_RUNS, SLOW_STEPS, monkeypatch)
