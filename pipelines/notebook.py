"""What a notebook shows of a run's result and of a classifier of images."""

from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from data.names import counted, listed_briefly
from data.notebook import drawn_interval, facts, paragraph, table, text, view
from extract.extractor import extractors_of
from extract.notebook import UNUSABLE, describe_network, describe_taps, known_card
from heads.blended import BlendedHead
from heads.catalog import find_name
from pipelines.evaluation.scoring import SCORINGS, SHARES
from pipelines.report.text import n_taps, params_in_words, place_of_chosen, stopped_in_words

if TYPE_CHECKING:
    from pipelines.classifier import ImageClassifier, MeasuredAccuracy

MOST_ROWS = 8
MOST_NAMES = 12
MOST_PARAMS = 28  # letters


def run_view(results: dict) -> str:
    """The answer of a run, what to mistrust about it, and the top of its leaderboard.

    results : what results.json holds.
    """
    chosen, data = results["chosen"], results["data"]
    tested = counted(data["n_test"], "test image")
    said = (
        f"95 % interval {_percent(chosen['test_low'])} to {_percent(chosen['test_high'])}, of "
        f"{tested} that took part in no choice. "
        f"Chosen: {chosen['head']} on {_features_of(chosen, len(results['backbones']) > 1)}."
    )
    n_images, n_classes = data["n_train"] + data["n_test"], len(data["classes"])
    return view(
        "RunResult",
        f"{data['name']} · {counted(n_images, 'image')} · {counted(n_classes, 'class')}",
        paragraph(f"{_percent(chosen['test_accuracy'])} test accuracy", "large"),
        paragraph(said),
        *(paragraph(warning, "warning") for warning in _warnings(results)),
        _leaderboard(results),
        paragraph(
            "All rows: .leaderboard.to_pandas() · answers: .test.to_pandas() · "
            'the page: .report("report.html")',
            "quiet",
        ),
    )


def _warnings(results: dict) -> list[Markup | str]:
    # here: the page's figures are looked up only where there is a whole result
    from pipelines.report.caveats import find_warnings
    from pipelines.report.page import Figures

    # their links lead to places of the page
    return [
        Markup.escape(Markup(own).striptags()) for own in find_warnings(results, Figures(results))
    ]


def _leaderboard(results: dict) -> Markup:
    """The first rows and the chosen one, each with its interval."""
    several = len(results["backbones"]) > 1
    rows, place = results["leaderboard"], place_of_chosen(results)
    places = list(range(min(MOST_ROWS, len(rows))))
    places += [place] if place not in places else []
    start = min(rows[i]["cv_score_low"] for i in places)
    end = max(rows[i]["cv_score_high"] for i in places)
    scoring = SCORINGS[results["scoring"]]
    written = _percent if scoring.name in SHARES else _number
    lines = []
    for i in places:
        row = rows[i]
        low, value, high = row["cv_score_low"], row["cv_score"], row["cv_score_high"]
        drawn = drawn_interval(low, value, high, start, end)
        ends = text(f"{written(low)} to {written(high)}")
        note = "tied" if row["tied"] else "stopped" if row.get("stopped") else ""
        note = "chosen" if i == place else note
        lines.append(
            (
                f"{i + 1}",
                _features_of(row, several),
                row["head"],
                written(value),
                Markup("{}&nbsp; {}").format(drawn, ends),
                note,
                _params(row),
            )
        )
    header = ["", "features", "head", f"cv {scoring.words}", "95 % interval", "", "parameters"]
    found = table(header, lines, figures=[3], marked=places.index(place))
    left = len(rows) - len(places)
    said = [*([f"… and {counted(left, 'row')} more"] if left else []), *stopped_in_words(rows)]
    return found + paragraph("; ".join(said), "quiet")


def _features_of(row: dict, several: bool) -> str:
    """The tap of a row; of a blend how many there are."""
    if row["tap"] is None:
        return counted(n_taps(row), "tap")
    seen = "" if row["view"] == "plain" else f", {row['view']}"
    return f"{row['backbone']} {row['tap']}{seen}" if several else f"{row['tap']}{seen}"


def _params(row: dict) -> str:
    words = params_in_words(row)
    return words if len(words) <= MOST_PARAMS else f"{words[: MOST_PARAMS - 1]}…"


def classifier_view(classifier: "ImageClassifier") -> str:
    """The classes of a classifier, what it takes of the images, and what it is worth."""
    if not hasattr(classifier, "classes_"):
        said = "Not fitted: fit(images, labels) computes the features and fits the head on them."
        return view("Classifier of images", "not fitted", paragraph(said, "quiet"))
    classes = [str(name) for name in classifier.classes_]
    return view(
        "Classifier of images",
        f"fitted · {counted(len(classes), 'class')}",
        _worth(classifier.accuracy_, classifier.fitted_on_),
        facts([("classes", text(listed_briefly(classes, MOST_NAMES), 400)), *_parts(classifier)]),
        _taps_table(classifier),
    )


def _worth(accuracy: "MeasuredAccuracy | None", fitted_on: str | None) -> Markup:
    if accuracy is None:
        where = "results.json of its run has it" if fitted_on else "score(images, labels) tells"
        return paragraph(f"The accuracy to expect is not known here: {where}.", "quiet")
    low, high = accuracy.interval
    images = counted(accuracy.images, "image")
    said = {
        "test": f"of {images} that took part in no choice",
        "folds": f"of its {images}, each answered out of fold; settings were chosen by the same "
        "folds, so it is rather too high",
    }[accuracy.on]
    if accuracy.on == "test" and fitted_on == "all":
        said += "; since then it was fitted on these as well"
    return paragraph(f"{_percent(accuracy.value)} expected accuracy", "large") + paragraph(
        f"95 % interval {_percent(low)} to {_percent(high)}, {said}."
    )


def _parts(classifier: "ImageClassifier") -> list[tuple[str, Any]]:
    head = classifier.head_
    if isinstance(head, BlendedHead):
        names = [own.head or type(own.estimator).__name__ for own in head.members]
        named = f"blend of {listed_briefly(names)}"
    else:
        named = find_name(head) or type(head).__name__
    known = None if classifier.reference_ is None else "told for each image"
    return [("head", named), ("familiarity", known or "not known")]


def _taps_table(classifier: "ImageClassifier") -> Markup:
    """The features that are computed of each image."""
    rows = []
    for extractor in extractors_of(classifier.extractor_):
        card = known_card(extractor)
        try:
            (_, backbone), *_ = describe_network(extractor, card)
            taps = describe_taps(extractor, card)
        except UNUSABLE as error:
            return paragraph(error, "warning")
        rows += [(layer, pooling, n, backbone, extractor.view) for layer, pooling, n, _ in taps]
    return table(["layer", "pooling", "features", "backbone", "view"], rows, figures=[2])


def _percent(share: float) -> str:
    return f"{100 * share:.1f}\u202f%"


def _number(value: float) -> str:
    return f"{value:z.4f}".replace("-", "\u2212")
