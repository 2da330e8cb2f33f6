"""A policy that is written elsewhere still finds what lies beside the old one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from safety.policy.policy import Policy
from safety.probes.probe import About, Probe, Probed
from tasks.calibration.policy_file import with_thresholds, write_policy


@pytest.mark.parametrize(
    "field", ['"mine.safetensors"', '{ file = "mine.safetensors", thresholds = { weapon = 3.0 } }']
)
def test_a_policys_probe_is_found_from_another_folder(tmp_path: Path, field: str) -> None:
    about = About(text_encoder="e", checkpoint="c", pooling="p", concepts=(Probed(name="weapon", threshold=2.0),))
    (tmp_path / "mine.safetensors").write_bytes(Probe(about, np.ones((1, 4)), np.zeros(1)).data)
    (tmp_path / "mine.toml").write_text(f"probe = {field}")
    (tmp_path / "new").mkdir()
    base, out = str(tmp_path / "mine.toml"), tmp_path / "new" / "mine.toml"

    write_policy(with_thresholds(base, out, {}, match=None, clip="miniature", note="for a test"), out)

    one, other = Policy.load(base).probe, Policy.load(str(out)).probe
    assert one is not None
    assert other is not None
    assert one.digest == other.digest


def test_a_policy_that_extends_one_that_extends_another_becomes_whole(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('extends = "sources"\nmin_prompt_match = 0.5\n')
    base, out = str(tmp_path / "mine.toml"), tmp_path / "other.toml"
    limits = {("weapon", "prompt_threshold"): 0.2}

    write_policy(with_thresholds(base, out, limits, match=None, clip="miniature", note="for a test"), out)

    one, other = Policy.load(base), Policy.load(str(out))
    assert [concept.name for concept in other.concepts] == [concept.name for concept in one.concepts]
    assert other.concepts[0].prompt_threshold == 0.2
    assert other.min_prompt_match == 0.5
    assert "extends" not in out.read_text()
