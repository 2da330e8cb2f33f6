"""What stands in the catalogue for a row's text, and that a person's decision is found by it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tasks.kinds.generate.generate_kind import GENERATE
from tasks.kinds.registry import all_kinds
from tasks.lane.outcome_recorder import OutcomeRecorder, TextColumn, said
from tasks.ledger.decision import text_of
from tasks.manifests.row import Row
from tasks.outcome import Status


@pytest.mark.parametrize("column", sorted({kind.text_column for kind in all_kinds()}))
@pytest.mark.parametrize("text", ["a red mug", ""])
def test_a_decision_is_found_by_the_text_that_the_catalogue_shows(column: TextColumn, text: str) -> None:
    assert text_of({"caption": None, **said(text, column)}) == text


@pytest.mark.parametrize("source", [None, "ab" * 32])
def test_a_prompt_is_a_prompt_also_where_it_is_drawn_after_a_picture(source: str | None) -> None:
    row = Row("a", "a red mug", " ", 0, 256, 256, 8, 1.0, "none", source=source)
    recorder = OutcomeRecorder("run", "model", GENERATE.text_column)
    outcome = recorder.outcome(replace(row, key="key", policy_fingerprint="judges", attempt=1), Status.DONE)
    assert (outcome.prompt, outcome.caption) == ("a red mug", None)
