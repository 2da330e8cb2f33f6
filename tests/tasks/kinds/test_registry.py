"""The kind of a job is found by what is known of it: its type, the fields that were written down, or a manifest."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.job import DecomposeJob, GenerateJob, job_fields
from tasks.kinds.decompose.decompose_kind import DECOMPOSE
from tasks.kinds.edit.edit_job import EditJob
from tasks.kinds.edit.edit_kind import EDIT
from tasks.kinds.generate.generate_kind import GENERATE
from tasks.kinds.job_kind import JobKind
from tasks.kinds.registry import all_kinds, kind_named, kind_of, kind_of_columns, kinds_of_fields


@pytest.mark.parametrize("kind", all_kinds(), ids=lambda kind: kind.name)
def test_a_kind_is_found_by_its_job_its_name_and_the_fields_that_a_run_wrote_down(kind: JobKind[Any]) -> None:
    job = kind.job(manifest="manifest.parquet", store="store")
    written_down = {**job.values(), "a_field_of_before": 1}
    assert kind_of(job) is kind_named(kind.name) is kind
    assert kinds_of_fields(written_down) == [kind]


@pytest.mark.parametrize("kind", all_kinds(), ids=lambda kind: kind.name)
def test_the_fields_by_which_a_manifest_is_checked_are_fields_of_the_job(kind: JobKind[Any]) -> None:
    assert set(kind.row_fields) <= job_fields(kind.job).keys()


@pytest.mark.parametrize(
    ("columns", "kind"),
    [
        (["id", "prompt"], GENERATE),
        (["id", "image"], DECOMPOSE),
        (["id", "image", "caption", "price"], DECOMPOSE),
        (["id", "image", "instruction"], EDIT),
        (["id", "instruction", "image2", "image", "prompt"], EDIT),
        (["id", "image", "prompt"], GENERATE),  # the picture is carried
        (["id", "title"], GENERATE),  # a template may build the prompt
    ],
)
def test_a_manifest_is_for_the_kind_that_its_columns_are_told_by(columns: list[str], kind: JobKind[Any]) -> None:
    assert kind_of_columns(columns, all_kinds()) is kind


def test_fields_that_all_jobs_have_tell_no_kind_from_another() -> None:
    shared = GenerateJob.model_fields.keys() & DecomposeJob.model_fields.keys() & EditJob.model_fields.keys()
    assert kinds_of_fields(shared) == [GENERATE, DECOMPOSE, EDIT]
