import numpy as np

from safety.probes.held_out import is_held_out, picture_key, text_key


def test_an_example_stays_on_its_side_however_it_is_written() -> None:
    keys = {text_key(text) for text in ("A red  mug", "a red mug", "ａ red mug ", "a r\u200bed mug")}

    assert len(keys) == 1
    assert text_key("a red mug") != text_key("a red mug 2")
    assert text_key("🙂") != text_key("🙁")
    assert text_key("\ud800")


def test_a_picture_is_known_by_its_pixels() -> None:
    picture = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)

    assert picture_key(picture) == picture_key(picture[:, ::-1][:, ::-1])
    assert picture_key(picture) != picture_key(picture.reshape(5, 4, 3))


def test_the_asked_share_is_held_out_and_a_larger_one_keeps_what_the_smaller_had() -> None:
    keys = [text_key(f"product number {number}") for number in range(4000)]

    held = {share: {key for key in keys if is_held_out(key, share)} for share in (0.0, 0.3, 0.5, 1.0)}

    assert [len(some) for some in held.values()][::3] == [0, 4000]
    assert abs(len(held[0.5]) - 2000) < 150
    assert held[0.3] < held[0.5]
