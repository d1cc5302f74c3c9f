"""How far images without labels lie from the labelled ones, in words, and what was done of it."""

from collections.abc import Mapping

from data.names import counted, listed_briefly
from pipelines.evaluation.corrections import LABELS

# by name of a correction, as it is told of
CORRECTIONS = {
    "uncorrected": "logistic regression on the features as they are",
    "standardised": "logistic regression on features standardised in each place by itself",
    "coral": "logistic regression on features of the covariance that these images have (CORAL)",
    "subspace": "logistic regression on features turned into the subspace of these images",
}
# told apart as often as this two sets are rarely of one place: an interval that reaches so far, and
# to chance, says neither
FAR = 0.7
UNVOUCHED = (
    "taken by what the corrections agree on, for which no figure vouches; where classes are not as "
    "common here as among the training images it does harm: label some of these images and give "
    "them with --target-labels"
)


def shift_in_words(shift: Mapping) -> list[str]:
    """Whether there is one, which classes moved, and by which figures a correction is taken."""
    if shift["differs"] is None:
        return ["shift: not looked for, of too few images"]
    told = f"told from the training images with probability {in_interval(shift['whole'])}"
    if not shift["differs"]:
        said, how = "none found", "no better than chance"
        if shift["whole"]["high"] >= FAR:
            said, how = "can't tell", "which of so few images may be chance"
        return [f"shift: {said}, {told}, {how}: features are taken as they are"]
    found = shift["corrections"]
    if found is None:
        return [
            f"shift: {told}, but no class is by itself: the classes are not as common as among "
            "these, or moved too little to tell; features are taken as they are"
        ]
    return [
        f"shift: {told}; moved: {moved_in_words(shift)}",
        *(f"  {line}" for line in _corrections_in_words(found)),
    ]


def moved_in_words(shift: Mapping) -> str:
    """The classes that moved, the farthest first, with the probability that they are told apart."""
    moved = [own for own in shift["classes"] if own["moved"]]
    return listed_briefly([f"{own['name']} {in_interval(own['apart'])}" for own in moved])


def in_interval(own: Mapping) -> str:
    """`0.912 (0.884 to 0.934)`."""
    return f"{own['value']:.3f} ({own['low']:.3f} to {own['high']:.3f})"


def _corrections_in_words(found: Mapping) -> list[str]:
    if found["chosen_by"] != LABELS:
        return [f"{found['taken']} is {UNVOUCHED}"]
    return [
        *(
            f"{own['name']}, by {counted(found['n_labels'], 'label')} of these images: accuracy "
            f"{own['on_labels']['accuracy']:.4f}"
            for own in found["rows"]
        ),
        _choice_in_words(found),
    ]


def _choice_in_words(found: Mapping) -> str:
    first, gain = found["rows"][0]["name"], signed(found["nested"])
    if found["taken"] == first:  # the figure is of choosing, which was not done
        return (
            "to choose a correction, scored by labels that had no part in it, would be "
            f"{gain} beside {first}; the answers stay as they are"
        )
    return (
        f"{found['taken']} is taken; to choose so, scored by labels that had no part in it, is "
        f"{gain} beside {first}"
    )


def signed(gain: Mapping) -> str:
    """`+0.0210 (+0.0050 to +0.0370)`."""
    return f"{gain['difference']:+z.4f} ({gain['low']:+z.4f} to {gain['high']:+z.4f})"
