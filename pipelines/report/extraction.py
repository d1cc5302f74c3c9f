"""The `extraction` block of results.json: how many images, and where the time went."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from extract import Extraction
    from extract.extraction import Facts


def describe_extraction(
    extractions: Sequence["Extraction"], of_others: Sequence["Extraction"] = ()
) -> dict[str, Any]:
    """The block of the passes, one a backbone; of several, sums and the slowest one's words.

    of_others : passes over images that are none of the first's.
    """
    parts = [
        [describe_pass(extraction.facts()) for extraction in part]
        for part in (extractions, of_others)
    ]
    blocks = [block for part in parts for block in part]
    if len(blocks) == 1:
        return blocks[0]
    slowest = max(blocks, key=lambda block: block["seconds"])
    # a pass may be a look at some of its images
    images, computed = (
        sum(max((block[key] for block in part), default=0) for part in parts)
        for key in ("images", "computed")
    )
    sums = {
        key: round(sum(block[key] for block in blocks), 3)
        for key in slowest
        if key.endswith("seconds")
    }
    return (
        slowest
        | sums
        | {
            "images": images,
            "from_store": images - computed,
            "computed": computed,
            "images_per_second": None,
        }
    )


def describe_pass(facts: "Facts") -> dict[str, Any]:
    """One pass: images are counted, seconds rounded to milliseconds."""
    rate = round(facts.computed / facts.seconds, 1) if facts.computed and facts.seconds else None
    return {
        "images": facts.images,
        "from_store": facts.images - facts.computed,
        "computed": facts.computed,
        "seconds": round(facts.seconds, 3),
        "images_per_second": rate,
        **{f"{stage}_seconds": round(value, 3) for stage, value in facts.times.items()},
        "bottleneck": facts.bottleneck,
        "engine": facts.engine,
        "in_words": where_time_went(facts),
        "unused_gpu": facts.unused_gpu,
    }


def where_time_went(facts: "Facts") -> str | None:
    """One line on what held the pass back and what would help; None if nothing was computed."""
    if not facts.computed:
        return None
    times = facts.times
    on_gpu = (facts.device or "cpu") != "cpu"
    whole = max(times["wait"] + times["forward"] + times["write_wait"], 1e-9)
    waited = 100 * times["wait"] / whole
    ran = 100 * times["forward"] / whole
    written = 100 * times["write_wait"] / whole
    if written > max(waited, ran):
        return (
            f"writing held the pass back {written:.0f} % of it: "
            "a faster disk for --cache would help"
        )
    if waited > ran:
        what = f"held the GPU back {waited:.0f} %" if on_gpu else f"took {waited:.0f} %"
        return f"decoding {what} of the pass: more cores or pre-resized images would help"
    if on_gpu:
        return (
            f"the network took {ran:.0f} % of the pass and decoding kept up: the GPU is what limits"
        )
    return (
        f"the network took {ran:.0f} % of the pass: "
        "a GPU, a smaller backbone or a smaller --size would help"
    )
