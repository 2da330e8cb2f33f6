import pytest
import torch

from models.placement import GIB, brought_in, choose_placement


@pytest.mark.parametrize(
    ("card", "placement"), [(141, "resident"), (80, "resident"), (56, "staged"), (48, "streamed"), (24, "streamed")]
)
def test_qwen_image_is_placed_by_the_memory_of_the_card(card: int, placement: str) -> None:
    assert choose_placement(int(15.5 * GIB), int(38.3 * GIB), int(card * GIB * 0.98)) == placement


def test_a_module_that_was_brought_in_goes_home_unchanged_even_after_an_exception() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3)).eval()
    x = torch.ones(1, 3)
    before, addresses = module(x), [parameter.data_ptr() for parameter in module.parameters()]

    with pytest.raises(NotImplementedError), brought_in(module[0], torch.device("meta")):
        module[0].weight.tolist()  # meta tensors hold nothing

    assert torch.equal(module(x), before)
    assert [parameter.data_ptr() for parameter in module.parameters()] == addresses


def test_a_module_that_is_there_already_stays_there() -> None:
    module = torch.nn.Linear(3, 3, device="meta")

    with brought_in(module, torch.device("meta")):
        pass

    assert module.weight.is_meta
