"""Advice in words, each sentence with the figures of this run that it rests on.

An adviser is a row of a table: the comparison it reads, and a sentence for each verdict on it; what
follows is a row of `following.FOLLOWING`.
Where the images are too few for a verdict, the sentence says so, and about how many would tell.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipelines.evaluation.corrections import AGREEMENT
from pipelines.evaluation.differences import BETTER, OPEN, SAME, WORSE, round_up
from pipelines.evaluation.networks import TOO_LONG
from pipelines.evaluation.scoring import SCORINGS
from pipelines.report.following import (
    FOLLOWING,
    NO_BETTER,
    TUNE,
    Step,
    advised,
    both_layers,
    can_be_tuned,
    is_near_perfect,
    look_at_page,
)

IMBALANCED = 3  # largest class over smallest
FEW = 300  # training images, below which tuning gained nothing where it was tried

# a sentence with fields of `_in_words`, the results -> one, or None: nothing is said
Words = str | Callable[[dict], str | None] | None


@dataclass(frozen=True)
class Adviser:
    """What is said of one comparison of `results["comparisons"]`.

    better, worse, same : the sentence's end for each verdict, None for silence; a function takes
        the results.
    question : what can't be told yet, None for silence.
    one_sided : whether "no better" is all that is asked: then "worse" and "same" are one, and a
        gain that surely lies below the margin is no gain.
    applies : whether the comparison means anything in these results.
    instead : what is said where it has not been made.
    """

    better: Words
    worse: Words
    same: Words
    question: str | None
    one_sided: bool = False
    applies: Callable[[dict], bool] = lambda results: True
    instead: Callable[[dict], str | None] = lambda results: None


def give_advice(results: dict, out: str | Path | None = None) -> list[dict]:
    """What a run's results say about the next one: where a gain is likely, what to mistrust, and
    the command that follows: rows of `advised` in results.json.

    out : the run's folder, which commands that follow take the split of.
    """
    said = [(name, _advise(results, name, adviser)) for name, adviser in ADVISERS.items()]
    said += [(name, advise(results)) for name, advise in OTHERS.items()]
    return [advised(results, name, *own, out) for name, own in said if own is not None]


def _advise(results: dict, name: str, adviser: Adviser) -> tuple[str, Step] | None:
    found = results["comparisons"].get(name)
    if found is None:
        instead = adviser.instead(results)
        return (instead, both_layers(results)) if instead else None
    if not adviser.applies(results):
        return None
    verdict = found["verdict"]
    small = verdict == WORSE or found["high"] < found["margin"]
    if adviser.one_sided and small and not found["too_few"]:
        verdict = SAME
    words = _words(results, found, adviser, verdict)
    return (words, FOLLOWING[name][verdict](results)) if words else None


def _words(results: dict, found: dict, adviser: Adviser, verdict: str) -> str | None:
    if verdict == OPEN:
        return _open(results, found, adviser.question) if adviser.question else None
    words = {BETTER: adviser.better, WORSE: adviser.worse, SAME: adviser.same}[verdict]
    if callable(words):
        words = words(results)
    return words and words.format(**_in_words(results, found))


def _open(results: dict, found: dict, question: str) -> str:
    enough = found["images_to_tell"]
    tell = "it would take far more images" if enough is None else _enough(results["data"], enough)
    return f"can't tell yet {question.format(**_in_words(results, found))}: {tell}"


def _enough(data: dict, n_train: int) -> str:
    """So many training images as what the reader has to give: labelled ones, part of them held
    out, unless the test part is there already."""
    there, kind = data["n_train"], "training"
    if data["split"] == "held_out":
        there, kind = there + data["n_test"], "labelled"
    wanted = max(round_up(n_train * there / data["n_train"]), there + 1)
    return f"about {wanted} {kind} images in all would tell ({there} are there)"


def _in_words(results: dict, found: dict) -> dict[str, str]:
    low, high = _signed(found["low"]), _signed(found["high"])
    return {
        "interval": f"{_signed(found['difference'])} ({low} to {high})",
        "first": found["first"],
        "second": found["second"],
        "first_score": f"{found['first_score']:.3f}",
        "second_score": f"{found['second_score']:.3f}",
        "margin": f"{found['margin']:g}",
        "words": SCORINGS[results["scoring"]].words,
        # the learning curve is of accuracy, whatever the scoring
        "unit": "" if results["scoring"] == "accuracy" else " of accuracy",
    }


def _signed(value: float) -> str:
    return f"{round(value, 3) + 0.0:+.3f}"


def find_imbalance(labels: np.ndarray) -> dict:
    """Sizes of the largest and the smallest class of the training labels."""
    names, counts = np.unique(labels, return_counts=True)
    largest = int(counts.argmax())
    smallest = int(counts.argmin())
    return {
        "largest": str(names[largest]),
        "n_largest": int(counts[largest]),
        "smallest": str(names[smallest]),
        "n_smallest": int(counts[smallest]),
        "imbalanced": bool(counts[largest] >= IMBALANCED * counts[smallest]),
    }


def _on_tuning(results: dict) -> tuple[str, Step] | None:
    """Whether the network trained further is likely to do better, as a rule of thumb.

    How much data there is, and how like the network's, is what the choice between frozen features
    and fine-tuning hangs on (the four cases of Stanford's CS231n, "Transfer Learning"; Kornblith et
    al., 2019). How many are enough was seen on three sets alone (docs/tuning.md); the command
    measures it on this one.
    """
    found = results["comparisons"]
    near_perfect = is_near_perfect(results, _best_alone(results)["cv_score"])
    if not _is_pretrained(results) or not _learnt(results) or near_perfect or "tuning" in results:
        return None
    if not can_be_tuned(results):
        return None
    n_train = results["data"]["n_train"]
    depth = found.get("depth")
    kind = {BETTER: "unlike", WORSE: "like"}.get(depth["verdict"] if depth else OPEN)
    images = f"{n_train} training images" + (
        f" that are {kind} the backbone's" if kind and not _is_own(results) else ""
    )
    if n_train < FEW:
        words = f"fine-tuning will most likely do no better than this: {images} are few for it"
        return words, Step(TUNE, promise=NO_BETTER)
    return (
        f"fine-tuning may well do better than this, alone or joined with it: {images}",
        Step(TUNE),
    )


def _on_time(results: dict) -> tuple[str, Step] | None:
    """Of the networks that a look spoke for and that there was no time for, the one that spoke
    loudest."""
    found = results.get("networks") or {"tried": []}
    late = [own for own in found["tried"] if own["why"] == TOO_LONG and own["gain"] is not None]
    if not late:
        return None
    best = max(late, key=lambda own: own["gain"])
    taken = [own for own in found["tried"] if own["taken"] and own["name"] != found["found_copies"]]
    needed = round_up(best["seconds"] + sum(own["seconds"] or 0 for own in taken)) + 1
    return (
        f"{best['name']} was left out for its time: its pass would take about "
        f"{best['seconds']:.0f} s, and in a look at {best['images']} training images it lowered "
        f"the log loss by {100 * best['gain']:.0f} %: --within {needed} takes it",
        Step(settings={"within": needed}),
    )


def _on_unlabelled(results: dict) -> tuple[str, Step] | None:
    """Where images without labels are used, how they did out of fold, and which labels come next;
    whether labels would bring more is what the learning curve says."""
    found = results.get("unlabelled") or {"rows": []}
    taken = next((row for row in found["rows"] if row["taken"] and row["out_of_fold"]), None)
    if taken is None:
        return None
    gain, alone = taken["out_of_fold"], found["rows"][0]
    is_sure = gain["low"] > 0
    words = (
        f"with {found['labels_a_class']:.0f} labels a class the images without labels "
        f"{'help' if is_sure else 'are used, by their answers'} where labels are hidden: log loss "
        f"{taken['validation_log_loss']:.3f}, by labels alone {alone['validation_log_loss']:.3f}, "
        f"accuracy {_signed(gain['difference'])} ({_signed(gain['low'])} to "
        f"{_signed(gain['high'])}){'' if is_sure else ', no gain beyond chance'}; of further "
        "labels first those that unlabelled.csv ranks"
    )
    # labels that are mended already stand in a file of their own, which the call keeps
    is_free = found["file"] and results["settings"]["labels"] is None
    return words, Step(settings={"labels": found["file"]} if is_free else {}, promise=None)


def _on_shift(results: dict) -> tuple[str, Step] | None:
    """Where features were brought to another place, and nothing but agreement says how."""
    found = results.get("unlabelled") or {"shift": {"corrections": None}}
    shift = found["shift"]["corrections"]
    if shift is None or shift["chosen_by"] != AGREEMENT:
        return None
    words = (
        f"the images without labels are of another place, and no figure vouches for their answers "
        f"by {shift['taken']}: label some of them, first those that unlabelled.csv ranks, and let "
        "these labels choose"
    )
    given = {"target_labels": found["file"]} if found["file"] else {}
    return words, Step(settings=given, promise=None)


def _on_imbalance(results: dict) -> tuple[str, Step] | None:
    found = results["data"]["imbalance"]
    if not found["imbalanced"]:
        return None
    unused = _against_imbalance(results)
    words = (
        f"the classes are of unequal size ({found['largest']} {found['n_largest']}, "
        f"{found['smallest']} {found['n_smallest']}): read balanced accuracy, "
        f"{results['chosen']['test_balanced_accuracy']:.3f}, "
        f"and the recall of each class above"
    )
    if not unused:
        return words, look_at_page(results)
    options = " and ".join(f"--{name.replace('_', '-')} {own}" for name, own in unused.items())
    # of the accuracy nothing is promised: it is what is given up
    step = Step(settings=unused, promise=None)
    return f"{words}; {options} would weigh the classes alike", step


def _against_imbalance(results: dict) -> dict[str, str]:
    """The settings against it that this run has not."""
    unused = {}
    if results["scoring"] == "accuracy":
        unused["scoring"] = "balanced_accuracy"
    if not results["class_weight"]:
        unused["class_weight"] = "balanced"
    return unused


def _backbone(results: dict) -> dict:
    """That of the best single row."""
    name = _best_alone(results)["backbone"]
    return next(own for own in results["backbones"] if own["name"] == name)


def _is_pretrained(results: dict) -> bool:
    return _backbone(results)["weights"] != "random"


def _is_own(results: dict) -> bool:
    return _backbone(results)["architecture"].startswith("own:")


def _origin(results: dict, how: str) -> str:
    """Nothing of a module of one's own: what it was trained on, if at all, is not known."""
    if _is_own(results):
        return ""
    return f"; these images are {how} those the backbone was trained on"


def _stronger(results: dict) -> str:
    """Where scores still rise at the last layer, a network that goes further is the next to try."""
    found = results["comparisons"]["depth"]
    if len(results["backbones"]) > 1 or is_near_perfect(results, found["second_score"]):
        return ""
    return (
        "; they still rise at the end, so a stronger backbone may well gain more than anything "
        "else, and a run compares two"
    )


def _best_alone(results: dict) -> dict:
    return next(row for row in results["leaderboard"] if row["head"] != "blend")


def _without_depth(results: dict) -> str | None:
    best = _best_alone(results)["backbone"]
    layers = results["layers"].get(best, [])
    searched = {row["layer"] for row in results["leaderboard"] if row["backbone"] == best}
    if len(layers) < 2 or layers[-1] in searched or not _is_pretrained(results):
        return None
    if not any(row.get("layer") == layers[-1] for row in results["screened_out"]):
        return None
    return f"the last layer ({layers[-1]}) was screened out: it is not compared with earlier ones"


def _learnt(results: dict) -> bool:
    found = results["comparisons"].get("learnt")
    return found is None or found["verdict"] == BETTER


def _simple_learnt(results: dict) -> bool:
    """A baseline that knows no more than the largest class is close to nothing worth a word."""
    found = results["comparisons"].get("simple_learnt")
    own = results["comparisons"]["simple"]["second"]
    is_itself = own in {row["name"] for row in results["backbones"]}
    return found is not None and found["verdict"] == BETTER and not is_itself


def _if_not_pretrained(results: dict) -> str | None:
    worth = "pretraining is worth no more than {margin} here: {interval}, {figures}"
    worth = worth.replace("{figures}", PRETRAINING)
    found = results["comparisons"]["pretraining"]
    if is_near_perfect(results, found["first_score"]) or not _learnt(results):
        return worth
    further = ", or fine-tuning" if can_be_tuned(results) else ""
    return f"{worth}; try a backbone trained on images nearer to these{further}"


def _if_simple(results: dict) -> str:
    found = results["comparisons"]["simple"]
    words = "{second} alone does as well as the network, {second_score} against {first_score}: "
    if not is_near_perfect(results, found["second_score"]):
        return words + "background or light may give the class away"
    return words + "an easy set, or one that gives the class away by its background or light"


NO_BETTER_THAN_LARGEST = "no head does better than the largest class alone, {interval}"
HARDLY = "the last doubling of images brought {interval}{unit}: more of this kind will hardly help"
PRETRAINING = "{first_score} against {second_score} for the same network untrained"
NETWORKS = "{first_score} against {second_score}"
DEPTH = "{first} {first_score}, the last {second_score}"

ADVISERS = {
    "learnt": Adviser(
        better=None,
        worse=NO_BETTER_THAN_LARGEST,
        same=NO_BETTER_THAN_LARGEST,
        question="whether any head does better than the largest class alone, {interval}",
        one_sided=True,
    ),
    "depth": Adviser(
        better=lambda results: (
            f"an earlier layer beats the last one: {{interval}}, {DEPTH}"
            + _origin(results, "unlike")
        ),
        worse=lambda results: (
            f"the last layer beats the earlier ones: {{interval}}, {DEPTH}"
            + _origin(results, "like")
            + _stronger(results)
        ),
        same=f"early and late layers do equally well, within {{margin}}: {{interval}}, {DEPTH}",
        question=f"whether an earlier layer or the last does better, {{interval}}, {DEPTH}",
        applies=_is_pretrained,
        instead=_without_depth,
    ),
    "networks": Adviser(
        better="{first} beats {second} by {interval}, " + NETWORKS,
        worse="{second} beats {first}: {interval}, " + NETWORKS,
        same="{first} and {second} do equally well, within {margin}: {interval}, " + NETWORKS,
        question="whether {first} or {second} does better, {interval}, " + NETWORKS,
    ),
    "pretraining": Adviser(
        better=f"pretraining is worth {{interval}}, {PRETRAINING}",
        worse=_if_not_pretrained,
        same=_if_not_pretrained,
        question=f"what pretraining is worth, {{interval}}, {PRETRAINING}",
        one_sided=True,
    ),
    "more_images": Adviser(
        better="the last doubling of images brought {interval}{unit}: more are a likely gain",
        worse=HARDLY,
        same=HARDLY,
        question="whether more images would help; the last doubling brought {interval}{unit}",
        one_sided=True,
    ),
    "simple": Adviser(
        better=None,
        worse=_if_simple,
        same=_if_simple,
        question="whether the network beats {second} alone, {interval}",
        one_sided=True,
        applies=_simple_learnt,
    ),
    "test": Adviser(
        better=None,
        worse="the test {words} is below what cross-validation promised, {interval}, "
        "{first_score} against {second_score}: the test images differ from the training images",
        same=None,
        question=None,
    ),
}

OTHERS = {
    "tuning": _on_tuning,
    "time": _on_time,
    "unlabelled": _on_unlabelled,
    "shift": _on_shift,
    "imbalance": _on_imbalance,
}
