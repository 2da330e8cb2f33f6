import numpy as np
import pytest

from safety.pictures.channels import highest, lowest, total


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.float32, np.bool_])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_channels_are_reduced_as_numpy_reduces_them_to_the_last_bit(kind: type, channels: int) -> None:
    picture = (np.random.default_rng(channels).normal(0, 60, (31, 29, channels))).astype(kind)
    assert np.array_equal(highest(picture), picture.max(axis=2))
    assert np.array_equal(lowest(picture), picture.min(axis=2))
    if kind is np.float32:
        assert np.array_equal(total(picture), picture.sum(axis=2))
