"""torchvision's classification data sets as Samples whose images are opened one by one."""

import bisect
import difflib
import inspect
import tarfile
import zipfile
from collections.abc import Sequence
from http.client import HTTPException
from itertools import accumulate
from typing import Any

import numpy as np

from data.offline import NOT_ALLOWED, is_offline
from data.samples import DataError, Samples

# the parameter by which a family of constructors takes its split, and what to try for each split:
# the first value that the constructor knows is taken
FAMILIES: dict[str, dict[str, tuple]] = {
    "train": {"train": (True,), "test": (False,)},
    "split": {"train": ("train", "trainval"), "val": ("val", "valid"), "test": ("test",)},
}
# the attributes under which one set or another has its labels, and the names of its classes
LABELS = ("targets", "_labels", "labels", "y")
CLASSES = ("classes", "categories")
# what downloading, unpacking and reading raise, a missing package among it
FAILURES = (
    OSError,
    RuntimeError,
    ValueError,
    TypeError,
    ImportError,
    EOFError,
    HTTPException,
    tarfile.TarError,
    zipfile.BadZipFile,
)


def read_torchvision_set(name: str, root: str | None = None, labelled: bool = True) -> Samples:
    """The images of a class in `torchvision.datasets`, each opened when it is asked for.

    Parameters
    ----------
    name : str
        The class, such as "Flowers102"; of classification.
    root : path, optional
        Where it is downloaded to; by default the user's cache folder.
    labelled : bool, default=True
        Whether labels are read.

    Returns
    -------
    Samples
        Train and test keep their sides; val joins train, or is the test part where there is no
        other.

    Raises
    ------
    DataError
        For an unknown name, and for a set that can't be downloaded or read or has no classes.
    """
    kind = _kind(name)
    by_split = _load_splits(name, kind, _root(root))
    test = next((split for split in ("test", "val") if split in by_split), None)
    paths: list[str] = []
    sides: list[str] = []
    for split, dataset in by_split.items():
        side = "test" if split == test else "train"
        sides += [side] * len(dataset)
        paths += [f"torchvision:{name}/{split}/{i:06d}" for i in range(1, len(dataset) + 1)]
    datasets = list(by_split.values())
    labels = None
    if labelled:
        labels = np.concatenate([_labels(name, dataset) for dataset in datasets])
    return Samples(
        paths=tuple(paths),
        labels=labels,
        split=np.array(sides) if len(by_split) > 1 else None,
        pixels=_Images(datasets),
        name=f"torchvision:{name}",
    )


class _Images(Sequence):
    """The images of several data sets in a row, each opened when it is asked for."""

    def __init__(self, datasets: Sequence) -> None:
        self.datasets = datasets
        self.ends = list(accumulate(len(dataset) for dataset in datasets))

    def __len__(self) -> int:
        return self.ends[-1]

    def __getitem__(self, index: Any) -> Any:
        # a range settles negative indices and slices, and raises IndexError past its end
        index = range(len(self))[index]
        if isinstance(index, range):
            return [self[i] for i in index]
        at = bisect.bisect_right(self.ends, index)
        start = self.ends[at] - len(self.datasets[at])
        return self.datasets[at][index - start][0]  # the image; its label is beside it


def _kind(name: str) -> type:
    """The class of that name."""
    # torch is for `extract` alone but for this import, of sets that know nothing of networks. It is
    # made here, where a set is asked for: torchvision brings torch, which takes seconds.
    import torchvision.datasets

    kind = getattr(torchvision.datasets, name, None)
    if not inspect.isclass(kind):
        names = {known.lower(): known for known in torchvision.datasets.__all__}
        near = [names[key] for key in difflib.get_close_matches(name.lower(), names, 3)]
        hint = "see torchvision.datasets for the names"
        if near:
            hint = f"did you mean {' or '.join(near)}?"
        raise DataError(f"torchvision:{name}: no such data set; {hint}")
    return kind


def _root(root: str | None) -> str:
    import platformdirs

    return str(root or platformdirs.user_cache_path("permafrost") / "torchvision")


def _load_splits(name: str, kind: type, root: str) -> dict[str, Any]:
    """{split: data set} of the splits that this class has; {"all": data set} where it has none."""
    parameters = inspect.signature(kind).parameters
    options: dict[str, Any] = {}
    # some sets take no root (they are made up), some are never downloaded
    if "root" in parameters:
        options["root"] = root
    if "download" in parameters:
        options["download"] = not is_offline()
    family = next((key for key in FAMILIES if key in parameters), None)
    by_split = {}
    try:
        if family is None:
            return {"all": kind(**options)}
        for split, values in FAMILIES[family].items():
            dataset = _first_of(kind, options, family, values)
            if dataset is not None:
                by_split[split] = dataset
    except FAILURES as error:
        text = " ".join(str(error).split()) or type(error).__name__
        raise DataError(_failed(name, text, root, options)) from error
    if not by_split:
        raise DataError(
            f"torchvision:{name}: has no part named train, val or test; give its images as a folder"
        )
    return by_split


def _failed(name: str, text: str, root: str, options: dict[str, Any]) -> str:
    """What is said where a set is not all there."""
    if is_offline() and "download" in options:
        return (
            f"torchvision:{name}: not complete in {root} ({text}), and {NOT_ALLOWED}: where there "
            f"is a network, read it once (torchvision.datasets.{name}(FOLDER, download=True)), "
            f"and copy what is in FOLDER into {root}"
        )
    return f"torchvision:{name}: can't be downloaded or read ({text}); is {root} complete?"


def _first_of(kind: type, options: dict[str, Any], family: str, values: tuple) -> Any:
    """The data set for the first value that its constructor knows, or None."""
    for value in values:
        try:
            return kind(**options, **{family: value})
        except ValueError:  # torchvision's verify_str_arg, before anything is downloaded
            continue
    return None


def _labels(name: str, dataset: Any) -> np.ndarray:
    """(n,) class names, without opening an image where the set has its labels in an attribute."""
    labels = _labels_at_hand(dataset)
    if labels is None:
        labels = np.asarray([dataset[i][1] for i in range(len(dataset))])
    # integers and text are classes; floats are measured values, rows are boxes or attributes
    if labels.dtype.kind not in "iuU" or labels.ndim != 1:
        raise DataError(
            f"torchvision:{name}: its targets are not classes; a classification set is needed"
        )
    classes = _class_names(dataset)
    if labels.dtype.kind == "U" or not classes:
        return labels.astype(str)
    if labels.min() < 0 or labels.max() >= len(classes):
        raise DataError(
            f"torchvision:{name}: has labels outside its {len(classes)} classes; "
            "give it as a folder"
        )
    return np.array(classes)[labels]


def _labels_at_hand(dataset: Any) -> np.ndarray | None:
    for key in LABELS:
        values = np.asarray(getattr(dataset, key, None))
        if values.shape == (len(dataset),):
            return values
    return None


def _class_names(dataset: Any) -> list[str]:
    """The names of its classes, each once; empty where it has none."""
    classes = next((getattr(dataset, key) for key in CLASSES if hasattr(dataset, key)), ())
    # ImageNet's names are tuples of synonyms, and two of its classes are called "crane"
    names = [each if isinstance(each, str) else ", ".join(each) for each in classes]
    repeated = {each for each in names if names.count(each) > 1}
    return [f"{each} ({i})" if each in repeated else each for i, each in enumerate(names)]
