import pickle

import pytest

from safety.verdict import Reason, Verdict, allow, refuse, strictest


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


def test_a_verdict_travels_between_processes():
    verdict = refuse(Reason.CONCEPT, "no", {"weapon": 0.5})
    assert pickle.loads(pickle.dumps(verdict)) == verdict
    assert verdict.reason == "concept"  # what the catalogue stores
