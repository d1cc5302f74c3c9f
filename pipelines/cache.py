"""What is kept: a list of it, a look at every byte, and what was not used for long removed."""

import argparse
import json
import math
import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from data.names import counted, shown
from pipelines.console import DONE, FAILED, add_options, flag, progress, run_command
from pipelines.errors import WrongCall

EXAMPLE = "example: python -m pipelines.cache prune --older-than 30d --dry-run"
DAY = 24 * 3600.0
AGES = {"h": 3600.0, "d": DAY, "w": 7 * DAY}
SIZES = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
# the options that belong to one action alone
OWN_OPTIONS = {"verify": ("repair",), "prune": ("older_than", "max_size", "dry_run")}
# the files beside the recipes, in words
OTHERS = {
    "ids": "image ids",
    "mirrored": "what was seen at a URL",
    "card": "backbones' cards",
    "script": "what draws a page's figures",
    "found": "what searches found",
    "tuned network": "tuned networks",
    "history": "how they were tuned",
    "unfinished training": "unfinished trainings",
    "set aside": "set aside as damaged",
    "temporary": "temporary files",
    "stranger": "not the store's",
}


def age(text: str) -> float:
    """`30d` -> seconds."""
    return _quantity(text, AGES, "an age such as 30d, 12h or 2w")


def size(text: str) -> int:
    """`20GB` -> bytes."""
    return int(_quantity(text, SIZES, "a size such as 20GB or 500MB"))


def _quantity(text: str, units: dict[str, Any], expected: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]+)", text.strip())
    by_name = {unit.lower(): factor for unit, factor in units.items()}
    if not found or found[2].lower() not in by_name:
        raise argparse.ArgumentTypeError(f"{text!r}: expected {expected}")
    return float(found[1]) * by_name[found[2].lower()]


def build_parser() -> argparse.ArgumentParser:
    """The arguments of `python -m pipelines.cache`."""
    parser = argparse.ArgumentParser(prog="pipelines.cache", description=__doc__, epilog=EXAMPLE)
    add = parser.add_argument
    add("action", choices=sorted(ACTIONS), help="what to do")
    add_options(parser, ["cache"])
    add(
        "--repair",
        action="store_true",
        help="verify: set damaged parts and tuned networks aside and forget damaged memories; what "
        "they held is computed again by the next run",
    )
    add(
        "--older-than",
        type=age,
        metavar="AGE",
        help="prune: remove what was not used for so long, such as 30d",
    )
    add(
        "--max-size",
        type=size,
        metavar="SIZE",
        help="prune: remove the longest unused until no more than this is left, such as 20GB",
    )
    add("--dry-run", action="store_true", help="prune: say what would be removed and leave it")
    add("--json", action="store_true", help="print one JSON object instead")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line -> exit code."""
    return run_command(look_after, build_parser(), arguments)


def look_after(options: argparse.Namespace) -> int:
    """List, verify or prune -> exit code."""
    for action, own in OWN_OPTIONS.items():
        for name in own:
            if action != options.action and getattr(options, name) not in (None, False):
                raise WrongCall(f"{flag(name)} belongs to {action}, not to {options.action}")
    if options.action != "list":
        refuse_what_is_no_cache(options.cache)
    return ACTIONS[options.action](options)


def refuse_what_is_no_cache(named: str | Path | None) -> None:
    """Refuse a folder that was named and is none of the store's: it would be found whole."""
    from extract import FeatureStore
    from extract.store.cache_files import Kind, cache_files

    if named is None:  # the usual one, which the first run makes
        return
    folder = FeatureStore(named).cache
    if not folder.exists():
        raise WrongCall(
            f"--cache {folder}: no such folder; expected one that a run kept features in"
        )
    files = cache_files(folder)
    if files and all(file.kind == Kind.STRANGER for file in files):
        raise WrongCall(
            f"--cache {folder}: no cache, it holds {counted(len(files), 'file')} that no run kept "
            f"there, such as {files[0].path.name}; expected a folder that a run kept features in"
        )


def list_contents(options: argparse.Namespace) -> int:
    """Print what the cache holds -> exit code."""
    from extract import cache_contents

    contents = cache_contents(options.cache)
    if options.json:
        print(_json(contents, n_bytes=contents.n_bytes))
        return DONE
    print("\n".join(described(contents)))
    return DONE


def described(contents: Any) -> list[str]:
    """A cache's contents as a person reads them."""
    from pipelines.report.text import table

    if not contents.recipes and not contents.others:
        there = "" if Path(contents.cache).exists() else ": there is no such folder"
        return [shown(f"nothing is kept in {contents.cache}{there}")]
    lines = []
    if contents.recipes:
        header = ["recipe", "backbone", "weights", "size", "numerics", "view", "taps", "images",
                  "MB", "last use"]  # fmt: skip
        lines = [table(header, [_recipe_row(one) for one in contents.recipes]), ""]
        lines += [
            f"{one.id[:8]}: {one.n_unreadable} of {counted(one.n_parts, 'part')} can't be read: "
            "see `cache verify --repair`"
            for one in contents.recipes
            if one.n_unreadable
        ]
        lines += [f"{one.id[:8]}: {one.problem}" for one in contents.recipes if one.problem]
    for kind, words in OTHERS.items():
        if kind in contents.others:
            n, n_bytes = contents.others[kind]
            size = f", {_bytes(n_bytes)}" if n_bytes else ""
            lines.append(f"{words}: {counted(n, 'file')}{size}")
    return [*lines, shown(f"in all: {_bytes(contents.n_bytes)} in {contents.cache}")]


def _recipe_row(one: Any) -> list[str]:
    made = [one.recipe.numerics, one.recipe.view] if one.recipe else ["", ""]
    words = [one.name or "?", one.weights, one.size, *made]
    used = time.strftime("%Y-%m-%d %H:%M", time.localtime(one.last_use))
    return [one.id[:8], *words, str(len(one.taps)), str(one.rows), f"{one.n_bytes / 1e6:.1f}", used]


def verify(options: argparse.Namespace) -> int:
    """Print what is damaged -> exit code."""
    from extract import verify_cache

    bar = None

    def advance(done: int, total: int) -> None:
        nonlocal bar
        bar = bar or progress(math.ceil(total / 1e6), "MB")
        bar.update(math.ceil(done / 1e6) - bar.n)

    try:
        found = verify_cache(options.cache, repair=options.repair, on_progress=advance)
    finally:
        if bar is not None:
            bar.close()
    if options.json:
        print(_json(found, whole=found.whole))
    else:
        for one in found.damaged:
            said = "; ".join(filter(None, [one.reason, one.repaired]))
            print(shown(f"damaged: {one.path}: {said}"))
        for path in found.unread:
            print(shown(f"of another schema, not read by this version: {path}"))
        for path in found.strangers:
            print(shown(f"not the store's, left as it is: {path}"))
        read = f"{counted(found.n_files, 'file')}, {_bytes(found.n_bytes)} read in {found.cache}"
        print(shown(f"{read}: {len(found.damaged) or 'none'} damaged"))
        if not found.whole:
            print("run `cache verify --repair` to have it computed again by the next run")
    return DONE if found.whole else FAILED


def prune(options: argparse.Namespace) -> int:
    """Remove what was not used for long and say what it was -> exit code."""
    from extract import prune_cache

    done = prune_cache(options.cache, options.older_than, options.max_size, options.dry_run)
    if options.json:
        print(_json(done, n_bytes=done.n_bytes))
        return DONE
    verb = "would be removed" if options.dry_run else "removed"
    for one in done.removed:
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(one.last_use))
        print(shown(f"{verb}: {one.kind} {one.path}, {_bytes(one.n_bytes)}, last used {used}"))
    if done.n_in_use:
        in_use = counted(done.n_in_use, "entry that was", "entries that were")
        print(f"kept although it was asked for: {in_use} used of late")
    left = f"{_bytes(done.bytes_left)} left in {done.cache}"
    print(shown(f"{len(done.removed)} {verb}, {_bytes(done.n_bytes)}; {left}"))
    return DONE


def _json(result: Any, **more: Any) -> str:
    """A frozen dataclass as one JSON object."""
    return json.dumps(asdict(result) | more, indent=1, default=str)


def _bytes(n: int) -> str:
    """Bytes as a person reads them."""
    unit = next((name for name in reversed(SIZES) if n >= SIZES[name]), None)
    return f"{n / SIZES[unit]:.1f} {unit}" if unit else f"{n} bytes"


ACTIONS: dict[str, Callable[[argparse.Namespace], int]] = {
    "list": list_contents,
    "verify": verify,
    "prune": prune,
}


if __name__ == "__main__":
    sys.exit(main())
