"""What a check found: that something will work, or what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from models.mendable import Mendable

Status = Literal["ok", "warning", "failed", "left out"]
Fault = Literal["request", "reach"]
"""Why something fails: what is asked for is wrong, or what it needs is out of reach."""


@dataclass(frozen=True)
class Finding:
    """What one check found."""

    name: str  # of what was looked at, in a word or two
    status: Status
    found: str  # one sentence
    do: str | None = None  # what to do about it, in one sentence
    fault: Fault | None = None  # of what failed
    data: Mapping[str, Any] | None = None  # what was measured, for machines

    @classmethod
    def ok(cls, name: str, found: str) -> Finding:
        """It will work."""
        return cls(name, "ok", found)

    @classmethod
    def left_out(cls, name: str, found: str) -> Finding:
        """It wasn't looked at, and `found` says why."""
        return cls(name, "left out", found)

    @classmethod
    def warning(cls, name: str, found: str, do: str) -> Finding:
        """It will work, but worse than it could."""
        return cls(name, "warning", found, do)

    @classmethod
    def failed(cls, name: str, found: str, do: str, fault: Fault = "reach") -> Finding:
        """It won't work."""
        return cls(name, "failed", found, do, fault)

    @classmethod
    def refused(cls, name: str, error: Mendable, otherwise: str, fault: Fault) -> Finding:
        """It won't work, and an error says why, and perhaps what to do; `otherwise` says that where it doesn't."""
        if error.remedy is None:
            return cls.failed(name, str(error), otherwise, fault)
        return cls.failed(name, f"{error.what}.", error.remedy[0].upper() + error.remedy[1:], fault)
