"""torchvision's classification data sets by class name, as Samples whose images are opened one by one."""

import bisect
import difflib
import inspect
import tarfile
import zipfile
from collections.abc import Sequence
from http.client import HTTPException
from itertools import accumulate

import numpy as np

from data.samples import DataError, Samples

# the parameter by which a family of constructors takes its part, and what to try for train, val and test
FAMILIES = {
    "train": {"train": (True,), "test": (False,)},
    "split": {"train": ("train", "trainval"), "val": ("val", "valid"), "test": ("test",)},
}
LABELS = ("targets", "_labels", "labels", "y")
CLASSES = ("classes", "categories")
# what downloading, unpacking and reading raise, a missing package among it
FAILURES = (
    *(OSError, RuntimeError, ValueError, TypeError, ImportError, EOFError),
    *(HTTPException, tarfile.TarError, zipfile.BadZipFile),
)


def read_torchvision_set(name, root=None, labelled=True):
    """Samples of `torchvision.datasets.<name>`, downloaded into `root` (default: the user's cache).

    train and test keep their sides; val joins train, or is the test part where there is no other. Raises
    DataError for an unknown name and for a set that can't be downloaded or read.
    """
    kind = _kind(name)
    parts = _parts(name, kind, _root(root))
    sets = list(parts.values())
    test = next((part for part in ("test", "val") if part in parts), None)
    split = np.repeat(
        ["test" if part == test else "train" for part in parts], [len(each) for each in sets]
    )
    return Samples(
        paths=tuple(
            f"torchvision:{name}/{part}/{i:06d}"
            for part in parts
            for i in range(1, len(parts[part]) + 1)
        ),
        labels=np.concatenate([_labels(name, each) for each in sets]) if labelled else None,
        split=split if len(parts) > 1 else None,
        pixels=_Images(sets),
        name=f"torchvision:{name}",
    )


class _Images(Sequence):
    """The images of several data sets in a row, each opened when it is asked for."""

    def __init__(self, sets):
        self.sets = sets
        self.ends = list(accumulate(len(each) for each in sets))

    def __len__(self):
        return self.ends[-1]

    def __getitem__(self, index):
        index = range(len(self))[index]
        if isinstance(index, range):
            return [self[i] for i in index]
        at = bisect.bisect_right(self.ends, index)
        start = self.ends[at] - len(self.sets[at])
        return self.sets[at][index - start][0]


def _kind(name):
    # imported here: torchvision brings torch, which takes seconds, and only this function needs it
    import torchvision.datasets

    kind = getattr(torchvision.datasets, name, None)
    if not inspect.isclass(kind):
        names = {known.lower(): known for known in torchvision.datasets.__all__}
        near = [names[key] for key in difflib.get_close_matches(name.lower(), names, 3)]
        hint = (
            f"did you mean {' or '.join(near)}?"
            if near
            else "see torchvision.datasets for the names"
        )
        raise DataError(f"torchvision:{name}: no such data set; {hint}")
    return kind


def _root(root):
    import platformdirs

    return str(root or platformdirs.user_cache_path("permafrost") / "torchvision")


def _parts(name, kind, root):
    """{part: data set} of the parts that this class has; {"all": data set} where it knows none."""
    parameters = inspect.signature(kind).parameters
    options = {
        key: value for key, value in {"root": root, "download": True}.items() if key in parameters
    }
    family = next((key for key in FAMILIES if key in parameters), None)
    try:
        if family is None:
            return {"all": kind(**options)}
        tried = {
            part: _first_of(kind, options, family, FAMILIES[family][part])
            for part in FAMILIES[family]
        }
    except FAILURES as error:
        text = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"torchvision:{name}: can't be downloaded or read ({text}); is {root} complete?"
        ) from error
    parts = {part: each for part, each in tried.items() if each is not None}
    if not parts:
        raise DataError(
            f"torchvision:{name}: has no part named train, val or test; give its images as a folder"
        )
    return parts


def _first_of(kind, options, family, values):
    """The data set for the first value that its constructor knows, or None."""
    for value in values:
        try:
            return kind(**options, **{family: value})
        except ValueError:  # torchvision's verify_str_arg, before anything is downloaded
            continue
    return None


def _labels(name, dataset):
    """(n,) class names, without opening an image where the set keeps its labels."""
    kept = (np.asarray(getattr(dataset, key, None)) for key in LABELS)
    labels = next((each for each in kept if each.shape == (len(dataset),)), None)
    if labels is None:
        labels = np.asarray([dataset[i][1] for i in range(len(dataset))])
    if labels.dtype.kind not in "iuU" or labels.ndim != 1:
        raise DataError(
            f"torchvision:{name}: its targets are not classes; a classification set is needed"
        )
    classes = _class_names(dataset)
    if labels.dtype.kind == "U" or not classes:
        return labels.astype(str)
    if labels.min() < 0 or labels.max() >= len(classes):
        raise DataError(
            f"torchvision:{name}: has labels outside its {len(classes)} classes; give it as a folder"
        )
    return np.array(classes)[labels]


def _class_names(dataset):
    classes = next((getattr(dataset, key) for key in CLASSES if hasattr(dataset, key)), ())
    # ImageNet's names are tuples of synonyms, and two of its classes are called "crane"
    names = [each if isinstance(each, str) else ", ".join(each) for each in classes]
    repeated = {each for each in names if names.count(each) > 1}
    return [f"{each} ({i})" if each in repeated else each for i, each in enumerate(names)]
