"""The page of a run as text: names stay names, figures are those of the results, and no request."""

import base64
import copy
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest

from pipelines.report import charts, page
from pipelines.report.finished import read_finished
from pipelines.report.page import Figures, make_page, of_hundreds

SCRIPT = "window.vegaEmbed = () => {};"
NASTY = "</script><img src=x onerror=alert(1)>"


@pytest.fixture
def finished(run_once):
    return copy.deepcopy(run_once)


@pytest.fixture(scope="module")
def run_once(tmp_path_factory, photos_of_the_module, small_run):
    place = tmp_path_factory.mktemp("page")
    few = ["--layers", "features.2", "--heads", "logistic,knn", "--baselines", "off"]
    code, _, err = small_run(photos_of_the_module, place, *few, "--report", "on")
    assert code == 0, err
    return read_finished(place / "out")


@pytest.fixture(autouse=True)
def quick_script(monkeypatch):
    monkeypatch.setattr(charts, "figure_script", lambda kept=None: SCRIPT)


class Elements(HTMLParser):
    """All elements with their attributes, and the text of each script."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.scripts = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data):
        if self.elements and self.elements[-1][0] == "script":
            self.scripts[-1] += data

    def handle_endtag(self, tag):
        self.elements.append((f"/{tag}", {}))


def renamed(value, old, new):
    """Results or columns in which a class has another name."""
    if isinstance(value, dict):
        return {renamed(key, old, new): renamed(own, old, new) for key, own in value.items()}
    if isinstance(value, list):
        return [renamed(own, old, new) for own in value]
    return value.replace(old, new) if isinstance(value, str) else value


def test_no_name_becomes_markup(finished):
    results, images = finished
    results = renamed(results, "cats", NASTY)
    results["data"]["name"] = results["command"][-1] = NASTY
    columns = {
        name: renamed(getattr(images, name).tolist(), "cats", NASTY)
        for name in ("path", "label", "predicted")
    }
    columns["path"][0] += "\udce9\n"  # a byte that is no UTF-8
    for name, own in columns.items():
        getattr(images, name)[:] = own
    text = make_page(results, images, {})
    text.encode("utf-8")
    seen = Elements(text)
    assert "img" not in {tag for tag, _ in seen.elements}
    assert not any(key.startswith("on") for _, own in seen.elements for key in own)
    assert len(seen.scripts) == 3
    held = json.loads(seen.scripts[0])
    assert NASTY in held["images"]["classes"]
    assert any(NASTY.partition("/")[0] in path for path in held["images"]["path"])
    assert held["images"]["cells"]["0"].endswith("\\xe9\\x0a")


def test_the_policy_allows_the_page_s_own_scripts_alone(finished):
    seen = Elements(make_page(*finished, {}))
    [policy] = [own["content"] for _, own in seen.elements if own.get("http-equiv")]
    assert policy.startswith("default-src 'none'; img-src data:")
    assert "unsafe-eval" not in policy
    digests = [hashlib.sha256(own.encode()).digest() for own in seen.scripts[1:]]
    assert [base64.b64encode(own).decode() for own in digests] == re.findall(
        r"'sha256-([^']+)'", policy
    )
    linked = [own.get("src", own.get("href", "#")) for _, own in seen.elements]
    assert all(address.startswith("#") for address in linked)


def test_pictures_lie_in_it_once(finished):
    results, images = finished
    pictures = {images.id[2]: b"\xff\xd8\xff one", images.id[3]: b"\xff\xd8\xff two"}
    text = make_page(results, images, pictures)
    held = json.loads(Elements(text).scripts[0])["images"]["picture"]
    assert [base64.b64decode(own) for own in held[2:4]] == list(pictures.values())
    assert [own for i, own in enumerate(held) if i not in (2, 3)] == [None] * (len(images) - 2)
    assert text.count(base64.b64encode(b"\xff\xd8\xff one").decode()) == 1


def test_labels_are_proposed_by_number_whatever_their_letters(finished):
    results, images = finished
    name = "dogs\udce9\x1b"
    results = renamed(results, "dogs", name)
    for column in (images.label, images.predicted):
        column[:] = renamed(column.tolist(), "dogs", name)
    images.predicted[0] = name if images.label[0] == "cats" else "cats"
    held = json.loads(Elements(make_page(results, images, {})).scripts[0])
    number = {own: i for i, own in enumerate(results["data"]["classes"])}
    mistakes = held["galleries"]["mistakes"]
    assert mistakes
    for item in mistakes:
        [row] = item["rows"]
        assert item["propose"] == number[images.predicted[row]] >= 0
    assert {item["propose"] for item in held["galleries"]["outliers"]} <= {-1}
    assert held["mends"]


def test_where_a_class_is_called_drop_no_label_is_mended(finished):
    results, images = finished
    results = renamed(results, "cats", "drop")
    for column in (images.label, images.predicted):
        column[:] = renamed(column.tolist(), "cats", "drop")
    text = make_page(results, images, {})
    assert not json.loads(Elements(text).scripts[0])["mends"]
    assert "give it another name to mend labels from here" in text


def test_a_figure_that_is_none_is_left_out(finished):
    results, images = finished
    results["chosen"]["test_metrics"]["roc_auc"] = dict.fromkeys(("value", "low", "high"))
    text = make_page(results, images, {})
    assert "None</" not in text
    assert "\u2013 to" not in text


def test_of_few_training_images_nothing_is_said_of_strangers(finished):
    results, images = finished
    heading = "Images unlike the training ones"
    results["familiarity"]["n_judged"] = 19
    assert heading not in make_page(results, images, {})
    results["familiarity"]["n_judged"] = 20
    assert heading in make_page(results, images, {})


def test_a_run_without_a_map_says_so(finished):
    results, images = finished
    images.x[:] = images.y[:] = float("nan")
    assert "No map was made." in make_page(results | {"map": None}, images, {})


def test_of_many_classes_the_pairs_that_are_confused_are_listed(finished, monkeypatch):
    results, images = finished
    cells = [
        {"label": "cats", "predicted": "cats", "images": 9},
        {"label": "dogs", "predicted": "cats", "images": 2},
        {"label": "cats", "predicted": "dogs", "images": 5},
    ]
    results["answers"]["test"]["confusion"] = cells
    assert '<table class="matrix' in make_page(results, images, {})
    monkeypatch.setattr(page, "MOST_CELLS", 1)
    text = make_page(results, images, {})
    assert '<table class="matrix' not in text
    assert text.index("cats named dogs") < text.index("dogs named cats")
    assert "cats named cats" not in text


def test_a_run_of_another_score_with_one_head(photos, small_run, tmp_path):
    asked = ["--scoring", "neg_log_loss", "--choose", "simplest", "--layers", "features.2"]
    code, _, err = small_run(photos, tmp_path, *asked, "--heads", "knn", "--baselines", "off")
    assert code == 0, err
    text = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "No baselines were asked for." in text
    assert re.search(r'/leaderboard/0/cv_score" data-scale="1">\u2212', text)


def test_figures_name_their_place():
    figures = Figures({"a": {"b/c~": [0.9542]}, "n": None, "scoring": "accuracy"})
    assert figures.percent("a", "b/c~", 0) == (
        '<data value="0.9542" data-key="/a/b~1c~0/0" data-scale="100">95.4</data>\u202f%'
    )
    assert ">0.954</data>" in figures.number("a", "b/c~", 0)
    assert figures.number("n") == "–"
    assert ">\u22120.1</data>" in Figures({"x": -0.104}).number("x", digits=1)
    assert ">0.0</data>" in Figures({"x": -0.004}).number("x", digits=1)


@pytest.mark.parametrize(
    ("low", "high", "n"),
    [(0.9086, 0.9777, 100), (0.9961, 0.9994, 1000), (1.0, 1.0, 100), (0.99996, 0.99999, 10_000)],
)
def test_the_answer_is_told_of_as_many_images_as_tell_its_ends_apart(low, high, n):
    assert of_hundreds(low, high) == n


@pytest.mark.slow
def test_the_script_of_the_figures_is_remembered(tmp_path, monkeypatch):
    monkeypatch.undo()
    charts.joined_script.cache_clear()
    script = charts.figure_script(tmp_path / "kept")
    assert "vegaEmbed" in script
    assert "</script" not in script.lower()
    charts.joined_script.cache_clear()
    monkeypatch.setattr("vl_convert.javascript_bundle", None)
    assert charts.figure_script(tmp_path / "kept") == script
    charts.joined_script.cache_clear()
