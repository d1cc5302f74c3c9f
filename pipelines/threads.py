"""Threads that numpy and scipy may take beside ours."""

from contextlib import AbstractContextManager
from pathlib import Path

from threadpoolctl import ThreadpoolController


def one_blas_thread() -> AbstractContextManager:
    """Within it numpy's and scipy's matrix products take one thread; the network's stay.

    Threads of BLAS wait for one another by spinning: beside other work they take many times as
    long as one does. What is worth several threads is divided among threads of our own.
    """
    controller = ThreadpoolController()
    ours = [
        own.filepath
        for own in controller.lib_controllers
        # by the folders next to it: those above may have any name
        if own.user_api == "blas" and "torch" not in Path(own.filepath).parts[-3:-1]
    ]
    return controller.select(filepath=ours).limit(limits=1)
