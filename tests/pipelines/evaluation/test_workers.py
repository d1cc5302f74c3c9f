"""Worker processes give what the same call gives here, and leave nothing behind."""

import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from pipelines.evaluation import workers as module
from pipelines.evaluation.workers import Workers, compute

HERE = f"__import__('os').getpid() == {os.getpid()}"


@pytest.fixture(scope="module")
def two():
    with Workers(2) as workers:
        yield workers


def run(workers, code):
    """What an expression is in a worker."""
    return workers.call(eval, lambda: (code,))


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as file:
        return file.read().split(")")[1].split()[0] != "Z"


def wait_until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_it_computes_in_another_process_what_would_be_computed_here(two):
    array = np.arange(6.0).reshape(2, 3)
    assert two.call(np.dot, lambda: (array, array.T)).tolist() == (array @ array.T).tolist()
    assert run(two, HERE) is False
    assert compute(None, eval, lambda: (HERE,)) is True
    assert compute(two, eval, lambda: (HERE,)) is False


def test_a_worker_is_one_thread_and_knows_no_torch(two):
    run(two, "exec('import pipelines.evaluation.sources')")
    assert run(two, "{'torch', 'h5py', 'PIL'} & {*__import__('sys').modules}") == set()
    pools = "__import__('threadpoolctl').threadpool_info()"
    assert {own["num_threads"] for own in run(two, pools)} == {1}


def test_as_many_as_asked_for_and_one_again_and_again(two):
    code = "(__import__('time').sleep(0.3), __import__('os').getpid())[1]"
    assert len({run(two, code) for _ in range(3)}) == 1
    with ThreadPoolExecutor(4) as threads:
        pids = list(threads.map(lambda _: run(two, code), range(4)))
    assert len(set(pids)) == 2


def test_what_it_raises_and_warns_is_raised_and_warned_here(two):
    with pytest.raises(ZeroDivisionError, match="division by zero"):
        run(two, "1 / 0")
    with pytest.warns(RuntimeWarning, match="overflow"):
        run(two, "__import__('numpy').exp(__import__('numpy').array(1e9))")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert run(two, "2") == 2  # the worker lives on


def test_a_place_warns_once_as_it_would_here_and_an_error_says_where_it_came_from(two):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(3):
            run(two, "__import__('numpy').log(__import__('numpy').array(-1.0))")
    assert len(caught) == 1
    with pytest.raises(ZeroDivisionError) as raised:
        run(two, "1 / 0")
    assert "in answer" in raised.value.__notes__[0]


def test_an_error_that_cant_be_sent_is_another(two):
    odd = "exec('class Odd(Exception): pass\\nraise Odd(1)')"
    with pytest.raises(module.NotSent, match="Odd"):
        run(two, odd)


def test_what_cant_be_sent_back_is_an_error_and_no_silence(two):
    with pytest.raises(module.NotSent, match="lambda"):
        run(two, "lambda: 1")
    assert run(two, "3") == 3


def test_what_is_printed_there_is_no_answer(capfd):
    with Workers(1) as workers:
        assert run(workers, "print('words', flush=True)") is None
        assert run(workers, "6") == 6
    assert capfd.readouterr().err == "words\n"


def test_where_one_is_killed_it_is_computed_here(two):
    code = f"'here' if {HERE} else __import__('os').kill(__import__('os').getpid(), 9)"
    assert run(two, code) == "here"
    assert run(two, HERE) is False  # another was started


def test_where_none_can_be_started_it_is_computed_here(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with Workers(2) as workers:
        workers.start()
        assert run(workers, HERE) is True


def test_a_wrong_call_is_no_reason_to_try_it_twice(two):
    tries = []

    def arguments():
        tries.append(1)
        raise KeyError("row")

    with pytest.raises(KeyError, match="row"):
        two.call(max, arguments)
    assert len(tries) == 1
    assert run(two, "4") == 4


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_closing_ends_them_whatever_they_are_at():
    with Workers(2) as workers:
        workers.start()
        pids = [worker.pid for worker in workers.started]
        # more than there are workers: one waits for another that is ended
        sleeping = [
            workers.begin(lambda: run(workers, "__import__('time').sleep(600)")) for _ in range(3)
        ]
        wait_until(lambda: sleeping[-1].running())
        time.sleep(0.2)
    assert not any(map(is_alive, pids))
    assert len(workers.started) == 2
    for own in sleeping:
        with pytest.raises((OSError, EOFError)):
            own.result()
    with pytest.raises(OSError, match="closed"):
        run(workers, "1")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_they_end_with_the_process_that_started_them():
    """However it ends, and in the middle of a long computation."""
    code = (
        "import threading, time; from pipelines.evaluation.workers import Workers\n"
        "workers = Workers(2); workers.start()\n"
        "print(*(own.pid for own in workers.started), flush=True)\n"
        "workers.call(exec, lambda: ('while True: pass',))"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        pids = [*map(int, process.stdout.readline().split())]
        assert len(pids) == 2
        time.sleep(1)
        assert all(map(is_alive, pids))
        process.send_signal(signal.SIGKILL)
        wait_until(lambda: not any(map(is_alive, pids)))


def test_a_run_that_was_begun_is_there_when_asked_for(two):
    begun = two.begin(lambda: (threading.get_ident(), run(two, "5")))
    thread, found = begun.result()
    assert found == 5
    assert thread != threading.get_ident()
