"""What an engine was predicted to take, and what it took."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from models.memory.memory_plan import MARGIN


@dataclass(frozen=True)
class Usage:
    """What all that an engine made was predicted to take, and took."""

    device: str
    precision: str
    placement: str
    pictures: int
    seconds: float  # a picture
    predicted_seconds: float | None  # a picture; None where nothing was measured beforehand, as on a CPU
    peak_bytes: int | None  # of a GPU's memory, as torch allocated it
    predicted_bytes: int | None


@dataclass(frozen=True)
class Expected:
    """What pictures of one kind will take, by what was measured of it before the first of them."""

    bytes: int  # at the peak
    step_seconds: float  # of one step of a row
    decoding_seconds: float  # of a row

    def seconds(self, steps: int) -> float:
        """Return the seconds of a picture of so many steps."""
        return steps * self.step_seconds + self.decoding_seconds


@dataclass
class Meter:
    """Adds up what batches take."""

    device: torch.device
    pictures: int = 0
    seconds: float = 0.0
    peak: int = 0
    expected: list[Expected] = field(default_factory=list)  # of the kinds of pictures so far
    predicted: float = 0.0  # seconds of all pictures

    def expect(self, beside: int, step_seconds: float, decoding_seconds: float) -> Expected:
        """Predict, before the first batch of a kind of pictures, from what was measured of it.

        Args:
            beside: bytes that it takes beside what is on the device now.
            step_seconds: of one step of a row.
            decoding_seconds: of a row.
        """
        before = torch.cuda.memory_allocated(self.device)
        expected = Expected(int(MARGIN * (before + beside)), step_seconds, decoding_seconds)
        self.expected.append(expected)
        return expected

    def add(self, pictures: int, seconds: float, steps: int, expected: Expected | None) -> None:
        """Count a batch that went through, each of whose pictures took so many seconds and so many steps."""
        self.pictures += pictures
        self.seconds += pictures * seconds
        if expected is not None:
            self.predicted += pictures * expected.seconds(steps)
        if self.device.type == "cuda":
            self.peak = max(self.peak, torch.cuda.max_memory_allocated(self.device))

    def total(self, precision: str, placement: str) -> Usage | None:
        """Return the usage of all batches; None if nothing was made."""
        if not self.pictures:
            return None
        on_gpu = self.device.type == "cuda"
        return Usage(
            torch.cuda.get_device_name(self.device) if on_gpu else "CPU",
            precision,
            placement,
            self.pictures,
            self.seconds / self.pictures,
            self.predicted / self.pictures if self.expected else None,
            self.peak if on_gpu else None,
            max(each.bytes for each in self.expected) if self.expected else None,
        )
