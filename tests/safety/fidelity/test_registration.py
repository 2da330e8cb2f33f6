import cv2
import numpy as np
import pytest

from models.miniature.world.world import Alteration
from safety.fidelity.frames import framed, in_frame
from safety.fidelity.registration import aligned, register


def moved(pixels: np.ndarray, zoom: float, across: float, down: float) -> np.ndarray:
    """A picture zoomed about its middle and moved by so many pixels."""
    middle = (pixels.shape[0] - 1) / 2
    matrix = np.array([[zoom, 0, across + (1 - zoom) * middle], [0, zoom, down + (1 - zoom) * middle]])
    return cv2.warpAffine(pixels, matrix, pixels.shape[1::-1], flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


@pytest.mark.parametrize(
    ("zoom", "across", "down"), [(1.0, 0, 0), (1.0, 3.4, -2.0), (1.0, -22, 9), (1.06, 0, 0), (0.9, 5, 5), (1.15, -6, 2)]
)
def test_how_far_a_product_was_moved_and_zoomed_is_found(drawn, noise, zoom: float, across: float, down: float):
    source, _ = drawn(before={"background": "table"})
    frame = framed(source.picture, noise(moved(source.picture, zoom, across, down)))
    mask = in_frame(source.product[..., 3], frame) >= 128
    found = register(frame, mask)
    x, y = found.middle
    offset = np.array([across + (zoom - 1) * (x - 127.5), down + (zoom - 1) * (y - 127.5)])
    assert found.zoom == pytest.approx(zoom, abs=0.012)
    assert np.abs(found.shift - offset).max() < 0.8
    assert found.likeness > 0.8
    rest = np.abs(aligned(frame, found)[mask].astype(int) - source.picture[mask]).mean()
    assert rest < 12


@pytest.mark.parametrize(
    "after", [{"background": "grass"}, {"colour": "blue"}, {"colour": "black", "background": "room"}]
)
def test_another_background_or_colour_moves_nothing(drawn, after: dict[str, str]):
    source, result = drawn(after=after)
    frame = framed(source.picture, result.picture)
    found = register(frame, source.product[..., 3] >= 128)
    assert found.zoom == pytest.approx(1, abs=0.005)
    assert np.abs(found.shift).max() < 0.5


def test_another_product_agrees_in_few_outlines(drawn):
    source, result = drawn(after={"kind": "teapot"})
    found = register(framed(source.picture, result.picture), source.product[..., 3] >= 128)
    assert found.likeness < 0.5


def test_a_moved_product_is_found_on_another_background(drawn):
    source, result = drawn(after={"background": "shelf"}, altered=Alteration(shift=(18, 0)))
    found = register(framed(source.picture, result.picture), source.product[..., 3] >= 128)
    assert found.shift[0] == pytest.approx(18, abs=0.7)


def test_a_result_that_shows_nothing_has_no_likeness():
    source = np.full((64, 64, 3), 255, np.uint8)
    source[20:40, 20:40] = (200, 0, 0)
    blank = np.full((64, 64, 3), 128, np.uint8)
    mask = np.zeros((64, 64), bool)
    mask[20:40, 20:40] = True
    assert register(framed(source, blank), mask).likeness < 0.3
