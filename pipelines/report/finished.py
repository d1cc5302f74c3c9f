"""What a finished run left in its folder, read back."""

import csv
import json
from pathlib import Path

from pipelines.errors import WrongCall
from pipelines.report.files import RESULTS
from pipelines.report.images import IMAGES, ImageTable, read_images

NEEDED = {"data", "leaderboard", "chosen", "audit", "answers", "map", "explained"}


def read_finished(folder: Path) -> tuple[dict, ImageTable]:
    """The results and the images of a run.

    Raises WrongCall for a folder that is no run's, or that of a version which left less.
    """
    expected = f"expected the folder of a finished run, with its {RESULTS} and {IMAGES}"
    name = RESULTS
    try:
        results = json.loads((folder / RESULTS).read_bytes())
        name = IMAGES
        images = read_images(folder / IMAGES)
        images.ids  # noqa: B018  # what is no id is found here
    except OSError as error:
        raise WrongCall(f"can't read {folder / name} ({error.strerror}): {expected}") from error
    except (ValueError, RecursionError, csv.Error) as error:
        raise WrongCall(f"{folder / name} is not as a run wrote it: {expected}") from error
    there = set(results) if isinstance(results, dict) else set()
    lacking = sorted(NEEDED - there)
    if lacking:
        raise WrongCall(
            f"{folder / RESULTS} has no {lacking[0]!r}: run again, this version adds it"
        )
    if not results["leaderboard"] or not len(images):
        raise WrongCall(f"{folder} holds a run without rows or images: {expected}")
    return results, images
