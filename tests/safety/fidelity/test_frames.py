import numpy as np
import pytest

from safety.fidelity.frames import PairError, eight_bits, fit_of, framed, in_frame, no_larger, opaque


def grey(height: int, width: int, level: int = 128) -> np.ndarray:
    return np.full((height, width, 3), level, np.uint8)


def test_a_source_of_nearly_the_results_aspect_fills_the_frame():
    frame = framed(grey(300, 400), grey(96, 131))
    assert frame.shown.all()
    assert frame.source.shape == frame.result.shape == (96, 131, 3)


def test_a_source_of_another_aspect_lies_whole_in_the_middle():
    frame = framed(grey(100, 200, 40), grey(128, 128))
    assert frame.shown[32:96].all()
    assert not frame.shown[:32].any()
    assert not frame.shown[96:].any()
    assert (frame.source[~frame.shown] == 255).all()


def test_large_pictures_are_compared_smaller_and_small_ones_as_they_are():
    assert framed(grey(1024, 1024), grey(1024, 1024)).size == (512, 512)
    assert framed(grey(64, 64), grey(1024, 1024)).size == (64, 64)


def test_a_mask_goes_where_its_source_goes():
    frame = framed(grey(100, 200), grey(128, 128))
    plane = np.full((100, 200), 255, np.uint8)
    assert np.array_equal(in_frame(plane, frame) > 0, frame.shown)


def test_the_map_of_a_fit_takes_corners_to_corners():
    matrix = fit_of((100, 50), (200, 100)).matrix()
    assert matrix @ [-0.5, -0.5, 1] == pytest.approx([-0.5, -0.5])
    assert matrix @ [99.5, 49.5, 1] == pytest.approx([199.5, 99.5])


def test_sixteen_bits_and_grey_become_eight_bits_of_three_channels():
    deep = np.full((20, 20), 65_535, np.uint16)
    deep[0, 0] = 257 * 7
    picture = eight_bits(deep, "The source")
    assert picture.dtype == np.uint8
    assert picture.shape == (20, 20, 3)
    assert (picture[0, 0] == 7).all()
    assert (picture[1:] == 255).all()


def test_what_is_transparent_is_seen_over_white():
    clear = np.zeros((20, 20, 4), np.uint8)
    clear[:10, :, 3] = 255
    assert (opaque(clear)[:10] == 0).all()
    assert (opaque(clear)[10:] == 255).all()


@pytest.mark.parametrize(
    ("picture", "words"),
    [
        (np.zeros((1, 1, 3), np.uint8), "1 × 1 pixels, too small"),
        (np.zeros((20, 600, 3), np.uint8), "600 × 20 pixels, too long"),
        (np.zeros((64, 64, 2), np.uint8), "2 channels"),
        (np.zeros((64, 64, 3), np.float32), "float32"),
        (np.zeros((2, 64, 64, 3), np.uint8), "of 8 or 16 bits"),
    ],
)
def test_what_is_no_picture_to_compare_is_said_in_a_sentence(picture: np.ndarray, words: str):
    with pytest.raises(PairError, match=words):
        framed(picture, grey(64, 64))


def test_a_source_is_never_larger_than_a_frame_has_it_and_never_enlarged():
    assert no_larger(grey(300, 400), (192, 144)).shape == (144, 192, 3)
    assert no_larger(grey(300, 400), (192, 192)).shape == (144, 192, 3)
    small = grey(60, 80)
    assert no_larger(small, (192, 144)) is small
    assert no_larger(np.zeros((300, 400), np.uint8), (192, 144)).shape == (144, 192)
    assert no_larger(grey(150, 1200), (64, 64)).shape == (16, 128, 3)  # as small as can be compared, and not 8 × 64
    strip = grey(8, 240)
    assert no_larger(strip, (64, 64)) is strip


def test_what_a_transparent_pixel_hides_doesnt_show_in_a_smaller_picture():
    source = np.zeros((64, 64, 4), np.uint8)
    source[:, 31:] = (200, 100, 50, 255)
    smaller = no_larger(source, (32, 32))
    assert smaller.dtype == np.uint8
    assert smaller[0, 15].tolist() == [200, 100, 50, 128]
    assert smaller[0, 20].tolist() == [200, 100, 50, 255]


def test_two_pictures_that_are_large_enough_alone_may_be_too_small_in_one_frame() -> None:
    with pytest.raises(PairError, match="in one frame both are 39 × 7, too small to compare"):
        framed(np.zeros((16, 16, 3), np.uint8), np.zeros((16, 96, 3), np.uint8))
