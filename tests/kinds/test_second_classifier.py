"""A second classifier, which the project doesn't have, judges beside the CLIP from the prompt to the catalogue."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.engines.generator import Generator
from safety.policy.policy import Policy
from safety.verdict import Reason, ask
from tasks.calibration.explain import explain_picture, explain_prompt, judges_of
from tasks.job import GenerateJob
from tasks.judging.classifier import Classifier, TextReading
from tasks.judging.classifier_registry import classifiers_of
from tasks.judging.judges import Judges
from tasks.stores.store import Store
from tests.end_to_end.conftest import catalogue, manifest, prefect_api, run, store
from tests.kinds.redness import Redness, registering

__all__ = ["manifest", "prefect_api", "store"]  # fixtures

WHITE = "on a white background"
MUGS = [
    {"id": "teal", "prompt": f"a teal mug {WHITE}"},
    {"id": "red", "prompt": f"a red mug {WHITE}"},
    {"id": "scarlet", "prompt": f"a scarlet mug {WHITE}"},
]


@pytest.fixture
def registered() -> Iterator[Callable[[Classifier | None], None]]:
    """Registers a classifier beside the shipped ones, in place of the one before."""
    with registering() as register:
        yield register


def statuses(store: Store) -> dict[str, tuple[str, str | None]]:
    return {row_id: (row["status"], row["reason"]) for row_id, row in catalogue(store).items()}


def draws_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Generator, "load", lambda *_, **__: pytest.fail("a picture was drawn"))


def test_a_second_classifier_judges_from_the_prompt_to_the_catalogue(
    manifest: Callable[..., str],
    store: Store,
    registered: Callable[[Classifier | None], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = manifest(MUGS)
    registered(Redness(most=1000))
    run(file, store)
    first = catalogue(store)
    assert statuses(store) == {"teal": ("done", None), "red": ("done", None), "scarlet": ("blocked", "concept")}
    assert first["scarlet"]["message"] == "The prompt wants scarlet."
    assert dict(first["scarlet"]["scores"])["redness.word"] == 1
    scores = {row_id: dict(first[row_id]["scores"]) for row_id in ("teal", "red")}
    assert scores["red"]["redness.mean"] > scores["teal"]["redness.mean"]
    assert scores["red"]["redness.length"] == len(MUGS[1]["prompt"])  # it was given what it kept of the prompt
    assert {"weapon", "prompt_match"} <= scores["red"].keys()  # the CLIP's, under their own names

    # Judging otherwise, it has other digests: what is stored is judged again, and nothing is drawn.
    draws_nothing(monkeypatch)
    limit = (scores["red"]["redness.mean"] + scores["teal"]["redness.mean"]) / 2
    registered(Redness(most=limit))
    run(file, store)
    second = catalogue(store)
    assert statuses(store) == {
        "teal": ("done", None),
        "red": ("rejected", "concept"),
        "scarlet": ("blocked", "concept"),
    }
    assert second["red"]["message"].startswith("The picture is too red (")
    assert second["red"]["policy_fingerprint"] != first["red"]["policy_fingerprint"]
    assert (again := run(file, store)).run is None, again

    # Without it everything is as if it had never been.
    registered(None)
    run(manifest(MUGS[:2]), store)
    third = catalogue(store)
    assert statuses(store)["red"] == ("done", None)
    assert len({rows["red"]["policy_fingerprint"] for rows in (first, second, third)}) == 3


def test_what_it_fails_of_is_refused_alone_and_says_by_whom(
    manifest: Callable[..., str], store: Store, registered: Callable[[Classifier | None], None]
) -> None:
    registered(Redness(most=1000, fails="texts and pictures"))
    run(manifest([*MUGS[:2], {"id": "blue", "prompt": f"a blue mug {WHITE}"}]), store)
    assert statuses(store) == {
        "teal": ("blocked", "screen_failed"),
        "red": ("rejected", "classifier_failed"),
        "blue": ("done", None),
    }
    found = catalogue(store)
    for row_id, what in (("teal", "prompt could not be screened"), ("red", "picture could not be classified")):
        row = found[row_id]
        assert row["message"] == f"The {what} by the classifier redness: RuntimeError."
        assert row["retryable"]
        assert "redness.mean" not in dict(row["scores"])


def judges(*classifiers: Classifier) -> Judges:
    return Judges(Policy(name="p", blocklist=Policy.load("default").blocklist), classifiers, {}, device="auto")


def test_one_that_fails_blocks_whatever_the_others_say() -> None:
    red = np.zeros((8, 8, 3), np.uint8)
    (verdict,) = judges(Redness(most=1000), Redness(1000, "opening", "other")).see([red])
    assert (verdict.reason, verdict.failed) == (Reason.CLASSIFIER_FAILED, True)
    assert verdict.message == "The picture could not be classified by the classifier other: OSError."
    assert dict(verdict.scores) == {"redness.mean": 0, "redness.length": 0}
    (reading,) = judges(Redness(most=1000), Redness(1000, "opening", "other")).screen(["a mug"])
    assert (reading.verdict.reason, reading.kept) == (Reason.SCREEN_FAILED, {"redness": "a mug"})
    (verdict,) = judges(Redness(1000, "opening", "other"), Redness(most=-1)).see([red])
    assert (verdict.reason, verdict.failed) == (Reason.CONCEPT, False)  # that was seen, whatever the other would say


def test_a_score_that_is_no_number_refuses() -> None:
    (verdict,) = judges(Redness(1000, "numbers")).see([np.zeros((8, 8, 3), np.uint8)])
    assert verdict.reason is Reason.CLASSIFIER_FAILED


def test_what_it_asks_a_person_is_told_from_the_concepts_of_others() -> None:
    class Asks(Redness):
        def screen(self, texts: Sequence[str]) -> list[TextReading]:
            return [TextReading(ask({"weapon": 0.5}, "Look.", {"weapon": 0.7})) for _ in texts]

    (reading,) = judges(Asks(1, "", "first"), Asks(1, "", "second")).screen(["a mug"])
    assert dict(reading.verdict.asks) == {"first.weapon": 0.5, "second.weapon": 0.5}
    assert dict(reading.verdict.scores) == {"first.weapon": 0.7, "second.weapon": 0.7}


def test_nobody_is_asked_about_nothing() -> None:
    assert judges(Redness(1, "opening")).screen([]) == judges(Redness(1, "opening")).see([]) == []


@pytest.mark.parametrize("name", ["clip", "probe", "Redness", "a.b", ""])
def test_a_name_that_other_scores_begin_with_is_refused(
    registered: Callable[[Classifier | None], None], name: str
) -> None:
    registered(Redness(1, "", name))
    with pytest.raises(ValueError, match="can't be called"):
        classifiers_of(GenerateJob.of(manifest="m", store="s"))


def test_a_policy_check_asks_it_too(registered: Callable[[Classifier | None], None], tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), (250, 10, 10)).save(tmp_path / "red.png")
    registered(Redness(most=100))
    asked = judges_of(GenerateJob.of(manifest="m", store="s", clip="none"))

    prompt = explain_prompt("a scarlet mug", asked).verdict
    picture = explain_picture(tmp_path / "red.png", "a red mug", asked).verdict

    assert (prompt.allowed, prompt.message) == (False, "The prompt wants scarlet.")
    assert (picture.allowed, picture.reason) == (False, Reason.BLANK)
    assert (picture.scores["redness.mean"], picture.scores["redness.length"]) == (240, len("a red mug"))
