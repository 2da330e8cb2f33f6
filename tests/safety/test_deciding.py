"""Digests stay the same when packshot learns of a field more, and change with whatever is said."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from pydantic import BaseModel

from safety.deciding import deciding
from safety.pictures.profile import METHOD, Profile
from safety.policy.policy import Concept, Policy
from safety.probes.probe import About, Probe, Probed

POLICY = """
refuse = ["umbrella"]
[[concepts]]
name = "weapon"
sentence = "No weapons."
phrases = ["a gun"]
prompt_threshold = 0.1
"""
OF_PROFILE = (
    '{"formats":null,"extension":false,"color_spaces":null,"min_width":500,"min_height":null,"min_longest_side":null,'
    '"max_longest_side":null,"max_pixels":null,"max_bytes":null,"background":"any","background_tolerance":8,'
    '"background_share":0.97,"background_shadows":true,"min_product_share":null,"max_product_share":null,'
    '"max_transparent":1.0,"max_edge_width":null,"concepts":["weapon"],"unlike_others":false,"visible_label":null,'
    '"aigc":false,"content_credentials":false,"min_layers_psnr":26.0}'
)
"""What the digest of a profile was made of before fields could be added to it."""
OF_POLICY = {
    "concepts": [
        {
            "name": "weapon",
            "sentence": "No weapons.",
            "phrases": ["a gun"],
            "exempt": [],
            "answer": "block",
            "prompt_threshold": 0.1,
            "picture_threshold": None,
        }
    ],
    "neutral": [],
    "min_prompt_match": None,
}
OF_PROBE = "7380bcbeeb6060bac9cb71a76194f3c9ea210b8f87f47e5422b97f2d34272ab8"
LEFT_OUT: dict[type[BaseModel], dict[str, Any]] = {Concept: {}, Policy: {}, Profile: {}, About: {}, Probed: {}}
"""The default of every field that a digest leaves out where it has that. None of them may ever change: a field whose
default is to be another one belongs into its class's `FIRST_FIELDS`, and no longer here."""
NAMES = {Policy: ("name", "calibrated_for", "blocklist", "probe"), Profile: ("name", "source")}
"""Fields that are no part of a digest, or are part of it in another way."""


class Rule(BaseModel):
    FIRST_FIELDS: ClassVar = ("least",)

    least: int = 1


class LaterRule(Rule):
    most: int | None = None
    words: tuple[str, ...] = ()


class Rules(BaseModel):
    FIRST_FIELDS: ClassVar = ("rules", "by_name")

    rules: tuple[Rule, ...] = ()
    by_name: dict[str, Rule] = {}


def policy(folder: Path) -> Policy:
    (folder / "mine.toml").write_text(POLICY, "utf-8")
    return Policy.load(str(folder / "mine.toml"))


def test_a_field_that_came_later_decides_only_where_it_is_not_its_default() -> None:
    assert deciding(LaterRule()) == deciding(LaterRule(most=None, words=())) == deciding(Rule()) == {"least": 1}
    assert deciding(LaterRule(least=2, most=3, words=("a",))) == {"least": 2, "most": 3, "words": ["a"]}


def test_so_it_is_inside_of_lists_and_tables() -> None:
    now, before = Rules(rules=(LaterRule(),), by_name={"a": LaterRule()}), Rules(rules=(Rule(),), by_name={"a": Rule()})
    assert deciding(now) == deciding(before) == {"rules": [{"least": 1}], "by_name": {"a": {"least": 1}}}
    assert deciding(Rules(rules=(LaterRule(most=2),)))["rules"] == [{"least": 1, "most": 2}]


def test_a_field_of_the_first_version_decides_by_its_value_even_where_that_is_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = deciding(Rule())
    monkeypatch.setattr(Rule.model_fields["least"], "default", 5)
    Rule.model_rebuild(force=True)
    assert deciding(Rule()) != before


def test_a_profile_has_the_digest_that_it_had_before_fields_could_be_added() -> None:
    profile = Profile(name="x", min_width=500, concepts=("weapon",))
    assert profile.digest == hashlib.sha256(f"{METHOD} {OF_PROFILE}".encode()).hexdigest()


def test_a_policy_has_the_digest_that_it_had_before_fields_could_be_added(tmp_path: Path) -> None:
    assert deciding(policy(tmp_path), exclude=("name", "calibrated_for")) == OF_POLICY


def test_a_probe_has_the_digest_that_it_had_before_fields_could_be_added() -> None:
    about = About(text_encoder="e", checkpoint="c", pooling="p", concepts=(Probed(name="weapon", threshold=1.0),))
    probe = Probe(about, np.ones((1, 2)), np.ones(1))
    assert probe.digest == OF_PROBE == hashlib.sha256(probe.data).hexdigest()


def test_a_policy_and_a_profile_that_know_a_field_more_keep_their_digests(tmp_path: Path) -> None:
    class LaterConcept(Concept):
        weight: float = 1.0

    class LaterPolicy(Policy):
        concepts: tuple[LaterConcept, ...] = ()  # type: ignore[assignment]
        most_words: int | None = None

    class LaterProfile(Profile):
        min_depth: int | None = None

    before, path = policy(tmp_path), str(tmp_path / "mine.toml")
    assert LaterPolicy.load(path).digest == before.digest
    (tmp_path / "mine.toml").write_text(f"{POLICY}weight = 2.0\n", "utf-8")
    assert LaterPolicy.load(path).digest != before.digest
    (tmp_path / "mine.toml").write_text(f"most_words = 9\n{POLICY}", "utf-8")
    assert LaterPolicy.load(path).digest != before.digest
    assert LaterProfile(name="x").digest == Profile(name="x").digest != LaterProfile(name="x", min_depth=1).digest


@pytest.mark.parametrize("values", LEFT_OUT, ids=lambda values: values.__name__)
def test_no_default_that_digests_leave_out_changes(values: type[BaseModel]) -> None:
    excluded = {*values.FIRST_FIELDS, *NAMES.get(values, ())} if hasattr(values, "FIRST_FIELDS") else set()
    fields = {name: one for name, one in values.model_fields.items() if name not in excluded and not one.is_required()}
    assert {name: field.get_default(call_default_factory=True) for name, field in fields.items()} == LEFT_OUT[values]
    assert excluded <= values.model_fields.keys()


def test_what_decides_is_json(tmp_path: Path) -> None:
    json.dumps(deciding(policy(tmp_path)))
