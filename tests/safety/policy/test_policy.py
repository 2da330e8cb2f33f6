import pickle
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from safety.policy.policy import Policy, PolicyError
from safety.probes.probe import About, Probe, Probed

CONCEPT = """
[[concepts]]
name = "weapon"
sentence = "No weapons."
phrases = ["a gun"]
prompt_threshold = 0.1
"""


def write(folder: Path, text: str, name: str = "mine.toml") -> str:
    path = folder / name
    path.write_text(text, "utf-8")
    return str(path)


def test_the_shipped_policy_looks_for_weapons_in_prompts_and_for_watermarks_in_pictures_only(policy: Policy):
    concepts = {concept.name: concept for concept in policy.concepts}
    assert set(concepts) == {"weapon", "smoking", "drugs", "text_banner", "watermark", "border"}
    assert concepts["weapon"].prompt_threshold is not None
    assert concepts["watermark"].prompt_threshold is None
    assert all(concept.picture_threshold is not None for concept in policy.concepts)


@pytest.mark.parametrize("name", ["default", "photographs"])
def test_the_shipped_policies_speak_english_and_chinese(name: str):
    for concept in Policy.load(name).concepts:
        for phrases in (concept.phrases, concept.exempt):
            assert any(phrase.isascii() for phrase in phrases)
            assert any(not phrase.isascii() for phrase in phrases)


def test_a_policy_brings_its_own_terms_and_exceptions(tmp_path: Path):
    (tmp_path / "house.txt").write_text("[house]\nteapot\n", "utf-8")
    policy = Policy.load(
        write(tmp_path, 'blocklists = ["en", "house.txt"]\nrefuse = ["umbrella"]\nallow = ["gun rack"]\n')
    )
    assert policy.name == "mine"
    assert policy.blocklist.search("a teapot").list == "house"  # type: ignore[union-attr]
    assert policy.blocklist.search("umbrellas").list == "policy"  # type: ignore[union-attr]
    assert policy.blocklist.search("a gun")
    assert policy.blocklist.search("a gun rack") is None


def test_the_digest_follows_whatever_decides_a_verdict(tmp_path: Path):
    listed = tmp_path / "list.txt"
    listed.write_text("[a]\nteapot\n", "utf-8")
    text = 'blocklists = ["list.txt"]\n' + CONCEPT
    first = Policy.load(write(tmp_path, text)).digest
    assert len(first) == 64
    assert Policy.load(write(tmp_path, text, "renamed.toml")).digest == first
    assert Policy.load(write(tmp_path, "# a comment\n" + text)).digest == first
    changed = {
        Policy.load(write(tmp_path, text.replace("0.1", "0.2"))).digest,
        Policy.load(write(tmp_path, text.replace("a gun", "a rifle"))).digest,
        Policy.load(write(tmp_path, text + 'answer = "review"\n')).digest,
        Policy.load(write(tmp_path, 'neutral = ["a mug"]\n' + text)).digest,
        Policy.load(write(tmp_path, "min_prompt_match = 0.2\n" + text)).digest,
        Policy.load(write(tmp_path, 'allow = ["teapot lid"]\n' + text)).digest,
    }
    listed.write_text("[a]\nteapot\nkettle\n", "utf-8")
    changed.add(Policy.load(write(tmp_path, text)).digest)
    assert len(changed | {first}) == 8


def test_a_copy_with_another_threshold_has_another_digest(policy: Policy):
    assert policy.digest != policy.model_copy(update={"min_prompt_match": 0.9}).digest


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("min_prompt_match = 'high'", "min_prompt_match"),
        ("min_prompt_match = nan", "min_prompt_match"),
        ("unknown = 1", "unknown"),
        ("blocklists = 'en'", "blocklists"),
        ("blocklists = ['nowhere']", "blocklists"),
        ("refuse = [1]", "refuse"),
        (CONCEPT.replace("0.1", "'much'"), r"concepts\.0\.prompt_threshold"),
        (CONCEPT.replace("0.1", "inf"), r"concepts\.0\.prompt_threshold"),
        (CONCEPT.replace('["a gun"]', "[]"), r"concepts\.0\.phrases"),
        (CONCEPT.replace("prompt_threshold = 0.1", ""), "weapon has neither"),
        (CONCEPT + CONCEPT, "weapon is there twice"),
        (CONCEPT.replace('"weapon"', '"prompt_match"'), "prompt_match"),
    ],
)
def test_a_malformed_policy_is_refused_with_its_file_and_field(tmp_path: Path, text: str, field: str):
    with pytest.raises(PolicyError, match=rf"mine\.toml.*{field}") as error:
        Policy.load(write(tmp_path, text))
    assert "\n" not in str(error.value)


def test_a_missing_or_unreadable_policy_is_refused_with_its_path(tmp_path: Path):
    with pytest.raises(PolicyError, match="There is no policy nowhere; shipped are default"):
        Policy.load("nowhere")
    with pytest.raises(PolicyError, match="TOML"):
        Policy.load(write(tmp_path, "= ="))
    (tmp_path / "latin.toml").write_bytes(b'name = "\xff"')
    with pytest.raises(PolicyError, match="UTF-8"):
        Policy.load(str(tmp_path / "latin.toml"))
    with pytest.raises(PolicyError, match="can't be read"):
        Policy.load(f"{tmp_path}/")
    assert issubclass(PolicyError, ValueError)


def test_a_policy_cannot_be_changed_and_travels_between_processes(policy: Policy):
    with pytest.raises(ValidationError, match="frozen"):
        policy.name = "other"  # type: ignore[misc]
    copy = pickle.loads(pickle.dumps(policy))
    assert copy.digest == policy.digest
    assert copy.blocklist.search("pistol")


def test_a_policy_extends_a_shipped_one(tmp_path: Path, policy: Policy):
    file = tmp_path / "mine.toml"
    file.write_text(
        'extends = "default"\nwithout = ["border"]\nmin_prompt_match = 0.5\n'
        '[[concepts]]\nname = "fur"\nsentence = "No fur."\nphrases = ["a fur coat"]\nprompt_threshold = 0.1\n'
    )
    mine = Policy.load(str(file))
    names = [concept.name for concept in policy.concepts if concept.name != "border"]
    assert [concept.name for concept in mine.concepts] == [*names, "fur"]
    assert (mine.neutral, mine.calibrated_for, mine.min_prompt_match) == (policy.neutral, policy.calibrated_for, 0.5)
    assert mine.blocklist.contents == policy.blocklist.contents


def test_a_policy_extends_a_shipped_one_that_itself_extends_one(tmp_path: Path, policy: Policy):
    file = tmp_path / "mine.toml"
    file.write_text('extends = "sources"\nwithout = ["drugs"]\nmin_prompt_match = 0.5\n')
    mine = Policy.load(str(file))
    assert [concept.name for concept in mine.concepts] == ["weapon", "smoking"]
    assert (mine.neutral, mine.min_prompt_match) == (policy.neutral, 0.5)
    assert mine.blocklist.contents == policy.blocklist.contents


def test_a_picture_to_draw_after_may_have_the_faults_that_prompts_may_name(policy: Policy):
    counts = policy.of_conditions
    assert [concept.name for concept in counts.concepts] == ["weapon", "smoking", "drugs"]
    assert counts.neutral == policy.neutral


def test_source_pictures_may_show_what_layers_get_rid_of():
    assert [concept.name for concept in Policy.load("sources").concepts] == ["weapon", "smoking", "drugs"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('extends = "mine"', "field extends"),
        ('extends = ["default"]', "field extends"),
        ('extends = "default"\nwithout = ["moon"]', "no concept moon"),
        ('without = ["border"]', "field without"),
        ('extends = "default"\nwithout = "border"', "field without"),
    ],
)
def test_what_cannot_be_extended_is_said(tmp_path: Path, text: str, said: str):
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(PolicyError, match=said):
        Policy.load(str(file))


def probe_file(folder: Path) -> Probe:
    about = About(
        text_encoder="e",
        checkpoint="miniature",
        pooling="mean,last",
        concepts=(Probed(name="smoking", threshold=1.0), Probed(name="weapon", threshold=2.0)),
    )
    probe = Probe(about, np.ones((2, 4)), np.zeros(2))
    (folder / "mine.probe.safetensors").write_bytes(probe.data)
    return probe


def test_a_probe_beside_the_policy_is_read_and_part_of_its_digest(tmp_path: Path) -> None:
    probe = probe_file(tmp_path)
    (tmp_path / "without.toml").write_text('refuse = ["gun"]')
    (tmp_path / "with.toml").write_text('refuse = ["gun"]\nprobe = "mine.probe.safetensors"')

    without, with_probe = (Policy.load(str(tmp_path / f"{name}.toml")) for name in ("without", "with"))

    assert without.probe is None
    assert with_probe.probe is not None
    assert with_probe.probe.digest == probe.digest
    assert with_probe.digest != without.digest
    retrained = Probe(probe.about, probe.weights * 2, probe.bias)
    assert with_probe.model_copy(update={"probe": retrained}).digest != with_probe.digest
    assert pickle.loads(pickle.dumps(with_probe)).digest == with_probe.digest


def test_a_policy_may_change_a_probes_thresholds_and_answers(tmp_path: Path) -> None:
    probe_file(tmp_path)
    (tmp_path / "mine.toml").write_text(
        '[probe]\nfile = "mine.probe.safetensors"\nthresholds = {weapon = 3.5}\nanswers = {smoking = "review"}'
    )

    probe = Policy.load(str(tmp_path / "mine.toml")).probe

    assert probe is not None
    assert probe.about.concepts == (
        Probed(name="smoking", threshold=1.0, answer="review"),
        Probed(name="weapon", threshold=3.5),
    )


@pytest.mark.parametrize(
    ("field", "why"),
    [
        ('probe = "absent"', r"There is no probe .*absent"),
        ("probe = 3", "field probe"),
        ('probe = {file = "mine.probe.safetensors", thresholds = {drugs = 1.0}}', "has no concept drugs"),
        ('probe = {file = "mine.probe.safetensors", answers = {weapon = "allow"}}', "field probe: answers.weapon is"),
        ("probe = {thresholds = {weapon = 1.0}}", "field probe: file isn't given"),
    ],
)
def test_a_probe_that_cannot_be_used_is_refused_with_its_policy(tmp_path: Path, field: str, why: str) -> None:
    probe_file(tmp_path)
    (tmp_path / "mine.toml").write_text(field)

    with pytest.raises(PolicyError, match=why) as refused:
        Policy.load(str(tmp_path / "mine.toml"))

    assert "mine.toml" in str(refused.value)
