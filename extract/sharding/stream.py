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

Row = dict[str, Any]  # of a Ray dataset: one block, pickled


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
    pool: Pool, asked: bytes, backbone: bytes, blocks: Sequence[Block]
) -> Generator[Done, None, None]:
    """What becomes of each block, as they are done; what a worker raised is raised here.

    A processor's worker decodes what it computes, and no pixels travel; GPUs are fed by tasks on
    the cores beside them.
    """
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # how far it is, we say ourselves
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    listing = [_wrapped(block) for block in blocks]
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
    )
    for row in found.iter_batches(batch_size=1, prefetch_batches=0):
        done = _unwrapped(row)
        if isinstance(done, Exception):
            raise done
        yield done


class Worker:
    """An actor that holds a network: a block in, and what is told of it out."""

    def __init__(self, asked: bytes, backbone: bytes) -> None:
        self._packed = asked, backbone
        self._network: Network | None = None

    def __call__(self, row: Row) -> Row:
        return _listed(_told(self._compute, _unwrapped(row)))

    def _compute(self, block: Block | DecodedBlock | Exception) -> Done:
        asked = pickle.loads(self._packed[0])
        if isinstance(block, Exception):
            raise block
        if self._network is None:  # an error in `__init__` would be tried again without end
            self._network = Network(asked, pickle.loads(self._packed[1]))
        decoded = block if isinstance(block, DecodedBlock) else decode_block(asked, block)
        return self._network.compute(decoded)


def _decode(asked: bytes, row: Row) -> Row:
    def decode(block: Block) -> DecodedBlock:
        return decode_block(pickle.loads(asked), block)

    return _listed(_told(decode, _unwrapped(row)))


def _told(function: Callable[[Any], Any], block: Any) -> Row:
    """What the function returns or raises: Ray passes on an error's words alone."""
    try:
        return _wrapped(function(block))
    except ExtractError as error:
        return _wrapped(error)
    except Exception as error:  # of a library, which may not come apart and together again
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        return _wrapped(ClusterError(f"a worker failed ({type(error).__name__}: {said}): {KEPT}"))


def _wrapped(value: Any) -> Row:
    return {"block": pickle.dumps(value, PROTOCOL)}


def _listed(row: Row) -> Row:
    return {name: [value] for name, value in row.items()}


def _unwrapped(row: Row) -> Any:
    return pickle.loads(row["block"][0])
