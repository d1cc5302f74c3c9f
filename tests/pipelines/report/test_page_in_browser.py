"""The page of a run as a browser shows it: nothing is asked of the network, all of it works."""

import csv
import io
import json
import os
import shutil
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
# `npm install axe-core` into a folder that AXE_CORE names
AXE = Path(os.environ.get("AXE_CORE", "node_modules/axe-core")) / "axe.min.js"
SIZES = {1280: 900, 390: 844}
GRAVE = {"serious", "critical"}


@pytest.fixture(scope="module")
def browser():
    if BROWSER is None:
        pytest.skip("NO BROWSER: the page is not looked at; install Debian's chromium")
    api = pytest.importorskip(
        "playwright.sync_api", reason="NO PLAYWRIGHT: pip install '.[browser]' to have the page seen"
    )
    with api.sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])


@pytest.fixture(scope="module")
def finished(tmp_path_factory, photos_of_the_module, small_run):
    """The folder of a run whose photos have two wrong labels and a near copy across the split."""
    photos = photos_of_the_module
    (photos / "cats" / "3.png").rename(photos / "dogs" / "from cats, <3>.png")
    shutil.copy(photos / "cats" / "5.png", photos / "cats" / "again.png")
    with open(photos / "cats" / "again.png", "ab") as file:
        file.write(b"\0")  # other bytes of one picture
    place = tmp_path_factory.mktemp("page")
    code, _, err = small_run(photos, place, "--test-size", "0.4")
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
    own.complaints = []
    own.on("console", lambda said: own.complaints.append(said.text))
    own.on("pageerror", lambda error: own.complaints.append(str(error)))
    own.on("request", lambda asked: own.complaints.append(asked.url))
    address = (folder / "report.html").as_uri()
    own.goto(address)
    own.complaints.remove(address)
    own.complaints = Loud(own.complaints)
    see_all(own)
    return own


class Loud(list):
    """Pictures within the page are no requests."""

    def __init__(self, found):
        super().__init__(text for text in found if not text.startswith("data:"))


def see_all(page):
    """Scroll through, so that what waits to be seen is drawn."""
    for frame in page.locator("[data-chart]").all():
        frame.scroll_into_view_if_needed()
        frame.locator("svg").wait_for()
    page.evaluate("scrollTo(0, 0)")
