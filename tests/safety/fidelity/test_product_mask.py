import numpy as np
import pytest

from safety.fidelity.frames import PairError
from safety.fidelity.product_mask import NoProduct, find_product, given_mask, product_layer, product_mask


def overlap(cover: np.ndarray, other: np.ndarray) -> float:
    one, two = cover >= 128, other >= 128
    return float((one & two).sum() / (one | two).sum())


@pytest.mark.parametrize("ground", ["white", "grey", "blue", "pink"])
def test_a_product_on_a_plain_background_is_found_without_its_shadow(drawn, noise, ground: str):
    source, _ = drawn(before={"background": ground})
    mask = product_mask(noise(source.picture))
    assert mask.origin == "background"
    assert overlap(mask.cover, source.product[..., 3]) > 0.93


def test_what_a_handle_encloses_is_background(drawn):
    source, _ = drawn(before={"kind": "mug"})
    cover, alpha = product_mask(source.picture).cover, source.product[..., 3]
    rows, columns = np.nonzero(alpha)
    box = np.s_[rows.min() : rows.max(), columns.min() : columns.max()]
    assert overlap(255 - cover[box], 255 - alpha[box]) > 0.8


def test_a_sources_alpha_is_its_mask():
    source = np.full((60, 80, 4), 255, np.uint8)
    source[:, :40, 3] = 0
    mask = product_mask(source)
    assert mask.origin == "alpha"
    assert mask.share == 0.5
    assert not mask.cover[:, :40].any()


def test_opaque_alpha_says_nothing_of_a_product(drawn):
    source, _ = drawn()
    whole = np.dstack([source.picture, np.full(source.picture.shape[:2], 255, np.uint8)])
    assert product_mask(whole).origin == "background"


@pytest.mark.parametrize("channels", [None, 1, 3, 4])
def test_a_given_mask_counts_whatever_its_channels_and_size(drawn, channels: int | None):
    source, _ = drawn(before={"background": "grass"})
    plane = np.zeros((128, 128), np.uint8)
    plane[30:100, 40:90] = 255
    if channels == 4:
        given = np.dstack([np.zeros((128, 128, 3), np.uint8), plane])
    else:
        given = plane if channels is None else np.repeat(plane[..., None], channels, axis=2)
    mask = product_mask(source.picture, given)
    assert mask.origin == "mask"
    assert mask.cover.shape == source.picture.shape[:2]
    assert mask.share == pytest.approx(70 * 50 / 128**2, rel=0.01)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (np.zeros((256, 256), np.uint8), "The mask shows no product at all.* Give one that is white on the product"),
        (np.full((256, 256), 255, np.uint8), "nothing is left beside it. Give one that is white on the product"),
        (np.full((128, 256), 255, np.uint8), "The mask is 256 × 128 pixels, and its picture 256 × 256"),
        (np.zeros((2, 2), np.uint8), "The mask is 2 × 2 pixels, too small"),
    ],
)
def test_a_mask_that_says_nothing_is_named(drawn, given: np.ndarray, words: str):
    source, _ = drawn()
    with pytest.raises(PairError, match=words):
        product_mask(source.picture, given)


def test_a_lively_background_needs_a_mask(drawn):
    source, _ = drawn(before={"background": "room"})
    with pytest.raises(PairError, match="Give a mask"):
        product_mask(source.picture)


def test_an_empty_picture_has_no_product():
    with pytest.raises(PairError, match=r"no product at all.* Give a mask\."):
        product_mask(np.full((64, 64, 3), 255, np.uint8))


@pytest.mark.parametrize(
    ("level", "words"), [(0, "shows no product at all"), (255, "shows 100 % of the picture as the product")]
)
def test_a_mask_of_nothing_or_of_all_is_told_before_there_is_a_result(level: int, words: str):
    with pytest.raises(PairError, match=f"The mask {words}"):
        given_mask(np.full((60, 60, 3), level, np.uint8))


def test_a_mask_picture_becomes_a_plane():
    picture = np.zeros((60, 80, 4), np.uint8)
    picture[..., 3] = 255
    picture[10:40, 20:50, :3] = 255
    plane = given_mask(picture)
    assert plane.shape == (60, 80)
    assert (plane == 255).sum() == 30 * 30


def test_the_product_is_the_largest_layer_that_leaves_a_part_of_the_frame(drawn):
    source, _ = drawn(before={"background": "grass"})
    height, width = source.picture.shape[:2]
    ground = np.dstack([source.picture, np.full((height, width), 255, np.uint8)])
    shadow = source.product // np.array([1, 1, 1, 3], np.uint8)
    sticker = np.zeros_like(ground)
    sticker[4:20, 4:20] = 255
    layers = np.stack([ground, shadow, source.product, sticker])
    plane = product_layer(layers)
    assert plane is not None
    assert np.array_equal(plane, source.product[..., 3])
    assert product_layer(layers[:2]) is None


def test_a_model_is_asked_where_neither_alpha_nor_a_plain_background_tells_the_product(drawn):
    plain, _ = drawn(before={"background": "white"})
    grass, _ = drawn(before={"background": "grass"})
    barely = np.dstack([grass.picture, np.full(grass.picture.shape[:2], 255, np.uint8)])
    barely[:2, :2, 3] = 0  # its corner alone is clear
    asked = {
        "plain": plain.picture,
        "alpha": grass.product,
        "grass": grass.picture,
        "corner": barely,
        "dot": plain.picture[:1, :1],
        "strip": np.tile(plain.picture[:16], (1, 2, 1)),
    }
    found = {name: find_product(picture) for name, picture in asked.items()}
    untold = {name: isinstance(one, NoProduct) and one.is_untold for name, one in found.items()}
    assert untold == {"plain": False, "alpha": False, "grass": True, "corner": True, "dot": False, "strip": False}
    nothing = find_product(grass.picture, np.zeros_like(grass.picture))
    assert isinstance(nothing, NoProduct)
    assert nothing.sentence.startswith("The mask shows no product at all")
    assert not nothing.is_untold
