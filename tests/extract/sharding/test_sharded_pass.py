"""Passes on two workers of a Ray cluster of this machine, one of which may be killed."""

import os
import signal
import sys
import threading

import numpy as np
import pytest

from extract import ExtractError, FeatureStore, Interrupted, Preprocessing, Tap, extract
from extract import load_backbone as load
from extract.engines import numerics_there
from extract.errors import ClusterError
from extract.forward_pass import Watch
from extract.sharding import cluster, sharded_pass
from extract.sharding.cluster import Pool

ray = pytest.importorskip("ray", reason="the extra [ray] is not installed")
pytestmark = pytest.mark.slow
A, B = Tap("layer1.0", "avg"), Tap("layer3.0", "grid2")
ON_CORES, ON_GPUS = Pool(2, 1, False), Pool(2, 1, True)


@pytest.fixture(scope="module", autouse=True)
def _cluster():
    """Two cores, and by name alone two GPUs: where these are taken, tasks decode beside them."""

    def start(own, quiet):
        own.init(num_cpus=2, num_gpus=2, include_dashboard=False, **quiet)

    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("RAY_AUTH_MODE", "disabled")
        patched.setattr(cluster, "_start_here", start)
        cluster.connect("ray")
        yield
        ray.shutdown()


@pytest.fixture(autouse=True)
def _blocks_of_four(monkeypatch):
    for name in ("CPU_BLOCK", "GPU_BLOCK", "FEWEST"):
        monkeypatch.setattr(sharded_pass, name, 4)
    monkeypatch.setattr("extract.store.ids.SETTLED_SECONDS", -60.0)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """run(images, backbone, pool) on those workers, or here -> the Extraction."""

    def run(images, backbone, pool=None, taps=(A, B), **settings):
        monkeypatch.setattr(sharded_pass, "find_pool", lambda _: pool)
        store = FeatureStore(tmp_path / ("elsewhere" if pool else "here"))
        how = {"numerics": "float32", "device": "cpu"} | settings
        return extract(images, taps, backbone, store, on="ray" if pool else None, **how)

    return run


def dies_once(mark):
    """Kill the process that comes first."""
    try:
        os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


def deadly_network(net, mark):
    """A network whose first pass in any process is the last of that process."""

    class Deadly(net):
        def forward(self, x):
            if os.path.exists(f"{mark}-armed"):
                dies_once(mark)
            return super().forward(x)

    return Deadly()


class DeadlyPreprocessing:
    """What kills the first process that decodes with it."""

    transform_id = "deadly"

    def __init__(self, mark):
        self._mark, self._own = mark, Preprocessing(size=32, crop=1.0)

    def __call__(self, image):
        if os.path.exists(f"{self._mark}-armed"):
            dies_once(self._mark)
        return self._own(image).transpose(2, 0, 1).astype(np.float32) / 255


def test_workers_keep_what_the_plain_pass_keeps(run, backbone, photos, monkeypatch):
    plans, told = [], []
    # a part a block, joined on the way
    monkeypatch.setattr(sharded_pass, "JOINED_BLOCKS", 1)
    monkeypatch.setattr("extract.store.upkeep.SMALL_PARTS", 1)
    images = [*photos, "gone.png", photos[0]]
    watch = Watch(plans.append, told.append)
    done = run(images, backbone, ON_CORES, watch=watch, thumbnails=True)
    plain = run(images, backbone)
    assert np.array_equal(done.ids, plain.ids)
    assert {row: str(error) for row, error in done.bad.items()} == {12: "gone.png: no such file"}
    assert (done.computed, done.device, done.engine) == (12, "cpu", "torch-eager")
    # the copy is in a block of its own: last bits may be those of a batch of one
    kept, expected = done.read([A, B], done.good), plain.read([A, B], plain.good)
    assert np.array_equal(kept[1:12], expected[1:12])
    assert np.allclose(kept, expected, rtol=1e-5, atol=1e-7)
    assert (len(plans), plans[0].compute, plans[0].kept) == (1, 14, 0)
    assert (told[-1], sorted(told)) == (14, told)
    assert min(done.times.values()) >= 0
    parts = done.request.store.cache / done.recipe.id / "parts"
    assert len(list(parts.glob("*.h5"))) == 1
    monkeypatch.setitem(sys.modules, "ray", None)  # the second time nobody is asked
    assert run(images[:12], backbone, ON_CORES).computed == 0


@pytest.mark.parametrize(("who", "pool"), [("network", ON_CORES), ("decoder", ON_GPUS)])
def test_a_killed_worker_costs_its_block_alone(
    run, tiny_net, small, photos, tmp_path, who, pool, capfd
):
    mark = tmp_path / "dead"
    network = deadly_network(tiny_net, str(mark)) if who == "network" else tiny_net()
    preprocessing = DeadlyPreprocessing(str(mark)) if who == "decoder" else small
    backbone = load(network, preprocessing=preprocessing)
    plain = run(photos, backbone)
    mark.with_name("dead-armed").touch()
    done = run(photos, backbone, pool)
    assert mark.exists()
    assert capfd.readouterr() == ("", "")
    assert (done.computed, done.bad) == (12, {})
    assert np.array_equal(done.read([A, B], done.good), plain.read([A, B], plain.good))


def test_a_worker_says_what_its_device_computes_fastest():
    assert cluster.ask_numerics("ray", "cpu") == numerics_there("cpu")


def test_what_a_worker_raises_is_one_line_and_what_is_kept_stays(
    run, backbone, photos, write_image, tmp_path
):
    class Failing(DeadlyPreprocessing):
        def __call__(self, image):
            if image.width == 7 and os.path.exists(self._mark):
                raise RuntimeError("no more of this\nat all")
            return super().__call__(image)

    images = [*photos, write_image(tmp_path / "narrow.png", np.zeros((40, 7, 3), np.uint8))]
    own = load(backbone.network, preprocessing=Failing(str(tmp_path / "fails")))
    (tmp_path / "fails").touch()
    with pytest.raises(
        ClusterError,
        match=r"^a worker failed \(RuntimeError: no more of this\): what was computed is kept; run",
    ):
        run(images, own, ON_CORES)
    (tmp_path / "fails").unlink()
    assert 1 <= run(images, own, ON_CORES).computed < 13


def test_an_interrupt_says_what_is_kept_and_a_second_pass_goes_on(run, backbone, photos):
    def interrupt(done):
        raise KeyboardInterrupt

    with pytest.raises(Interrupted) as caught:
        run(photos, backbone, ON_CORES, watch=Watch(on_progress=interrupt))
    assert (caught.value.kept, caught.value.wanted) == (4, 12)
    assert run(photos, backbone, ON_CORES).computed <= 8


def test_what_cannot_be_sent_is_refused_in_a_line(run, tiny_net, photos, tmp_path):
    own = DeadlyPreprocessing(str(tmp_path / "never"))
    own.lock = threading.Lock()
    with pytest.raises(
        ExtractError, match=r"^backbone .*TinyNet can't be sent to workers \(.*lock"
    ):
        run(photos, load(tiny_net(), preprocessing=own), ON_CORES)
