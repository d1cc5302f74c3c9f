"""A run's folder: one run at a time, its files written aside, taking their place at the end."""

import contextlib
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from data.urls import is_url
from extract.backbones.names import NETWORK
from extract.files import TRIES, sync_folder
from pipelines.bundle.exchange import LEFTOVER, exchange, new_folder_in, sync_tree
from pipelines.bundle.files import PASSED_OVER
from pipelines.bundle.save import refuse_overwriting
from pipelines.errors import WrongCall
from pipelines.report.files import (
    BAD_COLUMNS,
    BAD_IMAGES,
    CLUSTERS,
    PREDICTIONS,
    REPORT,
    RESULTS,
    TO_LABEL,
    UNLABELLED,
    disk_errors_named,
    write_results,
)
from pipelines.report.images import IMAGES

BUNDLE = "model"
MASKS = "masks"
# of a run that did not finish, beside the results of one that did
FAILED_BAD_IMAGES = "failed_bad_images.csv"
LISTS = (BAD_IMAGES, FAILED_BAD_IMAGES)
LOCK = ".running"
TRIAL = ".write-test"
TABLES = "tables"  # of results.json: the digests of the tables that were written beside it
HIDDEN = {LOCK, TRIAL, *PASSED_OVER}


@dataclass(frozen=True)
class Kind:
    """What a folder's results are of: what else lies beside them is somebody's own, and stays.

    what : in a word. keys : of every results.json of it. files : that it writes; results.json goes
    first and comes last, as it says that all was finished. tables : those that labels are written
    into afterwards. has_classifier : whether its bundle is a classifier of images.
    """

    what: str
    keys: frozenset[str]
    files: tuple[str, ...]
    tables: tuple[str, ...] = ()
    has_classifier: bool = False


RUN = Kind(
    "run",
    frozenset({"schema", "data", "leaderboard", "chosen"}),
    (RESULTS, REPORT, IMAGES, BUNDLE, NETWORK, PREDICTIONS, UNLABELLED, *LISTS),
    (UNLABELLED,),
    has_classifier=True,
)
EXPLORATION = Kind(
    "exploration",
    frozenset({"schema", "data", "clusters", "to_label"}),
    (RESULTS, REPORT, CLUSTERS, TO_LABEL, *LISTS),
    (CLUSTERS, TO_LABEL),
)
SEGMENTATION = Kind(
    "segmentation",
    frozenset({"schema", "data", "overlap", "images"}),
    (RESULTS, REPORT, BUNDLE, MASKS),
)


@dataclass(frozen=True)
class ResultsFolder:
    """Where a run's files are written until it is finished.

    out : the folder as it was asked for. aside : what takes its place at the end. kind : whose
    results they are.
    """

    out: Path
    aside: Path
    kind: Kind

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Where to write a file or folder of the results.

        Raises WorkFailed, which names its place in the end, where the disk is full or fails.
        """
        with disk_errors_named(self.out / name):
            yield self.aside / name

    def write_results(self, results: dict, kept: str | Path | None = None) -> None:
        """`results.json`, the last of the files; the tables beside it are known again by it.

        kept : as of `refuse_edited`. It takes the labels on, which are nowhere else, so that the
        new table is to be replaced no more than that one.
        """
        tables = [name for name in self.kind.tables if (self.aside / name).exists()]
        if tables:
            results[TABLES] = {
                name: _digest_of(self.aside / name)
                for name in tables
                if not _is_same(self.out / name, kept)
            }
        with self.writing(RESULTS) as file:
            write_results(file, results)

    @property
    def unfinished_list(self) -> Path:
        """The list of bad images that stays where the run does not finish."""
        finished = (self.out / RESULTS).exists()
        return self.out / (FAILED_BAD_IMAGES if finished else BAD_IMAGES)


@contextlib.contextmanager
def results_folder(out: str | Path | None, kind: Kind = RUN) -> Iterator[ResultsFolder | None]:
    """The results' folder for this run alone, until what was written aside takes its place.

    Whatever ends the run before that leaves the folder's earlier results as they were; one that has
    nothing in it is gone again. None where no folder is asked for.

    Raises WrongCall where it can't be written or another run is at work in it, WorkFailed where the
    results can't take their place.
    """
    if out is None:
        yield None
        return
    out = Path(out)
    folder = Path(os.path.realpath(out))  # a link stays one
    with contextlib.ExitStack() as stack:
        with _setup_errors_named(out):
            stack.enter_context(_claimed(folder, out))
            aside = stack.enter_context(_folder_aside_of(folder))
        yield ResultsFolder(out, aside, kind)
        with disk_errors_named(out):
            _take_place(aside, folder, kind.files)


def refuse_others(out: Path, cache: str | Path | None = None, kind: Kind = RUN) -> None:
    """Raise WrongCall for a folder that holds something, and is no run's.

    cache : where features are kept, which may lie in it. kind : whose folder it may be. Raises
    BundleError for no bundle in a bundle's place.
    """
    kept = {_first_part(cache, out)} if cache and not is_url(cache) else set()
    if kept & {*kind.files}:
        raise WrongCall(f"--cache {cache} lies where results go, and would be replaced: move it")
    if not out.is_dir():
        return  # what is no folder can't be made one, and says so
    if kind.has_classifier:
        refuse_overwriting(out / BUNDLE)
    advice = "choose another folder with --out, or move that away"
    try:
        if (out / RESULTS).exists() and not _is_results(out / RESULTS, kind.keys):
            raise WrongCall(f"{out} holds a {RESULTS} that no {kind.what} wrote: {advice}")
        strange = sorted(_strangers(out, kind.files))
    except OSError as error:
        raise WrongCall(f"can't read {out} ({error.strerror}): choose another --out") from error
    if (out / RESULTS).exists():
        return  # what else lies there stays
    made = {BAD_IMAGES} if _is_list(out / BAD_IMAGES) else set()
    strange += [name for name in kind.files if os.path.lexists(out / name)]
    strange = [name for name in strange if name not in made | kept]
    if strange:
        raise WrongCall(f"{out} holds {strange[0]!r} and no {kind.what}'s results: {advice}")


def refuse_edited(out: Path, kind: Kind = RUN, kept: str | Path | None = None) -> None:
    """Raise WrongCall where a table of earlier results is not as it was written: labels that
    somebody wrote into it would be lost.

    kept : a table whose labels the new one will have, too.
    """
    if not (out / RESULTS).exists():
        return
    written = json.loads((out / RESULTS).read_bytes()).get(TABLES, {})
    advice = "and would be replaced: choose another folder with --out, or move it away"
    for file in (out / name for name in kind.tables):
        if not os.path.lexists(file) or _is_same(file, kept):
            continue
        if file.name not in written:
            raise WrongCall(f"{file} may hold labels of yours, {advice}")
        if not file.is_file() or _digest_of(file) != written[file.name]:
            raise WrongCall(f"{file} was changed since it was written, {advice}")


def refuse_replacing(out: Path, read: Iterable[str | Path | None], kind: Kind = RUN) -> None:
    """Raise WrongCall where one of the files that are read is one that the results replace."""
    for given in read:
        if any(_is_same(out / name, given) for name in kind.files):
            raise WrongCall(
                f"{given} is read, and would be replaced: choose another folder with --out, or "
                "move it away"
            )


def _is_same(file: Path, other: str | Path | None) -> bool:
    with contextlib.suppress(OSError, ValueError):  # a name of images need be no path
        return other is not None and os.path.samefile(file, other)
    return False


def _digest_of(file: Path) -> str:
    """By which a table is known to be as it was written."""
    return hashlib.blake2b(file.read_bytes(), digest_size=16).hexdigest()


def _is_results(file: Path, keys: Set[str]) -> bool:
    try:
        content = json.loads(file.read_bytes())
    except (ValueError, RecursionError):
        return False
    return isinstance(content, dict) and set(content) >= keys


def _is_list(file: Path) -> bool:
    """Whether this is the list of bad images that a run left which did not finish."""
    head = ",".join(BAD_COLUMNS).encode()
    with contextlib.suppress(OSError), open(file, "rb") as opened:
        return opened.read(len(head)) == head
    return False


def _first_part(path: str | Path, folder: Path) -> str | None:
    inside = Path(os.path.relpath(os.path.realpath(path), os.path.realpath(folder)))
    return inside.parts[0] if inside.parts else None


def _strangers(folder: Path, files: Iterable[str]) -> list[str]:
    """Names of a folder that are none of a run's."""
    names = set(os.listdir(folder)) - {*files, *HIDDEN}
    return [name for name in names if not LEFTOVER.fullmatch(name)]


@contextlib.contextmanager
def _setup_errors_named(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise WrongCall(
            f"can't write to {out} ({error.strerror}): choose another folder with --out"
        ) from error


@contextlib.contextmanager
def _claimed(folder: Path, out: Path) -> Iterator[None]:
    """The folder, made where it is not there, for this run alone; an empty one goes afterwards."""
    handle = _lock(folder, out)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            if _is_at(handle, folder / LOCK):  # else it went with the folder it was in
                (folder / LOCK).unlink()
            folder.rmdir()
        os.close(handle)


def _lock(folder: Path, out: Path) -> int:
    """An open file whose lock the system takes back from a process that ends, however it ends."""
    for _ in range(TRIES):  # another run that ends may take the folder, or the file, away
        folder.mkdir(parents=True, exist_ok=True)
        try:
            flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
            handle = os.open(folder / LOCK, flags, 0o666)
        except FileNotFoundError:
            continue
        free = _is_free(handle)
        if free and _is_at(handle, folder / LOCK):
            return handle
        os.close(handle)
        if not free:
            break
    raise WrongCall(
        f"another run is at work in {out}: wait for its end or choose another folder with --out"
    )


def _is_free(handle: int) -> bool:
    """Take the lock of an open file -> whether no other process has it."""
    try:
        import fcntl
    except ImportError:  # Windows: there the file is not locked
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        # file systems without locks say something else
        return error.errno not in (errno.EWOULDBLOCK, errno.EACCES)
    return True


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.lstat(path))
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def _folder_aside_of(folder: Path) -> Iterator[Path]:
    """A new folder beside it; inside where that can't be: a mount, or a parent of someone else."""
    with contextlib.ExitStack() as stack:
        try:
            aside = stack.enter_context(new_folder_in(folder.parent))
            _try_to_move(aside, folder)
        except OSError:
            stack.close()
            aside = stack.enter_context(new_folder_in(folder))
            _try_to_move(aside, folder)
        yield aside


def _try_to_move(aside: Path, folder: Path) -> None:
    """Find out now, not after the work, whether what is written there can go into the folder."""
    (aside / TRIAL).touch()
    os.replace(aside / TRIAL, folder / TRIAL)
    (folder / TRIAL).unlink()


def _take_place(aside: Path, folder: Path, files: Sequence[str]) -> None:
    """In one step, unless the folder holds what is not a run's, or can't be moved."""
    sync_tree(aside)
    beside = aside.parent.parent != folder
    if beside and not _strangers(folder, files) and not _is_stood_in(folder):
        shutil.copymode(folder, aside)
        if exchange(aside, folder):
            sync_folder(folder.parent)
            return
    _exchange_files(aside, folder, files)
    sync_folder(folder)


def _is_stood_in(folder: Path) -> bool:
    """Whether the shell that called would be left in a folder that is gone."""
    with contextlib.suppress(FileNotFoundError):
        return Path.cwd().is_relative_to(folder)
    return False


def _exchange_files(aside: Path, folder: Path, files: Sequence[str]) -> None:
    """The old files away, the new ones in; all back where one can't be moved."""
    old = aside.with_name("old")
    old.mkdir()
    away = [(folder / name, old / name) for name in files]
    moves = [*away, *((aside / name, folder / name) for name in reversed(files))]
    done = []
    try:
        for source, target in moves:
            if os.path.lexists(source):
                os.rename(source, target)
                done.append((target, source))
    except OSError:
        for target, source in reversed(done):
            with contextlib.suppress(OSError):
                os.rename(target, source)
        raise
