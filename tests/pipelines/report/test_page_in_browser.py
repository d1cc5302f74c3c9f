"""The page of a run as a browser shows it: nothing is asked of the network, all of it works."""

import csv
import io
import json
import shutil
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SIZES = {1280: 900, 390: 844}
GRAVE = {"serious", "critical"}
CLASSES = ("cats", "dogs")
WRONG = (3, 4, 7)  # cats among the dogs


@pytest.fixture(scope="module")
def finished(tmp_path_factory, photos_of_the_module, small_run):
    """The folder of a run whose photos have wrong labels and a near copy across the split."""
    photos = photos_of_the_module
    for i in WRONG:
        (photos / "cats" / f"{i}.png").rename(photos / "dogs" / f"from cats, <{i}>.png")
    shutil.copy(photos / "cats" / "5.png", photos / "cats" / "again.png")
    with open(photos / "cats" / "again.png", "ab") as file:
        file.write(b"\0")  # other bytes of one picture
    place = tmp_path_factory.mktemp("page")
    code, _, err = small_run(photos, place)
    assert code == 0, err
    return place / "out"


@pytest.fixture
def page(browser, finished):
    """The page at 1280 pixels, drawn whole; in the end nothing was asked for or complained of."""
    own = opened(browser, finished)
    yield own
    assert own.complaints == []
    own.close()


def opened(browser, folder, width=1280, scheme="light"):
    size = {"width": width, "height": SIZES[width]}
    own = browser.new_page(viewport=size, color_scheme=scheme, has_touch=width < 500)
    own.set_default_timeout(10_000)
    own.complaints = []
    own.on("console", lambda said: own.complaints.append(said.text))
    own.on("pageerror", lambda error: own.complaints.append(str(error)))
    address = (folder / "report.html").as_uri()
    within = (address, "data:", "blob:")  # pictures, and the file that is saved, lie in the page
    own.on(
        "request",
        lambda asked: asked.url.startswith(within) or own.complaints.append(asked.url),
    )
    own.goto(address)
    see_all(own)
    return own


def table_of(file):
    """The rows of a CSV file."""
    return list(csv.DictReader(io.StringIO(file.read_text(encoding="utf-8"))))


def see_all(page):
    """Scroll through, so that what waits to be seen is drawn."""
    for frame in page.locator("[data-chart]").all():
        frame.scroll_into_view_if_needed()
        frame.locator("svg").wait_for()
    page.evaluate("scrollTo(0, 0)")


def figures_equal(page, results):
    """Every figure on the page with the place it has in results.json is what stands there."""
    told = page.evaluate(
        "[...document.querySelectorAll('data[data-key]')].map("
        "e => [e.dataset.key, e.value, Number(e.dataset.scale), e.textContent])"
    )
    for key, value, scale, text in told:
        own = results
        for step in key.split("/")[1:]:
            step = step.replace("~1", "/").replace("~0", "~")
            own = own[int(step) if isinstance(own, list) else step]
        assert json.loads(value) == own, key
        digits = len(text.partition(".")[2])
        shown = float(text.replace("\u2212", "-"))
        assert abs(shown - scale * own) <= 0.5 * 10**-digits + 1e-9, (key, text, own)
    return {key for key, *_ in told}


def test_every_figure_is_that_of_results_json(page, finished):
    results = json.loads((finished / "results.json").read_text(encoding="utf-8"))
    keys = figures_equal(page, results)
    wanted = {"/chosen/test_accuracy", "/chosen/test_low", "/chosen/cv_corrected"}
    wanted |= {f"/leaderboard/{i}/cv_score" for i in range(len(results["leaderboard"]))}
    wanted |= {f"/baselines/{i}/cv_accuracy" for i in range(len(results["baselines"]))}
    wanted |= {f"/seconds/{name}" for name, value in results["seconds"].items() if value} - {
        "/seconds/report"
    }
    answers = results["answers"]["test"]
    wanted |= {f"/answers/test/confusion/{i}/images" for i in range(len(answers["confusion"]))}
    assert wanted <= keys
    # the sentence on sure answers, at every place of its slider
    kept = [own for own in answers["by_confidence"] if own["images"]]
    for at, own in enumerate(kept):
        page.locator("#accept").fill(str(at))
        words = page.locator("#accept-words").inner_text()
        for text in (f"{own['threshold']:.2f}", f"{100 * own['kept']:.0f}\u202f%"):
            assert text in words
        assert f"({own['images']} test images" in words
        right = float(page.locator("[data-accept=accuracy]").inner_text()[:-2])
        assert abs(right - 100 * own["accuracy"]) <= 0.05 + 1e-9


@pytest.mark.parametrize("how", ["click", "Enter"])
def test_a_cell_shows_its_images(page, finished, how):
    cell = page.locator(".cell").first
    n = int(cell.locator("data").inner_text())
    if how == "click":
        cell.click()
    else:
        cell.focus()
        page.keyboard.press(how)
    cards = page.locator("#cell-images .card")
    assert cards.count() == n
    rows = table_of(finished / "images.csv")
    label, named = (
        CLASSES[int(cell.get_attribute(f"data-{name}"))] for name in ("label", "predicted")
    )
    own = [
        row
        for row in rows
        if (row["part"], row["label"], row["predicted"]) == ("test", label, named)
    ]
    assert len(own) == n
    texts = cards.all_inner_texts()
    for row in own:
        name = "/".join(Path(row["path"]).parts[-2:])
        [text] = [text for text in texts if name in text]
        assert f"{100 * float(row['probability']):.1f}" in text
        assert row["label"] in text
    assert all(
        page.evaluate("[...document.images].map(own => own.complete && own.naturalWidth > 0)")
    )
    page.locator("#cell-images button", has_text="Close").click()
    assert page.locator("#cell-images").is_hidden()
    assert page.evaluate("document.activeElement.className").startswith("cell")


def test_a_mistake_shows_its_evidence_and_the_training_images_like_it(page, finished):
    explained = json.loads((finished / "results.json").read_text(encoding="utf-8"))["explained"]
    frames = page.locator("#mistakes .why")
    assert frames.count() == len(explained)
    for at, own in enumerate(explained[:3]):
        frame = frames.nth(at)
        frame.locator("summary").focus()
        page.keyboard.press("Enter")
        near = frame.locator("li")
        near.first.wait_for()
        wanted = [f"{row['label']} {row['distance']:.2f}" for row in own["nearest"]]
        assert near.all_inner_texts() == wanted
        assert frame.locator("figure").count() == (own["map"] is not None)
        loaded = "own => own.every(one => one.naturalWidth > 0)"
        assert frame.locator("img").evaluate_all(loaded)


def test_the_map_shows_an_image_on_hover_and_on_focus(page):
    frame = page.locator("#map-frame")
    frame.scroll_into_view_if_needed()
    peek = page.locator("#map-peek")
    assert peek.is_hidden()
    page.locator("#map-frame .mark-symbol path").nth(4).hover(force=True)
    peek.wait_for()
    assert peek.locator("img").evaluate("own => own.naturalWidth") > 0
    page.mouse.move(5, 5)
    assert peek.is_hidden()
    page.locator(".legend button").last.focus()
    page.keyboard.press("Tab")
    peek.wait_for()
    first = page.locator("#heard").inner_text()
    seen = {first}
    for key in ("ArrowRight", "ArrowLeft", "ArrowUp", "ArrowDown"):
        page.keyboard.press(key)
        seen.add(page.locator("#heard").inner_text())
    assert len(seen) > 1
    middles = (
        "own => own.map(one => one.getBoundingClientRect())"
        ".map(box => [box.x + box.width / 2, box.y + box.height / 2])"
    )
    [ring] = page.locator("#map-ring").evaluate_all(middles)
    points = page.locator("#map-frame .mark-symbol path").evaluate_all(middles)
    assert min(abs(x - ring[0]) + abs(y - ring[1]) for x, y in points) < 2
    page.keyboard.press("Enter")
    assert page.locator("#map-images .card").count() == 12


def test_a_box_on_the_map_lists_its_images(page):
    frame = page.locator("#map-frame")
    frame.scroll_into_view_if_needed()
    box = frame.bounding_box()
    page.mouse.move(box["x"] + 12, box["y"] + 12)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 12, box["y"] + box["height"] - 12, steps=5)
    page.mouse.up()
    page.locator("#map-images .card").first.wait_for()
    n = int(page.locator("#map-images h3").inner_text().split()[0])
    assert n == page.locator("#map-frame .mark-symbol path").count()


def test_the_leaderboard_is_sorted_and_filtered(page, finished):
    results = json.loads((finished / "results.json").read_text(encoding="utf-8"))
    rows = results["leaderboard"]
    page.locator("#all-rows").click()
    widths = page.locator("#leaderboard tbody tr:visible td:nth-child(5)")
    page.locator("#leaderboard thead button", has_text="width").click()
    assert list(map(int, widths.all_inner_texts())) == sorted(
        (r["dim"] for r in rows), reverse=True
    )
    assert page.locator("th[aria-sort=descending]").inner_text().startswith("width")
    page.locator("#leaderboard thead button", has_text="width").focus()
    page.keyboard.press("Enter")
    assert list(map(int, widths.all_inner_texts())) == sorted(r["dim"] for r in rows)
    page.locator("#find-rows").fill("knn grid3")
    own = [r for r in rows if r["head"] == "knn" and r["pooling"] == "grid3"]
    assert own
    assert page.locator("#leaderboard tbody tr:visible").count() == len(own)
    page.locator("#find-rows").fill("")
    page.locator("#tied-only").check()
    tied = sum(r["tied"] for r in rows)
    assert page.locator("#leaderboard tbody tr:visible").count() == tied
    page.locator("#tied-only").uncheck()
    cell = page.locator("button.worth").first
    tap = cell.get_attribute("data-tap")
    cell.click()
    assert page.locator("#leaderboard tbody tr:visible").count() == sum(
        r["tap"] == tap for r in rows
    )


def test_ticked_labels_come_out_as_csv(page, finished):
    frame = page.locator("#mistakes")
    assert page.locator("#basket").is_hidden()
    first, second = (frame.locator(".card").nth(i) for i in (0, 1))
    first.locator("input").check()
    second.locator("input").check()
    second.locator("select").select_option("drop")
    page.locator("#show-csv").click()
    rows = list(csv.reader(io.StringIO(page.locator("#csv").input_value())))
    images = table_of(finished / "images.csv")
    by_name = {"/".join(Path(row["path"]).parts[-2:]): row for row in images}
    wanted = [["path", "label"]]
    for card, label in ((first, None), (second, "drop")):
        own = by_name[card.locator(".name").inner_text()]
        wanted.append([own["path"], label or own["predicted"]])
    assert rows == wanted
    with page.expect_download() as download:
        page.locator("#save-csv").click()
    assert download.value.suggested_filename == "fixes.csv"
    assert download.value.path().read_text(encoding="utf-8") == page.locator("#csv").input_value()
    page.locator("#copy-csv").click()
    page.locator("#heard", has_text="Copied").wait_for(state="attached")
    page.locator("#clear-csv").click()
    assert page.locator("#basket").is_hidden()
    assert not first.locator("input").is_checked()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", SIZES)
def test_nothing_overflows_and_axe_finds_nothing_grave(browser, axe, finished, width, scheme):
    page = opened(browser, finished, width, scheme)
    for frame in page.locator("details").all():
        frame.evaluate("own => { own.open = true; }")
    page.locator(".cell").first.click()
    page.locator("#mistakes input").first.check()
    page.wait_for_timeout(200)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    wide = page.evaluate(
        "[...document.querySelectorAll('main *')].filter(own => !own.closest('.scroll, .heard')"
        " && own.getBoundingClientRect().right > innerWidth + 1).map(own => own.outerHTML)"
    )
    assert wide == []
    assert page.complaints == []
    if axe is None:
        pytest.skip("NO AXE: what a screen reader meets is not looked at; npm install axe-core")
    # what the page forbids itself holds for a script of the test as well, unless it is evaluated
    page.evaluate(axe)
    found = page.evaluate("axe.run()")["violations"]
    assert [
        (own["id"], [node["html"] for node in own["nodes"]])
        for own in found
        if own["impact"] in GRAVE
    ] == []
    page.close()


def test_the_page_of_an_exploration_works_by_the_same_pieces(browser, finished, tmp_path):
    """Its figures, its galleries, its map; what a run has and it has not is missed by nothing."""
    from pipelines import ExploreSettings, explore_job

    images = Path(json.loads((finished / "results.json").read_text("utf-8"))["command"][3])
    taps = {"layers": "features.4", "pooling": "avg,grid2", "size": 32}
    dropped, known = str(sorted(images.rglob("*.png"))[0]), tmp_path / "known.csv"
    known.write_text(f"path,label\n{dropped},drop\n", encoding="utf-8")
    taps |= {"cache": finished.parent / "cache", "out": tmp_path / "out", "labelled": known}
    settings = ExploreSettings("mobilenet_v3_small", "random", n=5, **taps)
    results = explore_job(str(images), settings).results
    page = opened(browser, tmp_path / "out")
    keys = figures_equal(page, results)
    n_clusters = results["clusters"]["k"]
    assert {f"/clusters/rows/{i}/images" for i in range(n_clusters)} <= keys
    assert {"/dense/k", "/clusters/labels/adjusted_rand", "/audit/copies/0/similarity"} & keys
    assert page.locator("#label .card").count() == 5
    assert page.locator("#label .tag").count() == 0
    assert page.locator("#cluster-0 .card").count() == min(
        10, results["clusters"]["rows"][0]["images"]
    )
    page.locator("#map-frame").scroll_into_view_if_needed()
    page.locator("#map-frame .mark-symbol path").nth(3).hover(force=True)
    page.locator("#map-peek").wait_for()
    assert page.locator("#map-peek img").evaluate("own => own.naturalWidth") > 0
    page.locator("[data-pick='0']").click()
    # labels are written for clusters and for single images, whose own count
    asked = results["to_label"]["rows"][0]["path"]
    page.locator("#label .mend input").first.fill("=odd, one")
    page.locator("[data-cluster='0'] input").fill("cats")
    read_as = csv_of(page)
    in_first = results["clusters"]["rows"][0]
    assert read_as[asked] == "'=odd, one"
    assert read_as[dropped] == "drop"
    assert all(read_as[path] == "cats" for path in in_first["typical"] if path != asked)
    assert sum(name == "cats" for name in read_as.values()) >= in_first["images"] - 1
    page.locator("#clear-csv").click()
    assert page.locator("#basket").is_hidden()
    assert page.locator("[data-cluster='0'] input").input_value() == ""
    assert page.complaints == []
    page.close()


def csv_of(page):
    """Label by path, of the table that a page would save."""
    rows = csv.DictReader(io.StringIO(page.locator("#csv").input_value()))
    return {row["path"]: row["label"] for row in rows}
