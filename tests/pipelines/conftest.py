"""A small set of photos of two kinds of texture, and the arguments of a small random network."""

import contextlib
import io
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
# `npm install axe-core` into a folder that AXE_CORE names
AXE = Path(os.environ.get("AXE_CORE", "node_modules/axe-core")) / "axe.min.js"
SMALL = ["--backbone", "mobilenet_v3_small", "--weights", "random", "--size", "32", "--cv", "3"]


def draw(kind: str, seed: int) -> Image.Image:
    """Stripes of the seed's width and a random phase, blots and noise: upright for cats, level for
    dogs."""
    rng = np.random.default_rng([seed, kind == "cats"])
    wave = 100 + 80 * np.sin(np.arange(48) / (2 + seed % 12 * 0.3) + rng.uniform(0, 6))
    plane = np.tile(wave, (40, 1)) if kind == "cats" else np.tile(wave[:40, None], (1, 48))
    plane = plane + np.kron(
        rng.normal(0, 18, (5, 6)), np.ones((8, 8))
    )  # else any two were near copies
    return Image.fromarray(
        np.clip(plane[..., None] + rng.normal(0, 10, (40, 48, 3)), 0, 255).astype(np.uint8)
    )


def write_photos(folder, per_class=12, start=0):
    """`folder/CLASS/N.png` for two classes."""
    for kind in ("cats", "dogs"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for i in range(start, start + per_class):
            draw(kind, i).save(folder / kind / f"{i}.png")
    return folder


@pytest.fixture
def photos(tmp_path):
    """A class-per-folder set of 24 photos."""
    return write_photos(tmp_path / "photos")


@pytest.fixture(scope="module")
def photos_of_the_module(tmp_path_factory):
    """The same, for runs that several tests only look at."""
    return write_photos(tmp_path_factory.mktemp("module") / "photos")


@pytest.fixture(scope="module")
def small_run():
    """Call `pipelines.run` for images into `place`/out -> (exit code, stdout, stderr)."""

    def call(images, place, *arguments):
        from pipelines.run import main

        out, err = io.StringIO(), io.StringIO()
        kept = ["--cache", str(place / "cache"), "--out", str(place / "out")]
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main([str(images), "--views", "plain", *arguments, *SMALL, *kept])
        return code, out.getvalue(), err.getvalue()

    return call


@pytest.fixture(scope="module")
def made_result(photos_of_the_module, tmp_path_factory):
    """What a quick run of two taps and two heads found."""
    from pipelines import RunSettings, run_job

    settings = RunSettings(
        backbone="mobilenet_v3_small",
        weights="random",
        size=32,
        cv=3,
        layers="features.4",
        pooling="avg,grid2",
        heads=("ridge", "knn"),
        views="plain",
        baselines=False,
        cache=tmp_path_factory.mktemp("cache"),
    )
    return run_job(str(photos_of_the_module), settings)


@pytest.fixture
def add_photos():
    """The function that writes more of them."""
    return write_photos


@pytest.fixture
def small():
    """Arguments that make any command quick."""
    return [*SMALL]


@pytest.fixture
def run(tmp_path, small, capsys):
    """Call `pipelines.run` -> (exit code, stdout, stderr)."""

    def call(*arguments, defaults=True):
        from pipelines.run import main

        given = [str(argument) for argument in arguments]
        quick, rest = [], []
        if defaults:
            quick = ["--views", "plain"]  # unless others are given
            rest = [*small, "--cache", str(tmp_path / "cache"), "--out", str(tmp_path / "out")]
        code = main([*quick, *given, *rest])
        return code, *capsys.readouterr()

    return call


@pytest.fixture(scope="module")
def browser():
    """Debian's chromium."""
    if BROWSER is None:
        pytest.skip("NO BROWSER: what is drawn is not looked at; install Debian's chromium")
    api = pytest.importorskip(
        "playwright.sync_api",
        reason="NO PLAYWRIGHT: pip install '.[browser]' to have what is drawn seen",
    )
    with api.sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])


@pytest.fixture
def axe():
    """The script by which what a screen reader meets is looked at; None where it is not there."""
    return AXE.read_text(encoding="utf-8") if AXE.is_file() else None
