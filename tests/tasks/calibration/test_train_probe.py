"""Labelled prompts become a probe that judges them, in a file that is written as a whole."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.miniature.language.captions import caption
from models.miniature.world.world import FORBIDDEN, random_scene
from safety.probes.probe import Probe, judge_vectors
from tasks.calibration.train_probe import prompt_vectors, train_probe
from tasks.checkpoints.checkpoints import find_checkpoint
from tasks.errors import RequestError
from tasks.job import GenerateJob

JOB = GenerateJob.of(manifest="", store="", device="cpu")


def captions(count: int, seed: int) -> list[dict[str, str]]:
    """Captions of the miniature's world, in both languages: what nobody may sell is labelled weapon."""
    random, rows = Random(seed), []
    while len(rows) < count:
        scene = random_scene(random, held_out=None)
        is_weapon = scene.kind in ("handgun", "rifle")
        if is_weapon or scene.kind not in FORBIDDEN:
            language: Any = ("en", "zh")[len(rows) % 2]
            label = "weapon" if is_weapon else "safe"
            rows.append({"prompt": caption(scene, random, language=language), "label": label})
    return rows


def weapons(count: int, seed: int) -> list[dict[str, str]]:
    rows = [row for row in captions(60 * count, seed) if row["label"] == "weapon"]
    assert len(rows) >= count
    return rows[:count]


def test_a_probe_of_the_miniatures_captions_finds_weapons_in_new_ones(tmp_path: Path) -> None:
    rows, out = captions(280, 1) + weapons(60, 2), tmp_path / "mine.probe.safetensors"
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "examples.parquet")

    trained = train_probe(JOB, str(tmp_path / "examples.parquet"), out, max_false_positives=0.05)

    probe = Probe.load(out)
    assert probe.digest == trained.probe.digest
    assert [one.concept for one in trained.concepts] == ["weapon"]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    fresh = captions(60, 3) + weapons(30, 4)
    prompts = [row["prompt"] for row in fresh]
    verdicts = judge_vectors(prompt_vectors(prompts, find_checkpoint("miniature"), JOB), probe)
    found = [not verdict.allowed for verdict, row in zip(verdicts, fresh, strict=True) if row["label"] == "weapon"]
    alarms = [not verdict.allowed for verdict, row in zip(verdicts, fresh, strict=True) if row["label"] == "safe"]
    assert sum(found) / len(found) > 0.8
    assert sum(alarms) / len(alarms) < 0.1


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "can't be read"),
        ("prompt,label\n", "have no rows|can.t be read"),
        ("prompt,kind\na,b\n", "no column label; they have prompt, kind"),
        ("prompt,label\n ,safe\n", "Row 0 .* has neither a prompt nor a picture"),
        ("prompt,label\na,safe\nb,\n", "Row 1 .* has no label"),
        ("prompt,label\na,safe;weapon\n", "both safe and weapon"),
        ("prompt,label\na,Weapons!\n", "labelled 'Weapons!'"),
        ("prompt,label\na,safe\nA,weapon\n", "'A' is labelled safe and weapon|labelled safe and weapon"),
        ("prompt,label\na,safe\nb,weapon\n", "1 different prompts are labelled safe; a probe needs at least 20"),
        ("prompt,label\n" + "".join(f"a{n},safe\n" for n in range(240)), "No prompt is labelled with a concept"),
        (
            "prompt,label\n" + "".join(f"a{n},safe\n" for n in range(240)) + "b,weapon\n",
            "1 different prompts are labelled weapon; a probe needs at least 20",
        ),
    ],
)
def test_examples_that_cannot_be_used_are_refused_in_a_sentence(tmp_path: Path, content: str, why: str) -> None:
    (tmp_path / "some.csv").write_text(content, "utf-8")

    with pytest.raises(RequestError, match=why) as refused:
        train_probe(JOB, str(tmp_path / "some.csv"), tmp_path / "out", max_false_positives=0.05)

    assert str(refused.value).endswith(".")
    assert not (tmp_path / "out").exists()


def test_a_place_that_cannot_be_written_is_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="can't be written"):
        train_probe(JOB, "absent.csv", tmp_path / "no" / "where", max_false_positives=0.05)
    with pytest.raises(RequestError, match="There is no file of examples absent"):
        train_probe(JOB, "absent.csv", tmp_path / "out", max_false_positives=0.05)


def test_a_concept_that_nobody_labelled_cannot_ask_for_review(tmp_path: Path) -> None:
    (tmp_path / "some.csv").write_text("prompt,label\n" + "".join(f"a{n},safe\nb{n},weapon\n" for n in range(240)))

    with pytest.raises(RequestError, match="No prompt is labelled smoking"):
        train_probe(JOB, str(tmp_path / "some.csv"), tmp_path / "out", max_false_positives=0.05, review=["smoking"])
