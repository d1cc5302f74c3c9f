"""transformers' image processors as preprocessings: translated where that gives equal values."""

import hashlib
import json
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

from extract.errors import ExtractError
from extract.preprocessing import FILTERS, Preprocessing

# classes of transformers that take one RGB image to one array, and fetch and run nothing
PROCESSORS = frozenset(
    {
        "BeitImageProcessor",
        "BitImageProcessor",
        "CLIPImageProcessor",
        "ConvNextImageProcessor",
        "DINOv3ViTImageProcessor",
        "DeiTImageProcessor",
        "EfficientNetImageProcessor",
        "LevitImageProcessor",
        "MobileNetV1ImageProcessor",
        "MobileNetV2ImageProcessor",
        "MobileViTImageProcessor",
        "PoolFormerImageProcessor",
        "PvtImageProcessor",
        "SiglipImageProcessor",
        "ViTImageProcessor",
    }
)
# settings that say where and how it runs, not what it gives
RUN_SETTINGS = {"device", "return_tensors", "data_format", "input_data_format", "disable_grouping"}
# (width, height): wide, tall, smaller and larger than what networks see, odd rests when halved
ODD_SHAPES = ((97, 61), (61, 97), (233, 140), (301, 302), (40, 333), (517, 389))
CLOSE = 1e-6
LARGEST_SIDE = 8192  # of the image that a network sees, in pixels
RESAMPLING = {int(filter_): name for name, filter_ in FILTERS.items()}


def preprocessing_of(
    name: str, values: dict, size: Any = None
) -> "Preprocessing | ProcessorTransform":
    """The preprocessing that an image processor's settings describe.

    It is a `Preprocessing` where one gives the processor's values on images of odd shapes, else the
    processor itself. ExtractError for one that isn't known or gives images of several sizes.
    """
    transform = ProcessorTransform(name, values)
    if size is not None:  # before it is translated: some processors do otherwise at other sizes
        transform = transform.resized(size)
    images = _odd_images()
    try:
        wanted = [transform(image) for image in images]
        shapes = {array.shape for array in wanted}
        if len(shapes) == 1:
            return _translation(transform, images, wanted) or transform
    # any: a library's own on settings that it took
    except Exception as error:
        raise _unusable(name, transform.kind, error) from error
    raise ExtractError(
        f"hf:{name}: its {transform.kind} gives images of several sizes, "
        f"{' and '.join(map(str, sorted(shapes)[:2]))}: networks here see one"
    )


def _translation(
    transform: "ProcessorTransform", images: list[Image.Image], wanted: list[np.ndarray]
) -> Preprocessing | None:
    """The preprocessing that gives these values of these images, where there is one."""
    for translation in _translations(transform, wanted[0].shape):
        if all(
            np.allclose(_as_input(translation, image), values, CLOSE, CLOSE)
            for image, values in zip(images, wanted, strict=True)
        ):
            return translation
    return None


def _odd_images() -> list[Image.Image]:
    random = np.random.default_rng(0)
    return [
        Image.fromarray(random.integers(0, 256, (height, width, 3), np.uint8))
        for width, height in ODD_SHAPES
    ]


def _as_input(preprocessing: Preprocessing, image: Image.Image) -> np.ndarray:
    """What the network gets of an image, as an engine makes it of the pixels."""
    mean, std = np.array([preprocessing.mean, preprocessing.std], np.float32) * np.float32(255)
    return ((preprocessing(image).astype(np.float32) - mean) / std).transpose(2, 0, 1)


def _translations(transform: "ProcessorTransform", shape: tuple) -> Iterator[Preprocessing]:
    """Preprocessings that may be what a processor does; whether one is, its values tell."""
    own = transform.processor
    resample = RESAMPLING.get(own.resample)
    if not (own.do_resize and own.do_rescale and resample and own.size):
        return
    height, width = shape[1:]
    size = height if height == width else (height, width)
    mean, std = (own.image_mean, own.image_std) if own.do_normalize else ((0.0,) * 3, (1.0,) * 3)
    for fit, shares in _shares(dict(own.size), height, getattr(own, "crop_pct", None)):
        for share in shares:
            if 0 < share <= 1:
                yield Preprocessing(
                    size, share, resample, tuple(mean), tuple(std), fit, "torchvision"
                )


def _shares(asked: dict, height: int, crop_share: float | None) -> list[tuple[str, list[float]]]:
    """By fit, which share of the resized image may be kept: as told, or LeViT's own."""
    edge = asked.get("shortest_edge")
    if not edge:
        side = asked.get("height")
        return [("squash", [_share(height, side)] if side else [])]
    told = [] if crop_share is None else [crop_share]
    edges = (edge, int(256 / 224 * edge))
    return [("shorter", [*told, *(_share(height, side) for side in edges)]), ("squash", [1.0])]


def _share(kept: int, side: int) -> float:
    """What part of a side is kept, such that dividing by it and rounding down gives the side."""
    share = kept / side
    return share if math.floor(kept / share) == side else math.nextafter(share, 0)


def processor_values(values: dict) -> dict:
    """The settings of an image processor without those that name code, files or devices."""
    left_out = {"auto_map", "processor_class", "feature_extractor_type", *RUN_SETTINGS}
    told = {key: value for key, value in values.items() if key[:1] != "_" and key not in left_out}
    return {**told, "image_processor_type": _kind(values)}


def _kind(values: dict) -> str:
    """The class of transformers that a file names, in the words of today."""
    kind = values.get("image_processor_type") or values.get("feature_extractor_type") or ""
    kind = str(kind).removesuffix("Fast").removesuffix("Pil")
    if kind.endswith("FeatureExtractor"):
        kind = kind.removesuffix("FeatureExtractor") + "ImageProcessor"
    return kind


class ProcessorTransform:
    """An image processor of transformers: RGB image -> float32 array (3, height, width).

    values : as `processor_values` gives them.
    """

    def __init__(self, name: str, values: dict) -> None:
        self.kind = _kind(values)
        self._name = name
        self._values = values
        if self.kind not in PROCESSORS:
            raise ExtractError(
                f"hf:{name}: image processor {self.kind[:60] or 'without a class'!r} is not known: "
                f"expected one of {', '.join(sorted(PROCESSORS))}"
            )
        _refuse_large(name, values)
        self.processor = _make(name, self.kind, values)

    @property
    def transform_id(self) -> str:
        """What of it decides a feature's value, as text."""
        text = json.dumps(self._values, sort_keys=True, default=str)
        return f"hf.{self.kind}:{hashlib.sha256(text.encode()).hexdigest()[:16]}"

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) of what the network sees, in pixels."""
        height, width = self(Image.new("RGB", (64, 64))).shape[1:]
        return height, width

    def in_words(self) -> str:
        """What it is, in a line as a person reads it."""
        height, width = self.shape
        return f"{self.kind} of transformers itself, to {height} x {width}"

    def __call__(self, image: Image.Image) -> np.ndarray:
        """RGB image of any size -> float32 array (3, height, width)."""
        made = self.processor(images=image, return_tensors="np")["pixel_values"][0]
        return np.ascontiguousarray(made, np.float32)

    def resized(self, size: Any) -> "ProcessorTransform":
        """The same to another size, an int or (height, width); what is cropped away keeps its
        share."""
        height, width = size if isinstance(size, tuple) else (size, size)
        if self.shape == (height, width):
            return self
        values = dict(self._values)
        old = dict(self.processor.size or {})
        crop = dict(self.processor.crop_size or {}) if self.processor.do_center_crop else {}
        if crop:
            values["crop_size"] = {"height": height, "width": width}
        if "shortest_edge" in old:
            share = old["shortest_edge"] / crop["height"] if crop else 1.0
            values["size"] = {"shortest_edge": int(max(height, width) * share)}
        else:
            share = old.get("height", 1) / crop["height"] if crop else 1.0
            values["size"] = {"height": int(height * share), "width": int(width * share)}
        return ProcessorTransform(self._name, values)


def _refuse_large(name: str, values: dict) -> None:
    """ExtractError for images larger than any network sees, before one is made."""
    for key in ("size", "crop_size", "pad_size"):
        told = values.get(key)
        sides = told.values() if isinstance(told, dict) else [told]
        numbers = [side for side in sides if isinstance(side, (int, float))]
        if max(numbers, default=0) > LARGEST_SIDE:
            raise ExtractError(
                f"hf:{name}: {key}={str(told)[:60]} of its image processor is too large: "
                f"expected {LARGEST_SIDE} pixels at most"
            )


def _make(name: str, kind: str, values: dict) -> Any:
    import transformers

    made = getattr(transformers, kind)
    known = {key: values[key] for key in made.valid_kwargs.__annotations__ if key in values}
    for key in RUN_SETTINGS:
        known.pop(key, None)
    try:
        return made(**known)
    # any: a library's own checks of foreign settings
    except Exception as error:
        raise _unusable(name, kind, error) from error


def _unusable(name: str, kind: str, error: Exception) -> ExtractError:
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return ExtractError(f"hf:{name}: its {kind} does not work with its settings: {reason}")
