"""What facts about the host's memory mean."""

from dataclasses import replace
from pathlib import Path

import pytest

from models.checkpoints.checkpoint import find_checkpoint
from models.doctor.host import HostFacts, check_host, judge_host, read_host, weights_in
from models.units import GIB

HOST = HostFacts(total=64 * GIB, available=60 * GIB)


def test_memory_that_is_enough_is_ok() -> None:
    assert judge_host(HOST, weights=50 * GIB).found == "60.0 of 64.0 GiB are free."
    assert judge_host(HOST, weights=50 * GIB).status == "ok"


def test_a_model_that_would_fit_if_others_left_is_warned_of() -> None:
    finding = judge_host(replace(HOST, available=20 * GIB), weights=50 * GIB)
    assert finding.status == "warning"
    assert "the model takes 50.0 GiB there" in finding.found


def test_a_model_that_never_fits_fails() -> None:
    finding = judge_host(HOST, weights=108 * GIB)
    assert (finding.status, finding.fault) == ("failed", "reach")


def test_a_host_that_is_full_is_warned_of_without_a_model_in_it() -> None:
    assert judge_host(replace(HOST, available=GIB), weights=0).status == "warning"


def test_each_of_several_lanes_counts_with_its_model_and_without() -> None:
    assert judge_host(HOST, weights=20 * GIB, lanes=2).status == "ok"
    assert judge_host(HOST, weights=20 * GIB, lanes=3).status == "failed"
    full = judge_host(replace(HOST, available=GIB), weights=0, lanes=2)
    assert full.status == "warning"
    assert full.found.endswith("and a run takes about 2 GiB in each of 2 lanes.")


def test_a_containers_limit_counts() -> None:
    finding = judge_host(replace(HOST, limit=16 * GIB, used=10 * GIB), weights=8 * GIB)
    assert finding.status == "warning"
    assert finding.found.startswith("6.0 of 16.0 GiB are free in this container")
    assert judge_host(replace(HOST, limit=16 * GIB, used=GIB), weights=30 * GIB).status == "failed"


@pytest.mark.parametrize(
    ("files", "limit", "used"),
    [
        (
            {"memory.max": "2147483648", "memory.current": "1073741824", "memory.stat": "anon 5\nfile 1000000000"},
            2 * GIB,
            73741824,
        ),
        (
            {
                "memory/memory.limit_in_bytes": "1073741824",
                "memory/memory.usage_in_bytes": "500",
                "memory/memory.stat": "total_cache 400",
            },
            GIB,
            100,
        ),
        ({"memory.max": "max", "memory.current": "5", "memory.stat": ""}, None, 0),
        ({"memory/memory.limit_in_bytes": "9223372036854771712"}, None, 0),
        ({}, None, 0),
    ],
)
def test_a_containers_limit_is_read_and_files_in_its_cache_arent_in_use(
    tmp_path: Path, files: dict[str, str], limit: int | None, used: int
) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"{content}\n")
    facts = read_host(tmp_path)
    assert (facts.limit, facts.used) == (limit, used)
    assert 0 < facts.available <= facts.total


def test_on_a_cpu_the_whole_checkpoint_is_counted() -> None:
    checkpoint = find_checkpoint("miniature")
    whole = weights_in(checkpoint.folder, "float32", 4)
    assert whole == 2 * weights_in(checkpoint.folder, "bfloat16", 2) > 30_000_000
    assert weights_in(checkpoint.folder, "nf4", 2) < whole / 2
    (finding,) = check_host("cpu", "auto", checkpoint)
    assert finding.name == "host memory"
