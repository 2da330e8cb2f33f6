import numpy as np
import pytest

from safety.fidelity.comparison import Comparison

SIDE = 192
PRODUCT = np.s_[48:144, 48:144]
PRINT = np.s_[84:108, 72:120]


def picture(product: tuple[int, int, int], print_: tuple[int, int, int]) -> np.ndarray:
    """A square product on grey, with a print of stripes."""
    pixels = np.full((SIDE, SIDE, 3), 200, np.uint8)
    pixels[PRODUCT] = product
    stripes = np.zeros((24, 48), bool)
    stripes[:, ::8] = stripes[:, 1::8] = stripes[:, 2::8] = stripes[:, 3::8] = True
    pixels[PRINT][stripes] = print_
    return pixels


def compared(before: np.ndarray, after: np.ndarray) -> Comparison:
    mask = np.zeros((SIDE, SIDE), bool)
    mask[PRODUCT] = True
    return Comparison(before, after, mask, np.ones_like(mask))


RED, BLUE, WHITE, BLACK = (190, 30, 40), (30, 60, 190), (240, 240, 240), (20, 20, 20)


def test_the_same_picture_differs_in_nothing():
    same = compared(picture(RED, WHITE), picture(RED, WHITE))
    assert same.worst_spot(same.difference) == 0
    assert same.mean(same.structure) == pytest.approx(1)
    assert same.beside_mean(same.difference) == 0
    assert same.covered_share == same.light_change == same.lost_outlines() == 0


def test_a_spot_that_changed_is_seen_where_the_mean_is_small():
    after = picture(RED, WHITE)
    after[56:66, 56:66] = BLACK
    found = compared(picture(RED, WHITE), after)
    assert found.mean(found.difference) < 2
    assert found.worst_spot(found.difference) > 15


def test_a_new_colour_for_each_old_one_explains_a_recoloured_product():
    found = compared(picture(RED, WHITE), picture(BLUE, WHITE))
    assert found.mean(found.difference) > 20
    assert found.mean(found.unexplained) < 1
    assert found.worst_spot(found.redrawn) < 3


def test_no_change_of_colours_explains_another_print():
    after = picture(BLUE, WHITE)
    after[PRINT] = after[PRINT][:, ::-1]
    found = compared(picture(RED, WHITE), after)
    assert found.worst_spot(found.redrawn) > 10


def test_light_changes_lightness_and_hardly_tints():
    after = np.clip(picture(RED, WHITE) * np.linspace(0.7, 1.1, SIDE)[None, :, None], 0, 255).astype(np.uint8)
    found = compared(picture(RED, WHITE), after)
    assert found.light_change > 10
    assert found.mean(found.tint_difference) < found.mean(found.difference) / 2


def test_what_lay_over_the_product_is_told_from_what_changed_on_it():
    before = picture(RED, WHITE)
    before[48:66, :] = BLACK  # a ribbon across picture and product
    found = compared(before, picture(RED, WHITE))
    assert found.covered_share == pytest.approx(18 / 96, abs=0.06)
    assert found.uncovered.worst_spot(found.difference) < 1
    changed = picture(RED, WHITE)
    changed[110:130, 60:100] = BLACK
    assert compared(before, changed).uncovered.worst_spot(compared(before, changed).difference) > 15
