"""What the tests of the heads share."""

import pytest
from threadpoolctl import threadpool_limits


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    """Matrices this small are slower on several threads, most of all beside other work."""
    with threadpool_limits(1):
        yield
