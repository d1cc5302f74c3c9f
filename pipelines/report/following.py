"""Where advice leads: the command that follows it, and whether what it promised came true."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from extract.backbones import BASELINES
from pipelines.evaluation.differences import BETTER, OPEN, SAME, WORSE
from pipelines.evaluation.scoring import SCORINGS

RUN, TUNE, REPORT = "run", "tune", "report"
NO_WORSE, NO_BETTER = "no worse", "no better"
CAME_TRUE, DID_NOT = "came true", "did not come true"
# by what was promised, the verdicts on the difference that keep it and those that break it
KEPT = {
    BETTER: ((BETTER,), (SAME, WORSE)),
    NO_WORSE: ((BETTER, SAME), (WORSE,)),
    NO_BETTER: ((SAME, WORSE), (BETTER,)),
}
# what a row of `advised` has
ROW = frozenset({"about", "sentence", "command", "follows", "settings", "promise"})
CLOSE = 0.05  # so near the perfect score there is little left to gain
GROWN = 1.5  # times as many training images that make more of them
# options that say where things go, which a command to follow has of its own
PLACES = ("split", "out")
# options that say how a command speaks: to whoever typed it, not to whoever follows its advice
MANNERS = ("json", "quiet")
NOT_OF_TUNE = ("within", "final", "augmented", "average_views", "unlabelled", "target_labels")
OF_TUNE_ALONE = (
    "unfreeze", "rates", "epochs", "batch", "schedule", "warmup", "weight_decay", "augment",
    "kept_views", "mixup", "smoothing", "dropout", "patience", "precision", "validation",
)  # fmt: skip
SWITCHES = ("json", "quiet", "average_views")  # of those that are left out, what takes no value
AUTO, ALL = "auto", "all"
NO_LIBRARYS = ("own:", "permafrost.")  # how architectures begin that can't be trained further
STRONGER = ("resnet50", "efficientnet_v2_s")  # of torchvision, that are tried beside another


@dataclass(frozen=True)
class Step:
    """What follows a piece of advice.

    command : "run", "tune", or "report", which shows the run's page again.
    settings : what it is asked for that this run was not, by name, as JSON has it.
    promise : what the test accuracy is expected to be beside this run's: "better", "no worse" or
        "no better"; None where nothing is promised.
    """

    command: str = RUN
    settings: dict[str, Any] = field(default_factory=dict)
    promise: str | None = BETTER


Follow = Callable[[dict], Step]


def _asked(results: Mapping, name: str) -> Any:
    return results.get("settings", {}).get(name)


def _best(results: Mapping) -> dict:
    return next(row for row in results["leaderboard"] if row["head"] != "blend")


def typed_name(results: Mapping, name: str) -> str:
    """A network as it was typed: what a tuned one is called, say, is no name to type."""
    asked = _asked(results, "backbone") or [AUTO]
    names = [own["name"] for own in results["backbones"]]
    if asked == [AUTO] or len(asked) != len(names):
        return name
    return dict(zip(names, asked, strict=True)).get(name, name)


def is_near_perfect(results: Mapping, score: float) -> bool:
    """Whether there is little left to gain."""
    return score >= SCORINGS[results["scoring"]].perfect - CLOSE


def can_be_tuned(results: Mapping) -> bool:
    """Whether the best network is a library's: one of one's own and a baseline are not tuned."""
    name = _best(results)["backbone"]
    found = next(own for own in results["backbones"] if own["name"] == name)
    return not found["architecture"].startswith(NO_LIBRARYS)


def every_layer(results: dict) -> Step:
    """All blocks of the network; where all were searched, more poolings of them."""
    if _asked(results, "layers") != "all":
        return Step(settings={"layers": "all"})
    return Step(settings={"pooling": ["avg", "max", "grid2", "grid3"]})


def both_layers(results: dict) -> Step:
    """The best layer and the last one alone, so that none is screened out."""
    own = _best(results)
    layers = [own["layer"], results["layers"][own["backbone"]][-1]]
    settings: dict[str, Any] = {"layers": ",".join(dict.fromkeys(filter(None, layers)))}
    if len(results["backbones"]) > 1 or _asked(results, "backbone") == [AUTO]:
        # the names of its layers are no other network's
        settings["backbone"] = [typed_name(results, own["backbone"])]
    return Step(settings=settings, promise=None)


def stronger_network(results: dict) -> Step:
    """Another network beside the one that was searched; alone where that has weights of its own,
    which the other can't take."""
    own = typed_name(results, _best(results)["backbone"])
    other = next(name for name in STRONGER if name != own)
    alone = _asked(results, "weights") is not None
    return Step(settings={"backbone": [other] if alone else [own, other]})


def one_network(side: str) -> Follow:
    """The better of two networks alone, which takes half of the time."""

    def follow(results: dict) -> Step:
        name = typed_name(results, results["comparisons"]["networks"][side])
        return Step(settings={"backbone": [name]}, promise=NO_WORSE)

    return follow


def simplest(results: dict) -> Step:
    """The simplest of the rows that do equally well."""
    return Step(settings={"choose": "simplest"}, promise=NO_WORSE)


def without_baselines(results: dict) -> Step:
    """What is known need not be measured again."""
    return Step(settings={"baselines": False}, promise=NO_WORSE)


def simple_alone(results: dict) -> Step:
    """What does as well as the network, in its place."""
    name = results["comparisons"]["simple"]["second"]
    return Step(settings={"backbone": [name]}, promise=NO_WORSE)


def more_images(results: dict) -> Step:
    """The same call once they are there; the test images stay."""
    return Step()


def to_tell(results: dict) -> Step:
    """The same call with the images that would tell: what comes out is open."""
    return Step(promise=None)


def fine_tune(results: dict) -> Step:
    """The best network trained further; of one that can't be, another beside it. Where nearly all
    is right, the images that are not."""
    if is_near_perfect(results, _best(results)["cv_score"]):
        return look_at_page(results)
    return Step(TUNE) if can_be_tuned(results) else stronger_network(results)


def look_at_page(results: dict) -> Step:
    """The images themselves, on the run's page."""
    return Step(REPORT, promise=None)


def other_split(results: dict) -> Step:
    """Other images held out; of a given test part the images are looked at."""
    if results["data"]["split"] == "given":
        return look_at_page(results)
    return Step(settings={"seed": results.get("seed", 0) + 1, "split": None}, promise=None)


# by adviser and verdict
FOLLOWING: dict[str, dict[str, Follow]] = {
    "learnt": {WORSE: stronger_network, SAME: stronger_network, OPEN: to_tell},
    "depth": {BETTER: every_layer, WORSE: stronger_network, SAME: simplest, OPEN: to_tell},
    "networks": {
        BETTER: one_network("first"),
        WORSE: one_network("second"),
        SAME: one_network("first"),
        OPEN: to_tell,
    },
    "pretraining": {
        BETTER: without_baselines,
        WORSE: fine_tune,
        SAME: fine_tune,
        OPEN: to_tell,
    },
    "more_images": {BETTER: more_images, WORSE: fine_tune, SAME: fine_tune, OPEN: to_tell},
    "simple": {WORSE: simple_alone, SAME: simple_alone, OPEN: to_tell},
    "test": {WORSE: other_split},
}


def command_of(results: Mapping, step: Step, out: str | Path | None) -> list[str] | None:
    """The call that follows, complete: this run's own with what the step changes.

    out : this run's folder, whose split is taken where it was drawn, so that both are tested on the
        same images. None of a run that was no command.
    """
    given = list(results.get("command", ()))
    if len(given) < 3 or out is None:
        return None
    if step.command == REPORT:
        return [*given[:2], f"pipelines.{REPORT}", str(out)]
    settings = {"split": None, **step.settings}
    if results["data"]["split"] == "held_out" and "split" not in step.settings:
        settings["split"] = str(out)
    if step.command == TUNE:
        settings["backbone"] = typed_name(results, _best(results)["backbone"])
    dropped = {*PLACES, *MANNERS, *settings, *_not_of(results, step)}
    rest = _without(given[3:], dropped)
    if results["data"]["name"] == "digits" and "digits" not in rest:
        rest = ["digits", *rest]
    options = [
        part
        for name, value in settings.items()
        if value is not None
        for part in (_option(name), _typed(value))
    ]
    return [*given[:2], f"pipelines.{step.command}", *rest, *options]


def _not_of(results: Mapping, step: Step) -> set[str]:
    """Options of this run that the call that follows can't take."""
    if step.command == TUNE:
        return set(NOT_OF_TUNE)
    given = {own["name"] for own in results["backbones"]}
    given |= {typed_name(results, name) for name in given}
    new = set(step.settings.get("backbone", ())) - given
    foreign = {"weights"} if new else set()
    if new and _asked(results, "layers") not in (AUTO, ALL):
        foreign.add("layers")
    if new & BASELINES.keys():
        foreign |= {"pooling", "size"}  # they have their own
    return {*OF_TUNE_ALONE, *foreign}


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _typed(value: Any) -> str:
    """A setting as it is typed."""
    if isinstance(value, list):
        return ",".join(map(str, value))
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)


def _without(arguments: Sequence[str], names: set[str]) -> list[str]:
    """Arguments without these options, written in full; a value stands behind one or behind `=`."""
    takes_value = {_option(name): name not in SWITCHES for name in names}
    left: list[str] = []
    skip = False
    for argument in arguments:
        name, equals, _ = argument.partition("=")
        if skip:
            skip = False
        elif name in takes_value:
            skip = takes_value[name] and not equals
        else:
            left.append(argument)
    return left


def advised(
    results: Mapping, about: str, sentence: str, step: Step, out: str | Path | None
) -> dict:
    """A row of `advised` in results.json."""
    return {
        "about": about,
        "sentence": sentence,
        "command": command_of(results, step, out),
        "follows": step.command,
        "settings": step.settings,
        "promise": step.promise,
    }


def advice_to_follow(results: Mapping) -> list[dict]:
    """The rows of `advised` that are still to be followed: of a tuned network, all but tuning."""
    return [row for row in results["advised"] if row["follows"] != TUNE or "tuning" not in results]


def with_command(row: Mapping) -> str:
    """A sentence with the command that follows it, where there is one."""
    return f"{row['sentence']}: {shlex.join(row['command'])}" if row["command"] else row["sentence"]


def follow_up(then: Sequence[Mapping], n_train_then: int, results: Mapping) -> list[dict]:
    """Of what an earlier run advised, what this run followed, and whether it came true.

    The judgement is the paired interval of the test accuracy on the images that both were tested
    on, at 95 %; of a tuned network that of the ways of this run, which hold together at 95 %. What
    was followed together is judged together.

    Parameters
    ----------
    then : rows of the earlier run's `advised`
    n_train_then : int
        Its training images.
    results : mapping
        Of this run: `settings`, `data`, `compared`, and `ways` where a network was tuned.

    Returns
    -------
    list of dict
        Rows with `about`, `command`, `followed`, `promise`, `difference`, `low` and `high` at
        `level`, and `outcome`: "came true", "did not come true", "can't tell", or None of what was
        not followed or promised nothing.
    """
    return [_judged(row, n_train_then, results) for row in then]


def _judged(row: Mapping, n_train_then: int, results: Mapping) -> dict:
    followed = _is_followed(row, n_train_then, results)
    found = _difference(row, results) if followed and row["promise"] else None
    figures = {name: found and found[name] for name in ("difference", "low", "high", "level")}
    outcome = None
    if found is not None:
        kept, broken = KEPT[row["promise"]]
        outcome = {**dict.fromkeys(kept, CAME_TRUE), **dict.fromkeys(broken, DID_NOT)}.get(
            found["verdict"], OPEN
        )
    return {
        **{name: row[name] for name in ("about", "command", "promise")},
        "followed": followed,
        **figures,
        "outcome": outcome,
    }


def _is_followed(row: Mapping, n_train_then: int, results: Mapping) -> bool:
    if row["follows"] == TUNE:
        return "tuning" in results
    if row["follows"] != RUN:
        return False
    if not row["settings"]:
        return results["data"]["n_train"] >= GROWN * n_train_then
    settings = {name: own for name, own in row["settings"].items() if name not in PLACES}
    return all(_asked(results, name) == value for name, value in settings.items())


def _difference(row: Mapping, results: Mapping) -> Mapping | None:
    """What was gained, with its interval and the verdict on it."""
    if row["follows"] != TUNE:
        return results["compared"]
    ways = results["ways"]
    kept = next(own["name"] for own in ways["rows"] if own["kept"])
    wanted = {"tuned", kept} if kept in ("tuned", "joined") else {"tuned"}
    found = [
        own for own in ways["differences"] if own["first"] in wanted and own["second"] == "frozen"
    ]
    return found[-1] if found else None


def followed_in_words(compared: Mapping) -> list[str]:
    """What became of the earlier run's advice, a line each; first what was followed."""
    rows = sorted(compared.get("advice", ()), key=lambda row: not row["followed"])
    return [_in_words(row) for row in rows if row["command"]]


def _in_words(row: Mapping) -> str:
    command = shlex.join(row["command"])
    if not row["followed"]:
        return f"advised then and not followed: {command}"
    said = f"advised then and followed: {command}"
    if row["outcome"] is None:
        return said
    ends = f"{row['low']:+.4f} to {row['high']:+.4f}"
    outcome = "can't tell yet whether it came true" if row["outcome"] == OPEN else row["outcome"]
    interval = f"{100 * row['level']:.4g} % {ends}"
    return f"{said}: {row['difference']:+z.4f} ({interval}): {outcome}, promised {row['promise']}"
