"""Images that came out flat: of one gray value all over, where nothing can be seen."""

import numpy as np

# of 255: what a compressed file of one colour may stray
STRAY = 3


def find_flat(thumbnails: np.ndarray) -> np.ndarray:
    """Rows of images whose thumbnails hold next to one gray value.

    Parameters
    ----------
    thumbnails : (n, 32, 32) float32
        Gray values from 0 to 255.

    Returns
    -------
    (m,) int
        In order.

    Examples
    --------
    >>> find_flat(np.stack([np.zeros((32, 32)), np.arange(1024).reshape(32, 32) / 4]))
    array([0])
    """
    if not len(thumbnails):
        return np.empty(0, int)
    pixels = thumbnails.reshape(len(thumbnails), -1)
    return np.flatnonzero(pixels.max(axis=1) - pixels.min(axis=1) <= STRAY)
