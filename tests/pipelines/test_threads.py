"""Tests of the threads that matrix products may take."""

import numpy as np
from threadpoolctl import threadpool_info, threadpool_limits

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
