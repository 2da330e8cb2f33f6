"""A policy with a probe: what its prompts say to the model's own text encoder decides, and nothing is drawn twice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from flows.decompose import decompose
from models.checkpoints.text_encoder import POOLING, text_encoder_digest
from models.engines.decomposer import Decomposer
from models.engines.generator import Generator
from models.loading import prompt_encoder as reading
from models.loading.prompt_encoder import load_prompt_encoder
from models.requests import Conditioning
from models.sampling.pooled import read_prompts
from safety.probes.probe import About, Answer, Probe, Probed
from tasks.checkpoints.checkpoints import find_checkpoint
from tasks.errors import RequestError
from tasks.job import DecomposeJob
from tasks.lane import probing
from tasks.outcome import Retry
from tasks.results.encoding import decode
from tasks.review.decide import decide
from tasks.stores.opening import open_store
from tasks.stores.store import Store
from tests.end_to_end.conftest import ROAD, catalogue, run

MUG, BOOT = "a red mug on a white background", "a green boot on a white background"
ROWS = [{"id": "mug", "prompt": MUG}, {"id": "boot", "prompt": BOOT}, {"id": "bottle", "prompt": "a blue bottle"}]


@pytest.fixture(scope="module")
def vectors() -> dict[str, np.ndarray]:
    reader = load_prompt_encoder(find_checkpoint("miniature"), device="cpu")
    vectors, _ = read_prompts(reader, [Conditioning(str(row["prompt"])) for row in ROWS])
    return {conditioning.text: vector for conditioning, vector in vectors.items()}


@pytest.fixture
def no_boots(vectors: dict[str, np.ndarray], tmp_path: Path) -> Callable[..., str]:
    """Writes a policy whose probe refuses the boot, as the miniature's text encoder reads it; returns its path."""

    def write(*, answer: Answer = "block", text_encoder: str | None = None, name: str = "no_boots") -> str:
        weights = vectors[BOOT] - (vectors[MUG] + vectors["a blue bottle"]) / 2
        highest = max(vectors[prompt] @ weights for prompt in (MUG, "a blue bottle"))
        threshold = float(vectors[BOOT] @ weights + highest) / 2
        about = About(
            text_encoder=text_encoder or text_encoder_digest(find_checkpoint("miniature")),
            checkpoint="miniature",
            pooling=POOLING,
            concepts=(Probed(name="boot", threshold=threshold, answer=answer),),
        )
        probe = Probe(about, weights[None].astype(np.float64), np.zeros(1))
        (tmp_path / f"{name}.probe.safetensors").write_bytes(probe.data)
        (tmp_path / f"{name}.toml").write_text(f"{Path(ROAD).read_text().replace('[[', PROBE.format(name) + '[[', 1)}")
        return str(tmp_path / f"{name}.toml")

    return write


PROBE = 'probe = "{}.probe.safetensors"\n'


@pytest.fixture
def nothing_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: Any, **__: Any) -> Any:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(Generator, "load", load)
    monkeypatch.setattr(Decomposer, "load", load)


def endings(store: Store) -> dict[str, tuple[str, str | None]]:
    return {row: (found["status"], found["reason"]) for row, found in catalogue(store).items()}


def test_a_refused_row_is_blocked_undrawn_and_the_others_are_as_without_a_probe(
    manifest: Callable[..., str], store: Store, tmp_path: Path, no_boots: Callable[..., str]
) -> None:
    file = manifest(ROWS)
    summary = run(file, store, policy=no_boots())
    found = catalogue(store)

    assert endings(store) == {"mug": ("done", None), "boot": ("blocked", "concept"), "bottle": ("done", None)}
    assert summary.rendered == 2
    assert found["boot"]["uri"] is None
    assert "reads like “boot”" in found["boot"]["message"]
    scores = {row: dict(found[row]["scores"])["probe.boot"] for row in found}
    assert scores["boot"] > max(scores["mug"], scores["bottle"])
    other = open_store(str(tmp_path / "other"))
    run(file, other)
    alone = catalogue(other)
    for row in ("mug", "bottle"):  # their batch has another size, and so another rounding
        one, two = (decode(Path(rows[row]["uri"]).read_bytes()).astype(int) for rows in (found, alone))
        assert np.abs(one - two).max() <= 2


def test_what_a_probe_asks_a_person_waits_undrawn_and_is_drawn_when_approved(
    manifest: Callable[..., str], store: Store, no_boots: Callable[..., str]
) -> None:
    file, policy = manifest(ROWS), no_boots(answer="review")
    run(file, store, policy=policy)
    assert endings(store)["boot"] == ("blocked", "review")
    assert catalogue(store)["boot"]["uri"] is None

    decide(store.uri, ["boot"], "approve", by="Ada", note="we do sell these")
    summary = run(file, store, policy=policy)

    assert summary.rendered == 1
    assert endings(store)["boot"] == ("done", None)
    assert catalogue(store)["boot"]["reviewed_by"] == "Ada"
    assert "probe.boot" in dict(catalogue(store)["boot"]["scores"])


def test_a_rejection_of_what_a_probe_asked_holds_for_the_stored_picture_too(
    manifest: Callable[..., str], store: Store, no_boots: Callable[..., str], request: pytest.FixtureRequest
) -> None:
    file, policy = manifest(ROWS), no_boots(answer="review")
    run(file, store)
    request.getfixturevalue("nothing_is_drawn")
    run(file, store, policy=policy)
    assert endings(store)["boot"] == ("blocked", "review")

    decide(store.uri, ["boot"], "reject", by="Ada", note="")
    run(file, store, policy=policy)

    assert endings(store)["boot"] == ("blocked", "review_rejected")
    assert len(list(Path(store.uri).glob("images/*/*"))) == 2


def test_a_negative_prompt_is_refused_where_it_conditions(
    manifest: Callable[..., str], store: Store, no_boots: Callable[..., str]
) -> None:
    rows = [{"id": str(g), "prompt": MUG, "negative_prompt": BOOT, "guidance": g} for g in (1.0, 2.0)]

    run(manifest(rows), store, policy=no_boots())

    assert endings(store) == {"1.0": ("done", None), "2.0": ("blocked", "concept")}


def test_stored_pictures_are_judged_again_by_the_text_encoder_alone_there_and_back(
    manifest: Callable[..., str], store: Store, no_boots: Callable[..., str], request: pytest.FixtureRequest
) -> None:
    file = manifest(ROWS)
    run(file, store)
    before = catalogue(store)
    request.getfixturevalue("nothing_is_drawn")

    refusing = run(file, store, policy=no_boots())

    refused = catalogue(store)
    assert refusing.rendered == 0
    assert endings(store)["boot"] == ("blocked", "concept")
    assert not Path(before["boot"]["uri"]).exists()
    assert refused["boot"]["uri"] is None
    for row in ("mug", "bottle"):
        assert (refused[row]["status"], refused[row]["uri"]) == ("done", before[row]["uri"])
        assert Path(refused[row]["uri"]).exists()
        assert "probe.boot" in dict(refused[row]["scores"])

    run(file, store)

    after = catalogue(store)
    assert {row: after[row]["sha256"] for row in after} == {row: before[row]["sha256"] for row in before}
    assert all(Path(after[row]["uri"]).exists() for row in after)


def test_where_rows_are_drawn_anyway_stored_ones_are_read_by_the_same_model(
    manifest: Callable[..., str], store: Store, no_boots: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(manifest(ROWS[:2], "two.parquet"), store)

    def load(*_: Any, **__: Any) -> Any:
        raise AssertionError("a second text encoder was loaded")

    monkeypatch.setattr(reading, "load_prompt_encoder", load)
    run(manifest(ROWS), store, policy=no_boots())

    assert endings(store) == {"mug": ("done", None), "boot": ("blocked", "concept"), "bottle": ("done", None)}


def test_a_shard_to_draw_after_one_that_is_stored_gives_the_lone_text_encoder_up(
    manifest: Callable[..., str], store: Store, no_boots: Callable[..., str]
) -> None:
    run(manifest(ROWS[:2], "two.parquet"), store, shard_rows=2)

    run(manifest(ROWS), store, policy=no_boots(), shard_rows=2)

    assert endings(store) == {"mug": ("done", None), "boot": ("blocked", "concept"), "bottle": ("done", None)}


@pytest.mark.parametrize("stored", [False, True])
def test_a_probe_that_fails_blocks_everything_new_and_says_so(
    manifest: Callable[..., str],
    store: Store,
    no_boots: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    stored: bool,
) -> None:
    file, policy = manifest(ROWS), no_boots()
    if stored:
        run(file, store)
        before = catalogue(store)

    def fails(*_: Any, **__: Any) -> Any:
        raise RuntimeError("broken")

    with monkeypatch.context() as broken:
        broken.setattr(probing, "judge_vectors", fails)
        summary = run(file, store, policy=policy)
    assert any("RuntimeError" in sentence for sentence in summary.notices)
    if stored:
        assert catalogue(store) == {row: {**found, "retryable": True} for row, found in before.items()}
        assert all(Path(found["uri"]).exists() for found in before.values())
    else:
        assert set(endings(store).values()) == {("blocked", "screen_failed")}
        assert "RuntimeError" in catalogue(store)["mug"]["message"]
        assert not list(Path(store.uri).glob("images/*/*"))

    run(file, store, policy=policy, retry=() if stored else (Retry.BLOCKED,))
    assert endings(store) == {"mug": ("done", None), "boot": ("blocked", "concept"), "bottle": ("done", None)}


@pytest.mark.parametrize("stored", [False, True])
def test_a_prompt_whose_vector_is_not_finite_is_refused_or_kept_alone(
    manifest: Callable[..., str],
    store: Store,
    no_boots: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    stored: bool,
) -> None:
    from models.sampling import pooled

    file, policy, pool = manifest(ROWS), no_boots(), pooled.pool_all
    if stored:
        run(file, store)

    def spoiled(embeds: dict[Conditioning, Any]) -> dict[Conditioning, np.ndarray]:
        return {read: vector * (np.nan if read.text == MUG else 1) for read, vector in pool(embeds).items()}

    monkeypatch.setattr(pooled, "pool_all", spoiled)
    monkeypatch.setattr("models.engines.engine.pool_all", spoiled)
    run(file, store, policy=policy)

    # Of a row that was judged before, nothing new is known.
    assert catalogue(store)["mug"]["retryable"]
    assert endings(store) == {
        "mug": ("done", None) if stored else ("blocked", "screen_failed"),
        "boot": ("blocked", "concept"),
        "bottle": ("done", None),
    }


def test_a_probe_for_another_text_encoder_is_refused_before_any_work(
    manifest: Callable[..., str], store: Store, no_boots: Callable[..., str]
) -> None:
    with pytest.raises(RequestError, match=r"The probe of the policy no_boots was trained for the text encoder of"):
        run(manifest(ROWS), store, policy=no_boots(text_encoder="0" * 64))

    assert not Path(store.uri).exists() or not list(Path(store.uri).glob("**/*.parquet"))


def test_the_same_command_again_asks_nobody(
    manifest: Callable[..., str], store: Store, no_boots: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file, policy = manifest(ROWS), no_boots()
    run(file, store, policy=policy)
    before = catalogue(store)

    def fails(*_: Any, **__: Any) -> Any:
        raise AssertionError("the probe was asked")

    monkeypatch.setattr(probing, "judge_vectors", fails)
    assert run(file, store, policy=policy).rendered == 0
    assert catalogue(store) == before


def test_captions_of_source_pictures_are_asked_about_and_stored_layers_again(
    store: Store, tmp_path: Path, no_boots: Callable[..., str], request: pytest.FixtureRequest
) -> None:
    picture = np.full((128, 128, 3), 255, dtype=np.uint8)
    picture[40:90, 40:90] = (200, 30, 40)
    Image.fromarray(picture).save(tmp_path / "source.png")
    rows = [{"id": row["id"], "image": "source.png", "caption": row["prompt"]} for row in ROWS]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "sources.parquet")

    def take_apart(policy: str) -> None:
        job = {"resolution": 128, "layers": 2, "steps": 2, "guidance": 1.0, "policy": policy}
        decompose(DecomposeJob.of(manifest=str(tmp_path / "sources.parquet"), store=store.uri, **job), None, ())

    take_apart(no_boots())
    asked = catalogue(store)
    assert (asked["boot"]["status"], asked["boot"]["reason"]) == ("blocked", "concept")
    assert asked["boot"]["uri"] is None
    assert "probe.boot" in dict(asked["mug"]["scores"])

    take_apart(ROAD)
    assert catalogue(store)["boot"]["status"] != "blocked"
    request.getfixturevalue("nothing_is_drawn")
    take_apart(no_boots())
    assert endings(store)["boot"] == ("blocked", "concept")
