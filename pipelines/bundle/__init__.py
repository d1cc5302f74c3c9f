"""The bundle: a trained classifier as a folder without code, which predicts from image files."""

from pipelines.bundle.load import load_classifier
from pipelines.bundle.save import save_classifier

__all__ = ["load_classifier", "save_classifier"]
