"""`benchmarks.scale`: its rules are the store's, its sums are right, and it prints its tables."""

import doctest
import json
from dataclasses import asdict

import numpy as np
import pytest

from benchmarks import scale
from benchmarks.rates import Rates
from benchmarks.rows import RECIPE, TAP, add, made_ids
from extract import FeatureStore
from extract.store import id_index, upkeep

STEPS = (
    *("listing", "remembered ids", "what is lacking"),
    *("blocks to workers", "what workers told", "copies"),
)
RATES = Rates(
    machine="made up",
    hash_bytes=1e9,
    open_seconds=0.0,
    decode={"500 x 375": 100.0},
    file_bytes={"500 x 375": 1e-9},
    forward={"mobilenet_v2": 100.0, "resnet50": 10.0},
    start_seconds={"mobilenet_v2": 1.0, "resnet50": 2.0},
    pickle_bytes=1e18,
    part_seconds=0.64,
    write_bytes=1e18,
    join_part_seconds=0.0,
    join_bytes=1e18,
    row_seconds=dict.fromkeys(STEPS, 1e-6),
    row_bytes=dict.fromkeys(STEPS, 100.0),
    remembered_bytes=128.0,
    rows=1000,
    index_seconds=0.0,
    index_bytes=24.0,
    index_memory=1e6,
    open_index_seconds=0.1,
    find_seconds=0.01,
    head_seconds=1e-6,
    head_copies=5.0,
)


def test_its_examples_hold():
    assert doctest.testmod(scale).failed == 0


@pytest.mark.parametrize("blocks", [1, 8, 9, 25])
def test_parts_are_joined_as_the_store_joins_them(blocks, tmp_path, monkeypatch):
    for module in (upkeep, scale):
        monkeypatch.setattr(module, "PART_ROWS", 100)
    monkeypatch.setattr(scale, "JOINED_BLOCKS", 10)
    store, joined_parts = FeatureStore(tmp_path), 0
    for number in range(blocks):
        add(str(tmp_path), 6 * number, 6, 8)
        if not (number + 1) % 10 or number + 1 == blocks:
            joined_parts += store.compact(RECIPE)
    parts = len(list((tmp_path / RECIPE.id / "parts").glob("*.h5")))
    said = scale.joined.__wrapped__(6 * blocks, 6, 16)
    assert (said.parts, said.sources) == (parts, joined_parts)


def test_ids_are_merged_as_the_index_merges_them(tmp_path, monkeypatch):
    written = []

    def counting(path, held, sources, starts):
        written.append(sum(part.rows for part in held.parts))
        write(path, held, sources, starts)

    write = id_index.write_sorted_ids
    monkeypatch.setattr(id_index, "write_sorted_ids", counting)
    for module in (id_index, scale):
        monkeypatch.setattr(module, "LOOSE_ROWS", 10)
    for number in range(14):
        add(str(tmp_path), 10 * number, 10, 8)
        assert not FeatureStore(tmp_path).missing(RECIPE, [TAP], made_ids(0, 1)).any()
    assert sum(written) == scale.merged.__wrapped__(140)


def test_a_core_does_one_thing_after_another():
    """A hundredth of a second each for decoding, the network and its share of writing a part."""
    own = scale.predict(scale.Work(1000), scale.Cluster("1 core", 1), RATES)
    assert own.binding == "cores"
    assert own.stages["cores"] == pytest.approx(1 / 0.03)
    assert own.lost == pytest.approx(0.05 * 30 / 3600 * (120 + 1))
    assert own.seconds == pytest.approx(30 + 1 + 1000 * 5e-6 + own.lost)


def test_beside_a_gpu_the_slowest_stage_decides():
    own = scale.predict(scale.Work(10**6), scale.Cluster("1 GPU", 16, 1), RATES)
    assert own.binding == "GPUs' workers"
    assert own.stages["cores that decode"] == pytest.approx(1600)
    assert own.stages["GPUs' workers"] == pytest.approx(1 / (1 / 11_768 + 0.64 / 256))


def test_more_machines_never_take_longer_until_the_driver_binds():
    seconds = [
        scale.predict(scale.Work(10**6), cluster, RATES).seconds for cluster in scale.CLUSTERS[:4]
    ]
    assert np.all(np.diff(seconds) < 0)


def test_its_tables_are_printed(tmp_path, capsys, monkeypatch):
    file = tmp_path / "rates.json"
    file.write_text(json.dumps(asdict(RATES)))
    monkeypatch.setattr(scale, "IMAGES", (10**6,))
    monkeypatch.setattr("sys.argv", ["scale", "--rates", str(file)])
    scale.main()
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("  1,000,000 ") for line in lines) == 3 * len(scale.CLUSTERS)
    assert any(line.strip().startswith("2,097,152 images: remembered ids") for line in lines)
