"""A job is one TOML file, and every field a flag."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import Field

from tasks.errors import RequestError
from tasks.job import ELSEWHERE, SAID_BY_THE_KEY, DecomposeJob, GenerateJob, Job, job_fields, sections_of
from tasks.job_file import load_job
from tests.job_files import job_file


def test_flags_stand_over_the_file(tmp_path: Path) -> None:
    (tmp_path / "job.toml").write_text(job_file('store = "s3://a"', "steps = 20", "seed = 3"))
    job = load_job(GenerateJob, tmp_path / "job.toml", manifest="m.parquet", steps=9, guidance=None)
    assert (job.store, job.sampling.steps, job.sampling.seed, job.sampling.guidance) == ("s3://a", 9, 3, None)


def test_paths_in_the_file_are_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "ours.toml").touch()
    (tmp_path / "job.toml").write_text(job_file('store = "s3://a"', 'policy = "ours.toml"', 'profile = "plain"'))
    job = load_job(GenerateJob, tmp_path / "job.toml", manifest="m.parquet")
    assert (job.safety.policy, job.marketplace.profile) == (str(tmp_path / "ours.toml"), "plain")


def test_loras_in_the_file_are_beside_the_file_with_their_scales(tmp_path: Path) -> None:
    (tmp_path / "loras").mkdir()
    (tmp_path / "loras" / "a=b.safetensors").touch()
    of_the_hub = f"acme/shop@{'0' * 40}:shop.safetensors=0.5"
    entries = ["loras", "loras/a=b.safetensors=0.8", "loras/none.safetensors", of_the_hub]
    (tmp_path / "job.toml").write_text(job_file('store = "s3://a"', f"loras = {entries}"))

    job = load_job(GenerateJob, tmp_path / "job.toml", manifest="m.parquet")

    beside = (str(tmp_path / "loras"), str(tmp_path / "loras/a=b.safetensors=0.8"))
    assert job.model.loras == (*beside, "loras/none.safetensors", of_the_hub)


OF_ANY_JOB = {
    "model": "miniature",
    "revision": None,
    "clip": "miniature",
    "clip_revision": None,
    "precision": "auto",
    "negative_prompt": " ",
    "seed": 0,
    "steps": 9,
    "guidance": None,
    "max_prompt_tokens": 1024,
    "policy": "default",
    "profile": "none",
    "image_hosts": ["cdn.example.com"],
    "max_image_bytes": 64 << 20,
    "max_image_pixels": 64_000_000,
    "shard_rows": 128,
}
OF_JOBS: dict[type[Job], dict[str, Any]] = {
    GenerateJob: {
        "job": "GenerateJob",
        **OF_ANY_JOB,
        "prompt_template": None,
        "width": None,
        "height": None,
        "variants": 1,
        "controlnet": None,
        "controlnet_revision": None,
        "controlnet_scale": 1.0,
        "format": "png",
        "quality": 92,
    },
    DecomposeJob: {
        "job": "DecomposeJob",
        **OF_ANY_JOB,
        "policy": "sources",
        "layers": None,
        "resolution": None,
        "cfg_normalize": None,
        "use_en_prompt": True,
        "psd": True,
    },
}
"""What the names of a job's runs were made of before fields could be added to it."""
LEFT_OUT: dict[type[Job], dict[str, Any]] = {GenerateJob: {}, DecomposeJob: {}}
"""The default of every field that a run's name leaves out where it has that; see `tests/safety/test_deciding.py`."""


@pytest.mark.parametrize("kind", [GenerateJob, DecomposeJob])
def test_runs_are_called_as_they_were_before_fields_could_be_added_to_jobs(kind: type[Job]) -> None:
    job = kind.of(manifest="m", store="s", steps=9, image_hosts=("cdn.example.com",))
    assert job.deciding() == OF_JOBS[kind]


@pytest.mark.parametrize("kind", [GenerateJob, DecomposeJob])
def test_a_field_more_renames_the_runs_of_those_jobs_alone_that_give_it(kind: type[Job]) -> None:
    output = sections_of(kind)["output"]
    more = type("Output", (output,), {"__annotations__": {"tiles": int}, "tiles": 1})
    later = type(kind.__name__, (kind,), {"__annotations__": {"output": more}, "output": Field(default_factory=more)})
    before = kind.of(manifest="m", store="s").deciding()
    assert (
        later.of(manifest="m", store="s").deciding() == later.of(manifest="m", store="s", tiles=1).deciding() == before
    )
    assert later.of(manifest="m", store="s", tiles=2).deciding() == before | {"tiles": 2}


@pytest.mark.parametrize("kind", [GenerateJob, DecomposeJob])
def test_no_default_that_the_names_of_runs_leave_out_changes(kind: type[Job]) -> None:
    fields = job_fields(kind)
    first = {name for section in sections_of(kind).values() for name in section.FIRST_FIELDS}
    others = fields.keys() - {*first, *ELSEWHERE, *SAID_BY_THE_KEY}
    assert {name: fields[name].info.default for name in others} == LEFT_OUT[kind]
    assert first <= fields.keys()


@pytest.mark.parametrize("kind", [GenerateJob, DecomposeJob])
def test_what_the_key_says_does_not_rename_the_runs_of_jobs_without_it(kind: type[Job]) -> None:
    deciding = kind.of(manifest="m", store="s").deciding().keys()
    assert not {"loras", "scheduler", "step_cache"} & deciding
    assert not {"snap_white", "pad_square", "flatten", "aigc_producer", "c2pa_certificate", "c2pa_key"} & deciding


def test_a_certificate_in_the_file_is_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "chain.pem").touch()
    (tmp_path / "key.pem").touch()
    files = ('c2pa_certificate = "chain.pem"', 'c2pa_key = "key.pem"')
    (tmp_path / "job.toml").write_text(job_file('store = "s3://a"', *files))
    job = load_job(GenerateJob, tmp_path / "job.toml", manifest="m.parquet")
    assert (job.marketplace.c2pa_certificate, job.marketplace.c2pa_key) == (
        str(tmp_path / "chain.pem"),
        str(tmp_path / "key.pem"),
    )


@pytest.mark.parametrize(
    "field",
    [
        {"fused": False},
        {"attention": "math"},
        {"batch": 2},
        {"device": "cpu"},
        {"gpu_memory": "24GiB"},
        {"placement": "streamed"},
    ],
    ids=str,
)
def test_how_a_run_computes_does_not_rename_it(field: dict[str, Any]) -> None:
    job = GenerateJob.of(manifest="m", store="s")
    assert job.with_values(**field).deciding() == job.deciding()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("steps = 0", "steps is 0, and must be 1 or more"),
        ("width = 250", "width is 250, and must be a multiple of 16"),
        ('colour = "red"', "there is no field colour"),
        ("steps = ", "isn't TOML"),
        ("loras = [1]", "loras.0 is 1, and must be a text"),
        ('scheduler = "fast"', "must be one of 'auto', 'checkpoint' or 'lightning'"),
        ('aigc_producer = "工作室"', "must be a text that matches"),
        ('c2pa_key = "key.pem"', "c2pa_certificate and c2pa_key belong together"),
        ("step_cache = 0", "step_cache is 0, and must be more than 0"),
        ('gpu_memory = "much"', "and must be a number of bytes"),
        ('placement = "balcony"', "must be one of 'auto', 'resident', 'staged', 'streamed' or 'balanced'"),
        ("step_cache = 1.5", r"step_cache is 1\.5, and must be 1 or less"),
        ('precision = "float4"', "must be one of 'auto', 'float32', 'bfloat16', .* or 'nf4'"),
        ('attention = "fast"', "must be one of 'auto'"),
        ('fused = false\nprecision = "float8"', "precision float8 and step_cache need the fused transformer"),
        ("fused = false\nstep_cache = 0.1", "precision float8 and step_cache need the fused transformer"),
    ],
)
def test_a_wrong_job_is_refused_by_field(tmp_path: Path, content: str, sentence: str) -> None:
    (tmp_path / "job.toml").write_text(job_file(*content.splitlines()))
    with pytest.raises(RequestError, match=sentence):
        load_job(GenerateJob, tmp_path / "job.toml", manifest="m.parquet", store="s")


def test_a_job_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"no job file .*none\.toml"):
        load_job(GenerateJob, tmp_path / "none.toml", manifest="m.parquet", store="s")


def test_a_field_outside_of_sections_decides_like_one_in_a_section() -> None:
    class Tint(Job):
        strength: float = 0.5

    assert Tint(manifest="m", store="s", strength=0.7).deciding()["strength"] == 0.7
    assert "strength" not in Tint(manifest="m", store="s").deciding()


@pytest.mark.parametrize("kind", [GenerateJob, DecomposeJob])
def test_no_two_sections_have_a_field_of_one_name(kind: type[Job]) -> None:
    names = [name for section in sections_of(kind).values() for name in section.model_fields]
    assert len(names) == len({*names, "manifest", "store"}) - 2 == len(job_fields(kind)) - 2
    assert sections_of(kind).keys() == sections_of(Job).keys()


def test_a_job_file_of_before_there_were_sections_is_told_where_its_fields_went(tmp_path: Path) -> None:
    (tmp_path / "job.toml").write_text('store = "s3://a"\nmodel = "miniature"\nsteps = 20\nprompt_template = "{title}"')
    told = r"fields stand in sections: model in \[model\], steps in \[sampling\], prompt_template in \[sources\]\."
    with pytest.raises(RequestError, match=told):
        load_job(GenerateJob, tmp_path / "job.toml", manifest="m.parquet", seed=3)


def test_a_field_in_another_section_is_told_where_it_belongs(tmp_path: Path) -> None:
    (tmp_path / "job.toml").write_text("[sampling]\nsteps = 20\nprecision = 'float8'")
    with pytest.raises(RequestError, match=r"fields stand in sections: precision in \[model\]\."):
        load_job(GenerateJob, tmp_path / "job.toml", manifest="m.parquet", store="s")


def test_a_job_with_another_value_is_the_same_otherwise() -> None:
    job = DecomposeJob.of(manifest="m", store="s", layers=3, device="cuda:1", profile="plain")
    other = job.with_values(device="cpu")
    assert other.values() == {**job.values(), "device": "cpu"}
    assert other.model_dump() == {**job.model_dump(), "hardware": {**job.hardware.model_dump(), "device": "cpu"}}
