"""The Ray cluster that a pass runs on: found or started, and how its cores and GPUs are shared."""

import contextlib
import logging
import os
import re
import signal
import socket
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from extract.cores import cores
from extract.engines import numerics_there
from extract.errors import ClusterError, ExtractError

ADDRESS = re.compile(r"ray(?:://(?P<host>[^\s/:]+|\[[0-9a-fA-F:]+\]):(?P<port>\d{1,5}))?")
EXPECTED = "expected ray or ray://HOST:PORT"
# by the environment Ray may also be told `auto` or `local`
SERVER = re.compile(r"(?:ray://)?(?P<host>[^\s/:]+|\[[0-9a-fA-F:]+\]):(?P<port>\d{1,5})")
ANSWER_SECONDS = 5.0  # for a cluster to take a connection
MOST_ON_A_NODE = 8  # networks side by side on a machine without GPUs: each takes memory
LACKS_RAY = 'ray is not installed: pip install "permafrost[ray]"'


@dataclass(frozen=True)
class Pool:
    """The workers of a pass.

    n : how many networks. cores : a network's own, where it runs on a processor.
    on_gpus : whether each has a GPU of its own, and tasks beside them decode.
    """

    n: int
    cores: int
    on_gpus: bool


def check_on(on: str | None) -> str | None:
    """The text if it says where a pass may run, or None for here; else ExtractError.

    Examples
    --------
    >>> check_on("ray://head.cluster:10001")
    'ray://head.cluster:10001'
    >>> check_on("spark")
    Traceback (most recent call last):
        ...
    extract.errors.ExtractError: on='spark': expected ray or ray://HOST:PORT
    """
    if on is not None and (not isinstance(on, str) or not ADDRESS.fullmatch(on)):
        raise ExtractError(f"on={on!r}: {EXPECTED}")
    return on


def connect(on: str) -> Any:
    """Ray, connected: where the caller is already, to that address, or to a cluster of this machine
    that is started now and ends with this process.

    Raises ExtractError where Ray is not installed, ClusterError where nobody answers.
    """
    try:
        import ray
    except ImportError as error:
        raise ExtractError(f"on={on!r}: {LACKS_RAY}") from error
    if ray.is_initialized():
        return ray
    found = ADDRESS.fullmatch(on)
    _refuse_silent(on)
    with quiet_ray(), _muted(), _own_signals():
        try:
            _join(ray, on if found and found["host"] else None)
        # what it raises of a cluster that is not there is of many kinds
        except (OSError, RuntimeError, ValueError, ImportError) as error:
            said = (str(error).strip() or repr(error)).splitlines()[0]
            raise ClusterError(f"can't use the cluster {on}: {said}") from error
    _hear_no_words()
    return ray


def _join(ray: Any, address: str | None) -> None:
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is not None:
        ray.init(address, **quiet)
    elif os.environ.get("RAY_ADDRESS"):  # which Ray itself looks for
        ray.init(**quiet)
    else:
        _start_here(ray, quiet)


def _hear_no_words() -> None:
    """Have what a cluster says of dead workers, which are replaced, stand in its files alone.

    It is printed to stdout whatever is asked for, and there is no setting for that.
    """
    with contextlib.suppress(ImportError):  # no part of what Ray promises to have
        from ray._private import worker

        worker.print_worker_logs = lambda *_, **__: None


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """What this process does on a signal is the same behind it: Ray sets handlers of its own, one
    in C++ which prints where the process was."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:  # it was set by no Python
                signal.signal(number, handler)


def _start_here(ray: Any, quiet: dict) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to its makers
    ray.init(num_cpus=cores(), include_dashboard=False, **quiet)


def _refuse_silent(on: str) -> None:
    """ClusterError where nobody takes a connection: Ray itself would ask for many minutes."""
    named = os.environ.get("RAY_ADDRESS", "") if on == "ray" else on
    server = SERVER.fullmatch(named)
    if server is None:
        return
    try:
        place = server["host"].strip("[]"), int(server["port"])
        socket.create_connection(place, ANSWER_SECONDS).close()
    except OSError as error:
        where = f"RAY_ADDRESS={named}" if on == "ray" else on
        raise ClusterError(
            f"nobody answers at {where} ({error.strerror or error}): expected a cluster's head, or "
            "its Ray Client server, whose port is 10001 unless it was started with another"
        ) from error


@contextlib.contextmanager
def _muted() -> Iterator[None]:
    """What Ray's C++ says on stderr goes nowhere, within all of it and later all but the worst.

    It says that each worker may not come back where its arguments are lost, which are held here.
    """
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    before, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)  # that it was told to be silent is the first thing that it says
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)
        os.close(nowhere)


@contextlib.contextmanager
def quiet_ray() -> Iterator[None]:
    """Within it Ray's own warnings, of its own settings, are not ours."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"ray\b")
        warnings.filterwarnings("ignore", "`use_|.*RAY_ACCEL_ENV_VAR", category=Warning)
        yield


def find_pool(ray: Any) -> Pool:
    """One network a GPU where there are any, else a few on each machine's cores."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus = int(sum(node.get("GPU", 0) for node in nodes))
    if gpus:
        return Pool(gpus, 1, True)
    own = [int(node.get("CPU", 0)) for node in nodes if node.get("CPU", 0) >= 1]
    if not own:
        raise ClusterError("the cluster has neither GPUs nor cores for tasks")
    share = max(1, min(own) // MOST_ON_A_NODE)
    return Pool(sum(n // share for n in own), share, False)


def ask_numerics(on: str, device: str) -> tuple[str, list[str]]:
    """As `numerics_there`, of a worker."""
    ray = connect(on)
    pool = find_pool(ray)
    if _is_all_here(ray) and not pool.on_gpus:
        return numerics_there(device)
    asked = ray.remote(numerics_there).options(num_gpus=1 if pool.on_gpus else 0)
    return ray.get(asked.remote(device))


def _is_all_here(ray: Any) -> bool:
    """Whether all workers are on this machine."""
    own = socket.gethostname()
    return all(node["NodeManagerHostname"] == own for node in ray.nodes() if node["Alive"])


def joblib_workers(on: str) -> tuple[str, int]:
    """The name of joblib's backend that computes on the cluster, and how many cores that has."""
    ray = connect(on)
    from ray.util.joblib import register_ray

    register_ray()
    return "ray", max(1, int(ray.cluster_resources().get("CPU", 1)))
