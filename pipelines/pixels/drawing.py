"""Which pixels a head is fitted on: some of each image, of its classes alike, drawn by a seed."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Drawn:
    """Pixels of one image.

    classes : (m,) the numbers that they have in the mask. down, across : (m,) the places of their
    middles in shares of the image's height and width.
    """

    classes: np.ndarray
    down: np.ndarray
    across: np.ndarray


def draw_pixels(
    mask: np.ndarray, n: int, rng: np.random.Generator, ignore: int | None = None
) -> Drawn:
    """Draw pixels of an image without replacement, of each class that it holds equally many.

    Parameters
    ----------
    mask : (h, w) whole numbers
    n : int
        How many at most; a class of fewer pixels than its share gives all of them.
    rng : numpy.random.Generator
    ignore : int, optional
        A number that is no class.

    Examples
    --------
    >>> mask = np.array([[0, 0, 0, 0, 1], [0, 0, 0, 0, 255]])
    >>> draw_pixels(mask, 4, np.random.default_rng(0), ignore=255).classes
    array([0, 0, 1])
    """
    flat = mask.ravel()
    classes = np.unique(flat)
    classes = classes[classes != ignore] if ignore is not None else classes
    share = max(n // max(len(classes), 1), 1)
    chosen = [np.empty(0, int)]
    for number in classes:
        own = np.flatnonzero(flat == number)
        chosen.append(rng.choice(own, min(share, len(own)), replace=False))
    places = np.concatenate(chosen)
    rows, columns = np.divmod(places, mask.shape[1])
    height, width = mask.shape
    return Drawn(flat[places], (rows + 0.5) / height, (columns + 0.5) / width)


def count_classes(numbers: np.ndarray, classes: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(classes,) how often each of some sorted class numbers occurs.

    numbers, counts : the distinct numbers of a mask, and how many pixels have them.

    >>> count_classes(np.array([0, 2, 9]), np.array([0, 1, 2]), np.array([5, 3, 7]))
    array([5, 0, 3])
    """
    found = np.zeros(len(classes), int)
    known = np.isin(numbers, classes)
    found[np.searchsorted(classes, numbers[known])] = counts[known]
    return found
