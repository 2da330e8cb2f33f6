"""A probe's file, what it says of prompts' vectors, and that whatever is uncertain is refused."""

from __future__ import annotations

import pickle
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from safety.probes.probe import FORMAT, About, Probe, Probed, ProbeError, judge_vectors
from safety.verdict import Reason

CONCEPTS = (
    Probed(name="drugs", threshold=1.0),
    Probed(name="smoking", threshold=0.5, answer="review"),
    Probed(name="weapon", threshold=2.0),
)


def probe(concepts: tuple[Probed, ...] = CONCEPTS) -> Probe:
    """One whose scores are the vector's own numbers."""
    about = About(text_encoder="e" * 64, checkpoint="miniature", pooling="mean,last", concepts=concepts)
    return Probe(about, np.eye(len(concepts)), np.zeros(len(concepts)))


def test_a_prompt_is_allowed_below_every_threshold_and_its_scores_are_told() -> None:
    (verdict,) = judge_vectors(np.array([[0.9, 0.4, 1.9]]), probe())

    assert verdict.allowed
    assert verdict.scores == {"probe.drugs": 0.9, "probe.smoking": 0.4, "probe.weapon": 1.9}


def test_what_is_furthest_over_its_threshold_is_named_and_a_block_beats_a_review() -> None:
    blocked, both, waiting = judge_vectors(np.array([[1.5, 0, 4], [1.0, 9, 0], [0, 0.5, 0]]), probe())

    assert blocked.reason is Reason.CONCEPT
    assert blocked.message == "To the model's own text encoder the prompt reads like “weapon” (4.000, limit 2.000)."
    assert (both.reason, "drugs" in (both.message or "")) == (Reason.CONCEPT, True)
    assert (waiting.reason, waiting.asks) == (Reason.REVIEW, {"probe.smoking": 0.0})
    assert "A person must look" in (waiting.message or "")


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_a_vector_that_is_not_finite_is_refused_alone(broken: float) -> None:
    verdicts = judge_vectors(np.array([[0, 0, 0], [0, broken, 0], [0, 0, 0]]), probe())

    assert [verdict.reason for verdict in verdicts] == [None, Reason.SCREEN_FAILED, None]


@pytest.mark.parametrize("vectors", [np.zeros((2, 2)), np.zeros((2, 4)), np.zeros(2), np.array([["a"], ["b"]])])
def test_vectors_of_another_size_are_all_refused(vectors: np.ndarray) -> None:
    assert [verdict.reason for verdict in judge_vectors(vectors, probe())] == [Reason.SCREEN_FAILED] * 2


def test_no_prompts_have_no_verdicts() -> None:
    assert judge_vectors(np.zeros((0, 3)), probe()) == []


def test_a_written_probe_is_read_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "mine.probe.safetensors"
    path.write_bytes(probe().data)

    read = Probe.load(path)

    assert read.about == probe().about
    assert np.array_equal(read.weights, probe().weights)
    assert read.digest == probe().digest == pickle.loads(pickle.dumps(read)).digest


def test_the_digest_is_another_one_when_anything_that_judges_changes() -> None:
    one = probe()
    others = [
        Probe(one.about, one.weights * 2, one.bias),
        Probe(one.about, one.weights, one.bias + 1),
        probe((*CONCEPTS[:2], Probed(name="weapon", threshold=2.5))),
        probe((*CONCEPTS[:2], Probed(name="weapon", threshold=2.0, answer="review"))),
    ]

    assert len({other.digest for other in (one, *others)}) == 5


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "no file that packshot probe wrote"),
        (b"\xff" * 64, "no file that packshot probe wrote"),
        (b"\x80\x04\x95 a pickle", "no file that packshot probe wrote"),
        (save({"weights": np.zeros((1, 2))}), "no file that packshot probe wrote"),
        (save({"weights": np.zeros((1, 2))}, {FORMAT: "{}"}), "Field required"),
        (save({"weights": np.zeros((1, 2))}, {FORMAT: "]"}), "Invalid JSON"),
        (probe().data.replace(b'"threshold\\": 2.0', b'"threshold\\": NaN'), "threshold"),
        (probe().data.replace(b"weapon", b"WEAPON"), "name"),
        (probe().data[:-8], "no file that packshot probe wrote"),
        (probe().data.replace(b"F64", b"I64", 1), "aren't float64"),
        (save({"weights": np.zeros((2, 3)), "bias": np.zeros(2)}, {FORMAT: probe().about.model_dump_json()}), "fit"),
        (
            save({"weights": np.full((3, 3), np.nan), "bias": np.zeros(3)}, {FORMAT: probe().about.model_dump_json()}),
            "aren't all numbers",
        ),
    ],
)
def test_a_file_that_is_no_probe_is_refused_in_a_sentence(tmp_path: Path, data: bytes, why: str) -> None:
    path = tmp_path / "mine.probe.safetensors"
    path.write_bytes(data)

    with pytest.raises(ProbeError, match=why) as refused:
        Probe.load(path)

    assert str(path) in str(refused.value)
    assert str(refused.value).endswith(".")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ProbeError, match=r"There is no probe .*absent; packshot probe makes one\."):
        Probe.load(tmp_path / "absent")


@given(st.binary(max_size=200))
def test_any_bytes_are_a_probe_or_refused(data: bytes) -> None:
    with pytest.raises(ProbeError):
        Probe.of(data)


@given(st.integers(0, 300), st.binary(min_size=1, max_size=4))
def test_a_damaged_probe_is_another_one_or_refused(at: int, damage: bytes) -> None:
    data = bytearray(probe().data)
    data[at : at + len(damage)] = damage
    with suppress(ProbeError):
        assert Probe.of(bytes(data)).about.version == 1
