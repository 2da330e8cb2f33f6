"""What waits for a person: it is neither published nor drawn before, and every later run follows the answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models.engines.generator import Generator
from tasks.errors import RequestError
from tasks.outcome import Retry
from tasks.review.decide import decide, waiting
from tasks.stores.store import Store

from .conftest import catalogue, command, manifest, prefect_api, run, store

__all__ = ["manifest", "prefect_api", "store"]  # fixtures

MUGS = [{"id": f"mug-{n}", "prompt": f"a {c} mug on a white background"} for n, c in enumerate(("red", "blue", "teal"))]
SYRINGE = {"id": "syringe", "prompt": "a syringe on a white background"}
POLICY = """
neutral = ["a red boot", "a mug"]
[[concepts]]
name = "{name}"
sentence = "Somebody should see it."
phrases = ["{phrase}"]
answer = "{answer}"
{where}_threshold = {threshold}
"""
EVERYTHING, NOTHING = -2.0, 2.0


@pytest.fixture
def policy(tmp_path: Path) -> Callable[..., str]:
    """Writes a policy; returns its path."""

    def write(**values: Any) -> str:
        whole = {"name": "seen", "phrase": "a syringe", "answer": "review", "where": "picture", "threshold": EVERYTHING}
        text = POLICY.format(**{**whole, **values})
        path = tmp_path / f"policy-{abs(hash(text))}.toml"
        path.write_text(text, "utf-8")
        return str(path)

    return write


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may be drawn."""

    def load(*_: Any, **__: Any) -> Generator:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(Generator, "load", load)


def ends(store: Store) -> dict[str, tuple[str, str | None]]:
    return {row_id: (row["status"], row["reason"]) for row_id, row in catalogue(store).items()}


def check_places(store: Store) -> None:
    """What is done is published, nothing else is, and every other picture lies in its master."""
    root = Path(store.uri)
    rows = catalogue(store).values()
    assert {str(file) for file in (root / "images").rglob("*.png")} == {
        row["uri"] for row in rows if row["status"] == "done"
    }
    for row in rows:
        if row["uri"]:
            assert Path(row["uri"]).is_file()
            assert ("images" if row["status"] == "done" else "masters") in Path(row["uri"]).parts


@pytest.mark.quick
def test_pictures_that_wait_are_not_published_until_a_person_lets_them_pass(
    manifest: Callable[..., str], store: Store, policy: Callable[..., str], request: pytest.FixtureRequest
) -> None:
    file, rules = manifest(MUGS), policy()
    run(file, store, policy=rules)
    assert set(ends(store).values()) == {("rejected", "review")}
    assert not any(row["retryable"] for row in catalogue(store).values())
    check_places(store)
    first = waiting(store.uri)[0]
    assert (first.id, first.of, list(first.concepts)) == ("mug-0", "picture", ["seen"])
    assert "A person must look" in first.message

    (told,) = decide(store.uri, ["mug-0"], "approve", by="Ann", note="a mug")
    (refused,) = decide(store.uri, ["mug-1"], "reject", by="Bo", note="smeared")

    assert told.sentence.startswith("Published as ")
    found = catalogue(store)
    assert (found["mug-0"]["status"], found["mug-0"]["reviewed_by"]) == ("done", "Ann")
    assert (found["mug-1"]["status"], found["mug-1"]["reason"]) == ("rejected", "review_rejected")
    assert found["mug-1"]["message"] == refused.sentence
    assert refused.sentence.startswith("Bo rejected the picture on ")
    assert refused.sentence.endswith(" UTC: “smeared”.")
    assert [row.id for row in waiting(store.uri)] == ["mug-2"]
    check_places(store)
    request.getfixturevalue("no_model")
    for again in (rules, policy(threshold=-1.9), policy(threshold=NOTHING)):  # answers stand whatever the policy says
        run(file, store, policy=again)
        assert ends(store)["mug-0"] == ("done", None)
        assert ends(store)["mug-1"] == ("rejected", "review_rejected")
        check_places(store)
    assert ends(store)["mug-2"] == ("done", None)  # nobody asks any more


def test_an_approval_answers_what_was_asked_and_never_a_block(
    manifest: Callable[..., str], store: Store, policy: Callable[..., str]
) -> None:
    file = manifest(MUGS[:1])
    run(file, store, policy=policy())
    decide(store.uri, ["mug-0"], "approve", by="Ann")
    for rules, end in (
        (policy(answer="block"), ("rejected", "concept")),
        (policy(name="other"), ("rejected", "review")),
        (policy(), ("done", None)),
    ):
        run(file, store, policy=rules)
        assert ends(store)["mug-0"] == end
        check_places(store)
    run(file, store, policy=policy(name="other"))
    decide(store.uri, ["mug-0"], "approve", by="Bo")
    assert catalogue(store)["mug-0"]["reviewed_by"] == "Bo"


def test_a_prompt_that_waits_is_drawn_by_the_next_run_once_it_is_approved(
    manifest: Callable[..., str], store: Store, policy: Callable[..., str]
) -> None:
    rules = policy(where="prompt", threshold=0.0)
    file = manifest([SYRINGE, *MUGS[:1]])
    assert run(file, store, policy=rules).rendered == 1
    assert ends(store)["syringe"] == ("blocked", "review")
    assert run(file, store, policy=rules).rendered == 0

    (told,) = decide(store.uri, ["syringe"], "approve", by="Ann")

    assert told.sentence.endswith("the next run does.")
    assert ends(store)["syringe"] == ("blocked", "review_approved")
    assert run(file, store, policy=rules).rendered == 1
    assert ends(store)["syringe"] == ("done", None)
    assert catalogue(store)["syringe"]["reviewed_by"] == "Ann"
    check_places(store)
    assert run(file, store, policy=rules).rendered == 0
    run(file, store, policy=policy(where="prompt", threshold=-0.1))
    assert ends(store)["syringe"] == ("done", None)


def test_a_rejected_prompt_stays_blocked_whatever_is_retried_until_it_is_changed(
    manifest: Callable[..., str], store: Store, policy: Callable[..., str]
) -> None:
    rules = policy(where="prompt", threshold=0.0)
    run(manifest([SYRINGE]), store, policy=rules)
    decide(store.uri, ["syringe"], "reject", by="Ann")
    for retry, again in (((Retry.BLOCKED,), rules), ((), policy(where="prompt", threshold=NOTHING))):
        assert run(manifest([SYRINGE]), store, policy=again, retry=retry).rendered == 0
        assert ends(store)["syringe"] == ("blocked", "review_rejected")
    run(manifest([{**SYRINGE, "prompt": "a glass syringe on a white background"}]), store, policy=rules)
    assert ends(store)["syringe"] == ("blocked", "review")


def test_rejected_pictures_are_made_again_from_another_seed_and_waiting_ones_wait(
    manifest: Callable[..., str], store: Store, policy: Callable[..., str]
) -> None:
    file, rules = manifest(MUGS[:2]), policy()
    run(file, store, policy=rules)
    before = catalogue(store)
    decide(store.uri, ["mug-0"], "reject", by="Ann")
    assert run(file, store, policy=rules, retry=(Retry.REJECTED,)).rendered == 1
    after = catalogue(store)
    assert after["mug-0"]["key"] != before["mug-0"]["key"]
    assert set(ends(store).values()) == {("rejected", "review")}  # a new picture is a new question
    assert after["mug-1"] == before["mug-1"]


def test_an_approval_can_be_taken_back(manifest: Callable[..., str], store: Store, policy: Callable[..., str]) -> None:
    run(manifest(MUGS[:1]), store, policy=policy())
    decide(store.uri, ["mug-0"], "approve", by="Ann")
    decide(store.uri, ["mug-0"], "reject", by="Bo")
    assert ends(store)["mug-0"] == ("rejected", "review_rejected")
    check_places(store)
    (told,) = decide(store.uri, ["mug-0"], "approve", by="Ann")
    assert not told.holds
    assert "Bo rejected the picture" in told.sentence


def test_what_does_not_wait_is_told_so_and_nothing_is_decided(
    manifest: Callable[..., str], store: Store, policy: Callable[..., str]
) -> None:
    run(manifest(MUGS[:1]), store, policy=policy())
    run(manifest([{"id": "done", "prompt": "a red mug"}], "other.parquet"), store)
    for ids, says in ((["mug-0", "no"], "There is no row 'no'"), (["mug-0", "done"], "The row done doesn't wait")):
        with pytest.raises(RequestError, match=says):
            decide(store.uri, ids, "approve", by="Ann")
    assert ends(store)["mug-0"] == ("rejected", "review")
    words = ["review", "approve", "--store", store.uri]
    for ids, code in ((["no"], 2), (["done"], 2), (["mug-0"], 0), (["mug-0"], 0)):
        process = command(*words, *ids, USER="cleo", LOGNAME="cleo")
        said, complaint = process.communicate(timeout=120)
        assert process.returncode == code, complaint
        assert "Traceback" not in complaint
    assert "mug-0  approved  Published as " in said
    assert catalogue(store)["mug-0"]["reviewed_by"] == "cleo"
