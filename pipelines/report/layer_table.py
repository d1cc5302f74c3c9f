"""What layers and poolings are worth: the best score of each, as a table from early to late."""

from dataclasses import dataclass

# what a row has seen, the most first
SEARCHED, STOPPED, SCREENED = range(3)


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
    best: dict[tuple[str, str], tuple[int, float, int]] = {}
    kinds = (
        (SCREENED, results["screened_out"], "screening_accuracy"),
        (SEARCHED, results["leaderboard"], "cv_score"),
    )
    for kind, rows, score in kinds:
        for place, row in enumerate(rows):
            key = row["layer"], row["pooling"]
            if row["backbone"] != backbone or None in key or key[0] not in layers:
                continue
            known = best.get(key)
            # of all folds a row says more than of the first alone, and that more than one that was
            # screened in another view
            worth = STOPPED if row.get("stopped") else kind
            if known is None or (known[0], -known[1]) > (worth, -row[score]):
                best[key] = (worth, row[score], place)
    poolings = list(dict.fromkeys(pooling for _, pooling in best))
    cells = [[_cell(best, best.get((layer, pooling))) for layer in layers] for pooling in poolings]
    return LayerTable(backbone, layers, poolings, cells)


def _cell(best: dict, own: tuple[int, float, int] | None) -> LayerCell | None:
    if own is None:
        return None
    screened = own[0] == SCREENED
    scores = [score for kind, score, _ in best.values() if (kind == SCREENED) == screened]
    span = max(scores) - min(scores)
    return LayerCell(own[2], screened, (own[1] - min(scores)) / span if span else 1.0)
