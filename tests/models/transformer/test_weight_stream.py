"""Weights that take turns on a device; on the CPU, where a slot is other memory."""

import pytest
import torch
from torch import nn

from models.transformer.host_weights import look_up_on_host, stream_layers
from models.transformer.weight_stream import WeightStream

CPU = torch.device("cpu")


def part(number: int) -> list[torch.Tensor]:
    """Tensors of several shapes and dtypes, of which bytes need not be a multiple of anything."""
    return [
        torch.full((3, 5), float(number)),
        torch.full((7,), number, dtype=torch.int8),
        torch.full((2, 2), number / 8, dtype=torch.bfloat16).to(torch.float8_e4m3fn),
        torch.full((), float(number), dtype=torch.bfloat16),
    ]


def stream_of(count: int, *, resident: set[int] = frozenset(), slots: int = 2) -> WeightStream:  # type: ignore[assignment]
    stream = WeightStream(CPU, slots=slots)
    for number in range(count):
        stream.add(part(number), resident=number in resident)
    return stream


def assert_is(tensors: list[torch.Tensor], number: int) -> None:
    for found, expected in zip(tensors, part(number), strict=True):
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        assert torch.equal(found.float(), expected.float())


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("resident", [set(), {0}, {0, 1, 2, 3, 4}])
@pytest.mark.parametrize("slots", [1, 2, 3])
def test_every_part_is_there_in_its_turn_round_after_round(count: int, resident: set[int], slots: int) -> None:
    stream = stream_of(count, resident=resident, slots=slots)
    for number in [*range(count)] * 3:
        with stream.turn(number) as tensors:
            assert_is(tensors, number)


def test_a_part_out_of_its_turn_is_there_too() -> None:
    stream = stream_of(5, resident={0})
    for number in (0, 1, 2, 0, 0, 3, 1, 4, 0, 2, 2):
        with stream.turn(number) as tensors:
            assert_is(tensors, number)


def test_while_a_part_is_at_work_the_next_one_is_there_already() -> None:
    stream = stream_of(4)
    with stream.turn(2):
        assert [slot.part for slot in stream._slots] == [2, 3]
    assert sorted(slot.part or 0 for slot in stream._slots) == [0, 3]


def test_parts_that_are_offloaded_are_streamed_until_they_are_reloaded() -> None:
    stream = stream_of(6, resident={0, 1, 2, 4, 5})

    assert stream.offload()
    assert stream.streamed == 3
    for number in [*range(6)] * 2:
        with stream.turn(number) as tensors:
            assert_is(tensors, number)

    assert stream.offload()
    assert stream.offload()
    assert not stream.offload()
    assert stream.streamed == 5  # the first one stays
    for number in [*range(6)] * 2:
        with stream.turn(number) as tensors:
            assert_is(tensors, number)

    stream.reload()
    assert stream.streamed == 1
    for number in [*range(6)] * 2:
        with stream.turn(number) as tensors:
            assert_is(tensors, number)


def test_slots_are_given_back_and_taken_again() -> None:
    stream = stream_of(3)
    with stream.turn(0):
        pass
    stream.release()
    assert stream._slots == []
    with stream.turn(1) as tensors:
        assert_is(tensors, 1)


def test_a_turn_that_fails_ends() -> None:
    stream = stream_of(4)
    with pytest.raises(KeyError), stream.turn(0):
        raise KeyError
    with stream.turn(1) as tensors:
        assert_is(tensors, 1)


def test_streamed_layers_compute_what_they_computed_and_keep_nothing() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)) for _ in range(4))).eval()
    x = torch.randn(3, 4)
    expected = model(x)

    stream = stream_layers([*model], CPU, {1})

    assert (len(stream), stream.streamed) == (4, 3)
    for _ in range(2):
        assert torch.equal(model(x), expected)
    assert [sum(parameter.numel() for parameter in layer.parameters()) for layer in model] == [0, 28, 0, 0]


def test_a_layer_that_fails_keeps_nothing_either() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    stream_layers([*model], CPU)
    with pytest.raises(RuntimeError, match="shapes"):
        model(torch.randn(3, 5))
    assert sum(parameter.numel() for parameter in model.parameters()) == 0
    assert model(torch.randn(3, 4)).shape == (3, 4)


def test_tokens_are_looked_up_where_the_table_is() -> None:
    embedding = nn.Embedding(8, 3)
    expected = embedding(torch.tensor([1, 5]))
    look_up_on_host(embedding, torch.device("meta"))
    found = embedding(torch.tensor([1, 5]))
    assert (found.device.type, found.shape) == ("meta", expected.shape)
