"""Whatever the classifier fails of, nothing passes unseen: rows are refused, and say why."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.checkpoints.checkpoint import CheckpointError
from models.clip.clip import Clip
from models.engines.generator import Generator
from safety.policy.policy import Policy
from safety.verdict import Reason
from tasks.checkpoints.checkpoints import find_clip
from tasks.errors import RequestError
from tasks.judging.clip_classifier import ClipClassifier
from tasks.judging.judges import Judges
from tasks.lane.screen import judge_prompts
from tasks.manifests.row import Row
from tasks.stores.store import Store
from tests.end_to_end.conftest import catalogue, command, manifest, prefect_api, run, store

__all__ = ["manifest", "prefect_api", "store"]  # fixtures

MUGS = [{"id": f"mug-{n}", "prompt": f"a {c} mug on a white background"} for n, c in enumerate(("red", "blue", "teal"))]
OTHER = """
neutral = ["a red boot"]
[[concepts]]
name = "sofa"
sentence = "No sofas."
phrases = ["a sofa"]
prompt_threshold = 2.0
picture_threshold = 2.0
"""


def fails(error: Exception) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


def planned(*prompts: str) -> list[Row]:
    return [
        Row(str(at), prompt, " ", 0, 256, 256, 8, 1.0, "none", key="key", policy_fingerprint="judges", attempt=1)
        for at, prompt in enumerate(prompts)
    ]


@pytest.fixture
def judges() -> Judges:
    """With a CLIP of its own, which a test may break."""
    return Judges(Policy.load("default"), [ClipClassifier(find_clip("miniature", None))], {}, device="cpu")


ERRORS = [
    CheckpointError("The folder is gone."),
    RuntimeError("broken"),
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory"),
    AssertionError(),
    KeyError("a whole prompt"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_clip_that_cannot_be_loaded_refuses_everything(
    judges: Judges, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(Clip, "load", fails(error))
    verdicts, kept = judge_prompts(planned("a red mug", "a pistol"), judges)
    assert [verdict.reason for verdict in verdicts] == [Reason.SCREEN_FAILED, Reason.BLOCKLIST]
    assert kept == [{}, {}]
    (seen,) = judges.see([np.zeros((8, 8, 3), np.uint8)])
    assert seen.reason is Reason.CLASSIFIER_FAILED
    why = "The folder is gone." if isinstance(error, CheckpointError) else f"{type(error).__name__}."
    assert verdicts[0].message == f"The prompt could not be screened: {why}"
    assert seen.message == f"The picture could not be classified: {why}"


def nan(rows: np.ndarray) -> Any:
    return np.full_like(rows, np.nan)


ANSWERS: dict[str, Callable[[np.ndarray], Any]] = {
    "NaN": nan,
    "infinite": lambda rows: np.full_like(rows, np.inf),
    "zero": np.zeros_like,
    "too short": lambda rows: rows[:, :-1],
    "one axis": lambda rows: rows.reshape(-1),
    "three axes": lambda rows: rows[None],
    "no rows": lambda rows: rows[:0],
    "a row too many": lambda rows: np.concatenate([rows, rows[:1]]),
    "nothing": lambda _: None,
    "texts": lambda rows: [["a"] * rows.shape[1]] * len(rows),
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_answers_that_make_no_sense_refuse(
    judges: Judges, monkeypatch: pytest.MonkeyPatch, answer: Callable[[np.ndarray], Any]
) -> None:
    clip, pictures = judges.by_clip.model, [np.zeros((8, 8, 3), np.uint8), np.full((8, 8, 3), 9, np.uint8)]
    embed_windows, embed_pictures = clip.embed_windows, clip.embed_pictures
    monkeypatch.setattr(clip, "embed_windows", lambda texts: [answer(rows) for rows in embed_windows(texts)])
    monkeypatch.setattr(clip, "embed_pictures", lambda some: answer(embed_pictures(some)))
    if answer is not ANSWERS["a row too many"]:  # one more window of a prompt is no fault
        verdicts, _ = judge_prompts(planned("a red mug", "a blue mug"), judges)
        assert [verdict.reason for verdict in verdicts] == [Reason.SCREEN_FAILED] * 2
    assert [verdict.reason for verdict in judges.see(pictures)] == [Reason.CLASSIFIER_FAILED] * 2


@pytest.mark.parametrize("answer", [lambda _: [], lambda _: None], ids=["no texts", "nothing"])
def test_a_screen_that_answers_for_fewer_prompts_refuses_them_all(
    judges: Judges, monkeypatch: pytest.MonkeyPatch, answer: Callable[..., Any]
) -> None:
    monkeypatch.setattr(judges.by_clip.model, "embed_windows", answer)
    verdicts, _ = judge_prompts(planned("a red mug", "a blue mug"), judges)
    assert [verdict.reason for verdict in verdicts] == [Reason.SCREEN_FAILED] * 2


@pytest.mark.parametrize("phrases", [nan, lambda rows: rows[:-1], np.zeros_like], ids=["NaN", "a row short", "zero"])
def test_concepts_that_cannot_be_embedded_refuse_everything(
    judges: Judges, monkeypatch: pytest.MonkeyPatch, phrases: Callable[[np.ndarray], Any]
) -> None:
    embed_texts = Clip.embed_texts
    monkeypatch.setattr(Clip, "embed_texts", lambda clip, texts: phrases(embed_texts(clip, texts)))
    assert judge_prompts(planned("a red mug"), judges)[0][0].reason is Reason.SCREEN_FAILED
    assert judges.see([np.zeros((8, 8, 3), np.uint8)])[0].reason is Reason.CLASSIFIER_FAILED


def test_a_picture_that_the_clip_fails_of_is_refused_alone(judges: Judges, monkeypatch: pytest.MonkeyPatch) -> None:
    embed = judges.by_clip.model.embed_pictures

    def fails_of_one(pictures: Sequence[np.ndarray]) -> np.ndarray:
        if any(picture.max() == 9 for picture in pictures):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return embed(pictures)

    monkeypatch.setattr(judges.by_clip.model, "embed_pictures", fails_of_one)
    some = [np.full((8, 8, 3), value, np.uint8) for value in (0, 9, 200)]
    seen = judges.see(some)
    assert [verdict.reason is Reason.CLASSIFIER_FAILED for verdict in seen] == [False, True, False]
    assert seen[1].message == "The picture could not be classified: OutOfMemoryError."


def lie(store: Store) -> dict[str, list[str]]:
    """Which pictures are published, and which ones were ever made, by their hashes."""
    root = Path(store.uri)
    return {
        place: sorted(hashlib.sha256(file.read_bytes()).hexdigest() for file in (root / place).rglob("*.png"))
        for place in ("images", "masters")
    }


BREAKS = {
    "load": ("blocked", "screen_failed"),
    "embed_windows": ("blocked", "screen_failed"),
    "embed_pictures": ("rejected", "classifier_failed"),
}


@pytest.mark.parametrize(
    ("method", "error"),
    [
        ("load", RuntimeError("broken")),
        ("embed_windows", RuntimeError("broken")),
        ("embed_pictures", AssertionError()),
        ("embed_pictures", torch.OutOfMemoryError("CUDA out of memory")),
    ],
    ids=str,
)
def test_stored_pictures_stay_as_they_were_judged_when_the_classifier_fails_of_them_and_new_ones_are_refused(
    manifest: Callable[..., str],
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    error: Exception,
) -> None:
    file = manifest(MUGS)
    run(file, store)
    before, published = catalogue(store), lie(store)["images"]
    assert len(published) == len(MUGS)
    (other := tmp_path / "other.toml").write_text(OTHER)
    more = manifest([*MUGS, {"id": "new", "prompt": "a green mug on a white background"}])
    with monkeypatch.context() as broken:
        broken.setattr(Clip, method, fails(error))
        summary = run(more, store, policy=str(other))

    found = catalogue(store)
    new = found.pop("new")
    assert (new["status"], new["reason"], new["retryable"]) == (*BREAKS[method], True)
    assert found == {row_id: {**row, "retryable": True} for row_id, row in before.items()}
    assert lie(store)["images"] == published
    assert (summary.unjudged, summary.to_judge) == (1, len(MUGS))
    assert f"{len(MUGS)} rows keep the outcome that they had, because they couldn't be judged again" in (
        text := " ".join(summary.notices)
    )
    assert f"{type(error).__name__}; its traceback is in {store.uri}/runs/{summary.run}/lanes/0.faults.json" in text

    monkeypatch.setattr(Generator, "load", fails(AssertionError("the model was loaded")))
    mended = run(manifest(MUGS), store, policy=str(other))
    assert (mended.to_judge, mended.notices) == (0, [])
    found = catalogue(store)
    assert {(found[row_id]["status"], found[row_id]["retryable"]) for row_id in before} == {("done", False)}
    assert {found[row_id]["policy_fingerprint"] for row_id in before} != {
        row["policy_fingerprint"] for row in before.values()
    }


def test_a_picture_that_another_check_refuses_does_not_stay_published_because_the_classifier_is_broken(
    manifest: Callable[..., str], store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = manifest(MUGS[:1])
    run(file, store)
    (large := tmp_path / "large.toml").write_text("min_width = 4000")
    with monkeypatch.context() as broken:
        broken.setattr(Clip, "embed_pictures", fails(RuntimeError("broken")))
        run(file, store, profile=str(large))
    (row,) = catalogue(store).values()
    assert (row["status"], row["reason"], row["retryable"]) == ("rejected", "profile", False)
    assert lie(store)["images"] == []


def test_a_fault_is_logged_once_with_its_traceback_and_counted(
    manifest: Callable[..., str], store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Clip, "embed_pictures", fails(RuntimeError("a broken classifier")))
    summary = run(manifest([*MUGS, *({**mug, "id": f"{mug['id']}-again", "seed": 5} for mug in MUGS)]), store)

    written = store.read(f"runs/{summary.run}/lanes/0.faults.json")
    assert written is not None
    found = {fault["what"]: fault for fault in json.loads(written[0])}
    assert {what: fault["times"] for what, fault in found.items()} == {
        "The CLIP failed of pictures.": 1,
        "The CLIP failed of a picture.": 2 * len(MUGS),
    }
    for fault in found.values():
        assert fault["kind"] == "RuntimeError"
        assert any("raise error" in line for line in fault["traceback"])
        assert fault["traceback"][-1] == "RuntimeError: a broken classifier"
    told = [record for record in caplog.records if record.name == "prefect.task_runs" and record.levelname == "ERROR"]
    place = f"{store.uri}/runs/{summary.run}/lanes/0.faults.json"
    said = [f"{what} What RuntimeError says is in {place}." for what in found]
    assert [record.getMessage().splitlines()[0] for record in told] == said
    assert all("raise error" in record.getMessage() for record in told)
    assert len(summary.faults) == 2
    for text in (*summary.faults, *(record.getMessage() for record in told)):
        assert "a broken classifier" not in text  # it may quote a prompt


def test_what_judges_missing_is_a_wrong_request_and_everything_stays_as_it_was_judged(
    manifest: Callable[..., str], store: Store, tmp_path: Path
) -> None:
    file = manifest(MUGS[:1])
    run(file, store)
    before, places = catalogue(store), lie(store)
    (listless := tmp_path / "listless.toml").write_text('blocklists = ["gone.txt"]')
    for broken, says in (({"clip": str(tmp_path / "gone")}, "gone"), ({"policy": str(listless)}, "gone.txt")):
        with pytest.raises(RequestError, match=says):
            run(file, store, **broken)
    assert (catalogue(store), lie(store)) == (before, places)
    process = command("generate", file, "--store", store.uri, "--policy", str(listless))
    said, complaint = process.communicate(timeout=120)
    assert (process.returncode, said) == (2, "")
    assert len(complaint.strip().splitlines()) == 1, complaint
