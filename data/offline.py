"""Whether this process may open a connection, and what holds libraries to it."""

import contextlib
import ipaddress
import os
import sys
from collections.abc import Iterator

OFFLINE = "PERMAFROST_OFFLINE"  # read by us, by each process that we start as well
HUB_OFFLINE = "HF_HUB_OFFLINE"  # read by Hugging Face's libraries, once, as they are imported
NO = ("", "0", "false", "no", "off")
NOT_ALLOWED = f"nothing may be downloaded (--offline, or {OFFLINE} is set)"
# of what `socket` tells before it does it: the events that reach for another machine, and at which
# of their arguments the address stands
REACHING = {
    "socket.connect": 1,
    "socket.sendto": 1,
    "socket.sendmsg": 1,
    "socket.getaddrinfo": 0,
    "socket.gethostbyname": 0,
    "socket.gethostbyaddr": 0,
    "socket.getnameinfo": 0,
}
_guarded: list[bool] = []
_told: list[str | None] = []  # what the hub's variable was before we set it


def is_offline() -> bool:
    """Whether `PERMAFROST_OFFLINE` says that no connection may be opened.

    Whatever it is set to counts, but for nothing, 0, false, no and off.
    """
    return os.environ.get(OFFLINE, "").strip().lower() not in NO


def tell_libraries() -> None:
    """Have Hugging Face's libraries keep to it as well, imported already or not."""
    if is_offline():
        if not _told:
            _told.append(os.environ.get(HUB_OFFLINE))
        os.environ[HUB_OFFLINE] = "1"
    elif _told:
        before = _told[0]
        _told.clear()
        os.environ.pop(HUB_OFFLINE, None)
        if before is not None:
            os.environ[HUB_OFFLINE] = before
    else:
        return
    constants = sys.modules.get("huggingface_hub.constants")
    if constants is not None:
        said = os.environ.get(HUB_OFFLINE, "").lower() not in NO
        constants.HF_HUB_OFFLINE = said  # type: ignore[attr-defined]


@contextlib.contextmanager
def offline_where(asked: bool) -> Iterator[None]:
    """Within it nothing of this process and its children connects, where that is asked for."""
    before = os.environ.get(OFFLINE)
    if asked:
        os.environ[OFFLINE] = "1"
    tell_libraries()
    if is_offline():
        _guard()
    try:
        yield
    finally:
        os.environ.pop(OFFLINE, None)
        if before is not None:
            os.environ[OFFLINE] = before
        tell_libraries()


def _guard() -> None:
    """Refuse what code of others would reach for, too: a network of one's own may call anything."""
    if not _guarded:  # a hook stays as long as the process
        _guarded.append(True)
        sys.addaudithook(_refuse_reaching)


def _refuse_reaching(event: str, arguments: tuple) -> None:
    place = REACHING.get(event)
    if place is None or not is_offline():
        return
    address = arguments[place]
    host = address[0] if isinstance(address, tuple) and address else address
    if isinstance(host, bytes):
        host = host.decode(errors="replace")
    # a text alone in `connect` is a socket's file on this machine; without a host it is this one
    is_file = place == 1 and not isinstance(address, tuple)
    if is_file or not isinstance(host, str) or not host or _is_own_machine(host):
        return
    raise ConnectionRefusedError(f"a connection to {host} was refused: {NOT_ALLOWED}")


def _is_own_machine(host: str) -> bool:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"
