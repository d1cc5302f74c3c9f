"""What all tests share: a cache of their own, so that nobody's kept features are touched."""

import os
import signal

# one worker a core: their threads would only wait for one another
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

# a shell's background job ignores Ctrl-C, nohup a hangup, and what they start inherits it: the
# tests that send these signals could only fail
USUAL = {"SIGINT": signal.default_int_handler, "SIGHUP": signal.SIG_DFL}
for name in USUAL.keys() & signal.Signals.__members__.keys():
    if signal.getsignal(signal.Signals[name]) is signal.SIG_IGN:
        signal.signal(signal.Signals[name], USUAL[name])


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """Point the platform's cache folder, and that of fetched networks, at temporary ones."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "xdg-cache"))
    monkeypatch.setenv("PERMAFROST_WEIGHTS", str(tmp_path_factory.getbasetemp() / "weights"))


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """A bucket at testbucket://bucket that stands in for an object store, without its waits."""
    from data import remote
    from tests.buckets import ROOT, Bucket

    monkeypatch.setenv(ROOT, str(tmp_path / "buckets"))
    monkeypatch.setattr(remote, "WAITS", (0.0, 0.0))
    (tmp_path / "buckets" / "bucket").mkdir(parents=True)
    yield Bucket(tmp_path / "buckets" / "bucket")
    remote.forget()


@pytest.fixture
def loopback():
    """A server on this machine that stands in for those weights come from."""
    from tests.loopback import Loopback

    server = Loopback()
    yield server
    server.close()
