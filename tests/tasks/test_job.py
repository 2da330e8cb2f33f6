"""A job is one TOML file, and every field a flag."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.job import GenerateJob, load_job
from tasks.request import RequestError


def test_flags_stand_over_the_file(tmp_path: Path) -> None:
    (tmp_path / "job.toml").write_text('store = "s3://a"\nsteps = 20\nseed = 3')
    job = load_job(GenerateJob, tmp_path / "job.toml", manifest="m.parquet", steps=9, guidance=None)
    assert (job.store, job.steps, job.seed, job.guidance) == ("s3://a", 9, 3, None)


def test_paths_in_the_file_are_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "ours.toml").touch()
    (tmp_path / "job.toml").write_text('store = "s3://a"\npolicy = "ours.toml"\nprofile = "white"')
    job = load_job(GenerateJob, tmp_path / "job.toml", manifest="m.parquet")
    assert (job.policy, job.profile) == (str(tmp_path / "ours.toml"), "white")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("steps = 0", "steps: Input should be greater than or equal to 1"),
        ("width = 250", "width: Input should be a multiple of 16"),
        ('colour = "red"', "colour: Extra inputs are not permitted"),
        ("steps = ", "can't be read"),
    ],
)
def test_a_wrong_job_is_refused_by_field(tmp_path: Path, content: str, sentence: str) -> None:
    (tmp_path / "job.toml").write_text(content)
    with pytest.raises(RequestError, match=sentence):
        load_job(GenerateJob, tmp_path / "job.toml", manifest="m.parquet", store="s")


def test_a_job_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"no job file .*none\.toml"):
        load_job(GenerateJob, tmp_path / "none.toml", manifest="m.parquet", store="s")
