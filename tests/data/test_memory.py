"""Decoders share one budget of memory, in turn and without waiting for each other for ever."""

import contextlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from data import memory
from data.memory import ORDINARY, SMALL, Budget, available, budget, most_for


def test_no_more_is_taken_at_once_than_there_is():
    shared, lock = Budget(10 * SMALL), threading.Lock()
    now = most = 0

    def work(amount):
        nonlocal now, most
        with shared.taken(amount * SMALL):
            with lock:
                now += min(amount, 10)
                most = max(most, now)
            time.sleep(0.001)
            with lock:
                now -= min(amount, 10)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, [1, 3, 12, 5, 2, 9, 4, 7] * 8))
    assert most == 10
    assert shared.free == shared.size


def test_what_is_small_does_not_wait():
    shared = Budget(2 * SMALL)
    with shared.taken(2 * SMALL), ThreadPoolExecutor(1) as pool:

        def small():
            with shared.taken(SMALL - 1):
                return True

        assert pool.submit(small).result(5)


def test_what_decoding_leaves_is_kept_to_the_end_of_the_block():
    shared = Budget(10 * SMALL)
    with shared.kept():
        with shared.taken(6 * SMALL, after=2 * SMALL):
            assert shared.free == 4 * SMALL
        assert shared.free == 8 * SMALL
        with shared.taken(5 * SMALL, after=SMALL):
            assert shared.free == 5 * SMALL
        assert shared.free == 8 * SMALL
    assert shared.free == shared.size


@pytest.mark.parametrize("kept", [True, False])
def test_an_error_gives_all_back(kept):
    shared = Budget(10 * SMALL)

    def fail():
        with shared.taken(6 * SMALL, after=2 * SMALL):
            raise ValueError("broken")

    block = shared.kept() if kept else contextlib.nullcontext()
    with block, pytest.raises(ValueError, match="broken"):
        fail()
    assert shared.free == shared.size


def test_threads_that_need_more_than_they_hold_do_not_wait_for_each_other():
    shared, both = Budget(10 * SMALL), threading.Barrier(2)

    def work():
        with shared.kept():
            with shared.taken(5 * SMALL, after=5 * SMALL):
                both.wait(5)
            with shared.taken(8 * SMALL, after=SMALL):
                time.sleep(0.001)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads)
    assert shared.free == shared.size


@pytest.mark.parametrize(
    ("size", "most"),
    [(0, ORDINARY), (10**6, ORDINARY), (2**21, 2**29), (2**30, 2**33)],
)
def test_large_files_may_take_more(monkeypatch, size, most):
    monkeypatch.setattr(memory, "available", lambda: 2**34)
    budget.cache_clear()
    assert most_for(size) == most
    budget.cache_clear()


def test_half_of_what_is_available_is_the_most(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: 2**28)
    budget.cache_clear()
    assert budget().size == most_for(10) == most_for(2**30) == 2**27
    budget.cache_clear()


def test_a_container_may_have_less_than_the_machine(monkeypatch, tmp_path):
    for name, number in (("max", 3 * 2**20), ("current", 2**20)):
        (tmp_path / name).write_text(f"{number}\n")
    monkeypatch.setattr(memory, "_CONTAINERS", ((tmp_path / "max", tmp_path / "current"),))
    assert available() == 2 * 2**20
    (tmp_path / "max").write_text("max\n")
    assert available() > 2 * 2**20
