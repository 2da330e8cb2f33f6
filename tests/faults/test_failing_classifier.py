"""Whatever the classifier fails of, nothing passes unseen: rows are refused, and say why."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.checkpoint import CheckpointError
from models.clip import Clip
from models.generator import Generator
from safety.policy import Policy
from safety.verdict import Reason
from tasks.checkpoints import find_clip
from tasks.judges import Judges
from tasks.outcome import Retry
from tasks.plan import PlannedRow
from tasks.request import RequestError
from tasks.row import Row
from tasks.screen import judge_prompts
from tasks.store import Store
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


def planned(*prompts: str) -> list[PlannedRow]:
    return [
        PlannedRow(Row(str(at), prompt, " ", 0, 256, 256, 8, 1.0, "none"), "key", "judges", 1)
        for at, prompt in enumerate(prompts)
    ]


@pytest.fixture
def judges() -> Judges:
    """With a CLIP of its own, which a test may break."""
    return Judges(Policy.load("default"), find_clip("miniature", None), {}, device="cpu")


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
    verdicts, windows = judge_prompts(planned("a red mug", "a pistol"), judges)
    assert [verdict.reason for verdict in verdicts] == [Reason.SCREEN_FAILED, Reason.BLOCKLIST]
    assert windows == [None, None]
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
    clip, pictures = judges.clip, [np.zeros((8, 8, 3), np.uint8), np.full((8, 8, 3), 9, np.uint8)]
    assert judges.concepts
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
    monkeypatch.setattr(judges.clip, "embed_windows", answer)
    verdicts, _ = judge_prompts(planned("a red mug", "a blue mug"), judges)
    assert [verdict.reason for verdict in verdicts] == [Reason.SCREEN_FAILED] * 2


@pytest.mark.parametrize("phrases", [nan, lambda rows: rows[:-1], np.zeros_like], ids=["NaN", "a row short", "zero"])
def test_concepts_that_cannot_be_embedded_refuse_everything(
    judges: Judges, monkeypatch: pytest.MonkeyPatch, phrases: Callable[[np.ndarray], Any]
) -> None:
    embed_texts = judges.clip.embed_texts
    monkeypatch.setattr(judges.clip, "embed_texts", lambda texts: phrases(embed_texts(texts)))
    assert judge_prompts(planned("a red mug"), judges)[0][0].reason is Reason.SCREEN_FAILED
    assert judges.see([np.zeros((8, 8, 3), np.uint8)])[0].reason is Reason.CLASSIFIER_FAILED


def test_a_picture_that_the_clip_fails_of_is_refused_alone(judges: Judges, monkeypatch: pytest.MonkeyPatch) -> None:
    embed = judges.clip.embed_pictures

    def fails_of_one(pictures: Sequence[np.ndarray]) -> np.ndarray:
        if any(picture.max() == 9 for picture in pictures):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return embed(pictures)

    monkeypatch.setattr(judges.clip, "embed_pictures", fails_of_one)
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


@pytest.mark.parametrize(
    ("method", "end"),
    [
        ("load", ("blocked", "screen_failed")),
        ("embed_windows", ("blocked", "screen_failed")),
        ("embed_pictures", ("rejected", "classifier_failed")),
    ],
)
def test_stored_pictures_do_not_stay_published_when_the_classifier_fails_of_them(
    manifest: Callable[..., str],
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    end: tuple[str, str],
) -> None:
    file = manifest(MUGS)
    run(file, store)
    published = lie(store)["images"]
    assert len(published) == len(MUGS)
    (other := tmp_path / "other.toml").write_text(OTHER)
    monkeypatch.setattr(Generator, "load", fails(AssertionError("the model was loaded")))
    with monkeypatch.context() as broken:
        broken.setattr(Clip, method, fails(RuntimeError("broken")))
        summary = run(file, store, policy=str(other))
    assert summary.unjudged == len(MUGS)
    assert {(row["status"], row["reason"]) for row in catalogue(store).values()} == {end}
    assert all(row["retryable"] for row in catalogue(store).values())
    assert lie(store) == {"images": [], "masters": published}

    run(file, store, policy=str(other), retry=(Retry.BLOCKED, Retry.REJECTED))

    assert {row["status"] for row in catalogue(store).values()} == {"done"}
    assert lie(store) == {"images": published, "masters": published}


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
