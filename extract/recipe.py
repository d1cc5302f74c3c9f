"""What identifies a feature beside its image and its tap."""

import hashlib
import json
from dataclasses import asdict, dataclass

from data import Reading

SCHEMA = 2  # a part of another schema is never read: it lies below another recipe's id
DECODE_RULE = "islow-dct-scaled/exif/white/2"
RECIPE_ID_BYTES = 16


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a feature's value except the image and the tap.

    Parameters
    ----------
    architecture : str
        Of the network, such as `torchvision.resnet50`; of one's own, what names its source.
    weights : str
        Digest of the weights as they were loaded.
    preprocessing : str
        From RGB pixels to what the network is given.
    numerics : str
        `float32` or a reduced precision, such as `bfloat16-torch`.
    view : str
        Which copy of the image is seen: `plain`, `flipped`, or several joined by +.
    decode : str
        The rule by which a file becomes pixels, as `decode_rule` writes it.
    schema : int
        Of what is written.

    Examples
    --------
    >>> one = Recipe("net", "digest", "preprocessing", "float32")
    >>> one.id
    'bf698b475ed3f416633cef122db9ee2a'
    >>> one.id == Recipe("net", "digest", "preprocessing", "float32", view="flipped").id
    False
    """

    architecture: str
    weights: str
    preprocessing: str
    numerics: str
    view: str = "plain"
    decode: str = DECODE_RULE
    schema: int = SCHEMA

    @property
    def id(self) -> str:
        """32 hex digits that stand for all of it."""
        return hashlib.blake2b(self.to_json().encode(), digest_size=RECIPE_ID_BYTES).hexdigest()

    def to_json(self) -> str:
        """The same text for the same recipe, readable."""
        return json.dumps(asdict(self), indent=1, sort_keys=True)


def decode_rule(reading: Reading) -> str:
    """The rule by which the files of a set become pixels, as a recipe holds it.

    Examples
    --------
    >>> from data import Reading
    >>> decode_rule(Reading(page=2)).removeprefix(DECODE_RULE)
    ' page=3'
    """
    return f"{DECODE_RULE} {reading.text}".rstrip()


def reading_of(decode: str) -> Reading:
    """How files are read by a recipe's rule; ValueError for a rule that is not of this version."""
    rule, _, text = decode.partition(" ")
    if rule != DECODE_RULE:
        raise ValueError(f"decode rule {rule!r}, expected {DECODE_RULE!r}")
    return Reading.parse(text)
