import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
from safetensors.numpy import save_file

from models.checkpoints.checkpoint import (
    Checkpoint,
    CheckpointError,
    find_checkpoint,
    find_clip,
    find_controlnet,
    layers_defaults,
    sampling_defaults,
)
from models.files import digest
from models.files.safetensors_files import CheckpointUnreachable
from models.transfer import hub_client
from tests.hub_server import HubServer, damaged, torn
from tests.models.conftest import save_controlnet

COMMIT = "0123456789abcdef0123456789abcdef01234567"
AWAY = "http://127.0.0.1:9"
WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_folder, tmp_path / "shop-model"))


@pytest.fixture
def hub(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub's cache that holds acme/shop at one commit, and no network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    snapshot = tmp_path / "hub" / "models--acme--shop" / "snapshots" / COMMIT
    return Path(shutil.copytree(tiny_folder, snapshot))


def shard(part: Path) -> None:
    """Give a component an index, as large checkpoints have."""
    with (part / WEIGHTS).open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    names = [name for name in header if name != "__metadata__"]
    (part / WEIGHTS).rename(part / "diffusion_pytorch_model-00001-of-00001.safetensors")
    weight_map = dict.fromkeys(names, "diffusion_pytorch_model-00001-of-00001.safetensors")
    (part / f"{WEIGHTS}.index.json").write_text(json.dumps({"weight_map": weight_map}))


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_finding_a_checkpoint_does_not_import_torch() -> None:
    code = "import sys, models.checkpoints.checkpoint; print('torch' in sys.modules or 'diffusers' in sys.modules)"

    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert answer.stdout.strip() == "False"


def test_a_folder_is_known_by_its_contents_not_by_where_it_lies(tiny_folder: Path, folder: Path) -> None:
    found = find_checkpoint(str(folder))

    assert found.folder == folder.resolve()
    assert len(found.revision) == 64
    assert found.revision == find_checkpoint(str(tiny_folder)).revision


def test_a_changed_weight_or_setting_changes_the_revision_and_a_readme_does_not(folder: Path) -> None:
    before = find_checkpoint(str(folder)).revision
    (folder / "README.md").write_text("# Shop")
    (folder / "vae" / "README.md").write_text("# VAE")
    assert find_checkpoint(str(folder)).revision == before

    edit(folder / "scheduler" / "scheduler_config.json", max_shift=1.0)
    settings = find_checkpoint(str(folder)).revision
    weights = bytearray((folder / "vae" / WEIGHTS).read_bytes())
    weights[-1] ^= 1
    (folder / "vae" / WEIGHTS).write_bytes(weights)

    assert len({before, settings, find_checkpoint(str(folder)).revision}) == 3


def test_contents_are_hashed_once_and_again_only_where_they_changed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[str] = []
    real = digest._hash
    monkeypatch.setattr(digest, "_hash", lambda file: (hashed.append(file.name), real(file))[1])
    first = find_checkpoint(str(folder)).revision
    assert WEIGHTS in hashed

    hashed.clear()
    assert find_checkpoint(str(folder)).revision == first
    assert hashed == []

    os.utime(folder / "vae" / WEIGHTS, (1, 1))
    assert find_checkpoint(str(folder)).revision == first
    assert hashed == [WEIGHTS]


def test_without_a_cache_folder_contents_are_hashed_all_the_same(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    expected = find_checkpoint(str(folder)).revision
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))

    assert find_checkpoint(str(folder)).revision == expected


def test_a_folder_can_be_pinned_too(folder: Path) -> None:
    assert find_checkpoint(str(folder), find_checkpoint(str(folder)).revision)
    with pytest.raises(CheckpointError, match="not the revision"):
        find_checkpoint(str(folder), "0" * 64)


@pytest.mark.parametrize(
    "missing",
    [
        "model_index.json",
        "vae/config.json",
        "transformer/config.json",
        "text_encoder/config.json",
        "tokenizer/tokenizer_config.json",
        "scheduler/scheduler_config.json",
        f"transformer/{WEIGHTS}",
        "text_encoder/model.safetensors",
    ],
)
def test_a_missing_file_is_named(folder: Path, missing: str) -> None:
    (folder / missing).unlink()

    with pytest.raises(CheckpointError, match=Path(missing).name):
        find_checkpoint(str(folder))


def test_a_missing_component_is_named(folder: Path) -> None:
    shutil.rmtree(folder / "vae")

    with pytest.raises(CheckpointError, match="vae"):
        find_checkpoint(str(folder))


@pytest.mark.parametrize("kept", [0, 7, 100, -1])
def test_weights_that_are_cut_short_are_refused(folder: Path, kept: int) -> None:
    whole = (folder / "vae" / WEIGHTS).read_bytes()
    (folder / "vae" / WEIGHTS).write_bytes(whole[:kept])

    with pytest.raises(CheckpointError, match=f"{WEIGHTS} .*fetch it again"):
        find_checkpoint(str(folder))


def test_weights_with_a_tail_or_a_broken_header_are_refused(folder: Path) -> None:
    weights = folder / "vae" / WEIGHTS
    whole = weights.read_bytes()
    for bad in (whole + b"x", whole[:8] + b"x" + whole[9:], (2**63).to_bytes(8, "little") + whole[8:]):
        weights.write_bytes(bad)
        with pytest.raises(CheckpointError, match=WEIGHTS):
            find_checkpoint(str(folder))


def test_every_shard_that_an_index_names_must_be_there_and_hold_its_tensors(folder: Path) -> None:
    part = folder / "transformer"
    shard(part)
    assert find_checkpoint(str(folder))

    index = part / f"{WEIGHTS}.index.json"
    weight_map = json.loads(index.read_text())["weight_map"]
    for extra, complaint in (
        ({"lost.weight": "diffusion_pytorch_model-00001-of-00001.safetensors"}, "lacks the tensor lost.weight"),
        ({"lost.weight": "diffusion_pytorch_model-00002-of-00002.safetensors"}, "00002-of-00002.* is missing"),
        ({"lost.weight": "../../elsewhere.safetensors"}, "outside its own folder"),
    ):
        edit(index, weight_map=weight_map | extra)
        with pytest.raises(CheckpointError, match=complaint):
            find_checkpoint(str(folder))


def test_pickled_weights_are_refused_where_they_would_be_loaded(folder: Path) -> None:
    pickle = folder / "vae" / "diffusion_pytorch_model.bin"
    pickle.write_bytes(b"beside the safetensors nobody opens it")
    assert find_checkpoint(str(folder))

    (folder / "vae" / WEIGHTS).unlink()
    with pytest.raises(CheckpointError, match=r"\.bin is a pickle.*use safetensors"):
        find_checkpoint(str(folder))


def test_code_that_comes_with_a_checkpoint_is_refused(folder: Path) -> None:
    edit(folder / "model_index.json", transformer=["pipeline_shop", "ShopTransformer"])

    with pytest.raises(CheckpointError, match="pipeline_shop"):
        find_checkpoint(str(folder))


def test_another_kind_of_model_is_refused(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="is a QwenImagePipeline where a QwenImageLayeredPipeline is needed"):
        find_checkpoint(str(folder), pipeline="QwenImageLayeredPipeline")


@pytest.mark.parametrize("revision", [None, "main", "v1.0", COMMIT[:7], COMMIT.upper()])
def test_a_hub_id_must_be_pinned_to_a_commit(revision: str | None) -> None:
    with pytest.raises(CheckpointError, match=r"pinned.*40 hex digits"):
        find_checkpoint("Qwen/Qwen-Image", revision)


@pytest.mark.parametrize("model", ["/no/such/folder", "nowhere", "./nowhere", "a/b/c", "acme/shop extra"])
def test_what_is_neither_folder_nor_hub_id_is_refused(model: str) -> None:
    with pytest.raises(CheckpointError, match="no folder and no hub id"):
        find_checkpoint(model, COMMIT)


def test_a_hub_id_is_found_in_the_hubs_cache_without_a_network(hub: Path) -> None:
    found = find_checkpoint("acme/shop", COMMIT)

    assert (found.name, found.folder, found.revision) == ("acme/shop", hub, COMMIT)


def test_a_download_that_never_finished_is_not_used(hub: Path) -> None:
    (hub / "vae" / WEIGHTS).unlink()

    with pytest.raises(CheckpointError, match="isn't whole in the hub's cache"):
        find_checkpoint("acme/shop", COMMIT)


@pytest.mark.usefixtures("hub_server")
def test_a_hub_that_is_away_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_client, "PATIENCE", {"busy": 0.0, "away": 0.0})
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{AWAY}/{{repo_id}}/{{filename}}")

    with pytest.raises(CheckpointUnreachable, match=r"127.0.0.1 can't be reached \(.*refused\); try again later"):
        find_checkpoint("acme/other", COMMIT)


@pytest.fixture
def shop(hub_server: HubServer, tiny_folder: Path) -> HubServer:
    """A hub that has acme/shop at one commit."""
    hub_server.add("acme/shop", COMMIT, tiny_folder)
    return hub_server


def test_a_hub_id_is_fetched_once_into_the_hubs_cache(shop: HubServer, tiny_folder: Path) -> None:
    found = find_checkpoint("acme/shop", COMMIT)
    assert (found.folder / "vae" / WEIGHTS).read_bytes() == (tiny_folder / "vae" / WEIGHTS).read_bytes()
    asked = len(shop.seen)

    assert find_checkpoint("acme/shop", COMMIT) == found
    assert len(shop.seen) == asked


@pytest.mark.parametrize("path", [f"vae/{WEIGHTS}", "vae/config.json"])
def test_a_wrong_byte_from_the_hub_is_found_and_fetched_again(shop: HubServer, tiny_folder: Path, path: str) -> None:
    shop.inject(damaged, path=path)
    found = find_checkpoint("acme/shop", COMMIT)
    assert (found.folder / path).read_bytes() == (tiny_folder / path).read_bytes()


def test_a_torn_connection_to_the_hub_is_gone_on_with(shop: HubServer, tiny_folder: Path) -> None:
    shop.inject(torn(after=1000), path=f"vae/{WEIGHTS}")
    found = find_checkpoint("acme/shop", COMMIT)
    assert (found.folder / "vae" / WEIGHTS).read_bytes() == (tiny_folder / "vae" / WEIGHTS).read_bytes()


def test_a_byte_from_the_hub_that_stays_wrong_is_not_used(shop: HubServer) -> None:
    shop.inject(damaged, path=f"vae/{WEIGHTS}", times=2)
    with pytest.raises(CheckpointUnreachable, match=f"vae/{WEIGHTS} of acme/shop arrived damaged 2 times"):
        find_checkpoint("acme/shop", COMMIT)
    assert find_checkpoint("acme/shop", COMMIT)


def test_another_kind_of_model_on_the_hub_is_refused_by_its_entry_alone(shop: HubServer) -> None:
    sentence = "acme/shop is a QwenImagePipeline where a QwenImageLayeredPipeline is needed"
    for _ in range(2):  # from the hub, and then from its cache
        with pytest.raises(CheckpointError, match=sentence):
            find_checkpoint("acme/shop", COMMIT, pipeline="QwenImageLayeredPipeline")
    assert [seen.path.rpartition("/")[2] for seen in shop.contents()] == ["model_index.json"]


@pytest.mark.usefixtures("shop")
def test_a_commit_that_the_hub_does_not_have_is_refused() -> None:
    with pytest.raises(CheckpointError, match=f"acme/shop has no commit {'f' * 40} at http"):
        find_checkpoint("acme/shop", "f" * 40)


def test_sampling_settings_come_from_the_checkpoint_else_from_the_model_card(folder: Path) -> None:
    card = sampling_defaults(find_checkpoint(str(folder)))
    assert (card.width, card.height, card.steps, card.guidance) == (1024, 1024, 50, 4.0)
    assert "model card" in card.source

    (folder / "sampling_config.json").write_text('{"width": 256, "height": 256, "steps": 12, "guidance": 3}')
    own = sampling_defaults(find_checkpoint(str(folder)))
    assert (own.width, own.height, own.steps, own.guidance) == (256, 256, 12, 3.0)
    assert "sampling_config.json" in own.source

    (folder / "sampling_config.json").write_text('{"steps": "a few"}')
    with pytest.raises(CheckpointError, match="as numbers"):
        sampling_defaults(find_checkpoint(str(folder)))


def test_settings_of_a_layered_checkpoint_come_from_it_else_from_the_model_card(
    tiny_layered_folder: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_layered_folder, tmp_path / "layered"))
    pipeline = "QwenImageLayeredPipeline"
    card = layers_defaults(find_checkpoint(str(folder), pipeline=pipeline))
    assert (card.layers, card.resolution, card.steps, card.guidance) == (4, 640, 50, 4.0)
    assert card.cfg_normalize is True
    assert "model card" in card.source

    (folder / "sampling_config.json").write_text('{"layers": 3, "resolution": 256, "cfg_normalize": false}')
    own = layers_defaults(find_checkpoint(str(folder), pipeline=pipeline))
    assert (own.layers, own.resolution, own.steps, own.guidance) == (3, 256, 50, 4.0)
    assert own.cfg_normalize is False
    assert "sampling_config.json" in own.source


@pytest.mark.parametrize("name", ["preprocessor_config.json", "processor_config.json"])
def test_a_processor_is_known_by_either_name_of_its_config_and_missed_without(
    tiny_layered_folder: Path, tmp_path: Path, name: str
) -> None:
    folder = Path(shutil.copytree(tiny_layered_folder, tmp_path / "layered"))
    (folder / "processor" / "processor_config.json").rename(folder / "processor" / name)
    assert find_checkpoint(str(folder), pipeline="QwenImageLayeredPipeline")

    (folder / "processor" / name).unlink()
    with pytest.raises(CheckpointError, match=r"preprocessor_config\.json is missing"):
        find_checkpoint(str(folder), pipeline="QwenImageLayeredPipeline")


def test_a_clip_is_found_by_its_config_and_refused_as_a_pickle(clip_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(clip_folder, tmp_path / "clip"))
    assert find_clip(str(folder)).revision == find_clip(str(clip_folder)).revision

    (folder / "open_clip_model.safetensors").rename(folder / "model.safetensors")
    assert find_clip(str(folder))
    (folder / "open_clip_pytorch_model.bin").write_bytes(b"open_clip prefers this name")
    with pytest.raises(CheckpointError, match="is a pickle"):
        find_clip(str(folder))

    shutil.rmtree(folder)
    folder.mkdir()
    with pytest.raises(CheckpointError, match=r"open_clip_config\.json is missing"):
        find_clip(str(folder))


def test_a_controlnet_is_known_by_its_contents(tiny: Checkpoint, controlnet_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(controlnet_folder, tmp_path / "controlnet"))
    (folder / "README.md").write_text("# Edges")
    found = find_controlnet(str(folder), None, tiny)
    assert found.folder == folder.resolve()
    assert found.revision == find_controlnet(str(controlnet_folder), None, tiny).revision
    assert found.revision != find_controlnet(str(save_controlnet(tmp_path / "other", seed=3)), None, tiny).revision
    with pytest.raises(CheckpointError, match="not the revision"):
        find_controlnet(str(folder), "0" * 64, tiny)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"_class_name": "FluxControlNetModel"}, "is a FluxControlNetModel where a QwenImageControlNetModel is needed"),
        ({"extra_condition_channels": 4}, "is a ControlNet for inpainting"),
        ({"in_channels": 128}, "in_channels 128 where the transformer of .* has 64"),
        ({"joint_attention_dim": 64}, "joint_attention_dim 64 where the transformer of .* has 32"),
        ({"num_attention_heads": 4}, "inner_dim 64 where the transformer of .* has 32"),
        ({"attention_head_dim": "wide"}, "attention_head_dim as numbers"),
    ],
)
def test_a_controlnet_that_does_not_fit_is_refused_by_its_config(
    tiny: Checkpoint, controlnet_folder: Path, tmp_path: Path, changes: dict[str, object], complaint: str
) -> None:
    folder = Path(shutil.copytree(controlnet_folder, tmp_path / "controlnet"))
    edit(folder / "config.json", **changes)

    with pytest.raises(CheckpointError, match=complaint):
        find_controlnet(str(folder), None, tiny)


def test_a_controlnets_weights_are_whole_and_no_pickles(
    tiny: Checkpoint, controlnet_folder: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(controlnet_folder, tmp_path / "controlnet"))
    whole = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(whole[:-1])
    with pytest.raises(CheckpointError, match="fetch it again"):
        find_controlnet(str(folder), None, tiny)

    (folder / WEIGHTS).unlink()
    (folder / "diffusion_pytorch_model.bin").write_bytes(whole)
    with pytest.raises(CheckpointError, match=r"\.bin is a pickle"):
        find_controlnet(str(folder), None, tiny)


def test_a_controlnet_of_the_hub_must_be_pinned_and_is_found_in_its_cache(
    tiny: Checkpoint, controlnet_folder: Path, hub: Path
) -> None:
    snapshot = hub.parents[2] / "models--acme--edges" / "snapshots" / COMMIT
    shutil.copytree(controlnet_folder, snapshot)

    found = find_controlnet("acme/edges", COMMIT, tiny)

    assert (found.name, found.folder, found.revision) == ("acme/edges", snapshot, COMMIT)
    with pytest.raises(CheckpointError, match="must be pinned"):
        find_controlnet("acme/edges", "main", tiny)


def written(file: Path, names: list[str]) -> Path:
    save_file({name: np.zeros(4, np.float32) for name in names}, file)
    return file


def test_a_single_file_is_refused_as_what_it_is(tmp_path: Path) -> None:
    weights = written(tmp_path / "qwen_image_fp8.safetensors", ["model.diffusion_model.img_in.weight"])
    lora = written(tmp_path / "enamel.safetensors", ["transformer_blocks.0.attn.to_q.lora_A.weight"])
    (tmp_path / "q4.gguf").write_bytes(b"GGUF\3\0\0\0")
    (tmp_path / "model.ckpt").write_bytes(b"PK\3\4")
    (tmp_path / "cut.safetensors").write_bytes(b"\xff" * 20)
    for file, said in (
        (weights, "is a single file of weights, as other programs take them"),
        (lora, "is a LoRA, which is given with --loras"),
        (tmp_path / "q4.gguf", "is a GGUF file, which packshot doesn't read"),
        (tmp_path / "model.ckpt", "is a pickle, which can run code"),
        (tmp_path / "cut.safetensors", "is no safetensors file that can be read"),
    ):
        with pytest.raises(CheckpointError, match=f"{file.name} {said}.*as diffusers saves it, with model_index.json"):
            find_checkpoint(str(file))
    with pytest.raises(CheckpointError, match=r"is a single file .* a CLIP is a folder with open_clip_config\.json"):
        find_clip(str(weights))


def test_a_folder_that_is_no_checkpoint_says_what_it_has_instead(folder: Path, tmp_path: Path) -> None:
    for name, said in (
        ("q4.gguf", "GGUF files, which packshot doesn't read"),
        ("model.ckpt", "pickles, which can run code when they are opened"),
        ("qwen_image_fp8.safetensors", r"single files of weights \(qwen_image_fp8\.safetensors\)"),
    ):
        (tmp_path / name.partition(".")[0]).mkdir()
        (tmp_path / name.partition(".")[0] / name).touch()
        with pytest.raises(CheckpointError, match=f"has no model_index.json, but {said}: a checkpoint is a folder"):
            find_checkpoint(str(tmp_path / name.partition(".")[0]))
    with pytest.raises(CheckpointError, match=f"shop-model in it has one; give {folder}"):
        find_checkpoint(str(folder.parent))
