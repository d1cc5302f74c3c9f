"""Maps of activations laid over the pixels of an image: bilinear values between their cells."""

import numpy as np


def share_cells(n_cells: int, places: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Between which two cells places along an axis lie, and the share of the second of them.

    The middle of cell i of n lies at (i + 0.5) / n of the axis; beyond the outermost middles the
    outermost cell counts alone.

    Parameters
    ----------
    n_cells : int
    places : (m,) float
        In shares of the axis, from 0 to 1.

    Returns
    -------
    first, second : (m,) int
    share : (m,) float32

    Examples
    --------
    >>> share_cells(4, np.array([0.0, 0.25, 0.375]))
    (array([0, 0, 1]), array([1, 1, 2]), array([0. , 0.5, 0. ], dtype=float32))
    """
    along = np.clip(places * n_cells - 0.5, 0, n_cells - 1)
    first = np.minimum(along.astype(int), max(n_cells - 2, 0))
    second = np.minimum(first + 1, n_cells - 1)
    return first, second, (along - first).astype(np.float32)


def middles(n: int) -> np.ndarray:
    """(n,) places of the middles of n pixels in shares of the axis.

    >>> middles(2).tolist()
    [0.25, 0.75]
    """
    return (np.arange(n) + 0.5) / n


def values_at(cells: np.ndarray, down: np.ndarray, across: np.ndarray) -> np.ndarray:
    """Bilinear values of a map at single places.

    Parameters
    ----------
    cells : (channels, height, width)
    down, across : (m,)
        Places in shares of the image's height and width.

    Returns
    -------
    (m, channels) float32

    Examples
    --------
    >>> values_at(np.float32([[[0, 4]]]), np.array([0.5]), np.array([0.5]))
    array([[2.]], dtype=float32)
    """
    top, bottom, low = share_cells(cells.shape[1], down)
    left, right, far = share_cells(cells.shape[2], across)
    # places first, so that each gathers one run of channels
    by_place = np.moveaxis(cells, 0, -1)
    low, far = low[:, None], far[:, None]
    above = by_place[top, left] * (1 - far) + by_place[top, right] * far
    below = by_place[bottom, left] * (1 - far) + by_place[bottom, right] * far
    return above * (1 - low) + below * low


def enlarge(cells: np.ndarray, down: np.ndarray, across: np.ndarray) -> np.ndarray:
    """Bilinear values of a map at all crossings of places down and across.

    Parameters
    ----------
    cells : (channels, height, width)
    down : (rows,), across : (columns,)
        Places in shares of the image's height and width.

    Returns
    -------
    (channels, rows, columns) float32

    Examples
    --------
    >>> enlarge(np.float32([[[0, 4]]]), middles(1), middles(4))
    array([[[0., 1., 3., 4.]]], dtype=float32)
    """
    first, second, share = share_cells(cells.shape[2], across)
    wide = cells[:, :, first] * (1 - share) + cells[:, :, second] * share
    first, second, share = share_cells(cells.shape[1], down)
    share = share[:, None]
    return wide[:, first] * (1 - share) + wide[:, second] * share
