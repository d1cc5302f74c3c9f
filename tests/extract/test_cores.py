"""How many cores a process uses: those that it may, or its share beside neighbours."""

import os

from extract import cores as module


def test_a_share_takes_the_place_of_all(monkeypatch):
    monkeypatch.setattr(module, "_share", [])
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 2, 3}, raising=False)
    assert (module.cores(), module.share()) == (3, None)
    module.take_share(2)
    assert (module.cores(), module.share()) == (2, 2)
