"""The stages of a run that search: heads on taps, baselines, the test of the choice, the audit."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial

import numpy as np

from extract.cores import cores
from extract.sharding.cluster import joblib_workers
from heads import HEADS
from heads.blended import answers
from heads.catalog import is_shipped
from pipelines.evaluation.baselines import measure_baselines
from pipelines.evaluation.choice import choose_row, describe_choice, fit_chosen, trace_curve
from pipelines.evaluation.labels import rank_labels
from pipelines.evaluation.leaderboard import Entry, Leaderboard, make_leaderboard
from pipelines.evaluation.scoring import find_scoring
from pipelines.evaluation.search import Search
from pipelines.evaluation.sources import screen_sources
from pipelines.exploration.copies import Copies
from pipelines.exploration.table import EXPLORATIONS
from pipelines.features import FeatureTable, Source, baseline_features
from pipelines.outcome import Found, Job, SearchAdvanced, Tested
from pipelines.report.audit import (
    describe_copies,
    describe_explored,
    describe_flat,
    describe_suspects,
)
from pipelines.samples import Split
from pipelines.stages.classifier import head_over_views
from pipelines.stages.remembered import (
    RememberedSearches,
    recall_board,
    recall_entries,
    sources_of,
    task_of,
)

# rows whose probabilities are averaged to judge labels: what one head alone misjudges ranks lower
BELIEVED = 5


def search_taps(job: Job, table: FeatureTable, split: Split) -> Found:
    """Cross-validate all heads on all taps, choose, and fit the choice on all training images."""
    settings, n_sources = job.settings, len(table.sources)
    labels = table.samples.labels[split.train]
    scoring = find_scoring(settings.scoring, len(table.samples.classes))
    search = Search(
        settings.head_names,
        split.folds,
        scoring,
        settings.class_weight,
        settings.seed,
        # the sign test takes images for independent of one another, and those of a group are not
        not settings.thorough and table.samples.groups is None,
        count_workers(n_sources),
        job.workers,
        _cluster_for_heads(settings.on),
    )
    task = task_of(table, split.train, search)

    def screened() -> list:
        found, others = screen_sources(
            lambda source: table.read(source, split.train),
            n_sources,
            labels,
            n_jobs=search.n_jobs,
            on_progress=lambda done: job.on_event(SearchAdvanced(done, n_sources, True)),
        )
        return [found, list(others.items())]

    searched, others = job.findings.of("screening", [*task, sources_of(table)], screened)
    own = table.only(searched)
    known = RememberedSearches(job.findings, task, sources_of(own))

    def read(source: int) -> np.ndarray:
        return own.read_for_training(source, split.train)

    def searched_through() -> Leaderboard:
        return make_leaderboard(
            read,
            own.sources,
            labels,
            search,
            lambda done: job.on_event(SearchAdvanced(done, len(searched), False)),
            known,
        )

    rows = [repr(HEADS[head]) for head in search.heads]
    decided = [*task, known.sources, list(search.heads), rows, search.raced]
    board = recall_board(job.findings, decided, scoring, searched_through)
    place = choose_row(board, settings.choose)
    head = fit_chosen(board, place, read, labels, settings.class_weight)
    return Found(own, split, search, board, place, head, dict(others))


def _cluster_for_heads(on: str | None) -> Callable[[], tuple[str, int]] | None:
    """What finds the cluster's backend of joblib; None where heads are searched here.

    Of heads that were added in this process a cluster knows nothing.
    """
    return partial(joblib_workers, on) if on is not None and is_shipped() else None


def count_workers(jobs: int) -> int:
    """As many threads as there are cores, and no more than jobs."""
    return max(1, min(cores(), jobs))


def find_baselines(job: Job, table: FeatureTable, found: Found) -> list[Entry]:
    """What the network has to beat, over the leaderboard's folds."""
    if not job.settings.baselines:
        return []
    majority, backbone = Source("majority", None, None, 0), job.backbones[0]

    def measured() -> list[Entry]:
        features = baseline_features(
            table.of_rows(found.split.train),
            backbone,
            job.store,
            job.settings,
            found.recipe.numerics,
            job.on_event,
        )
        return measure_baselines(majority, features, found.labels, found.search)

    task = task_of(table, found.split.train, found.search)
    # an untrained twin follows from the backbone, its seed and the taps that are asked for
    twin = [backbone.name, backbone.seed, list(job.settings.poolings), found.recipe.numerics]
    decided = [*task, table.features[0].recipe.to_json(), *twin]
    return recall_entries(job.findings, decided, measured)


def trace(job: Job, found: Found) -> dict:
    """The `learning_curve` of results.json."""
    board, place = found.board, found.place
    sources = sources_of(found.table)
    members = [
        [sources[own.source], own.head, own.params, own.weight] for own in board.members[place]
    ]
    decided = [
        *task_of(found.table, found.split.train, found.search),
        members,
        asdict(board.rows[place]),
    ]
    return job.findings.of(
        "curve",
        decided,
        lambda: trace_curve(board, place, found.read_for_training, found.labels, found.search),
    )


def score_choice(job: Job, found: Found) -> Tested:
    """Predict the test images by the chosen heads."""
    samples = found.table.samples[found.split.test]
    head = head_over_views(job, found.table, found.head)
    features = read_for_test(job, found)
    predicted, probabilities = answers(head.estimator, head.calibration, features)
    chosen = describe_choice(
        found.board, found.place, samples.labels, predicted, probabilities, job.settings.seed
    )
    return Tested(samples, predicted, probabilities, chosen)


def read_for_test(job: Job, found: Found) -> np.ndarray:
    """(n_test, D) features that predict the test images: of all sources, view after view."""
    table, test, sources = found.table, found.split.test, found.head.sources
    if not job.settings.average_views:
        return np.hstack([table.read(source, test) for source in sources])
    by_source = [table.read_views(source, test) for source in sources]
    return np.hstack(list(map(np.hstack, zip(*by_source, strict=True))))


def audit_images(
    job: Job, table: FeatureTable, copies: Sequence[Copies], flat: np.ndarray, found: Found
) -> dict:
    """Copies, flat images, suspect labels, and images unlike all others, for results.json."""
    board = found.board
    # those that were stopped stand last, and know some of the images alone
    believed = [place for place, row in enumerate(board.rows) if not row.stopped][:BELIEVED]
    probabilities = np.mean([board.probabilities[place] for place in believed], axis=0)
    audit = {
        "duplicates": job.settings.duplicates,
        **describe_copies(table.samples, copies, found.split.test),
        **describe_flat(table.samples, flat),
        **describe_suspects(
            table.samples[found.split.train],
            rank_labels(probabilities, found.labels, board.classes.tolist()),
        ),
    }
    for name, row in EXPLORATIONS.items():
        source = table.last() if row.tap == "last" else table.middle()
        ranked = row.rank(table.read(source))
        audit |= describe_explored(name, row, table.samples, ranked)
    return audit
