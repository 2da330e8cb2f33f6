"""What is predicted of a model, from what one of its blocks took."""

import pytest

from models.files.safetensors_files import CheckpointError
from models.loading.placement import Placement, Room, balance
from models.loading.sizes import Sizes
from models.memory.block_benchmark import BlockBenchmark
from models.memory.measure import Cost
from models.memory.memory_plan import MARGIN, MemoryPlan
from models.requests import Shape, Workload
from models.units import GIB
from tests.models.loading.test_placement import QWEN_IMAGE

ENCODING = int(0.65 * GIB)


def benchmark(*, bus: float = 50e9, block: float = 0.004, kept: int = 0) -> BlockBenchmark:
    """As one H200 has it: a step of a row takes 0.25 s, and 0.4 GiB beside what the first one takes."""
    return BlockBenchmark(
        Workload(Shape(1024, 1024, 50, 4.0)),
        block={1: block, 2: 2 * block, 4: 4 * block},
        beside={rows: Cost(int((0.3 + 0.4 * rows) * GIB), 0.01) for rows in (1, 2, 4)},
        decoding=Cost(int(0.6 * GIB), 0.02),
        bus=bus,
        kept=kept,
    )


def plan(gib: float, **of_benchmark: float) -> MemoryPlan:
    return MemoryPlan(QWEN_IMAGE, benchmark(**of_benchmark), int(gib * GIB), ENCODING, most=64)


@pytest.mark.parametrize(("gib", "kind"), [(100, "resident"), (40, "staged"), (21, "streamed"), (7, "streamed")])
def test_the_first_placement_that_fits_is_taken_and_its_memory_is_within_what_may_be_used(gib: int, kind: str) -> None:
    taken = plan(gib).taken()
    assert taken.placement.kind == kind
    assert taken.bytes <= gib * GIB
    assert taken.rows >= 1


def test_less_memory_costs_little_time_as_long_as_batches_hide_the_transfers() -> None:
    resident, *_ = plan(100).candidates
    assert resident.seconds == pytest.approx(50 * (60 * 0.004 + 0.01 / resident.rows) + 0.02)
    for gib in (40, 21, 7):
        seconds = plan(gib).taken().seconds
        assert seconds is not None
        assert seconds <= 1.01 * (resident.seconds or 0)


def test_a_slow_bus_asks_for_more_rows_and_shows_where_they_do_not_fit() -> None:
    fast, slow = plan(7).taken(), plan(7, bus=6e9).taken()
    assert slow.rows > fast.rows
    assert fast.seconds is not None
    assert slow.seconds is not None
    assert slow.seconds > fast.seconds


def test_what_is_predicted_is_the_weights_the_work_and_a_margin() -> None:
    placement = Placement("streamed", 60, 10)
    forecast = plan(7).forecast(placement, 4)
    weights = QWEN_IMAGE.rest + 12 * QWEN_IMAGE.block
    assert forecast.bytes == int(MARGIN * (weights + QWEN_IMAGE.table + int(1.9 * GIB)))


def test_several_gpus_share_the_blocks_where_streaming_is_slow() -> None:
    gpus = {"cuda:0": 12 * GIB, "cuda:1": 24 * GIB}
    slow, fast = (MemoryPlan(QWEN_IMAGE, benchmark(bus=bus), gpus, ENCODING, most=2) for bus in (2e9, 50e9))

    taken = slow.taken()

    assert (taken.placement.kind, str(taken.placement)) == ("balanced", "balanced over 2 devices")
    assert len(taken.placement.homes) == 60
    assert taken.placement.homes == tuple(sorted(taken.placement.homes))
    assert 10 < taken.placement.homes.count("cuda:0") < 25 < taken.placement.homes.count("cuda:1")
    assert taken.bytes <= gpus["cuda:0"]
    assert fast.taken().placement.kind == "streamed"
    assert "balanced" in {candidate.placement.kind for candidate in fast.candidates}


def test_gpus_that_are_too_small_together_share_nothing() -> None:
    assert balance(QWEN_IMAGE, Room(GIB, GIB, GIB), {"cuda:0": 8 * GIB, "cuda:1": 12 * GIB}) is None


def test_what_blocks_keep_of_a_row_takes_memory_with_every_block_and_row() -> None:
    kept = int(0.1 * GIB)
    for placement in (Placement("staged", 60, 60), Placement("streamed", 60, 10)):
        without, beside = (plan(40, kept=each).forecast(placement, 4) for each in (0, kept))
        assert beside.bytes - without.bytes == pytest.approx(MARGIN * 60 * 4 * kept)
        assert beside.seconds == without.seconds
    assert plan(48).taken().rows > plan(48, kept=kept).taken().rows >= 1
    assert plan(48, kept=kept).taken().bytes <= 48 * GIB


def test_what_blocks_keep_is_where_they_are_where_several_gpus_share_them() -> None:
    gpus, kept = {"cuda:0": 16 * GIB, "cuda:1": 24 * GIB}, int(0.05 * GIB)

    balanced = MemoryPlan(QWEN_IMAGE, benchmark(bus=2e9, kept=kept), gpus, ENCODING, most=2).taken()

    assert balanced.placement.kind == "balanced"
    assert balanced.bytes <= gpus["cuda:0"]
    mine = balanced.placement.homes.count("cuda:0")
    other = (60 - mine) * (QWEN_IMAGE.block + balanced.rows * kept) + QWEN_IMAGE.table + int(1.1 * GIB)
    assert mine > 10
    assert other <= gpus["cuda:1"]


def test_a_gpu_without_room_for_what_is_kept_is_refused_with_what_to_do() -> None:
    with pytest.raises(CheckpointError, match="leave condition_cache out"):
        plan(7, kept=int(0.1 * GIB)).taken()


def test_candidates_that_do_not_fit_say_what_they_would_need() -> None:
    resident, staged, streamed = plan(7).candidates
    assert (resident.rows, resident.seconds, staged.rows) == (0, None, 0)
    assert resident.bytes > staged.bytes > 7 * GIB >= streamed.bytes


def test_a_gpu_without_room_for_a_block_is_refused() -> None:
    with pytest.raises(CheckpointError, match="even if it is streamed block by block"):
        plan(2).taken()


def test_a_trial_of_one_size_alone_tells_of_others() -> None:
    one = BlockBenchmark(Workload(Shape(64, 64, 2, 1.0)), {1: 0.01}, {1: Cost(100, 0.0)}, Cost(50, 0.0), 1e9)
    assert one.step_seconds(10, 3) == pytest.approx(0.3)
    assert (one.bytes(1, 10), one.bytes(3, 10)) == (100, 300)


def test_sizes_add_up() -> None:
    tiny = Sizes(
        text_encoder=7, text_layer=1, text_rest=1, text_on_host=2, blocks=2, block=3, modulation=2, rest=4, table=1
    )
    assert tiny.whole == 7 + 2 * 5 + 4
    assert Placement("resident", 2, 2).weights(tiny) == tiny.whole
    assert Placement("staged", 2, 2).weights(tiny) == 4 + 1 + 6
    assert Placement("streamed", 2, 1).weights(tiny) == 4 + 1 + 6  # one stays, one is in a slot
