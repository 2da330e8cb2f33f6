import cv2
import numpy as np
import pytest

from models.miniature.world.world import Alteration
from safety.fidelity.fidelity_gate import judge_edit
from safety.fidelity.frames import PairError
from safety.fidelity.instruction import Instruction, InstructionError, shipped
from safety.fidelity.kept_product import check_keeps, feathered, keep_product
from safety.fidelity.product_mask import ProductMask, product_mask

SCENE = Instruction.load("scene")


def core_of(cover: np.ndarray) -> np.ndarray:
    return feathered(cover) == 255


def test_in_the_products_core_the_bytes_are_the_sources(drawn, noise):
    source, result = drawn(before={"background": "table"}, after={"background": "grass"}, label="ACME")
    cover = source.product[..., 3]
    kept = keep_product(source.picture, noise(result.picture), ProductMask(cover, "mask"))
    core = core_of(cover)
    assert core.sum() > 0.85 * (cover >= 128).sum()
    assert np.array_equal(kept[core], source.picture[core])


def test_beside_the_product_the_bytes_are_the_results(drawn, noise):
    source, result = drawn(after={"background": "grass"})
    made, cover = noise(result.picture), source.product[..., 3]
    kept = keep_product(source.picture, made, ProductMask(cover, "mask"))
    assert np.array_equal(kept[cover < 128], made[cover < 128])


def test_the_edge_fades_from_one_to_the_other(drawn):
    source, _ = drawn()
    soft = feathered(source.product[..., 3])
    assert set(np.unique(soft)) > {0, 255}
    assert (np.diff(np.unique(soft).astype(int)) > 0).all()


def test_a_product_that_the_frame_cuts_off_has_no_edge_there():
    cover = np.zeros((60, 60), np.uint8)
    cover[30:] = 255
    assert (feathered(cover)[-1] == 255).all()


def test_where_the_model_moved_the_product_its_own_pixels_follow_unchanged(drawn, noise):
    source, result = drawn(after={"background": "grass"}, altered=Alteration(shift=(5, 0)))
    cover = source.product[..., 3]
    kept = keep_product(source.picture, noise(result.picture), ProductMask(cover, "mask"))
    core = core_of(cover)
    assert np.array_equal(np.roll(kept, -5, axis=1)[core], source.picture[core])


def test_a_larger_source_is_scaled_to_the_result(drawn, noise):
    source, result = drawn(before={"background": "table"}, after={"background": "grass"})
    large = cv2.resize(source.picture, (700, 700), interpolation=cv2.INTER_CUBIC)
    cover = cv2.resize(source.product[..., 3], (700, 700), interpolation=cv2.INTER_LINEAR)
    kept = keep_product(large, noise(result.picture), ProductMask(cover, "mask"))
    core = core_of(source.product[..., 3])
    assert kept.shape == result.picture.shape
    assert np.abs(kept[core].astype(int) - source.picture[core]).mean() < 4


def test_a_cut_out_is_laid_over_the_result_by_its_alpha(drawn, noise):
    source, result = drawn(after={"background": "grass"})
    kept = keep_product(source.product, noise(result.picture), product_mask(source.product))
    core = core_of(source.product[..., 3])
    assert np.array_equal(kept[core], source.product[core][:, :3])


def test_what_was_kept_passes_the_gate(drawn, noise):
    source, result = drawn(
        before={"background": "table"}, after={"background": "grass"}, altered=Alteration(label="NOVA")
    )
    product = ProductMask(source.product[..., 3], "mask")
    made = noise(result.picture)
    assert not judge_edit(source.picture, made, product, SCENE, {}).allowed
    kept = keep_product(source.picture, made, product)
    verdict = judge_edit(source.picture, kept, product, SCENE, {})
    assert verdict.allowed, verdict.message


@pytest.mark.parametrize("name", sorted({*shipped()} - {"scene", "white-background"}))
def test_an_instruction_that_changes_the_product_keeps_none(name: str):
    with pytest.raises(InstructionError, match=f"can't be used with the instruction {name}"):
        check_keeps(Instruction.load(name))


def test_a_result_without_the_product_is_left_alone(drawn):
    source, result = drawn(after={"kind": "teapot", "background": "grass"})
    with pytest.raises(PairError, match="wasn't found in the result"):
        keep_product(source.picture, result.picture, ProductMask(source.product[..., 3], "mask"))
