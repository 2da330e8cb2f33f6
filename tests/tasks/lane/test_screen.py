"""What is said of prompts, by the policy's lists and the miniature's CLIP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from models.checkpoints.checkpoint import MINIATURE
from safety.policy.policy import Policy
from safety.verdict import Reason
from tasks.checkpoints.checkpoints import find_clip
from tasks.judging.clip_classifier import ClipClassifier
from tasks.judging.judges import Judges
from tasks.lane.screen import judge_prompts
from tasks.manifests.row import Row

pytestmark = pytest.mark.skipif(not (MINIATURE / "clip").exists(), reason="the miniature's CLIP is not there")

ROW = Row("a", "a mug", " ", 0, 256, 256, steps=8, guidance=2.0, profile="none")


@pytest.fixture(scope="module")
def judges() -> Judges:
    return Judges(Policy.load("default"), [ClipClassifier(find_clip("miniature", None))], {}, device="cpu")


def planned(*prompts: str) -> list[Row]:
    return [
        replace(ROW, id=str(at), prompt=prompt, key="key", policy_fingerprint="judges", attempt=1)
        for at, prompt in enumerate(prompts)
    ]


def test_whatever_a_prompt_is_made_of_it_gets_a_verdict(judges: Judges) -> None:
    prompts = ["a \ud800 mug", "\0", "\ud83d", "🙂🎁", "كوب أبيض", "g\u0301" * 300, "mug " * 300, "a pistol", "a mug"]

    verdicts, kept = judge_prompts(planned(*prompts), judges)

    assert [verdict.reason for verdict in verdicts[-2:]] == [Reason.BLOCKLIST, None]
    assert Reason.SCREEN_FAILED not in [verdict.reason for verdict in verdicts]
    assert [bool(known) for known in kept[:-2]] == [True] * 7


def test_a_text_is_called_what_people_call_it(judges: Judges) -> None:
    (verdict,), _ = judge_prompts(planned("a pistol"), judges, what="caption")
    assert verdict.message == "The caption names something on the list “weapons” (en): pistol."


def test_a_prompt_that_the_clip_cannot_read_is_blocked_alone(judges: Judges, monkeypatch: pytest.MonkeyPatch) -> None:
    real = judges.by_clip.model.embed_windows

    def fails_of_one(texts: Sequence[str]) -> list[np.ndarray[Any, Any]]:
        if any("cursed" in text for text in texts):
            raise RuntimeError("the tokenizer choked")
        return real(texts)

    monkeypatch.setattr(judges.by_clip.model, "embed_windows", fails_of_one)
    verdicts, kept = judge_prompts(planned("a red mug", "a cursed mug", "a blue mug"), judges)

    assert [verdict.allowed for verdict in verdicts] == [True, False, True]
    assert verdicts[1].reason is Reason.SCREEN_FAILED
    assert verdicts[1].message == "The prompt could not be screened: RuntimeError."
    assert [not known for known in kept] == [False, True, False]


def test_a_list_that_cannot_be_searched_blocks_its_row_alone(judges: Judges, monkeypatch: pytest.MonkeyPatch) -> None:
    real = type(judges.policy.blocklist).search

    def fails_of_one(blocklist: Any, text: str) -> Any:
        if "cursed" in str(text):
            raise RecursionError
        return real(blocklist, text)

    monkeypatch.setattr(type(judges.policy.blocklist), "search", fails_of_one)
    verdicts, _ = judge_prompts(planned("a red mug", "a cursed mug"), judges)

    assert [verdict.reason for verdict in verdicts] == [None, Reason.SCREEN_FAILED]
