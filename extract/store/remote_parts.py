"""A store at a URL: its parts on an object store, each of them in a mirror on this machine as well.

The mirror is a store like any other, and rows are read and written there. A part never changes and
no two have one name, so that names alone say which are to be brought here and which taken there.
"""

import contextlib
import hashlib
import logging
import math
import random
import re
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data.remote import RemoteError, ask
from extract.errors import unreadable
from extract.files import read_remembered, refuse_writing, write_remembered, written_aside
from extract.store.parts import Part, read_index
from extract.store.row_index import RowIndex
from extract.store.rows_on_disk import WrongBytes

log = logging.getLogger(__name__)

# what was listed so long ago is listed anew before it is said that rows are missing, and before
# rows are read that were found
ANEW_SECONDS, LISTED_SECONDS = 2.0, 30.0
TRANSFERS = 4  # parts on their way at a time
RECIPE_FILE = "recipe.json"
LOOKS = 5  # at a listing whose parts others join while they are brought
MEMORY = "remote"  # the mirror's folder of what was seen at the URL

# of this process: when a recipe was listed, parts that are not as they were written, and recipes
# that are described at their URL
_listed: dict[Path, float] = {}
_unfit: set[tuple[str, int]] = set()
_described: set[Path] = set()
_staying: set[Path] = set()  # parts that are gone at the URL, and not elsewhere in the mirror
_moving = threading.Lock()


@dataclass
class Seen:
    """What is remembered of a recipe's parts at a URL.

    names : of parts that were there: one that is here alone was removed there, and not yet to be
        taken there. joined : by part that was joined here, the part that holds its rows.
    """

    names: set[str] = field(default_factory=set)
    joined: dict[str, str] = field(default_factory=dict)


def mirror_of(url: str, folder: Path) -> Path:
    """The folder, below one for all mirrors, that mirrors a store; told apart by its URL."""
    digest = hashlib.blake2b(url.encode(), digest_size=6).hexdigest()
    return folder / f"{re.sub('[^A-Za-z0-9]+', '-', url)[:60]}-{digest}"


class RemoteParts:
    """The parts at a URL, beside a mirror of them.

    url : of the store; a recipe's parts are at `URL/RECIPE/parts`, as in a folder.
    mirror : folder of this machine.
    """

    def __init__(self, url: str, mirror: Path) -> None:
        self.url = url
        self.mirror = mirror

    def bring(self, recipe: str, after: float = LISTED_SECONDS) -> None:
        """Have all parts of a recipe in the mirror, and those that are there alone at the URL.

        Nothing is asked where that was done less than `after` seconds ago, nor where nothing may be
        written. Raises ExtractError where the URL can't be read.
        """
        try:
            refuse_writing()
        except OSError:
            return
        with _moving:
            if time.monotonic() - _listed.get(self._folder(recipe), -math.inf) < after:
                return
            try:
                self._exchange(recipe)
            except OSError as error:
                raise unreadable(self.url, error) from error
            _listed[self._folder(recipe)] = time.monotonic()

    def take(self, path: Path) -> None:
        """Take a finished part to the URL; where that fails, `bring` does it another time."""
        recipe = path.parent.parent.name
        with _moving:
            if self._take_all(recipe, [path.name]):
                seen = self._seen(recipe)
                seen.names.add(path.name)
                self._remember(recipe, seen)

    def replace(self, recipe: str, joined: dict[str, str]) -> None:
        """Take joined parts to the URL, and then remove there those whose rows they hold.

        joined : by the name of each old part, that of the new one.
        """
        if joined:
            with _moving:
                seen = self._seen(recipe)
                every = seen.joined | joined
                seen.joined = {old: _last(old, every) for old in every}
                self._remember(recipe, seen)
            self.bring(recipe, after=0)

    def _exchange(self, recipe: str) -> None:
        """One look at both sides and what follows, again where parts are joined meanwhile."""
        for left in reversed(range(LOOKS)):
            try:
                self._exchange_once(recipe)
                return
            except FileNotFoundError:
                if not left:
                    raise

    def _exchange_once(self, recipe: str) -> None:
        there, here, seen = self._there(recipe), self._here(recipe), self._seen(recipe)
        own = [name for name in here if name not in seen.names | {*there}]
        # what was cut short on its way there is taken once more
        cut = [name for name in here if name in there and here[name] != there[name]]
        there |= {name: here[name] for name in self._take_all(recipe, [*own, *cut])}
        self._remove_joined(recipe, here, there, seen)
        self._bring_all(recipe, {*there} - {*here} - {*seen.joined}, there)
        self._drop_replaced(recipe, {name for name in here if name in seen.names} - {*there})
        seen.names = (seen.names & {*here}) | {*there}
        self._remember(recipe, seen)

    def _take_all(self, recipe: str, names: Iterable[str]) -> list[str]:
        """Take parts of the mirror to the URL -> those that are there now."""
        taken = []
        for name in names:
            path = self._folder(recipe) / name
            try:
                _check(path, recipe)
                self._put(path, f"{self._at(recipe)}/{name}")
            except (
                FileNotFoundError,
                WrongBytes,
            ):  # it was joined, or is set aside when it is read
                continue
            except OSError as error:
                why = error.strerror or error
                log.warning(
                    "%s is not at %s yet (%s): the next run takes it there", path, self.url, why
                )
                break
            taken.append(name)
        if taken:
            self._describe(recipe)
        return taken

    def _put(self, path: Path, url: str) -> None:
        """One part, which an object store shows as a whole; elsewhere its size tells."""
        size = path.stat().st_size
        try:
            ask(url, lambda system, place: system.put_file(str(path), place))
        except FileNotFoundError:  # of a file system whose folders are made first
            ask(url.rpartition("/")[0], lambda system, place: system.makedirs(place, exist_ok=True))
            ask(url, lambda system, place: system.put_file(str(path), place))
        there = ask(url, _size)
        if there != size:
            raise RemoteError(f"{there:,} of its {size:,} bytes arrived")

    def _describe(self, recipe: str) -> None:
        """The recipe beside its parts, for who reads them there."""
        path = self._folder(recipe).parent / RECIPE_FILE
        url = f"{self.url}/{recipe}/{RECIPE_FILE}"
        if path in _described:
            return
        _described.add(path)
        try:
            if not ask(url, lambda system, place: system.exists(place)):
                ask(url, lambda system, place: system.put_file(str(path), place))
        except OSError as error:  # nothing is read by it
            log.debug("%s is not written: %s", url, error)

    def _remove_joined(
        self, recipe: str, here: dict[str, int], there: dict[str, int], seen: Seen
    ) -> None:
        """Remove parts at the URL whose rows lie there in another part that this mirror made."""
        whole = {name for name, size in there.items() if here.get(name, size) == size}
        for old, new in list(seen.joined.items()):
            if new not in there and new not in here:
                del seen.joined[old]  # its rows are at the URL alone
            elif new in whole and old in there:
                try:
                    ask(f"{self._at(recipe)}/{old}", lambda system, place: system.rm_file(place))
                except FileNotFoundError:  # another machine was first
                    pass
                except OSError as error:  # it is not brought again
                    log.debug("%s/%s stays: %s", self._at(recipe), old, error)
                    continue
                del there[old], seen.joined[old]
            elif new in whole:
                del seen.joined[old]

    def _bring_all(self, recipe: str, names: Iterable[str], there: dict[str, int]) -> None:
        """Bring parts into the mirror, several at a time."""
        at = self._at(recipe)
        wanted = [name for name in names if (f"{at}/{name}", there[name]) not in _unfit]
        random.shuffle(wanted)  # processes that begin at a time bring different ones
        if wanted:
            self._bring_description(recipe)
        with ThreadPoolExecutor(TRANSFERS) as pool:
            for done in [pool.submit(self._get, recipe, name, there[name]) for name in wanted]:
                done.result()

    def _bring_description(self, recipe: str) -> None:
        path = self._folder(recipe).parent / RECIPE_FILE
        url = f"{self.url}/{recipe}/{RECIPE_FILE}"
        with contextlib.suppress(FileNotFoundError):  # rows are read without it
            if not path.exists():
                with written_aside(path) as aside:
                    ask(url, lambda system, place: system.get_file(place, str(aside)))

    def _get(self, recipe: str, name: str, size: int) -> None:
        path, url = self._folder(recipe) / name, f"{self._at(recipe)}/{name}"
        if path.exists():  # by another process meanwhile
            return
        try:
            with written_aside(path) as aside:
                ask(url, lambda system, place: system.get_file(place, str(aside)))
                _check(aside, recipe)
        except WrongBytes as error:
            log.warning(
                "the part %s is not as it was written (%s): it is left to the machine that wrote "
                "it; delete it there if that is gone",
                url,
                error,
            )
            _unfit.add((url, size))

    def _drop_replaced(self, recipe: str, gone: set[str]) -> None:
        """Remove parts of the mirror that are gone at the URL, where others hold all their rows."""
        if all(self._folder(recipe) / name in _staying for name in gone):
            return
        parts = []
        for name in self._here(recipe):
            with contextlib.suppress(WrongBytes):
                parts.append(read_index(self._folder(recipe) / name))
        for part in parts:
            others = [own for own in parts if own.path.name not in gone and own.taps >= part.taps]
            if part.path.name in gone and _hold_all(others, part):
                part.path.unlink(missing_ok=True)
        # somebody removed them there: to look once is enough
        _staying.update(self._folder(recipe) / name for name in gone)

    def _there(self, recipe: str) -> dict[str, int]:
        """Sizes of the parts at the URL by name."""
        try:
            return ask(self._at(recipe), _parts_in)
        except FileNotFoundError:
            return {}

    def _here(self, recipe: str) -> dict[str, int]:
        """Sizes of the parts in the mirror by name."""
        return {path.name: path.stat().st_size for path in self._folder(recipe).glob("[!.]*.h5")}

    def _seen(self, recipe: str) -> Seen:
        kept = read_remembered(self._file(recipe))
        return Seen(set(kept["names"]), kept["joined"]) if kept else Seen()

    def _remember(self, recipe: str, seen: Seen) -> None:
        if seen != self._seen(recipe):
            value = {"names": sorted(seen.names), "joined": seen.joined}
            write_remembered(self._file(recipe), value)

    def _file(self, recipe: str) -> Path:
        return self.mirror / MEMORY / f"{recipe}.json"

    def _folder(self, recipe: str) -> Path:
        return self.mirror / recipe / "parts"

    def _at(self, recipe: str) -> str:
        return f"{self.url}/{recipe}/parts"


def _last(name: str, joined: dict[str, str]) -> str:
    """The part that holds a part's rows after all that was joined."""
    while name in joined:
        name = joined[name]
    return name


def _check(path: Path, recipe: str) -> None:
    """Read a part whole; WrongBytes where it is not as it was written, or of another recipe."""
    part = read_index(path)
    if part.recipe != recipe:
        raise WrongBytes(path, f"its rows are of another recipe, {part.recipe}")
    part.check()


def _hold_all(others: list[Part], part: Part) -> bool:
    return bool(others) and bool((RowIndex(others).find(part.keys) >= 0).all())


def _parts_in(system: Any, place: str) -> dict[str, int]:
    system.invalidate_cache()
    found = {info["name"].rpartition("/")[2]: info for info in system.ls(place, detail=True)}
    return {
        name: int(info["size"])
        for name, info in sorted(found.items())
        if name.endswith(".h5") and not name.startswith(".") and info["type"] == "file"
    }


def _size(system: Any, place: str) -> int:
    system.invalidate_cache()
    return int(system.info(place)["size"])
