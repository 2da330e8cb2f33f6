"""Whether what a job loads is there, without fetching or hashing it."""

import shutil
from pathlib import Path

import huggingface_hub
import pytest

from models.checkpoints.checkpoint import MINIATURE, Checkpoint, declared_pipeline
from models.doctor.checkpoint_check import check_clip, check_controlnet, check_loras, check_model
from models.files import digest

COMMIT = "0123456789abcdef0123456789abcdef01234567"
PICTURES, LAYERS = "QwenImagePipeline", "QwenImageLayeredPipeline"
FOLDER = MINIATURE / "qwen-image"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub's cache that holds acme/shop at one commit, and a network that would be used."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    snapshot = tmp_path / "hub" / "models--acme--shop" / "snapshots" / COMMIT
    return Path(shutil.copytree(FOLDER, snapshot))


@pytest.fixture
def checkpoint() -> Checkpoint:
    _, found = check_model("miniature", None, PICTURES)
    assert found is not None
    return found


def test_the_miniatures_are_whole() -> None:
    for pipeline in (PICTURES, LAYERS):
        finding, found = check_model("miniature", None, pipeline)
        assert (finding.status, found is not None) == ("ok", True)
    assert check_model("miniature", None, PICTURES)[0].found == "The miniature is whole: 34 MB of weights."
    assert check_clip("miniature", None).status == "ok"


def test_a_folder_is_not_hashed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digest, "_hash", lambda file: pytest.fail(f"{file} was read through"))
    finding, _ = check_model(str(FOLDER), None, PICTURES)
    assert finding.status == "ok"


def test_a_checkpoint_that_lacks_weights_says_what_to_do(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(FOLDER, tmp_path / "model"))
    (folder / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    finding, found = check_model(str(folder), None, PICTURES)
    assert (finding.status, finding.fault, found) == ("failed", "request", None)
    assert finding.found == f"{folder / 'vae'} has no diffusion_pytorch_model.safetensors."
    assert finding.do == "Fetch the checkpoint again."


def test_a_checkpoint_of_the_other_kind_says_what_is_needed() -> None:
    finding, _ = check_model(str(FOLDER), None, LAYERS)
    assert (finding.status, finding.fault) == ("failed", "request")
    assert finding.do == "To take pictures apart, give a checkpoint such as Qwen/Qwen-Image-Layered."


def test_a_checkpoint_that_isnt_pinned_says_how_to_pin_it() -> None:
    finding, _ = check_model("acme/shop", "main", PICTURES)
    assert finding.found == "acme/shop must be pinned."
    assert (finding.do or "").startswith("Give a commit of its repository")


def test_a_checkpoint_in_the_hubs_cache_is_whole_and_names_its_kind(hub: Path) -> None:
    finding, found = check_model("acme/shop", COMMIT, PICTURES)
    assert (finding.status, found) == ("ok", Checkpoint("acme/shop", hub, COMMIT))
    assert declared_pipeline("acme/shop", COMMIT) == PICTURES
    assert declared_pipeline("acme/shop", COMMIT[::-1]) is None
    assert check_model("acme/shop", COMMIT, LAYERS)[0].status == "failed"


def test_what_is_not_in_the_hubs_cache_is_warned_of_and_not_fetched(
    hub: Path, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    (hub / "vae" / "config.json").unlink()
    findings = [
        check_model("acme/shop", COMMIT, PICTURES)[0],
        check_model("acme/other", COMMIT, PICTURES)[0],
        check_loras([f"acme/lora@{COMMIT}:enamel.safetensors"], checkpoint),
        check_controlnet("acme/edges", COMMIT, checkpoint),
        check_clip("acme/clip", COMMIT),
    ]
    assert [finding.status for finding in findings] == 5 * ["warning"]
    assert all("the first run fetches it" in finding.found for finding in findings)
    assert not huggingface_hub.constants.HF_HUB_OFFLINE


def test_what_can_never_be_fetched_fails(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    finding, _ = check_model("acme/other", COMMIT, PICTURES)
    assert (finding.status, finding.fault) == ("failed", "request")
    assert "HF_HUB_OFFLINE is set" in finding.found
    assert hub.is_dir()


@pytest.mark.parametrize(
    ("entry", "found", "do"),
    [
        ("none.safetensors", "There is no LoRA none.safetensors.", "Give a safetensors file, a folder, or one"),
        ("acme/shop@main:a.safetensors", "must be pinned.", "Give a commit of its repository"),
        (str(FOLDER / "vae" / "diffusion_pytorch_model.safetensors"), "which diffusers doesn't read", "Give one"),
    ],
)
def test_a_lora_that_wont_do_says_what_will(checkpoint: Checkpoint, entry: str, found: str, do: str) -> None:
    finding = check_loras([entry], checkpoint)
    assert (finding.status, finding.fault) == ("failed", "request")
    assert found in finding.found
    assert (finding.do or "").startswith(do)
