"""The page of a run: what it found, for people who look before they read."""

from collections.abc import Mapping
from html import escape

from data.names import counted, shown
from pipelines.report.images import ImageTable


def make_page(results: dict, images: ImageTable, pictures: Mapping[str, bytes]) -> str:
    """One self-contained HTML file.

    results : what results.json holds.
    images : the images of the run.
    pictures : JPEG files by image id; images without one have none.
    """
    chosen = results["chosen"]
    name = escape(shown(results["data"]["name"]))
    return (
        f'<!DOCTYPE html>\n<html lang="en"><meta charset="utf-8"><title>{name}</title>\n'
        f"<p>test accuracy {chosen['test_accuracy']:.4f} "
        f"({chosen['test_low']:.4f} to {chosen['test_high']:.4f}) on "
        f"{counted(results['data']['n_test'], 'image')}; {len(pictures)} of "
        f"{counted(len(images), 'image')} shown</p></html>\n"
    )
