"""Whatever a text is made of, there is a verdict on it: work that grows with its square would run into the tests' limit
of time at these lengths."""

import base64
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safety.policy.policy import Policy
from safety.text.texts import judge_text
from safety.verdict import Reason, Verdict

LONG = 100_000  # characters

PIECES = {
    "NUL": "\0",
    "half characters": "\ud83d",
    "only emoji": "🙂💫🎁",
    "families": "👩\u200d👩\u200d👧\ufe0f",
    "joined endlessly": "🙂\u200d",
    "right to left": "كوب أبيض ",
    "overridden direction": "\u202e\u2066mug",
    "marks": "a\u0301\u0323\u0489",
    "marks alone": "\u0301",
    "unfolding": "\ufdfa",
    "jamo": "\u1100\u1161\u11a8",
    "tags": "\U000e0061",
    "entities": "&amp;#x",
    "signs": "|!$+",
    "signed": "a!",
    "single letters": "g u ",
    "taken apart": "p-i-s-",
    "held down": "g",
    "digits": "1",
    "base64": "Z3V",
    "an exception": "glue gun ",
    "an exception in Chinese": "水。枪灰",
    "control characters": "\x1b[31m\x07",
    "line ends": "\r\n\u2028\x85",
    "beyond Unicode's planes in use": "\U000e0fff\U000fffff\U0010fffe",
}


@pytest.mark.parametrize("piece", PIECES)
def test_a_text_of_a_hundred_thousand_characters_gets_a_verdict(policy: Policy, piece: str):
    text = PIECES[piece] * (LONG // len(PIECES[piece]))
    assert judge_text(text, policy.blocklist).allowed
    refused = judge_text(text + " a pistol", policy.blocklist)
    assert refused.reason is Reason.BLOCKLIST
    assert refused.message == "The text names something on the list “weapons” (en): pistol."


def test_base64_in_base64_is_read_to_a_depth_and_no_further(policy: Policy):
    text = b"a pistol on white"
    found = []
    for _ in range(30):  # 110,000 characters at the end
        text = base64.b64encode(text)
        found.append(not judge_text(text.decode(), policy.blocklist).allowed)
    assert found[:3] == [True] * 3
    assert not any(found[3:])


def test_every_naughty_string_gets_a_verdict_that_can_be_stored(policy: Policy, public_data: Path):
    strings = json.loads((public_data / "prompts" / "blns.json").read_text("utf-8"))
    assert len(strings) > 500
    for at, text in enumerate(strings):
        for written in (text, text * 50, f"a mug {text} on white"):
            verdict = judge_text(written, policy.blocklist)
            assert isinstance(verdict, Verdict), at
            assert verdict.allowed or verdict.message.encode(), at  # type: ignore[union-attr]


@settings(max_examples=500, deadline=None, derandomize=True, database=None)
@given(st.text(st.characters(exclude_categories=()), max_size=200))
def test_any_text_at_all_gets_a_verdict(text: str):
    assert isinstance(judge_text(text, SHIPPED.blocklist), Verdict)


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(before=st.text(max_size=30), after=st.text(max_size=30))
def test_nothing_around_a_term_hides_it(before: str, after: str):
    assert not judge_text(f"{before}\n a revolver \n{after}", SHIPPED.blocklist).allowed


SHIPPED = Policy.load("default")
