"""Tests of pipelines/stopping.py: one line and the right exit code, wherever a signal falls."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated", signal.SIGHUP: "hung up"}
KEPT = "the features computed so far are kept; run again to go on from there"
SOON = 3.0  # seconds: two where other processes wait for the same cores
# what a command is busy with when the signal comes, after `ready()`
BUSY = {
    "waiting": "time.sleep(60)",
    "in a long call without the lock": """
import hashlib
hashlib.pbkdf2_hmac('md5', b'', b'', 10**9)""",
    "writing": """
with written_aside(out / 'part') as aside:
    aside.write_text('half')
    time.sleep(60)""",
    "saving a bundle": """
from pipelines.bundle.exchange import folder_aside
with folder_aside(out / 'model') as aside:
    (aside / 'head').touch()
    time.sleep(60)""",
    "swallowing": """
try:
    time.sleep(60)
except BaseException:
    time.sleep(60)""",
    "turning it into another error": """
try:
    time.sleep(60)
except KeyboardInterrupt:
    raise RuntimeError('boom')""",
    "in a finaliser": """
class Slow:
    def __del__(self): time.sleep(60)
Slow()
time.sleep(60)""",
    "waiting for threads": """
with ThreadPoolExecutor(2) as pool:
    list(pool.map(time.sleep, [60, 60]))""",
    "in a search": """
import numpy as np
from pipelines.evaluation.search import Search
from pipelines.evaluation.sources import search_sources
rng = np.random.default_rng(0)
X, y = rng.normal(size=(3000, 900)).astype('f'), rng.integers(0, 9, 3000).astype(str)
ready()
search_sources(lambda i: X, [900] * 50, y, Search(['rbf_svm', 'lda'], 5, n_jobs=2))""",
}
COMMAND = """
import sys
sys.argv[0] = "-m"
sys.orig_argv[1:] = ["-m", "pipelines.run"]
import pipelines
import argparse, os, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from extract.files import written_aside
from pipelines.console import run_command

out = Path({out!r})
def ready(): print("ready", flush=True)
def main(options):
    {ready}
{body}
    return 0
sys.exit(run_command(main, argparse.ArgumentParser(), []))
"""


def started(code):
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def command(body, out):
    indented = "\n".join(f"    {line}" for line in body.strip().splitlines())
    ready = "pass" if "ready()" in body else "ready()"
    return COMMAND.format(out=str(out), ready=ready, body=indented)


QUICK = [(number, 1, "waiting") for number in CODES] + [
    (signal.SIGTERM, times, busy) for busy in list(BUSY)[1:4] for times in (1, 2)
]
ALL = [(number, times, busy) for number in CODES for times in (1, 2) for busy in BUSY]


@pytest.mark.parametrize(
    ("number", "times", "busy"),
    [*QUICK, *(pytest.param(*case, marks=pytest.mark.slow) for case in ALL if case not in QUICK)],
)
def test_a_signal_ends_a_command_in_one_line(number, times, busy, tmp_path):
    process = started(command(BUSY[busy], tmp_path))
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.1)
    began = time.monotonic()
    for _ in range(times):
        process.send_signal(number)
        time.sleep(0.3)
    out, err = process.communicate(timeout=60)
    assert time.monotonic() - began < 0.3 * times + SOON
    assert (process.returncode, out) == (CODES[number], "")
    assert err == f"{WORDS[number]}: {KEPT}\n"
    assert list(tmp_path.iterdir()) == []


def catches(process, number):
    """Whether a process has a handler of its own for a signal."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("SigCgt"))
    return int(line.split()[1], 16) >> (number - 1) & 1


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
@pytest.mark.parametrize("module", ["pipelines.run", "pipelines"])
@pytest.mark.parametrize(
    "later", [0.0, *(pytest.param(s, marks=pytest.mark.slow) for s in (0.05, 0.1, 0.2, 0.4, 0.8))]
)
def test_ctrl_c_while_a_command_imports_is_one_line(module, later, photos, tmp_path):
    words = [*(["run"] if module == "pipelines" else []), str(photos), "--out", str(tmp_path / "o")]
    process = subprocess.Popen(
        [sys.executable, "-m", module, *words, "--cache", str(tmp_path / "cache")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    while not catches(process, signal.SIGTERM):
        time.sleep(0.001)
    time.sleep(later)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert err in ("interrupted: nothing was begun\n", f"interrupted: {KEPT}\n")
    assert not (tmp_path / "o").exists()


def test_a_signal_that_was_to_be_ignored_is_ignored(tmp_path):
    """`nohup` and shells that start a command in the background ask for it."""
    code = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)" + command(
        "time.sleep(0.5)", tmp_path
    )
    process = started(code)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGHUP)
    assert process.communicate(timeout=60)[1] == ""
    assert process.returncode == 0


def test_a_signal_sent_twice_at_once_counts_once(tmp_path):
    """`timeout` sends it to the process and to its group: work was cut that the first one kept."""
    body = """
try:
    ready()
    time.sleep(60)
finally:
    time.sleep(0.1)
    (out / "kept").touch()"""
    process = started(command(body, tmp_path))
    assert process.stdout.readline() == "ready\n"
    # at once: on a busy machine a wait would be longer than the time in which two count as one
    for _ in range(2):
        process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 143
    assert os.listdir(tmp_path) == ["kept"]


def test_importing_the_package_changes_no_signal():
    code = (
        "import signal; before = [signal.getsignal(n) for n in (2, 15)]; import pipelines.run;"
        "assert [signal.getsignal(n) for n in (2, 15)] == before"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
