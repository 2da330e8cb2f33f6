"""A command imports nothing that it doesn't need, and one that has nothing to draw starts no server."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.job import GenerateJob
from tasks.runs.finish import finish
from tasks.runs.prepare import RunRequest, prepare

HEAVY = (
    "torch",
    "diffusers",
    "transformers",
    "open_clip",
    "accelerate",
    "peft",
    "prefect",
    "uvicorn",
    "boto3",
    "jinja2",
)
COMMAND = f"""
import sys
from flows import command
from flows.orchestration import ending
leave = ending.leave
def told(code):
    print([name for name in {HEAVY!r} if name in sys.modules], code)
    leave(code)
command.leave = told
command.main()
"""

AT_WORK = (
    *("flows.views", "tasks.calibration", "tasks.catalogue", "tasks.doctor", "tasks.maintenance", "tasks.review"),
    "tasks.runs",
)
"""Rooms that one command needs and another doesn't."""


def test_no_command_waits_for_what_another_one_needs() -> None:
    loaded = "import sys, flows.command; print(*sys.modules)"
    ended = subprocess.run(
        [sys.executable, "-c", loaded],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=True,
    )
    modules = ended.stdout.split()
    assert "flows.commands.store_commands" in modules
    assert [name for name in modules if name.startswith(AT_WORK) or name in HEAVY] == []


@pytest.mark.parametrize("flags", [[], ["--dry-run"]], ids=["nothing to do", "dry run"])
@pytest.mark.parametrize("device", ["cpu", "auto"])
def test_nothing_heavy_is_imported_where_nothing_is_to_be_drawn(tmp_path: Path, device: str, flags: list[str]) -> None:
    manifest, store = tmp_path / "rows.parquet", str(tmp_path / "store")
    pq.write_table(pa.table({"id": ["a"], "prompt": ["a mug"], "width": [3]}), manifest)
    job = GenerateJob.of(manifest=str(manifest), store=store, device=device)
    finish(
        prepare(RunRequest(job)), started_at=datetime.now(UTC)
    )  # its only row has failed, which needs no server either

    ended = subprocess.run(
        [sys.executable, "-c", COMMAND, "generate", str(manifest), "--store", store, "--device", device, *flags],
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")},
            "PREFECT_HOME": str(tmp_path),
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "CUDA_VISIBLE_DEVICES": "",
        },
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )

    assert ended.stdout.splitlines()[-1] == f"[] {0 if flags else 1}", ended.stdout + ended.stderr
    assert ended.stderr == ""
