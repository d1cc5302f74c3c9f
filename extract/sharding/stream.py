"""Blocks on their way through Ray Data: listed, decoded by tasks or by whom they are computed."""

import logging
import pickle
from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import Any

from extract.errors import ClusterError, ExtractError
from extract.sharding.blocks import Block, DecodedBlock, Done, Network, decode_block
from extract.sharding.cluster import Pool

KEPT = "what was computed is kept; run again to go on from there"
PROTOCOL = pickle.HIGHEST_PROTOCOL

# Ray Data works in a thread, whose own arena glibc gives back after every layer: its pages are
# filled with zeros again each time, which took a tenth of a network's time
WORKER_ENVIRONMENT = {"MALLOC_ARENA_MAX": "1"}

Row = dict[str, Any]  # of a Ray dataset: a block, pickled


def packed(name: str, value: Any) -> bytes:
    """Any value for another process, the code of classes that it can't import too.

    Raises ExtractError for one that can't be pickled, with the name that it has for people.
    """
    from ray import cloudpickle

    try:
        return cloudpickle.dumps(value, PROTOCOL)
    # what stands in the way may raise anything
    except Exception as error:
        raise ExtractError(
            f"{name} can't be sent to workers ({error}): expected one by name, or a module that "
            "can be pickled"
        ) from error


def stream_blocks(
    ray: Any, pool: Pool, asked: bytes, backbone: bytes, blocks: Sequence[Block]
) -> Generator[Done, None, None]:
    """What becomes of each block, as they are done; what a worker raised is raised here.

    Ray Data is driven from inside of the cluster alone: through Ray Client, by an actor there.
    """
    if not ray.util.client.ray.is_connected():
        yield from _stream(pool, asked, backbone, blocks)
        return
    driver = ray.remote(Driver).options(num_cpus=0).remote(pool, asked, backbone, blocks)
    try:
        while (done := _opened(ray.get(driver.next_done.remote()))) is not None:
            yield done
    finally:
        ray.kill(driver)


class Driver:
    """An actor that asks Ray Data for one block after the other."""

    def __init__(self, *asked: Any) -> None:
        self._told = _stream(*asked)

    def next_done(self) -> bytes:
        """What the next block is told by, or what was raised; None once all are done."""
        return _answer(next, self._told, None)


def _stream(
    pool: Pool, asked: bytes, backbone: bytes, blocks: Sequence[Block]
) -> Generator[Done, None, None]:
    """As `stream_blocks`, inside of the cluster.

    A processor's worker decodes what it computes, and no pixels travel; GPUs are fed by tasks on
    the cores beside them.
    """
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # how far it is, we say ourselves
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    listing = [{"block": pickle.dumps(block, PROTOCOL)} for block in blocks]
    found: Any = ray.data.from_items(listing, override_num_blocks=len(blocks))
    if pool.on_gpus:
        found = found.map_batches(partial(_decode, asked), batch_size=1, num_cpus=1)
    found = found.map_batches(
        Worker,
        fn_constructor_args=(asked, backbone),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=min(pool.n, len(blocks))),
        num_gpus=1 if pool.on_gpus else 0,
        num_cpus=0 if pool.on_gpus else pool.cores,
        runtime_env={"env_vars": WORKER_ENVIRONMENT},
    )
    for row in found.iter_batches(batch_size=1, prefetch_batches=0):
        yield _opened(row["block"][0])


class Worker:
    """An actor that holds a network: a block in, and what is told of it out."""

    def __init__(self, asked: bytes, backbone: bytes) -> None:
        self._packed = asked, backbone
        self._network: Network | None = None

    def __call__(self, row: Row) -> Row:
        return {"block": [_answer(self._compute, row["block"][0])]}

    def _compute(self, packed_block: bytes) -> Done:
        asked, block = pickle.loads(self._packed[0]), _opened(packed_block)
        if self._network is None:  # an error in `__init__` would be tried again without end
            self._network = Network(asked, pickle.loads(self._packed[1]))
        decoded = block if isinstance(block, DecodedBlock) else decode_block(asked, block)
        return self._network.compute(decoded)


def _decode(asked: bytes, row: Row) -> Row:
    def decode(packed_block: bytes) -> DecodedBlock:
        return decode_block(pickle.loads(asked), _opened(packed_block))

    return {"block": [_answer(decode, row["block"][0])]}


def _answer(function: Callable, *arguments: Any) -> bytes:
    """What the function returns or raises, pickled: of an error Ray passes on the words alone."""
    try:
        return pickle.dumps(function(*arguments), PROTOCOL)
    except ExtractError as error:
        return pickle.dumps(error, PROTOCOL)
    except Exception as error:  # of a library, which may not come apart and together again
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        ours = ClusterError(f"a worker failed ({type(error).__name__}: {said}): {KEPT}")
        return pickle.dumps(ours, PROTOCOL)


def _opened(answer: bytes) -> Any:
    """What `_answer` was given, returned or raised again."""
    value = pickle.loads(answer)
    if isinstance(value, Exception):
        raise value
    return value
