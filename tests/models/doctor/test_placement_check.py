"""What a doctor says of placements."""

from __future__ import annotations

import pytest

from models.checkpoints.checkpoint import Checkpoint, find_checkpoint
from models.doctor.host import HostFacts
from models.doctor.placement_check import check_placement, judge_plan
from models.files.safetensors_files import CheckpointError
from models.finding import Finding
from models.loading.optimization_options import OptimizationOptions
from models.units import GIB
from tests.models.loading.test_placement import QWEN_IMAGE
from tests.models.memory.test_memory_plan import plan

ROOMY = HostFacts(128 * GIB, 100 * GIB)


def told(findings: list[Finding]) -> dict[str, tuple[str, str]]:
    return {one.name: (one.status, one.found) for one in findings}


def test_the_placement_that_is_taken_comes_first_and_the_others_say_why_not() -> None:
    findings = judge_plan(plan(21), "auto", ROOMY)

    assert [one.name for one in findings] == ["placement", "resident", "staged"]
    status, sentence = told(findings)["placement"]
    assert status == "ok"
    assert sentence.startswith("Streamed, 41 of 60 blocks stay, the first that fits: 12.14 s a picture, 4 at a time, ")
    assert sentence.endswith("of the 21.0 GiB that may be used; 21.1 GiB wait in host memory.")
    assert told(findings)["resident"][0] == "left out"
    assert "for one picture at a time, more than the 21.0 GiB that may be used" in told(findings)["resident"][1]


def test_machines_get_the_numbers() -> None:
    data = judge_plan(plan(100), "auto", ROOMY)[0].data
    assert data is not None
    assert [one["placement"] for one in data["candidates"] if one["taken"]] == ["resident"]
    assert all(one["bytes"] > 0 and one["seconds"] > 0 for one in data["candidates"])


def test_a_placement_that_was_asked_for_is_said_to_be_so_or_not_to_fit() -> None:
    assert ", as it was asked for: " in told(judge_plan(plan(100), "staged", ROOMY))["placement"][1]
    refused = judge_plan(plan(21), "resident", ROOMY)[0]
    assert (refused.status, refused.fault) == ("failed", "request")
    assert "one picture at a time, more than the 21.0 GiB" in refused.found


def test_weights_that_wait_must_fit_host_memory() -> None:
    *_, room = judge_plan(plan(21), "auto", HostFacts(16 * GIB, 12 * GIB))
    assert (room.name, room.status) == ("host memory", "failed")
    assert "the model takes 21.1 GiB there" in room.found
    assert all(one.name != "host memory" for one in judge_plan(plan(100), "auto", HostFacts(16 * GIB, 12 * GIB)))


def test_each_of_several_lanes_has_weights_of_its_own_in_host_memory() -> None:
    few = HostFacts(64 * GIB, 60 * GIB)
    assert all(one.name != "host memory" for one in judge_plan(plan(21), "auto", few, lanes=2))
    *_, room = judge_plan(plan(21), "auto", few, lanes=4)
    assert (room.name, room.status) == ("host memory", "failed")
    assert "the model takes 21.1 GiB there in each of 4 lanes" in room.found
    assert "fewer lanes" in room.do


@pytest.mark.parametrize(("shared", "status"), [(45e9, "ok"), (10e9, "warning")])
def test_lanes_that_stream_at_once_are_told_what_they_take_from_each_other(shared: float, status: str) -> None:
    small = plan(7)
    taken = small.taken()
    came = 50 * (60 - taken.placement.staying) * QWEN_IMAGE.block / shared / taken.rows  # seconds of a picture
    seconds = max(came + 0.02, taken.seconds or 0)  # and its decoding

    found = told(judge_plan(small, "auto", ROOMY, lanes=4, shared_bus=lambda: shared))["lanes that stream"]

    rates = f"4 lanes that stream get {shared / 1e9:.1f} GB/s each, and one alone 50.0"
    assert found == (status, f"{rates}: {seconds:.2f} s a picture in each, and 12.14 in one alone.")


@pytest.mark.parametrize(("gib", "lanes"), [(100, 4), (21, 1)])
def test_lanes_that_share_no_bus_are_told_of_none(gib: int, lanes: int) -> None:
    def not_asked() -> float:
        raise AssertionError("The bus is measured for nothing.")

    found = told(judge_plan(plan(gib), "auto", ROOMY, lanes=lanes, shared_bus=not_asked))
    assert "lanes that stream" not in found


def test_where_nothing_fits_nothing_is_planned() -> None:
    with pytest.raises(CheckpointError, match="even if it is streamed"):
        judge_plan(plan(2), "auto", ROOMY)


def checked_on_cpu(checkpoint: Checkpoint, options: OptimizationOptions) -> Finding:
    """The one thing that is said of a checkpoint on the CPU."""
    (finding,) = check_placement(
        checkpoint,
        device="cpu",
        precision="auto",
        options=options,
        wanted="auto",
        gpu_memory=None,
        memory_fraction=0.9,
        batch=None,
        changed=False,
        controlnet=None,
    )
    return finding


def test_on_a_cpu_everything_is_in_host_memory() -> None:
    finding = checked_on_cpu(find_checkpoint("miniature"), OptimizationOptions())
    assert finding.status == "ok"
    assert "How long a picture takes isn't known before one was drawn here" in finding.found


def test_a_condition_cache_is_refused_where_condition_pictures_change_with_the_step(tiny: Checkpoint) -> None:
    finding = checked_on_cpu(tiny, OptimizationOptions(condition_cache=2))
    assert (finding.status, finding.fault) == ("failed", "request")
    assert "without zero_cond_t" in finding.found
    assert finding.do.startswith("Leave condition_cache out")
