"""What is in a cache: each recipe's taps and rows, and the files beside them, without a change."""

import contextlib
import hashlib
import json
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from extract.files import NoFile, opened, read_remembered
from extract.recipe import RECIPE_ID_BYTES, SCHEMA, Recipe
from extract.store.cache_files import CacheFile, Kind, cache_files
from extract.store.feature_store import FeatureStore
from extract.store.id_index import holdings
from extract.store.parts import Part, indexed_part, read_index
from extract.store.row_index import RowIndex
from extract.store.rows_on_disk import WrongBytes
from extract.store.sorted_ids import Holding, SortedIds, read_sorted_ids

LONGEST_RECIPE = 1 << 20  # in bytes; a few hundred are usual
SIDES = re.compile(r":(\d+)x(\d+):")  # in the text of a preprocessing of ours


@dataclass(frozen=True)
class StoredRecipe:
    """What a cache holds under one recipe.

    Attributes
    ----------
    id : str
        Name of its folder.
    recipe : Recipe or None
        None where recipe.json is gone or can't be read; of another schema, its rows are not.
    problem : str
        What is wrong with it, else empty.
    name, weights : str
        Of the backbone, as it was asked for where a card of it is remembered.
    taps : tuple of str
    rows : int
        Images that have a row of one tap or more.
    n_parts, n_unreadable : int
        Files of rows, and those of them that can't be read.
    n_bytes : int
    last_use : float
        Seconds since 1970, to the hour.
    """

    id: str
    recipe: Recipe | None
    problem: str
    name: str
    weights: str
    taps: tuple[str, ...]
    rows: int
    n_parts: int
    n_unreadable: int
    n_bytes: int
    last_use: float

    @property
    def size(self) -> str:
        """Height and width in pixels of what the network saw, where the recipe says it."""
        sides = SIDES.search(self.recipe.preprocessing) if self.recipe else None
        return "x".join(sides.groups()) if sides else ""


@dataclass(frozen=True)
class CacheContents:
    """All that a cache holds.

    Attributes
    ----------
    cache : Path
    recipes : tuple of StoredRecipe
        The last used first.
    others : {kind: (files, bytes)}
        What lies beside them: `ids`, `card`, `tuned network`, `unfinished training`, `set aside`,
        `temporary` and others of Kind, and `stranger` for what the store did not put there, which
        is not counted in bytes.
    """

    cache: Path
    recipes: tuple[StoredRecipe, ...]
    others: Mapping[Kind, tuple[int, int]]

    @property
    def n_bytes(self) -> int:
        """Of all of it."""
        return sum(one.n_bytes for one in self.recipes) + sum(n for _, n in self.others.values())


def cache_contents(cache: str | os.PathLike | None = None) -> CacheContents:
    """What a cache holds; nothing in it is changed.

    Parameters
    ----------
    cache : path or None
        Folder; None is the platform's user cache folder.

    Returns
    -------
    CacheContents

    Raises
    ------
    ExtractError
        Where the folder can't be read.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> from extract import FeatureStore, Recipe, Tap, cache_contents
    >>> store = FeatureStore(tempfile.mkdtemp())
    >>> with store.writer(Recipe("net", "digest", "preprocessing", "float32")) as writer:
    ...     writer.add(np.zeros((1, 16), np.uint8), {Tap("last", "avg"): np.float32([[1, 2]])})
    >>> (one,) = cache_contents(store.cache).recipes
    >>> one.rows, one.taps, one.recipe.numerics
    (1, ('last:avg',), 'float32')
    """
    folder = FeatureStore(cache).cache
    files = cache_files(folder)
    names = _names_by_digest(file.path for file in files if file.kind == Kind.CARD and not file.odd)
    by_recipe: dict[str, list[CacheFile]] = defaultdict(list)
    others: dict[Kind, tuple[int, int]] = {}
    for file in files:
        if file.kind in (Kind.PART, Kind.RECIPE, Kind.INDEX):
            by_recipe[file.recipe_id].append(file)
        else:
            n, n_bytes = others.get(file.kind, (0, 0))
            others[file.kind] = n + 1, n_bytes + (file.n_bytes if file.kind != Kind.STRANGER else 0)
    recipes = [_stored(one, own, names) for one, own in by_recipe.items()]
    recipes.sort(key=lambda one: one.last_use, reverse=True)
    return CacheContents(folder, tuple(recipes), others)


def _stored(
    recipe_id: str, files: Sequence[CacheFile], names: Mapping[str, tuple[str, str]]
) -> StoredRecipe:
    parts = [file for file in files if file.kind == Kind.PART]
    found = [recipe_values(file) for file in files if file.kind == Kind.RECIPE]
    recipe, problem = _as_recipe(found[0] if found else None)
    other = recipe is not None and recipe.schema != SCHEMA
    held = holdings(list(filter(None, map(_ids, files))), {file.path.name for file in parts})
    known = [] if other else [_part(file, held.get(file.path.name)) for file in parts]
    whole = [part for part in known if part is not None]
    name, weights = (recipe.architecture, recipe.weights[:8]) if recipe else ("", "")
    if recipe and recipe.weights in names:
        name, weights = names[recipe.weights]
    return StoredRecipe(
        id=recipe_id,
        recipe=recipe,
        problem=problem,
        name=name,
        weights=weights,
        taps=tuple(sorted({tap for part in whole for tap in part.taps})),
        rows=_count_rows(whole),
        n_parts=len(parts),
        n_unreadable=len(known) - len(whole),
        n_bytes=sum(file.n_bytes for file in files),
        last_use=max(file.changed for file in files),
    )


def _count_rows(parts: Sequence[Part]) -> int:
    """How many images the parts have; by their own ids where a file of ids goes meanwhile."""
    with contextlib.suppress(OSError, WrongBytes):
        return RowIndex(parts).count() if parts else 0
    own = []
    for part in parts:
        with contextlib.suppress(OSError, WrongBytes):  # it was joined meanwhile
            own.append(read_index(part.path))
    return RowIndex(own).count() if own else 0


def _ids(file: CacheFile) -> SortedIds | None:
    """A whole file of ids; of one that isn't the parts' own ids are read."""
    if file.kind == Kind.INDEX and not file.odd:
        with contextlib.suppress(OSError, WrongBytes):
            found = read_sorted_ids(file.path)
            found.check()
            return found if found.held.recipe == file.recipe_id else None
    return None


def _part(file: CacheFile, holding: Holding | None) -> Part | None:
    if file.odd:
        return None
    with contextlib.suppress(OSError, WrongBytes):
        if holding is not None:
            part = indexed_part(file.path, holding)
            _ = part.provenance  # its own file is looked at, all but ids and rows
            return part
    with contextlib.suppress(OSError, WrongBytes):
        return read_index(file.path)
    return None


def recipe_values(file: CacheFile) -> dict | None:
    """What a recipe.json holds, whatever its schema; None where it is not as it was written."""
    try:
        with opened(file.path) as found:
            text = found.read(LONGEST_RECIPE)
    except (OSError, NoFile):
        return None
    # the folder's name is its digest
    digest = hashlib.blake2b(text, digest_size=RECIPE_ID_BYTES).hexdigest()
    return json.loads(text) if digest == file.recipe_id else None


def _as_recipe(values: dict | None) -> tuple[Recipe | None, str]:
    """The recipe of a folder, and what is wrong with it."""
    if values is None:
        return None, "its recipe.json is gone or damaged"
    try:
        # another schema may say more
        recipe = Recipe(**{own.name: values[own.name] for own in fields(Recipe)})
    except LookupError:
        return None, "its recipe.json is of another version"
    if recipe.schema != SCHEMA:
        return recipe, f"of schema {recipe.schema}, and this version reads {SCHEMA}"
    return recipe, ""


def _names_by_digest(cards: Iterable[Path]) -> dict[str, tuple[str, str]]:
    """Name and weights as they were asked for, by the digest of the weights."""
    names = {}
    for path in cards:
        with contextlib.suppress(TypeError, LookupError):  # forgotten, or of another version
            card = read_remembered(path)
            names[card["digest"]] = card["name"], card["weights"]
    return names
