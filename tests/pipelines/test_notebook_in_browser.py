"""The views of a notebook as a browser shows them, light and dark, under a notebook's own rules."""

import numpy as np
import pytest

from data import Samples
from extract import FeatureExtractor
from pipelines import ImageClassifier
from pipelines.notebook import run_view

pytestmark = pytest.mark.slow

COLOURS = {"light": ("#111", "#fff"), "dark": ("#ddd", "#111")}
# those of JupyterLab for what a cell shows
RULES = """
.lab table { table-layout: fixed; margin-left: auto; margin-right: auto; }
.lab td, .lab th, .lab tr { padding: 0.5em; white-space: normal; }
:not(.text).lab td, :not(.text).lab th { text-align: right; }
.lab tbody tr:nth-child(even) { background: #f00; }
"""


def views(result):
    rogue = "<img src=x onerror=alert(1)>"
    samples = Samples(
        [f"set/{i}" for i in range(6)] + ["gone.png"],
        [rogue, "a very long name of a class " * 5, *"abcde"],
        pixels=[*np.zeros((6, 40, 60, 3), np.uint8), "gone.png"],
        name=rogue,
    )
    extractor = FeatureExtractor("features.14", "grid3", cache=False)
    estimators = (extractor, ImageClassifier(), result.classifier)
    own = [each._own_view() for each in estimators]
    return [samples._repr_html_(), run_view(result.results), *own]


@pytest.mark.parametrize("scheme", COLOURS)
@pytest.mark.parametrize("width", [900, 390])
def test_views_are_whole_in_a_notebook(browser, axe, made_result, scheme, width):
    page = browser.new_page(viewport={"width": width, "height": 500}, color_scheme=scheme)
    complaints = []
    page.on("console", lambda said: complaints.append(said.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda asked: asked.url[:5] == "data:" or complaints.append(asked.url))
    ink, ground = COLOURS[scheme]
    for view in views(made_result):
        page.set_content(
            f"<!doctype html><html lang=en><title>cell</title><style>{RULES}</style>"
            f"<body style='background: {ground}; color: {ink}'><main class=lab>{view}</main>"
        )
        beyond = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert page.evaluate(beyond) <= 0
        loaded = "[...document.images].every(own => own.complete && own.naturalWidth > 0)"
        assert page.evaluate(loaded)
        cells = "[...document.querySelectorAll('tbody th')].map(own => getComputedStyle(own))"
        assert set(page.evaluate(f"{cells}.map(own => own.textAlign)")) <= {"left"}
        grounds = "[...document.querySelectorAll('tr')].map(own => getComputedStyle(own))"
        clear = page.evaluate(f"{grounds}.map(own => own.backgroundColor)")
        assert set(clear) <= {"rgba(0, 0, 0, 0)"}
        if axe is not None:
            page.evaluate(axe)
            found = page.evaluate("axe.run()")["violations"]
            grave = [own for own in found if own["impact"] in ("serious", "critical")]
            assert [(own["id"], own["nodes"][0]["html"]) for own in grave] == []
    assert complaints == []
    page.close()
