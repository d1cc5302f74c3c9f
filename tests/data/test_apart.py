"""Decoding apart: it is stopped when it takes too long, and no process is left behind."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from data import ImageError, Reading, apart, decode
from data import gate as gate_file
from data.apart import Ended, TooLong, decoders, run_apart, stop_decoders

PICTURE = b"P6 3 2 255\n" + bytes(range(18))
WHOLE = (PICTURE, None, 100, Reading())
needs_proc = pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="no /proc")


@pytest.fixture(autouse=True)
def _none_left():
    yield
    stop_decoders()


@pytest.fixture(scope="module")
def slow(jpeg_of_scans):
    return jpeg_of_scans(990, 65500, 2700)


def gone(pid, seconds=5.0):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


def test_the_same_pixels_come_and_the_process_is_used_again():
    for _ in range(3):
        image = run_apart("_decoded", WHOLE, 0)
        assert np.asarray(image[0]).ravel().tolist() == list(range(18))
        assert len(decoders()) == 1


def test_numbers_that_are_still_to_be_scaled_come_too():
    deep = b"P5 2 2 65535\n" + bytes(range(8))
    values = run_apart("_values", (deep, None, 100, Reading()), 0)
    np.testing.assert_array_equal(values.array, [[1, 515], [1029, 1543]])
    assert values.declared is None
    assert run_apart("_values", WHOLE, 0) is None


def test_large_pictures_come_in_strips(monkeypatch):
    monkeypatch.setattr(apart, "STRIP", 10)
    image = run_apart("_decoded", WHOLE, 0)
    assert np.asarray(image[0]).ravel().tolist() == list(range(18))


def test_each_thread_has_its_own():
    with ThreadPoolExecutor(3) as pool:
        images = list(pool.map(lambda _: run_apart("_decoded", WHOLE, 0), range(12)))
    assert all(np.asarray(image[0]).ravel().tolist() == list(range(18)) for image in images)
    assert 1 <= len(decoders()) <= 3


def test_what_the_decoder_raises_is_told():
    with pytest.raises(ValueError, match="3 x 2 is over the limit of 5 pixels"):
        run_apart("_decoded", (PICTURE, None, 5, Reading()), 0)
    assert len(decoders()) == 1


def test_what_takes_too_long_is_stopped_and_the_next_goes_on(slow):
    began = time.monotonic()
    with pytest.raises(TooLong):
        run_apart("_decoded", (slow, 32, 10**9, Reading()), 2**30, limit=0.5)
    assert time.monotonic() - began < 30
    assert decoders() == []
    assert run_apart("_decoded", WHOLE, 0)[0].size == (3, 2)


def test_a_slow_file_is_one_clear_error(monkeypatch, slow):
    monkeypatch.setattr(apart, "LIMIT", 0.2)
    with pytest.raises(ImageError, match=r"x.jpg: not a .* took over 10 s .* 990 scans"):
        decode(slow, "x.jpg", 32)


@needs_proc
def test_a_decoder_that_crashes_is_one_clear_error(monkeypatch, slow):
    run_apart("_decoded", WHOLE, 0)
    (pid,) = decoders()
    monkeypatch.setattr(gate_file, "IN_THREAD", -1)
    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(run_apart, "_decoded", (slow, 32, 10**9, Reading()), 2**30)
        time.sleep(0.3)
        os.kill(pid, signal.SIGSEGV)
        with pytest.raises(Ended):
            job.result(20)
    assert decode(PICTURE).size == (3, 2)


@needs_proc
def test_one_that_was_killed_while_idle_is_replaced():
    run_apart("_decoded", WHOLE, 0)
    (pid,) = decoders()
    os.kill(pid, signal.SIGKILL)
    assert gone(pid)
    assert run_apart("_decoded", WHOLE, 0)[0].size == (3, 2)
    assert decoders() != [pid]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux holds to RLIMIT_AS")
def test_memory_ends_where_the_estimate_does():
    noise = b"P6 9000 9000 255\n" + bytes(3 * 9000 * 9000)
    with pytest.raises(ValueError, match="does not fit in memory"):
        run_apart("_decoded", (noise, None, 10**9, Reading()), 0)
    assert run_apart("_decoded", WHOLE, 0)[0].size == (3, 2)


@needs_proc
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
@pytest.mark.parametrize("busy", [True, False])
def test_no_decoder_outlives_its_parent(tmp_path, slow, number, busy):
    (tmp_path / "slow.jpg").write_bytes(slow)
    program = (
        "import threading, time\n"
        "from data import Reading\n"
        "from data.apart import decoders, run_apart\n"
        "run_apart('_decoded', (b'P6 1 1 255 abc', None, 100, Reading()), 0)\n"
        "print(*decoders(), flush=True)\n"
        f"busy, slow = {busy}, open({str(tmp_path / 'slow.jpg')!r}, 'rb').read()\n"
        "job = lambda: run_apart('_decoded', (slow, 32, 10**9, Reading()), 2**30)\n"
        "busy and threading.Thread(target=job, daemon=True).start()\n"
        "time.sleep(0.5)\n"
        "print('now', flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
        text=True,
    )
    with parent:
        pid = int(parent.stdout.readline())
        assert parent.stdout.readline() == "now\n"
        assert not gone(pid, 0.05)
        parent.send_signal(number)
        parent.wait(20)
    assert gone(pid)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_process_has_decoders_of_its_own():
    run_apart("_decoded", WHOLE, 0)
    (pid,) = decoders()
    child = os.fork()
    if not child:
        try:
            image = run_apart("_decoded", WHOLE, 0)
            right = image[0].size == (3, 2) and pid not in decoders()
            stop_decoders()
        except BaseException:
            right = False
        os._exit(not right)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert run_apart("_decoded", WHOLE, 0)[0].size == (3, 2)
    assert decoders() == [pid]
