import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import save_file
from transformers import XLMRobertaConfig

from models.checkpoints.checkpoint import CheckpointError, find_clip
from models.checkpoints.clip_names import repository_of
from models.checkpoints.clip_settings import KNOWN_TOWERS
from models.clip.clip import Clip
from tests.hub_server import HubServer
from tests.models.clip.test_clip_windows import roberta

COMMIT = "c" * 40


@pytest.mark.parametrize(
    ("model", "repository"),
    [
        ("ViT-B-16-SigLIP2/webli", "timm/ViT-B-16-SigLIP2"),
        ("xlm-roberta-large-ViT-H-14/frozen_laion5b_s13b_b90k", None),
        ("nllb-clip-base-siglip/v1", "visheratin/nllb-clip-base-siglip"),
        ("timm/ViT-B-16-SigLIP2", "timm/ViT-B-16-SigLIP2"),
        ("miniature", "miniature"),
        ("some/folder/of/mine", "some/folder/of/mine"),
    ],
)
def test_a_name_of_open_clips_is_a_repository_of_the_hub(model: str, repository: str | None) -> None:
    found = repository_of(model)

    assert found == repository or (repository is None and found.startswith("laion/"))


def test_every_name_that_open_clip_lists_is_found_or_refused_in_a_sentence() -> None:
    said = [said_of(f"{architecture}/{weights}") for architecture, weights in open_clip.list_pretrained()]

    repositories = [one for one in said if one.count("/") == 1 and " " not in one]
    assert len(repositories) > 100
    assert all("pickle outside the hub" in one for one in said if one not in repositories)


def said_of(name: str) -> str:
    try:
        return repository_of(name)
    except CheckpointError as error:
        return str(error)


def test_weights_that_open_clip_doesnt_know_are_refused_with_those_that_it_does() -> None:
    with pytest.raises(CheckpointError, match=r"no weights 'webly' of ViT-B-16-SigLIP2; it knows webli\."):
        repository_of("ViT-B-16-SigLIP2/webly")


def test_a_hub_id_is_told_from_a_name_without_importing_open_clip() -> None:
    code = (
        "import sys; from models.checkpoints.clip_names import repository_of as r; r('timm/x'); sys.exit('torch' "
        "in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_name_must_be_pinned_to_a_commit_of_its_repository() -> None:
    with pytest.raises(CheckpointError, match=r"timm/ViT-B-16-SigLIP2 must be pinned"):
        find_clip("ViT-B-16-SigLIP2/webli")


def test_a_named_clip_is_fetched_from_its_repository_at_its_commit(hub_server: HubServer, clip_folder: Path) -> None:
    hub_server.add("timm/ViT-B-16-SigLIP2", COMMIT, clip_folder)

    found = find_clip("ViT-B-16-SigLIP2/webli", COMMIT)

    assert (found.name, found.revision) == ("ViT-B-16-SigLIP2/webli", COMMIT)
    assert Clip.load(found, device="cpu").embed_texts(["a mug"]).shape == (1, 24)


@pytest.fixture
def multilingual_folder(tmp_path: Path) -> Path:
    """A random CLIP whose text tower is an XLM-RoBERTa, as a checkpoint on the hub that only names its kind."""
    folder = tmp_path / "multilingual"
    folder.mkdir()
    roberta(folder)
    tower = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    config = XLMRobertaConfig(vocab_size=90, max_position_embeddings=64, pad_token_id=1, **tower)
    (folder / "config.json").write_text(json.dumps({**config.to_dict(), "auto_map": {"AutoModel": "evil--code.Model"}}))
    model_cfg = {
        "embed_dim": 24,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
        "text_cfg": {
            "context_length": 16,
            "hf_model_name": "xlm-roberta-tiny",
            "hf_tokenizer_name": "xlm-roberta-tiny",
            "hf_pooler_type": "mean_pooler",
            "hf_proj_type": "mlp",
        },
    }
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": model_cfg, "preprocess_cfg": {}}))
    torch.manual_seed(0)
    config.save_pretrained(tmp_path / "tower")
    text_cfg = {
        **model_cfg["text_cfg"],
        "hf_model_name": str(tmp_path / "tower"),
        "hf_model_pretrained": False,
    }
    model = open_clip.CustomTextCLIP(**{**model_cfg, "text_cfg": text_cfg})
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, folder / "model.safetensors")
    return folder


@pytest.mark.usefixtures("hub_server")  # a hub that has nothing
def test_a_text_tower_of_transformers_is_built_from_the_folder_without_a_network(
    multilingual_folder: Path, hub_server: HubServer
) -> None:
    clip = Clip.load(find_clip(str(multilingual_folder)), device="cpu")

    windows = clip.embed_windows(["a red mug", "红色的马克杯", "a black handgun on white " * 20])
    assert [len(some) for some in windows][:2] == [1, 1]
    assert len(windows[2]) > 5
    assert np.abs(windows[0] - windows[1]).max() > 1e-4
    assert hub_server.seen == []


def test_a_text_tower_that_is_only_named_is_known_by_its_name_or_asked_for(multilingual_folder: Path) -> None:
    (multilingual_folder / "config.json").unlink()

    with pytest.raises(CheckpointError, match=r"reads texts with xlm-roberta-tiny.*put that model's config\.json"):
        find_clip(str(multilingual_folder))


def test_the_text_towers_of_open_clips_own_multilingual_architectures_are_known() -> None:
    folder = Path(importlib.util.find_spec("open_clip").origin).parent / "model_configs"  # type: ignore[union-attr, arg-type]
    named = {
        json.loads(path.read_text())["text_cfg"].get("hf_model_name")
        for path in folder.glob("*.json")
        if path.stem in {architecture for architecture, _ in open_clip.list_pretrained()}
    }

    assert named - {None} <= set(KNOWN_TOWERS)


@pytest.mark.parametrize(
    ("part", "changes", "sentence"),
    [
        ("text_cfg", {"tokenizer_kwargs": {"trust_remote_code": True}}, "trust_remote_code, which isn't allowed"),
        ("text_cfg", {"tokenizer_kwargs": ["clean"]}, "of no kind that is read"),
        ("vision_cfg", {"timm_model_name": "hf-hub:evil/model"}, "loaded from elsewhere"),
        ("vision_cfg", {"timm_model_name": "local-dir:/tmp"}, "loaded from elsewhere"),
    ],
)
def test_settings_that_lead_to_code_or_the_network_are_refused(
    clip_folder: Path, tmp_path: Path, part: str, changes: dict[str, object], sentence: str
) -> None:
    folder = Path(shutil.copytree(clip_folder, tmp_path / "clip"))
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"][part].update(changes)
    (folder / "open_clip_config.json").write_text(json.dumps(config))

    with pytest.raises(CheckpointError, match=sentence):
        find_clip(str(folder))
