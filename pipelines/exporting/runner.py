"""Answers by a file of `permafrost export`: python permafrost_onnx.py FILE.onnx IMAGE ...

NumPy and onnxruntime are all that `Model` needs; the command reads its images by Pillow.
"""

import json
import sys
from typing import Any

import numpy as np
import onnxruntime


class Model:
    """A file: `Model("file.onnx")(pixels)` -> {"label": ..., "probabilities": ..., ...}.

    pixels : (height, width, 3) uint8, RGB, turned upright, of any size.
    """

    def __init__(self, file: str) -> None:
        self._session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        texts = self._session.get_modelmeta().custom_metadata_map
        self.described = json.loads(texts["permafrost"])

    def __call__(self, pixels: Any) -> dict[str, Any]:
        names = [output.name for output in self._session.get_outputs()]
        found = self._session.run(None, {"images": np.asarray(pixels, np.uint8)[None]})
        return {name: rows[0] for name, rows in zip(names, found, strict=True)}


def main(file: str, *images: str) -> None:
    """Print a line for each image: its path, label, probability and familiarity."""
    from PIL import Image, ImageOps

    model = Model(file)
    for path in images:
        found = model(ImageOps.exif_transpose(Image.open(path)).convert("RGB"))
        largest = (rows if name == "label" else rows.max() for name, rows in found.items())
        print(path, *largest, sep="\t")


if __name__ == "__main__":
    main(*sys.argv[1:])
