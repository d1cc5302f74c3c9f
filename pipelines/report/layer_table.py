"""What layers and poolings are worth: the best score of each, as a table from early to late."""

from dataclasses import dataclass


@dataclass(frozen=True)
class LayerCell:
    """The best row of a layer and pooling.

    place : of the row in the leaderboard, or in `screened_out`.
    level : where its score lies among all cells of its kind, from 0 to 1.
    """

    place: int
    screened: bool
    level: float


@dataclass(frozen=True)
class LayerTable:
    """Of one backbone; cells[pooling][layer], None where the pair was not asked for."""

    backbone: str
    layers: list[str]
    poolings: list[str]
    cells: list[list[LayerCell | None]]


def make_layer_tables(results: dict) -> list[LayerTable]:
    """One table a backbone that has layers, its cells over all heads and views."""
    tables = [_make_table(results, *own) for own in results["layers"].items() if own[1]]
    return [table for table in tables if table.poolings]


def _make_table(results: dict, backbone: str, layers: list[str]) -> LayerTable:
    best: dict[tuple[str, str], tuple[bool, float, int]] = {}
    kinds = (
        (True, results["screened_out"], "screening_accuracy"),
        (False, results["leaderboard"], "cv_score"),
    )
    for screened, rows, score in kinds:
        for place, row in enumerate(rows):
            key = row["layer"], row["pooling"]
            if row["backbone"] != backbone or None in key or key[0] not in layers:
                continue
            known = best.get(key)
            # a cross-validated row says more than a screened one of another view
            if known is None or (known[0], -known[1]) > (screened, -row[score]):
                best[key] = (screened, row[score], place)
    poolings = list(dict.fromkeys(pooling for _, pooling in best))
    cells = [[_cell(best, best.get((layer, pooling))) for layer in layers] for pooling in poolings]
    return LayerTable(backbone, layers, poolings, cells)


def _cell(best: dict, own: tuple[bool, float, int] | None) -> LayerCell | None:
    if own is None:
        return None
    scores = [score for screened, score, _ in best.values() if screened == own[0]]
    span = max(scores) - min(scores)
    return LayerCell(own[2], own[0], (own[1] - min(scores)) / span if span else 1.0)
