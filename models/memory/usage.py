"""What an engine was predicted to take, and what it took."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from models.memory.memory_plan import MARGIN, Forecast


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


@dataclass
class Meter:
    """Adds up what batches take."""

    device: torch.device
    pictures: int = 0
    seconds: float = 0.0
    peak: int = 0
    forecasts: list[Forecast] = field(default_factory=list)  # of the shapes so far
    predicted: float = 0.0  # seconds of all pictures

    def expect(self, beside: int, seconds: float) -> Forecast:
        """Predict, before a shape's first batch, from what was measured of it.

        Args:
            beside: bytes that it takes beside what is on the device now.
            seconds: a picture.
        """
        before = torch.cuda.memory_allocated(self.device)
        forecast = Forecast(int(MARGIN * (before + beside)), seconds)
        self.forecasts.append(forecast)
        return forecast

    def add(self, pictures: int, seconds: float, forecast: Forecast | None) -> None:
        """Count a batch that went through, each of whose pictures took so many seconds."""
        self.pictures += pictures
        self.seconds += pictures * seconds
        if forecast is not None:
            self.predicted += pictures * forecast.seconds
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
            self.predicted / self.pictures if self.forecasts else None,
            self.peak if on_gpu else None,
            max(forecast.bytes for forecast in self.forecasts) if self.forecasts else None,
        )
