"""Tests of the threads that matrix products may take."""

from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
from threadpoolctl import threadpool_info, threadpool_limits

from pipelines import threads as threads_module
from pipelines.threads import one_blas_thread


def threads():
    return [own["num_threads"] for own in threadpool_info() if own["user_api"] == "blas"]


def test_products_take_one_thread_within_and_what_they_took_after():
    np.ones((2, 2)) @ np.ones((2, 2))
    with threadpool_limits(3):
        before = threadpool_info()
        with one_blas_thread():
            assert set(threads()) == {1}
        assert threadpool_info() == before


class Libraries:
    """As threadpoolctl's controller, of libraries in made-up folders."""

    def __init__(self, *files):
        self.lib_controllers = [SimpleNamespace(user_api="blas", filepath=file) for file in files]
        self.chosen = []

    def select(self, filepath):
        self.chosen = filepath
        return self

    def limit(self, limits):
        return nullcontext()


def test_the_network_s_own_library_is_left_alone_wherever_the_environment_lies(monkeypatch):
    ours = "/envs/pytorch/lib/site-packages/numpy.libs/libopenblas.so"
    theirs = "/envs/pytorch/lib/site-packages/torch/lib/libopenblas.so"
    found = Libraries(ours, theirs)
    monkeypatch.setattr(threads_module, "ThreadpoolController", lambda: found)
    one_blas_thread()
    assert found.chosen == [ours]
