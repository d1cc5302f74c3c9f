"""Where a pass may run, and what is said where it can't: no cluster is started."""

import signal
import socket
import subprocess
import sys

import pytest

from extract import ExtractError, FeatureStore, MemoryStore, Tap, extract
from extract.errors import ClusterError
from extract.sharding import cluster
from extract.sharding.cluster import Pool, check_on, connect, find_pool

HERE = ["ray", "ray://localhost:10001", "ray://10.0.0.7:10001", "ray://[::1]:10001"]


class Nodes:
    """A cluster as Ray describes it."""

    def __init__(self, *resources):
        self._resources = resources

    def nodes(self):
        return [{"Resources": own, "Alive": True} for own in self._resources] + [
            {"Resources": {"CPU": 64.0, "GPU": 8.0}, "Alive": False}
        ]


@pytest.mark.parametrize("on", [None, *HERE])
def test_where_a_pass_may_run(on):
    assert check_on(on) == on


@pytest.mark.parametrize("on", ["", "spark", "ray:", "ray://", "ray://head", "ray://head:x", 1])
def test_other_places_are_refused(on):
    with pytest.raises(ExtractError, match=r"^on=.*: expected ray or ray://HOST:PORT$"):
        check_on(on)


@pytest.mark.parametrize(
    ("nodes", "pool"),
    [
        ([{"CPU": 2.0}], Pool(2, 1, False)),
        ([{"CPU": 1.0}], Pool(1, 1, False)),
        ([{"CPU": 64.0}], Pool(8, 8, False)),
        ([{"CPU": 64.0}, {"CPU": 16.0}, {"memory": 1.0}], Pool(40, 2, False)),
        ([{"CPU": 16.0, "GPU": 4.0}, {"CPU": 16.0}], Pool(4, 1, True)),
    ],
)
def test_workers_take_gpus_or_a_share_of_the_cores(nodes, pool):
    assert find_pool(Nodes(*nodes)) == pool


def test_a_cluster_without_cores_is_refused():
    with pytest.raises(ClusterError, match="neither GPUs nor cores"):
        find_pool(Nodes({"CPU": 0.0}))


def test_without_ray_its_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ExtractError) as caught:
        connect("ray")
    assert str(caught.value) == "on='ray': ray is not installed: pip install \"permafrost[ray]\""


@pytest.mark.parametrize("named", ["ray://127.0.0.1", "RAY_ADDRESS=127.0.0.1"])
def test_an_address_that_nobody_answers_is_said_in_a_line(named, monkeypatch):
    pytest.importorskip("ray", reason="the extra [ray] is not installed")
    with socket.socket() as taken:  # bound, and not listening
        taken.bind(("127.0.0.1", 0))
        address = f"{named}:{taken.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address.removeprefix("RAY_ADDRESS="))
        with pytest.raises(ClusterError, match=rf"^nobody answers at {address} \("):
            connect(address if address.startswith("ray") else "ray")


def test_a_store_in_memory_is_refused(backbone, photos):
    with pytest.raises(ExtractError, match=r"^on='ray': got a MemoryStore, expected a Feature"):
        extract(photos, [Tap("layer1.0", "avg")], backbone, MemoryStore(), on="ray")
    store = FeatureStore("memory://bucket/cache")
    with pytest.raises(ExtractError, match=r"memory://bucket/cache is in this process's memory"):
        extract(photos, [Tap("layer1.0", "avg")], backbone, store, on="ray")


def test_what_is_kept_needs_no_cluster(backbone, photos, tmp_path, monkeypatch):
    monkeypatch.setattr("extract.store.ids.SETTLED_SECONDS", -60.0)
    monkeypatch.setitem(sys.modules, "ray", None)
    store, taps = FeatureStore(tmp_path / "cache"), [Tap("layer1.0", "avg")]
    extract(photos, taps, backbone, store, device="cpu")
    done = extract(photos, taps, backbone, store, on="ray")
    assert (done.computed, len(done.good)) == (0, 12)


def test_images_in_memory_are_computed_here(backbone, pixels, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    store, taps = FeatureStore(tmp_path / "cache"), [Tap("layer1.0", "avg")]
    done = extract(pixels, taps, backbone, store, numerics="float32", device="cpu", on="ray")
    assert (done.computed, done.read(taps, done.good).shape) == (12, (12, 8))


def test_signals_are_answered_as_before():
    before = signal.getsignal(signal.SIGTERM)
    with cluster._own_signals():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    assert signal.getsignal(signal.SIGTERM) == before


def test_no_import_takes_ray():
    code = (
        "import sys, extract, pipelines, pipelines.extract, pipelines.job, extract.sharding.stream;"
        "sys.exit('ray' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
