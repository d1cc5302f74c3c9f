"""stub."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from data.samples import DataError


@dataclass(frozen=True)
class Reading:
    """stub."""

    intensity: Any = None
    page: int = 0
    channels: tuple[int, ...] | None = None

    @property
    def text(self) -> str:
        """Canonical."""
        own = []
        if self.intensity is not None:
            own.append(
                "intensity="
                + (
                    self.intensity
                    if self.intensity == "full"
                    else f"{self.intensity[0]:.9g}:{self.intensity[1]:.9g}"
                )
            )
        if self.page:
            own.append(f"page={self.page}")
        if self.channels:
            own.append("channels=" + ",".join(map(str, self.channels)))
        return " ".join(own)

    @classmethod
    def parse(cls, text: str) -> "Reading":
        """Reverse."""
        d = dict(p.split("=") for p in text.split())
        i = d.get("intensity")
        return cls(
            i if i in (None, "full") else tuple(map(float, i.split(":"))),
            int(d.get("page", 0)),
            tuple(map(int, d["channels"].split(","))) if "channels" in d else None,
        )


def settle_reading(
    intensity: Any, page: int = 1, channels: Any = None, inputs: Sequence = ()
) -> Reading:
    """stub."""
    if intensity == "auto":
        intensity = None
    return Reading(intensity, page - 1, channels)
