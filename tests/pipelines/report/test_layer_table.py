"""Layers by poolings: the best row of each, screened ones beside them."""

from pipelines.report.layer_table import LayerCell, make_layer_tables


def row(layer, pooling, score, key="cv_score"):
    return {"backbone": "net", "layer": layer, "pooling": pooling, key: score}


RESULTS = {
    "layers": {"net": ["early", "late"], "bare": []},
    "leaderboard": [
        row("late", "avg", 0.9),
        row("early", "avg", 0.8),
        row("late", "avg", 0.95),
        row(None, None, 0.99),
        row("late", "grid3", 0.7),
    ],
    "screened_out": [
        row("early", "grid3", 0.6, "screening_accuracy"),
        row("late", "avg", 0.99, "screening_accuracy"),
    ],
}


def test_each_cell_is_the_best_row_and_a_searched_one_where_there_is_any():
    [table] = make_layer_tables(RESULTS)
    assert (table.backbone, table.layers) == ("net", ["early", "late"])
    cells = dict(zip(table.poolings, table.cells, strict=True))
    assert [(own.place, own.screened) for own in cells["avg"]] == [(1, False), (2, False)]
    assert [(own.place, own.screened) for own in cells["grid3"]] == [(0, True), (4, False)]
    assert cells["avg"][1].level == 1
    assert cells["grid3"][1].level == 0


def test_what_was_not_asked_for_has_no_cell():
    results = RESULTS | {"leaderboard": RESULTS["leaderboard"][:1], "screened_out": []}
    [table] = make_layer_tables(results)
    assert table.cells == [[None, LayerCell(0, False, 1.0)]]
