"""Pictures drawn after control pictures, from a manifest to the catalogue."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tasks.errors import RequestError
from tasks.job import GenerateJob
from tasks.results.encoding import decode
from tasks.runs.prepare import RunRequest, estimate
from tasks.stores.store import Store
from tests.end_to_end.conftest import ROAD, catalogue
from tests.end_to_end.conftest import run as run_flow
from tests.models.conftest import picture, save_controlnet, save_qwen_image

FRAMED = """
[[concepts]]
name = "border"
sentence = "No borders."
phrases = ["a frame"]
picture_threshold = -1.0
"""


@pytest.fixture(scope="session")
def drawing(tmp_path_factory: pytest.TempPathFactory, another_clip: str) -> dict[str, Any]:
    """What a job says to draw with a tiny checkpoint and its ControlNet, both of random weights."""
    return {
        "model": str(save_qwen_image(tmp_path_factory.mktemp("tiny-qwen-image"))),
        "clip": another_clip,
        "controlnet": str(save_controlnet(tmp_path_factory.mktemp("tiny-controlnet"))),
        "width": 96,
        "height": 64,
    }


def png(seed: int, width: int = 80, height: int = 60) -> bytes:
    """A control picture as PNG, transparent in places."""
    buffer = io.BytesIO()
    Image.fromarray(picture(width, height, seed)).save(buffer, "PNG")
    return buffer.getvalue()


def rows_of(tmp_path: Path) -> list[dict[str, Any]]:
    (tmp_path / "edges").mkdir()
    (tmp_path / "edges" / "a.png").write_bytes(png(1))
    said = {"prompt": "a red mug", "seed": 3}
    return [
        {"id": "path", "control": {"bytes": None, "path": "edges/a.png"}, **said},
        {"id": "held", "control": {"bytes": png(2), "path": None}, **said},
        {"id": "same", "control": {"bytes": png(1), "path": "named.png"}, **said},
        {"id": "cut", "control": {"bytes": png(3)[:-300], "path": None}, **said},
        {"id": "none", "control": None, **said},
        {"id": "far", "control": {"bytes": None, "path": "https://example.com/a.png"}, **said},
    ]


def test_a_changed_control_picture_makes_exactly_its_row_again(
    manifest: Callable[..., str], store: Store, tmp_path: Path, drawing: dict[str, Any]
) -> None:
    file = manifest(rows_of(tmp_path))

    first = run_flow(file, store, **drawing)

    before = catalogue(store)
    assert {row: (found["status"], found["reason"]) for row, found in before.items()} == {
        "path": ("done", None),
        "held": ("done", None),
        "same": ("done", None),
        "cut": ("failed", "source_corrupt"),
        "none": ("failed", "bad_value"),
        "far": ("failed", "source_not_allowed"),
    }
    assert {(found["prompt"], found["caption"]) for found in before.values()} == {("a red mug", None)}
    assert first.statuses["failed"] == 3
    drawn = {row: decode(Path(before[row]["uri"]).read_bytes()).astype(int) for row in ("path", "held")}
    assert np.abs(drawn["path"] - drawn["held"]).max() > 20
    assert before["same"]["key"] == before["path"]["key"]

    assert run_flow(file, store, **drawing).rendered == 0
    assert catalogue(store) == before

    (tmp_path / "edges" / "a.png").write_bytes(png(4))
    assert run_flow(file, store, **drawing).rendered == 1
    after = catalogue(store)
    assert [row for row in after if after[row]["key"] != before[row]["key"]] == ["path"]
    assert after["path"]["sha256"] != before["path"]["sha256"]


def test_another_scale_makes_every_row_again_and_none_draws_without(
    manifest: Callable[..., str], store: Store, drawing: dict[str, Any]
) -> None:
    said = {"id": "a", "prompt": "a mug", "seed": 3}
    controlled = manifest([{**said, "control": png(1)}], "controlled.parquet")
    run_flow(controlled, store, **drawing)
    strict = catalogue(store)["a"]

    assert run_flow(controlled, store, **drawing, controlnet_scale=0.0).rendered == 1

    at_zero = catalogue(store)["a"]
    shown = [decode(Path(at_zero["uri"]).read_bytes()).astype(int)]
    run_flow(manifest([said], "plain.parquet"), store, **{**drawing, "controlnet": None})
    plain = catalogue(store)["a"]
    assert len({strict["key"], at_zero["key"], plain["key"]}) == 3
    shown.append(decode(Path(plain["uri"]).read_bytes()).astype(int))
    assert not Path(at_zero["uri"]).exists()  # no row asks for it any more: its master is all that is left
    assert np.abs(shown[0] - shown[1]).max() == 0
    assert strict["sha256"] != at_zero["sha256"]


def test_a_control_picture_is_screened_for_what_prompts_may_not_ask_for(
    manifest: Callable[..., str],
    store: Store,
    tmp_path: Path,
    drawing: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = manifest([{"id": "a", "prompt": "a mug", "control": png(1)}])
    policy = tmp_path / "policy.toml"
    policy.write_text(Path(ROAD).read_text() + FRAMED)
    run_flow(file, store, **{**drawing, "policy": str(policy)})
    assert (catalogue(store)["a"]["status"], catalogue(store)["a"]["reason"]) == ("rejected", "concept")

    monkeypatch.setattr(
        "models.engines.generator.Generator.load", lambda *_, **__: pytest.fail("The model was loaded.")
    )
    policy.write_text(Path(ROAD).read_text().replace("picture_threshold = 1.0", "picture_threshold = -1.0"))
    run_flow(file, store, **{**drawing, "policy": str(policy)})
    assert (catalogue(store)["a"]["status"], catalogue(store)["a"]["reason"]) == ("blocked", "concept")


@pytest.mark.parametrize(
    ("row", "job", "sentence"),
    [
        ({"control": "a.png"}, {"controlnet": None}, "column 'control', and the job has no controlnet"),
        ({}, {}, "no column 'control', and the job's controlnet"),
        ({"control": "a.png"}, {"controlnet": "nowhere"}, "nowhere is no folder and no hub id"),
        ({"control": "a.png"}, {"controlnet": "acme/edges"}, "acme/edges must be pinned"),
        ({"control": "a.png"}, {"model": "miniature"}, "in_channels 64 where the transformer"),
        ({"control": "a.png"}, {"image_hosts": ("not a host",)}, "not a host"),
    ],
)
def test_a_request_that_cannot_be_drawn_is_refused_before_any_work(
    manifest: Callable[..., str],
    store: Store,
    drawing: dict[str, Any],
    row: dict[str, Any],
    job: dict[str, Any],
    sentence: str,
) -> None:
    file = manifest([{"id": "a", "prompt": "a mug", **row}])
    with pytest.raises(RequestError, match=sentence):
        estimate(RunRequest(GenerateJob.of(manifest=file, store=store.uri, **{"policy": ROAD, **drawing, **job})))
    assert not Path(store.uri).exists() or not any(Path(store.uri).iterdir())
