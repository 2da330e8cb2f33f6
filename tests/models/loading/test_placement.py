"""Where Qwen-Image goes on cards of several sizes."""

import pytest
import torch

from models.files.safetensors_files import CheckpointError
from models.loading.placement import Placement, Room, place, rows_that_hide
from models.loading.sizes import Sizes
from models.transformer.host_weights import brought_in
from models.units import GIB

QWEN_IMAGE = Sizes(
    text_encoder=int(13.1 * GIB),
    text_layer=int(0.43 * GIB),
    text_rest=0,
    text_on_host=0,
    blocks=60,
    block=int(0.42 * GIB),
    modulation=int(0.21 * GIB),
    rest=int(0.3 * GIB),
    table=int(0.26 * GIB),
)
ROOM = Room(drawing=int(1.9 * GIB), least=int(0.8 * GIB), encoding=int(0.65 * GIB))


@pytest.mark.parametrize(
    ("card", "placement"),
    [
        (141, "resident"),
        (80, "resident"),
        (48, "staged"),
        (32, "staged"),
        (24, "streamed, 43 of 60 blocks stay"),
        (16, "streamed, 26 of 60 blocks stay"),
        (8, "streamed, 9 of 60 blocks stay"),
        (4, "streamed"),
    ],
)
def test_qwen_image_is_placed_by_the_memory_of_the_card(card: int, placement: str) -> None:
    budget = int(card * GIB * 0.9)
    placed = place(QWEN_IMAGE, ROOM, budget)
    assert str(placed) == placement
    drawing = ROOM.least if card == 4 else ROOM.drawing
    assert placed.weights(QWEN_IMAGE) + ROOM.beside(placed, QWEN_IMAGE, drawing) <= budget


def test_a_card_without_room_for_a_block_is_refused_in_a_sentence() -> None:
    with pytest.raises(CheckpointError, match=r"needs 2\.\d GiB of the GPU's memory even .*, and 2\.0 GiB may be used"):
        place(QWEN_IMAGE, ROOM, 2 * GIB)


def test_blocks_that_stay_are_spread_among_the_others_and_the_first_is_one() -> None:
    assert Placement("resident", 60, 60).resident_blocks is None
    assert Placement("staged", 4, 4).resident_blocks == {0, 1, 2, 3}
    assert Placement("streamed", 60, 0).resident_blocks == frozenset()
    for staying in range(1, 60):
        stays = Placement("streamed", 60, staying).resident_blocks
        assert stays is not None
        assert len(stays) == staying
        assert 0 in stays
        gaps = [1 + index for index in range(59) if index not in stays and index + 1 not in stays]
        assert not gaps or staying < 30


def test_a_batch_hides_a_transfer_with_half_as_much_again() -> None:
    assert rows_that_hide(453_000_000, 55e9, 0.0038) == 4
    assert rows_that_hide(453_000_000, 12e9, 0.0038) == 15
    assert rows_that_hide(1, 55e9, 0.0038) == 1


def test_a_module_that_was_brought_in_goes_home_unchanged_even_after_an_exception() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3)).eval()
    x = torch.ones(1, 3)
    before, addresses = module(x), [parameter.data_ptr() for parameter in module.parameters()]

    with pytest.raises(NotImplementedError), brought_in(module, torch.device("meta")):
        module[1].running_mean.tolist()  # meta tensors hold nothing

    assert torch.equal(module(x), before)
    assert [parameter.data_ptr() for parameter in module.parameters()] == addresses


def test_a_module_that_is_there_already_stays_there() -> None:
    module = torch.nn.Linear(3, 3, device="meta")

    with brought_in(module, torch.device("meta")):
        pass

    assert module.weight.is_meta
