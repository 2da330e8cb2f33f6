import pickle
from dataclasses import replace

import pytest

from safety.verdict import Reason, ScoreLimit, Verdict, allow, ask, fail, refuse, strictest


def test_a_refusal_cannot_be_made_without_a_reason_and_a_sentence():
    for arguments in [(False,), (False, Reason.BLANK), (False, None, "why"), (True, Reason.BLANK, "why")]:
        with pytest.raises(ValueError, match="refusal"):
            Verdict(*arguments)


def test_the_first_refusal_counts_and_every_score_is_kept():
    verdict = strictest(
        [allow({"a": 1.0}), refuse(Reason.BLANK, "empty", {"b": 2.0}), refuse(Reason.PROFILE, "small", {"c": 3.0})]
    )
    assert (verdict.reason, verdict.message) == (Reason.BLANK, "empty")
    assert verdict.scores == {"a": 1.0, "b": 2.0, "c": 3.0}
    assert strictest([]).allowed


def test_a_review_cannot_be_made_without_the_concepts_that_ask_for_it():
    for arguments in [(False, Reason.REVIEW, "why"), (False, Reason.BLANK, "why", {}, {"weapon": 0.1})]:
        with pytest.raises(ValueError, match="review"):
            Verdict(*arguments)


def test_a_block_beats_a_review_and_a_review_beats_an_allowance():
    look = ask({"weapon": 0.1}, "A person must look.", {"weapon": 0.5})
    block = refuse(Reason.BLANK, "empty", {"b": 2.0})
    for verdicts in ([allow({"a": 1.0}), look], [look, allow({"a": 1.0})]):
        verdict = strictest(verdicts)
        assert (verdict.allowed, verdict.waits, verdict.reason, verdict.asks) == (
            False,
            True,
            "review",
            {"weapon": 0.1},
        )
        assert verdict.scores == {"a": 1.0, "weapon": 0.5}
    for verdicts in ([block, look], [look, block]):
        verdict = strictest(verdicts)
        assert (verdict.reason, verdict.waits, verdict.asks) == (Reason.BLANK, False, {})
        assert verdict.scores == {"b": 2.0, "weapon": 0.5}


def test_reviews_are_put_together_so_that_a_person_answers_all_of_them_at_once():
    verdict = strictest(
        [ask({"weapon": 0.2}, "One."), ask({"drugs": 0.1, "weapon": 0.3}, "Two."), ask({"a": 0}, "One.")]
    )
    assert (verdict.asks, verdict.message) == ({"weapon": 0.3, "drugs": 0.1, "a": 0}, "One. Two.")
    assert list(verdict.asks) == ["weapon", "drugs", "a"]  # the furthest over its limit first


def test_what_a_check_failed_of_is_refused():
    failed = fail(Reason.CLASSIFIER_FAILED, "broken", {"a": 1.0})
    assert (failed.allowed, failed.reason, failed.failed) == (False, "classifier_failed", True)
    assert not refuse(Reason.BLANK, "empty").failed
    for arguments in [(True,), (False, Reason.REVIEW, "why", {}, {"weapon": 0.1})]:
        with pytest.raises(ValueError, match="a check failed of"):
            Verdict(*arguments, failed=True)


def test_a_check_that_failed_counts_only_where_no_other_one_refuses():
    failed, block = fail(Reason.CLASSIFIER_FAILED, "broken"), refuse(Reason.BLANK, "empty")
    for verdicts in ([failed, block], [block, failed]):
        verdict = strictest(verdicts)
        assert (verdict.reason, verdict.failed) == (Reason.BLANK, False)
    alone = strictest([allow({"a": 1.0}), failed])
    assert (alone.reason, alone.failed, alone.scores) == (Reason.CLASSIFIER_FAILED, True, {"a": 1.0})
    # That a person must look is known, whatever the failed check would have said.
    beside_a_review = strictest([failed, ask({"weapon": 0.1}, "A person must look.")])
    assert (beside_a_review.reason, beside_a_review.failed) == (Reason.CLASSIFIER_FAILED, False)


def test_a_verdict_travels_between_processes():
    verdict = refuse(Reason.CONCEPT, "no", {"weapon": 0.5})
    assert pickle.loads(pickle.dumps(verdict)) == verdict
    assert verdict.reason == "concept"  # what the catalogue stores


def test_a_score_is_within_its_limits_or_asks_or_is_beyond_by_a_share_of_the_limit():
    most, least = ScoreLimit(most=4.0, review=3.0), ScoreLimit(least=0.5)
    assert [most.finds(value) for value in (3.0, 3.5, 4.5)] == ["within", "asks", "beyond"]
    assert [least.finds(value) for value in (0.5, 0.25)] == ["within", "beyond"]
    assert (most.overshoot(5.0), most.overshoot(3.0), least.overshoot(0.25)) == (0.25, -0.25, 0.5)


def test_what_scores_were_held_to_is_kept_whatever_the_answer_is():
    limited = replace(allow({"colour": 3.0}), limits={"colour": ScoreLimit(most=4.0)})
    for other in (allow(), ask({"weapon": 0.1}, "A person must look."), refuse(Reason.BLANK, "empty")):
        assert strictest([limited, other]).limits == limited.limits
