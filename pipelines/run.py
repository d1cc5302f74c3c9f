"""The main job: images in, one pass, the leaderboard, the chosen classifier with its accuracy and its bundle."""

import argparse
import contextlib
import itertools
import json
import re
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from data import DataError, Samples, folds, hold_out, read_images
from pipelines.console import (
    DONE,
    WorkFailed,
    WrongCall,
    add_feature_arguments,
    names,
    progress,
    run_command,
    say,
)
from pipelines.results import (
    describe_run,
    summary,
    write_bad_images,
    write_predictions,
)

HELD_OUT = 0.25
EXAMPLE = "example: python -m pipelines.run photos --out runs/photos"


def build_parser() -> argparse.ArgumentParser:
    """The arguments of `python -m pipelines.run`."""
    parser = argparse.ArgumentParser(prog="pipelines.run", description=__doc__, epilog=EXAMPLE)
    add = parser.add_argument
    add(
        "images",
        nargs="?",
        default="digits",
        help="a class-per-folder directory, a CSV or JSON-lines manifest, or a named set "
        "such as torchvision:Flowers102 (default: digits)",
    )
    add(
        "--test",
        metavar="IMAGES",
        help="test images, laid out like IMAGES (default: a split inside IMAGES, else 25 %% held out)",
    )
    add_feature_arguments(parser)
    add(
        "--heads",
        type=names,
        default=["logistic", "linear_svm", "rbf_svm", "knn"],
        metavar="H,…",
        help="heads to try (default: logistic,linear_svm,rbf_svm,knn)",
    )
    add(
        "--cv",
        type=int,
        default=5,
        metavar="K",
        help="folds of the cross-validation on the training images (default: 5)",
    )
    add(
        "--groups",
        metavar="REGEX",
        help="images whose paths match alike show one subject and stay on one side of the split and of every fold: "
        r"the first (…) of it counts, or all of it, such as 'patient(\d+)'",
    )
    add(
        "--choose",
        choices=("best", "simplest"),
        default="best",
        help="of the rows that the best one does not beat beyond chance: the best, or the simplest (default: best)",
    )
    add(
        "--duplicates",
        choices=("group", "drop", "keep"),
        default="group",
        help="near copies: on one side of the split and of every fold, one of each kept, or left (default: group)",
    )
    add(
        "--baselines",
        choices=("on", "off"),
        default="on",
        help="measure what raw pixels, colours, Gabor filters and the untrained network give (default: on)",
    )
    add(
        "--scoring",
        default="accuracy",
        metavar="S",
        help="what settings, rows and the blend are chosen by: accuracy, balanced_accuracy, f1_macro, neg_log_loss, "
        "or roc_auc for two classes (default: accuracy)",
    )
    add(
        "--class-weight",
        choices=("balanced",),
        help="balanced: each class counts alike in the training of heads that take weights (default: each image)",
    )
    add(
        "--flips",
        choices=("on", "off"),
        default="off",
        help="also try features averaged with those of the mirrored images; twice the work of the network "
        "(default: off)",
    )
    add("--out", type=Path, metavar="DIR", help="where the results go (default: runs/TIME-NAME)")
    add(
        "--max-bad",
        type=float,
        default=0.05,
        metavar="FRACTION",
        help="share of unreadable images above which the run fails (default: 0.05)",
    )
    add("--json", action="store_true", help="print results.json instead of tables")
    return parser


def main(arguments=None) -> int:
    """Run the command line -> exit code."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    return run_command(lambda options: run(options, arguments), build_parser(), arguments)


def run(options: argparse.Namespace, arguments: list[str]) -> int:
    """Do the whole job -> exit code; results go to the options' `out` folder."""
    from extract import FeatureStore
    from extract.engines import check_device, check_numerics
    from pipelines import evaluate
    from pipelines.features import choose_taps, load_backbones

    lap = evaluate.timer()
    samples = group_by_path(read_samples(options.images, options.test), options.groups)
    check_request(samples, options)
    store = FeatureStore(options.cache)
    backbones = load_backbones(samples, options, store)
    check_numerics(options.numerics)
    check_device(options.device)
    for backbone in backbones:
        choose_taps(backbone.card, options.layers, options.pooling)
    with out_folder(options.out, samples.name) as out:
        return run_into(out, samples, backbones, store, options, arguments, lap)


def run_into(out: Path, samples: Samples, backbones, store, options, arguments, lap) -> int:
    """From checked samples and backbones to everything that a run leaves in `out` -> exit code."""
    from heads import answers
    from pipelines import audit, choice, evaluate
    from pipelines.baselines import measure_baselines
    from pipelines.features import VIEWS, keep_features, read_twice
    from pipelines.scoring import find_scoring

    seconds = {"read": lap()}

    def keep():
        return keep_features(
            samples,
            backbones,
            options.layers,
            options.pooling,
            store,
            numerics=options.numerics,
            device=options.device,
            views=VIEWS[options.flips],
            watch=watch_pass,
        )

    kept = keep()
    write_bad_images(out, kept.bad)
    refuse_too_many_bad(kept, len(samples) + len(samples.problems), options.max_bad, out)
    seconds["extract"] = lap()

    copies = read_twice(lambda: audit.find_near_copies(kept), keep)
    if options.duplicates == "drop":
        kept, copies = audit.drop_copies(kept, copies)
    train, test, cv = split(kept.samples, copies if options.duplicates == "group" else [], options)
    seconds["audit"] = lap()

    labels, workers = kept.samples.labels, count_workers(len(kept.sources))

    def read(source):
        return read_twice(lambda: kept.read(source, train), keep)

    scoring = find_scoring(options.scoring, len(samples.classes))
    weigh = {"class_weight": options.class_weight}
    bar = progress(len(kept.sources), "taps")
    searched, screened_out = evaluate.screen_sources(
        read,
        len(kept.sources),
        labels[train],
        n_jobs=workers,
        on_progress=lambda done: bar.update(),
    )
    bar.reset(len(searched))
    board = evaluate.make_leaderboard(
        lambda place: read(searched[place]),
        [kept.sources[source] for source in searched],
        labels[train],
        cv,
        options.heads,
        scoring=scoring,
        **weigh,
        seed=options.seed,
        n_jobs=workers,
        on_progress=lambda done: bar.update(),
    )
    bar.close()
    place = choice.choose_row(board, options.choose)
    fitted = choice.fit_chosen(
        board, place, lambda source: read(searched[source]), labels[train], **weigh
    )
    sources = [searched[source] for source in fitted.sources]
    seconds["heads"] = lap()

    rows, numerics = [], kept.recipes[sources[0]].numerics
    if options.baselines == "on":
        rows = measure_baselines(
            kept,
            backbones[0],
            options.pooling,
            train,
            cv,
            numerics=numerics,
            device=options.device,
            scoring=scoring,
            **weigh,
            n_jobs=workers,
            watch=watch_pass,
        )
    seconds["baselines"] = lap()
    curve = choice.trace_curve(
        board,
        place,
        lambda source: read(searched[source]),
        labels[train],
        cv,
        **weigh,
        n_jobs=workers,
        seed=options.seed,
    )
    seconds["curve"] = lap()

    features = np.hstack([kept.read(source, test) for source in sources])
    predicted, shares = answers(fitted.head, fitted.calibration, features)
    own = shares[np.arange(len(test)), np.searchsorted(board.classes, predicted)]
    write_predictions(out, kept.samples[test], predicted, own)
    save_bundle(out / "model", kept, sources, fitted, options, backbones)
    described = choice.describe_choice(board, place, labels[test], predicted, shares, options.seed)
    audited = audit.describe_audit(kept, copies, options.duplicates, train, test, board)
    seconds["report"] = lap()
    seconds["total"] = round(sum(seconds.values()), 3)
    found = {
        "chosen": described,
        "baselines": [vars(row) for row in rows],
        "learning_curve": curve,
        "audit": audited,
    }
    results = describe_run(
        arguments,
        options,
        samples,
        kept,
        backbones,
        train,
        test,
        board,
        sources[0],
        screened_out,
        found,
        seconds,
    )
    text = json.dumps(results, indent=1, ensure_ascii=False) + "\n"
    (out / "results.json").write_text(text, encoding="utf-8")
    print(text if options.json else summary(results, out), end="")
    return DONE


def read_samples(images: str, test: str | None) -> Samples:
    """The labelled samples of the call, with the test images of `--test` joined as their split."""
    samples = read_images(images)
    if test is None:
        return samples
    if samples.split is not None:
        raise WrongCall(
            f"--test {test} was given and {images} has a split inside: leave one of them out"
        )
    other = read_images(test)
    if samples.pixels is not None or other.pixels is not None or other.split is not None:
        raise WrongCall("--test takes folders or manifests of image files without a split inside")
    strange = sorted(set(other.classes) - set(samples.classes))
    if strange:
        raise WrongCall(
            f"class {strange[0]!r} of {test} is not among those of {images}: {', '.join(samples.classes)}"
        )
    both = (samples, other)
    groups = None
    if any(s.groups is not None for s in both):  # an image without a group is one of its own
        own = [
            s.groups if s.groups is not None else [f"image {path}" for path in s.paths]
            for s in both
        ]
        groups = np.concatenate(own)
    return Samples(
        paths=samples.paths + other.paths,
        labels=np.concatenate([s.labels for s in both]),
        classes=samples.classes,
        groups=groups,
        split=["train"] * len(samples) + ["test"] * len(other),
        name=samples.name,
        passed_over=samples.passed_over,
        problems=samples.problems + other.problems,
    )


def group_by_path(samples: Samples, pattern: str | None) -> Samples:
    """Samples grouped by what the pattern finds in their paths; an image in whose path it finds nothing is alone."""
    if pattern is None:
        return samples
    if samples.groups is not None:
        raise WrongCall(
            f"--groups {pattern} was given and {samples.name} has groups of its own: leave one of them out"
        )
    try:
        found = [re.search(pattern, path) for path in samples.paths]
    except re.error as error:
        raise WrongCall(
            f"--groups {pattern}: no regular expression ({error}), expected one such as patient[0-9]+"
        ) from error
    if not any(found):
        raise WrongCall(
            f"--groups {pattern} matches no path, such as {samples.paths[0]}: expected one that does"
        )
    keys = [match and (match[1] if match.re.groups else match[0]) for match in found]
    groups = [
        f"image {path}" if key is None else key
        for key, path in zip(keys, samples.paths, strict=True)
    ]
    return replace(samples, groups=groups)


def check_request(samples: Samples, options: argparse.Namespace) -> None:
    """Refuse before the pass what would fail after it: one class, too few images for the folds, unknown heads."""
    from heads import make_head
    from pipelines.scoring import find_scoring

    if len(samples.classes) < 2:
        raise DataError(
            f"{options.images} has the one class {samples.classes[0]!r}: expected two classes or more"
        )
    if not 0 <= options.max_bad <= 1:
        raise WrongCall(f"--max-bad {options.max_bad}: expected a fraction from 0 to 1")
    if options.cv < 2:
        raise WrongCall(f"--cv {options.cv}: expected 2 folds or more")
    if options.size is not None and options.size < 1:
        raise WrongCall(f"--size {options.size}: expected a side in pixels, such as 224")
    try:
        find_scoring(options.scoring, len(samples.classes))
        for head in options.heads:
            make_head(head)
    except ValueError as error:
        raise WrongCall(str(error)) from error
    train, _ = split_rows(samples, options.seed)
    make_folds(samples, train, options)


def split(samples: Samples, copies, options) -> tuple[np.ndarray, np.ndarray, list]:
    """(training rows, test rows, folds of the training rows), near copies together on one side.

    A given split stays as it is.
    """
    from pipelines.audit import hint_at_copies, with_groups

    joined = with_groups(samples, copies)
    try:
        train, test = split_rows(joined if samples.split is None else samples, options.seed)
        return train, test, make_folds(joined, train, options)
    except DataError as error:
        raise hint_at_copies(error) if joined is not samples else error from None


def split_rows(samples: Samples, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(training rows, test rows): as given, else a stratified quarter held out."""
    if samples.split is not None:
        train, test = (np.flatnonzero(samples.split == name) for name in ("train", "test"))
        for rows, name in ((train, "training"), (test, "test")):
            if not len(rows):
                raise DataError(
                    f"{samples.name} has a split without {name} images: expected both parts"
                )
        refuse_shared_groups(samples, train, test)
        return train, test
    return hold_out(samples.labels, samples.groups, HELD_OUT, seed)


def refuse_shared_groups(samples: Samples, train: np.ndarray, test: np.ndarray) -> None:
    """A group on both sides of a given split would make its test figures too good."""
    if samples.groups is None:
        return
    shared = sorted(set(samples.groups[train]) & set(samples.groups[test]))
    if shared:
        raise DataError(
            f"{len(shared)} groups, {shared[0]!r} among them, have images in both train and test: "
            "give each group to one side"
        )


def make_folds(samples: Samples, train: np.ndarray, options) -> list:
    """Cross-validation folds of the training rows, as index pairs into them."""
    groups = None if samples.groups is None else samples.groups[train]
    return folds(samples.labels[train], options.cv, groups, options.seed)


@contextlib.contextmanager
def out_folder(out: Path | None, name: str):
    """The results' folder, made and writable; gone again after an error that left nothing in it."""
    out = make_out_folder(out, name)
    try:
        yield out
    finally:
        if not any(out.iterdir()):
            out.rmdir()


def make_out_folder(out: Path | None, name: str) -> Path:
    """The results' folder, made and writable, without the results of an earlier run."""
    if out is None:
        stamp = time.strftime("%Y%m%d-%H%M%S")
        out = (
            Path("runs")
            / f"{stamp}-{''.join(c if c.isalnum() or c in '-_.' else '-' for c in name)}"
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / ".write-test").touch()
        (out / ".write-test").unlink()
        (out / "results.json").unlink(missing_ok=True)  # it says that a run was finished
    except OSError as error:
        raise WrongCall(
            f"can't write to {out} ({error.strerror}): choose another folder with --out"
        ) from error
    return out


def watch_pass(name: str, taps) -> dict:
    """Callbacks that say what a pass is about to do, then show a bar."""
    state = {}

    def on_plan(plan):
        say(
            f"{name}: {plan.compute} images to compute ({plan.kept} kept already), {len(taps)} taps, "
            f"{plan.n_bytes / 1e6:.0f} MB to write, about {plan.seconds:.0f} s"
        )
        state["bar"] = progress(plan.compute, "images")

    def on_progress(done):
        if "bar" in state:
            state["bar"].update(done - state["bar"].n)
            if done == state["bar"].total:
                state["bar"].close()

    return {"on_plan": on_plan, "on_progress": on_progress}


def refuse_too_many_bad(kept, n_images: int, max_bad: float, out: Path) -> None:
    """Fail the run where the share of unusable images is above the limit."""
    share = len(kept.bad) / max(1, n_images)
    if share > max_bad:
        raise WorkFailed(
            f"{len(kept.bad)} of {n_images} images can't be used ({share:.0%}, limit {max_bad:.0%}): "
            f"see {out / 'bad_images.csv'}, mend them or raise --max-bad"
        )
    if kept.bad:
        say(f"{len(kept.bad)} of {n_images} images can't be used: see {out / 'bad_images.csv'}")


def count_workers(jobs: int) -> int:
    """As many threads as there are cores, and no more than jobs."""
    from extract.loader import cores

    return max(1, min(cores(), jobs))


def save_bundle(path: Path, kept, sources: list[int], fitted, options, backbones) -> None:
    """The chosen taps and heads as a bundle."""
    from extract import FeatureExtractor
    from extract.backbones import BASELINES
    from pipelines.bundle import save_classifier
    from pipelines.classifier import ImageClassifier
    from pipelines.joined import JoinedExtractor

    named = {backbone.name: backbone for backbone in backbones}
    extractors = []
    for name, own in itertools.groupby(sources, key=lambda source: kept.sources[source].backbone):
        own = list(own)
        extractors.append(
            FeatureExtractor(
                layer="+".join(kept.sources[source].tap for source in own),
                backbone=name,
                weights=None if name in BASELINES else options.weights,
                size=named[name].size,
                numerics=kept.recipes[own[0]].numerics,
                cache=options.cache,
                seed=options.seed,
                flips="+" in kept.sources[own[0]].view,
            )
        )
    extractor = extractors[0] if len(extractors) == 1 else JoinedExtractor(extractors)
    save_classifier(
        ImageClassifier().assemble(extractor, fitted.head, fitted.calibration, fitted.rows), path
    )


if __name__ == "__main__":
    sys.exit(main())
