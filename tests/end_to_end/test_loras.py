"""A LoRA merged into the miniature, through the flow."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from diffusers import QwenImageTransformer2DModel
from safetensors.torch import load_file, save_file

from models.checkpoints.checkpoint import MINIATURE
from models.engines.generator import Generator
from tasks.stores.store import Store
from tests.models.loras import save_lora

from .conftest import ROAD, catalogue, command, run

MUGS = [{"id": f"mug-{n}", "prompt": f"a {color} mug on a white background"} for n, color in enumerate(("red", "teal"))]


@pytest.fixture(scope="module")
def enamel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    transformer = QwenImageTransformer2DModel.from_pretrained(MINIATURE / "qwen-image" / "transformer")
    return save_lora(transformer, tmp_path_factory.mktemp("loras") / "enamel.safetensors")


def test_a_lora_makes_every_row_again_and_the_same_command_afterwards_none(
    manifest: Callable[..., str], store: Store, enamel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = manifest(MUGS)
    run(file, store)
    without = catalogue(store)

    first = run(file, store, loras=(f"{enamel}=0.8",))

    found = catalogue(store)
    assert first.rendered == 2
    for row in found:
        assert found[row]["key"] != without[row]["key"]
        assert found[row]["sha256"] != without[row]["sha256"]
        assert found[row]["model"] == f"{without[row]['model']}+enamel=0.8"
    document = json.loads((Path(store.uri) / f"runs/{first.run}/job.json").read_text())
    assert document["job"]["model"]["loras"] == [f"{enamel}=0.8"]
    assert [lora["name"] for lora in document["loras"]] == ["enamel=0.8"]
    assert document["scheduler"] == "checkpoint"

    def load(*_: Any, **__: Any) -> Generator:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(Generator, "load", load)
    assert run(file, store, loras=(f"{enamel}=0.8",)).rendered == 0
    assert run(file, store).rendered == 0
    assert {row: kept["key"] for row, kept in catalogue(store).items()} == {
        row: kept["key"] for row, kept in without.items()
    }


def test_a_lightning_lora_brings_its_schedule_and_draws_in_one_step(
    manifest: Callable[..., str], store: Store, enamel: Path, tmp_path: Path
) -> None:
    file, lightning = manifest(MUGS[:1]), tmp_path / "enamel-lightning.safetensors"
    lightning.write_bytes(enamel.read_bytes())

    first = run(file, store, loras=(str(lightning),), steps=1)

    assert first.rendered == 1
    assert json.loads((Path(store.uri) / f"runs/{first.run}/job.json").read_text())["scheduler"] == "lightning"
    keys = [
        catalogue(store)["mug-0"]["key"]
        for scheduler in ("checkpoint", "auto")
        if run(file, store, loras=(str(lightning),), steps=2, scheduler=scheduler)
    ]
    assert len(set(keys)) == 2


def test_what_only_merging_finds_ends_with_a_sentence_too(
    manifest: Callable[..., str], store: Store, enamel: Path, tmp_path: Path
) -> None:
    config = {"transformer.r": 16, "transformer.lora_alpha": 8}  # its matrices have another rank
    metadata = {"format": "pt", "lora_adapter_metadata": json.dumps(config)}
    save_file(load_file(enamel), tmp_path / "bad.safetensors", metadata=metadata)

    ended = command(
        *("generate", manifest(MUGS), "--store", store.uri, "--width", "128", "--height", "128", "--steps", "2"),
        *("--policy", ROAD, "--loras", str(enamel), "--loras", str(tmp_path / "bad.safetensors")),
    )

    _, said = ended.communicate()
    assert ended.returncode == 2, said
    assert "bad.safetensors can't be merged: " in said.strip().splitlines()[-1]
    assert "Traceback" not in said
