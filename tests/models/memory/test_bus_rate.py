"""The rate at which weights come from host memory."""

import threading

import pytest
import torch

from models.memory import bus_rate
from models.memory.bus_rate import shared_bus_rate
from models.transformer.weight_stream import WeightStream

CPU = torch.device("cpu")


def test_a_device_is_copied_to_at_the_rate_of_its_stream() -> None:
    assert bus_rate.bus_rate(CPU) > 1e6


def test_devices_are_copied_to_at_once_and_the_slowest_one_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    together, rates = threading.Barrier(3), iter([30e9, 10e9, 20e9])

    def rate(_: WeightStream) -> float:
        together.wait(timeout=60)  # breaks where one is copied to after another
        return next(rates)

    monkeypatch.setattr(WeightStream, "rate", rate)
    assert shared_bus_rate([CPU] * 3, seconds=0) == pytest.approx(10e9)


def test_copies_to_several_devices_are_real_ones() -> None:
    assert shared_bus_rate([CPU, CPU], seconds=0) > 1e6
