"""What a run's search found, as it is remembered: under what, and as which plain values."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from heads.blended import Member
from pipelines.evaluation.leaderboard import Entry, Leaderboard, Row
from pipelines.evaluation.scoring import Scoring
from pipelines.evaluation.search import Search
from pipelines.features import FeatureTable
from pipelines.findings import Findings

Decided = Sequence[Any]


def task_of(table: FeatureTable, rows: np.ndarray, search: Search) -> list:
    """What decides a search on these rows beside features and heads."""
    return [
        table.ids[rows],
        table.samples.labels[rows].tolist(),
        [[train, validation] for train, validation in search.folds],
        search.scoring.name,
        search.class_weight,
        search.seed,
    ]


def sources_of(table: FeatureTable) -> list[str]:
    """What decides the features of each source beside the images, random views among them.

    The network's name decides none, but what is remembered names it: one that was trained further
    and learnt nothing has the weights of its base.
    """
    random = "" if table.random is None else " " + "+".join(table.random.names)
    return [
        f"{own.recipe.id} {own.source.backbone} {own.source.tap}{random}" for own in table.features
    ]


@dataclass(frozen=True)
class RememberedSearches:
    """What was found of single heads on single sources, as `search_sources` asks for it.

    sources : as of `sources_of`.
    """

    findings: Findings
    task: Decided
    sources: Sequence[str]

    def recall(self, kind: str, source: int, decided: Decided) -> Any:
        """What is remembered of a source."""
        return self.findings.recall(kind, [*self.task, self.sources[source], *decided])

    def remember(self, kind: str, source: int, decided: Decided, found: Any) -> None:
        """Keep what was found."""
        self.findings.remember(kind, [*self.task, self.sources[source], *decided], found)


def recall_board(
    findings: Findings, decided: Decided, scoring: Scoring, make: Callable[[], Leaderboard]
) -> Leaderboard:
    """The leaderboard that is remembered, or the one that is made."""
    found = findings.recall("leaderboard", decided)
    if found is None:
        board = make()
        findings.remember("leaderboard", decided, _board_out(board))
        return board
    members = [[Member(**own) for own in of_row] for of_row in found.pop("members")]
    rows = [Row(**own) for own in found.pop("rows")]
    corrected = tuple(found.pop("corrected"))
    found["classes"] = np.array(found["classes"])
    return Leaderboard(**found, rows=rows, members=members, corrected=corrected, scoring=scoring)


def _board_out(board: Leaderboard) -> dict:
    left_out = ("scoring", "rows", "members")
    plain = {own.name: getattr(board, own.name) for own in fields(board)}
    plain = {name: value for name, value in plain.items() if name not in left_out}
    return plain | {
        "classes": board.classes.tolist(),
        "rows": [asdict(row) for row in board.rows],
        "members": [list(map(_member_out, members)) for members in board.members],
    }


def _member_out(member: Member) -> dict:
    return {name: getattr(member, name) for name in ("head", "params", "weight", "source", "oof")}


def recall_entries(
    findings: Findings, decided: Decided, make: Callable[[], list[Entry]]
) -> list[Entry]:
    """The baselines that are remembered, or that are measured."""

    def measured() -> list[dict]:
        return [
            {
                "row": asdict(own.row),
                "members": list(map(_member_out, own.members)),
                "probabilities": own.probabilities,
                "facts": own.facts,
            }
            for own in make()
        ]

    return [
        Entry(
            Row(**own["row"]),
            [Member(**member) for member in own["members"]],
            own["probabilities"],
            own["facts"],
        )
        for own in findings.of("baselines", decided, measured)
    ]
