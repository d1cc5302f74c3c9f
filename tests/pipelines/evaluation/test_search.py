"""What another backend of joblib computes is what would be computed here, and else it is."""

from functools import partial

import pytest

from pipelines.evaluation import search
from pipelines.evaluation.search import on_backend


def given(value):
    return (value,)


def squared(value):
    if value < 0:
        raise ValueError("a negative one")
    return value * value


class Dying:
    """A backend whose worker is killed when it has begun."""

    def __init__(self, *args, **kwargs):
        pass

    def __call__(self, calls):
        next(iter(calls))
        raise RuntimeError("the actor died\nof a kill")


def test_answers_come_in_order():
    made = [partial(given, value) for value in (3, 1, 2)]
    assert list(on_backend(squared, made, "threading", 2)) == [9, 1, 4]


def test_where_the_workers_die_it_is_computed_here(monkeypatch, caplog):
    monkeypatch.setattr(search, "Parallel", Dying)
    made = [partial(given, value) for value in (3, 1, 2)]
    assert list(on_backend(squared, made, "threading", 2)) == [9, 1, 4]
    assert caplog.messages == ["the cluster failed (the actor died): heads are searched here"]


@pytest.mark.parametrize("backend", [None, Dying])
def test_what_a_function_raises_is_raised(monkeypatch, backend):
    if backend:
        monkeypatch.setattr(search, "Parallel", backend)
    with pytest.raises(ValueError, match="a negative one"):
        list(on_backend(squared, [partial(given, -1)], "threading", 2))


def test_features_that_cant_be_read_are_no_fault_of_the_backend(caplog):
    def make():
        raise OSError("the cache is gone")

    with pytest.raises(OSError, match="the cache is gone"):
        list(on_backend(squared, [make], "threading", 2))
    assert not caplog.messages
