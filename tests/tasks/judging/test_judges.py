"""Who may judge: the miniature's CLIP its own drawings alone, another CLIP anything, or none."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file, save_file

from models.checkpoints.checkpoint import MINIATURE
from models.checkpoints.identity import CLIP_FOLDER
from safety.policy.policy import Policy
from tasks.errors import RequestError
from tasks.job import DecomposeJob, GenerateJob, Job
from tasks.judging.clip_classifier import check_judge, clip_of
from tasks.judging.judges import Judges, load_policy
from tasks.kinds.job_to_check import load_job_to_check
from tasks.runs.prepare import RunRequest, estimate
from tests.small_checkpoint import small_checkpoint

AMAZON = "amazon-main"  # names concepts that no picture may show


@pytest.fixture
def stranger(tmp_path: Path) -> str:
    """A Qwen-Image of other weights, in a folder that is called as the miniature is."""
    return str(small_checkpoint(tmp_path / "miniature"))


def job(folder: Path, **fields: Any) -> GenerateJob:
    pq.write_table(pa.table({"id": ["a"], "prompt": ["a red mug"]}), folder / "manifest.parquet")
    return GenerateJob.of(manifest=str(folder / "manifest.parquet"), store=str(folder / "store"), **fields)


def copied(source: Path, folder: Path) -> Path:
    shutil.copytree(source, folder)
    return folder


def test_the_miniatures_clip_is_refused_beside_another_model_before_any_work(tmp_path: Path, stranger: str) -> None:
    with pytest.raises(RequestError, match=r"needs another CLIP than 'miniature'.*--clip MODEL.*--clip none"):
        estimate(RunRequest(job(tmp_path, model=stranger)))
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("model", ["Qwen/Qwen-Image", "s3://bucket/model"])
def test_a_model_that_would_be_fetched_is_refused_before_it_is(tmp_path: Path, model: str) -> None:
    with pytest.raises(RequestError, match="needs another CLIP"):
        clip_of(job(tmp_path, model=model))


def test_the_miniatures_clip_is_known_by_its_weights_wherever_it_lies(tmp_path: Path, stranger: str) -> None:
    copy = copied(CLIP_FOLDER, tmp_path / "another-clip")
    with pytest.raises(RequestError, match="needs another CLIP"):
        clip_of(job(tmp_path, model=stranger, clip=str(copy)))


@pytest.mark.parametrize("name", ["qwen-image", "qwen-image-layered"])
def test_a_copy_of_the_miniature_is_the_miniature(tmp_path: Path, name: str) -> None:
    copy = copied(MINIATURE / name, tmp_path / "shop")
    assert clip_of(job(tmp_path, model=str(copy))) is not None


def test_the_miniature_takes_another_clip(tmp_path: Path) -> None:
    copy = copied(CLIP_FOLDER, tmp_path / "clip")
    weights = load_file(copy / "open_clip_model.safetensors")
    name = min(weights)
    save_file({**weights, name: weights[name] + 1}, copy / "open_clip_model.safetensors")

    check_judge(str(copy), copy, "Qwen/Qwen-Image")
    found = clip_of(job(tmp_path, clip=str(copy)))

    assert found is not None
    assert found.folder == copy


def test_another_model_without_a_clip_is_ready_to_go(tmp_path: Path, stranger: str) -> None:
    estimate(RunRequest(job(tmp_path, model=stranger, clip="none")))


def test_a_profile_that_names_concepts_is_refused_without_a_clip(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=f"The profile {AMAZON} wants to know whether .* the job's clip is none"):
        estimate(RunRequest(job(tmp_path, clip="none", profile=AMAZON)))


@pytest.mark.parametrize("policy", ["default", "photographs"])
def test_without_a_clip_any_clips_policy_counts_by_its_lists(policy: str) -> None:
    found, whole = load_policy(policy, "none"), Policy.load(policy)

    assert found.blocklist.search("a handgun") is not None
    assert found.digest != whole.digest  # who comes back to a CLIP has the stored pictures judged again
    judges = Judges(found, [], {}, device="cpu")
    (verdict,) = judges.see([np.zeros((8, 8, 3), np.uint8)])
    assert (verdict.allowed, dict(verdict.scores)) == (True, {})


def test_without_a_clip_no_thresholds_are_measured(tmp_path: Path) -> None:
    from tasks.calibration.calibrate import calibrate

    (tmp_path / "examples.csv").write_text("prompt,label\na mug,safe\na rifle,weapon\n")
    asked = load_job_to_check(None, clip="none")
    with pytest.raises(RequestError, match="Thresholds are those of a CLIP"):
        calibrate(str(tmp_path / "examples.csv"), asked, tmp_path / "mine.toml", false_positives=0.01, held_out=0.5)


@pytest.mark.parametrize("kind", [GenerateJob, DecomposeJob])
def test_a_doctor_says_that_a_model_needs_another_clip_and_what_goes_without_one(
    kind: type[Job], stranger: str
) -> None:
    from flows.commands.doctor_checks import checks_of

    def found(**fields: Any) -> tuple[str, str]:
        (looking,) = (c for c in checks_of(kind.of(manifest="", store="", **fields)) if c.name == "checkpoint")
        return next((one.status, one.found) for one in looking.look() if one.name == "CLIP")

    status, sentence = found(model=stranger)
    assert status == "failed"
    assert "needs another CLIP than 'miniature'" in sentence
    status, sentence = found(model=stranger, clip="none")
    assert status == "warning"
    assert "its concepts (weapon, smoking, drugs" in sentence
