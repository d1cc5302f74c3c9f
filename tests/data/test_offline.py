"""Tests of data/offline.py: what counts as offline, and what is refused then."""

import os
import socket
import sys
from types import SimpleNamespace

import pytest

from data.offline import HUB_OFFLINE, OFFLINE, is_offline, offline_where, tell_libraries


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, False),
        *((no, False) for no in ("", "0", "false", "No", " off ")),
        *((yes, True) for yes in ("1", "true", "YES", "on", "2", "offline")),
    ],
)
def test_what_the_variable_says(value, expected, monkeypatch):
    monkeypatch.delenv(OFFLINE, raising=False)
    if value is not None:
        monkeypatch.setenv(OFFLINE, value)
    assert is_offline() is expected


@pytest.fixture
def online(monkeypatch):
    for name in (OFFLINE, HUB_OFFLINE):
        # set first, so that what the code leaves there is taken back
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def reach(host, port=9):
    with socket.socket() as own:
        own.settimeout(0.2)
        own.connect((host, port))


@pytest.mark.parametrize(
    "call",
    [
        lambda: reach("192.0.2.1"),  # an address of nobody's, kept for documents
        lambda: socket.getaddrinfo("permafrost.invalid", 80),
        lambda: socket.gethostbyname("localhost.permafrost.invalid"),
        lambda: socket.create_connection(("permafrost.invalid", 80), timeout=0.2),
        lambda: socket.socket(type=socket.SOCK_DGRAM).sendto(b"", ("192.0.2.1", 9)),
    ],
)
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_code_of_others_reaches_nobody(online, call):
    with offline_where(True), pytest.raises(ConnectionRefusedError, match=OFFLINE):
        call()


def test_this_machine_is_no_network(online):
    with offline_where(True), socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname()).close()
        for end in socket.socketpair():
            end.close()


def test_children_and_the_hubs_library_are_told_and_all_is_as_before_afterwards(
    online, monkeypatch
):
    constants = SimpleNamespace(HF_HUB_OFFLINE=False)
    monkeypatch.setitem(sys.modules, "huggingface_hub.constants", constants)
    with offline_where(True):
        assert (os.environ[OFFLINE], os.environ[HUB_OFFLINE]) == ("1", "1")
        assert constants.HF_HUB_OFFLINE is True
    assert not {OFFLINE, HUB_OFFLINE} & set(os.environ)
    assert constants.HF_HUB_OFFLINE is False
    with offline_where(False):
        assert not is_offline()


def test_a_script_that_is_offline_by_the_variable_tells_the_hubs_library(online, monkeypatch):
    tell_libraries()
    assert HUB_OFFLINE not in os.environ
    monkeypatch.setenv(OFFLINE, "1")
    tell_libraries()
    tell_libraries()
    assert os.environ[HUB_OFFLINE] == "1"
    monkeypatch.delenv(OFFLINE)
    tell_libraries()
    assert HUB_OFFLINE not in os.environ
