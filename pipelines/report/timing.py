"""Where the time of a whole run went, in words."""

from collections.abc import Mapping
from dataclasses import dataclass

SHOWN = 3
LEAST_SHARE = 0.1  # of a stage that is named
# of the longest stage from which on something is said that would shorten it, and of how long a run
LONG_SHARE = 0.3
LONG_RUN = 10.0


@dataclass(frozen=True)
class Stage:
    """A stage of `seconds`: what it is, as printed, and what would make it shorter, if anything."""

    words: str
    remedy: str = ""


# in their order; the names are those of `seconds`
STAGES = {
    "read": Stage("reading the names"),
    "extract": Stage("the pass over the images"),
    "copies": Stage("near copies"),
    "networks": Stage("the choice of networks", "a smaller --within or --backbone NAME is shorter"),
    "views": Stage("further views", "--views plain without --augmented leaves them out"),
    "unlabelled": Stage("the pass over the images without labels"),
    "heads": Stage(
        "the search over heads", "fewer --layers, --pooling or --heads would make it shorter"
    ),
    "baselines": Stage("the baselines", "--baselines off leaves them out"),
    "test": Stage("the test"),
    "audit": Stage("the audit"),
    "refit": Stage("the refit"),
    "graph": Stage("the graph with the images without labels"),
    "map": Stage("the map", "--report off leaves it out"),
    "explain": Stage("explaining the mistakes", "--report off leaves it out"),
    "seen": Stage("what the chosen layer sees", "--report off leaves it out"),
    "curve": Stage("the learning curve", "fewer --heads or --pooling may make it shorter"),
    "comparisons": Stage("the comparisons"),
    "save": Stage("saving"),
    "report": Stage("the page", "--report off leaves it out"),
}


# what a tuned network takes beside them; the names are those of the job's laps
TUNING_STAGES = {
    "last layer": Stage("the last layer, frozen"),
    "training": Stage("the training", "fewer --epochs or a smaller --unfreeze is shorter"),
    "features": Stage("the tuned network's features"),
    "comparison": Stage("the comparison of the ways"),
}
# what is looked for in images without labels, in order
EXPLORING_STAGES = {
    **{name: STAGES[name] for name in ("read", "extract", "copies")},
    "clusters": Stage("the clusters", "--clusters K measures no stability"),
    "selection": Stage("what to label first"),
    **{name: STAGES[name] for name in ("map", "report")},
}
EVERY_STAGE = STAGES | TUNING_STAGES | EXPLORING_STAGES


def time_in_words(results: Mapping) -> list[str]:
    """`85.0 s in all: the search over heads 39.0 s, …`, and what would make the longest shorter."""
    seconds = {name: own for name, own in results["seconds"].items() if name in EVERY_STAGE}
    in_all = results["seconds"]["total"] + results["seconds"].get("report", 0)
    longest = sorted(seconds, key=lambda name: -seconds[name])
    named = [name for name in longest[:SHOWN] if seconds[name] >= LEAST_SHARE * in_all]
    parts = ", ".join(f"{EVERY_STAGE[name].words} {seconds[name]:.1f} s" for name in named)
    lines = [f"{in_all:.1f} s in all" + (f": {parts}" if parts else "")]
    if named and in_all >= LONG_RUN and seconds[named[0]] >= LONG_SHARE * in_all:
        of_pass = results["extraction"]["in_words"]
        remedy = of_pass if named[0] == "extract" else EVERY_STAGE[named[0]].remedy
        if remedy:
            lines.append(f"{EVERY_STAGE[named[0]].words} took longest: {remedy}")
    return lines
