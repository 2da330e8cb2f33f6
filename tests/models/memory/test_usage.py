import pytest
import torch

from models.memory.usage import Meter


def test_pictures_of_other_steps_than_those_first_met_are_predicted_by_their_own() -> None:
    meter = Meter(torch.device("cpu"))
    expected = meter.expect(1000, step_seconds=0.5, decoding_seconds=0.1)
    meter.add(3, 1.2, 2, expected)
    meter.add(1, 3.4, 6, expected)

    usage = meter.total("float32", "resident")

    assert usage is not None
    assert usage.seconds == pytest.approx((3 * 1.2 + 3.4) / 4)
    assert usage.predicted_seconds == pytest.approx((3 * (2 * 0.5 + 0.1) + (6 * 0.5 + 0.1)) / 4)


def test_without_a_batch_nothing_was_used() -> None:
    assert Meter(torch.device("cpu")).total("float32", "resident") is None
