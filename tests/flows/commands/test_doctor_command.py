"""How findings are told, and which job is looked at."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from flows.commands.doctor_checks import checks_of
from flows.commands.doctor_command import exit_code
from flows.views.doctor_findings import NAME_WIDTH, STATUS_WIDTH, document, show_findings
from models.checkpoints.checkpoint import MINIATURE
from models.finding import Finding
from tasks.job import DecomposeJob, GenerateJob
from tasks.kinds.job_to_check import load_job_to_check
from tests.job_files import job_file

FINE = Finding.ok("torch", "It is there.")
OLD = Finding.warning("Prefect", "The server is old.", "Update it.")
AWAY = Finding.failed("store reach", f"s3://{'a' * 70} can't be reached.", "Is its address [right]?")
WRONG = Finding.failed("precision", "A T4 has no bfloat16.", "Use float16.", "request")


@pytest.mark.parametrize(
    ("findings", "code"),
    [
        ([FINE, OLD, Finding.left_out("store", "None is named.")], 0),
        ([FINE, AWAY], 3),
        ([WRONG, FINE], 2),
        ([AWAY, WRONG], 2),
        ([], 0),
    ],
)
def test_the_exit_code_says_whose_fault_it_is_and_warnings_are_nobodys(findings: list[Finding], code: int) -> None:
    assert exit_code(findings) == code


def test_machines_are_told_all_of_a_finding() -> None:
    assert document([WRONG], 2) == {
        "exit_code": 2,
        "findings": [
            {
                "name": "precision",
                "status": "failed",
                "found": "A T4 has no bfloat16.",
                "do": "Use float16.",
                "fault": "request",
            }
        ],
    }


def test_findings_are_aligned_and_what_to_do_stands_below() -> None:
    console = Console(file=io.StringIO(), width=80, force_terminal=False)

    assert show_findings(console, iter([FINE, OLD, AWAY])) == [FINE, OLD, AWAY]

    assert isinstance(console.file, io.StringIO)
    assert [line.rstrip() for line in console.file.getvalue().splitlines()] == [
        "torch            ok        It is there.",
        "Prefect          warning   The server is old.",
        "                           → Update it.",
        "store reach      failed    s3://aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "                           aaaaaaaaaaaaaaaaaaaaaa can't be reached.",
        "                           → Is its address [right]?",
        "",
        "1 ok, 1 warning, 1 failed",
    ]


def test_what_is_ok_is_green_and_what_failed_is_red() -> None:
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system="standard", _environ={})
    show_findings(console, [FINE, AWAY])
    assert isinstance(console.file, io.StringIO)
    said = console.file.getvalue()
    assert "\x1b[32mok" in said
    assert "\x1b[1;31mfailed" in said
    assert "\x1b[1;31m→ Is its address" in said


def test_every_check_and_status_fits_its_column() -> None:
    assert max(len(check.name) for check in checks_of(load_job_to_check(None))) <= NAME_WIDTH
    assert len("left out") <= STATUS_WIDTH


def test_the_job_is_of_the_kind_that_its_fields_or_its_checkpoint_are_for(tmp_path: Path) -> None:
    (tmp_path / "layers.toml").write_text(job_file("resolution = 256"))
    (tmp_path / "pictures.toml").write_text(
        job_file("width = 256", 'store = "s3://bucket/x"', 'manifest = "m.parquet"')
    )
    layered = str(MINIATURE / "qwen-image-layered")

    assert isinstance(load_job_to_check(None), GenerateJob)
    assert isinstance(load_job_to_check(None, model=str(MINIATURE / "qwen-image")), GenerateJob)
    assert isinstance(load_job_to_check(None, model=layered), DecomposeJob)
    assert isinstance(load_job_to_check(tmp_path / "layers.toml"), DecomposeJob)
    job = load_job_to_check(tmp_path / "pictures.toml", model=layered, store=None, device="cpu")
    assert isinstance(job, GenerateJob)
    assert (job.store, job.hardware.device, job.manifest) == ("s3://bucket/x", "cpu", "m.parquet")
    assert load_job_to_check(None).store == ""
