"""LoRAs are merged as diffusers would apply them, and refused before anything is loaded where they can't be."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from models.checkpoints.checkpoint import Checkpoint, CheckpointError
from models.checkpoints.lora import Lora, find_loras
from models.engines.decomposer import Decomposer
from models.engines.generator import Generator
from models.requests import LayersRequest, Shape
from tests.models.conftest import LEVELS, collect, distance, open_stock, picture, request, tiny_transformer
from tests.models.engines.test_generator import draw, draw_stock
from tests.models.loras import ALPHA, RANK, save_lora, with_alphas

COMMIT = "0123456789abcdef0123456789abcdef01234567"
WANTED = request("a red mug", seed=7, negative_prompt="blurry")


@pytest.fixture(scope="session")
def enamel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_lora(tiny_transformer(), tmp_path_factory.mktemp("enamel") / "enamel.safetensors", seed=1)


@pytest.fixture(scope="session")
def glaze(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of other layers, in part."""
    file = tmp_path_factory.mktemp("glaze") / "glaze.safetensors"
    return save_lora(tiny_transformer(), file, seed=2, targets=("to_q", "to_v", "img_mlp.net.0.proj", "img_in"))


@pytest.fixture
def hub(enamel: Path, glaze: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub's cache with two LoRAs of acme/shop and one of acme/Lightning, each at one commit, and no network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    shop, lightning = (
        tmp_path / "hub" / f"models--acme--{name}" / "snapshots" / COMMIT for name in ("shop", "Lightning")
    )
    shop.mkdir(parents=True)
    lightning.mkdir(parents=True)
    shutil.copy(enamel, shop)
    shutil.copy(glaze, shop)
    shutil.copy(enamel, lightning)
    return tmp_path / "hub"


def opened(checkpoint: Checkpoint, *entries: str | Path, **more: Any) -> Generator:
    return Generator.load(checkpoint, device="cpu", loras=find_loras([str(e) for e in entries], checkpoint), **more)


def drawn(checkpoint: Checkpoint, *entries: str | Path) -> np.ndarray:
    [pixels] = draw(opened(checkpoint, *entries), [WANTED])
    return pixels


def drawn_stock(folder: Path, scales: dict[Path, float]) -> np.ndarray:
    """What diffusers draws with adapters beside the weights, not merged."""
    pipeline = open_stock(folder)
    for number, file in enumerate(scales):
        pipeline.load_lora_weights(str(file), adapter_name=f"adapter{number}")
    pipeline.set_adapters([f"adapter{number}" for number in range(len(scales))], list(scales.values()))
    return draw_stock(pipeline, WANTED)


def edited(file: Path, to: Path, edit: Callable[[str, torch.Tensor], tuple[str, torch.Tensor] | None]) -> Path:
    """A LoRA with other names or tensors, without its metadata."""
    save_file(dict(filter(None, (edit(name, tensor) for name, tensor in load_file(file).items()))), to)
    return to


def test_finding_loras_does_not_import_torch() -> None:
    code = (
        "import sys, models.checkpoints.lora, models.checkpoints.schedule; print('torch' in sys.modules or "
        "'diffusers' in sys.modules)"
    )

    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert answer.stdout.strip() == "False"


@pytest.mark.filterwarnings("ignore:Already found a `peft_config`")
@pytest.mark.parametrize("scale", [1.0, 0.6, -1.5])
def test_a_picture_is_the_one_that_diffusers_makes_with_the_adapter(
    tiny: Checkpoint, tiny_folder: Path, enamel: Path, scale: float
) -> None:
    ours = drawn(tiny, f"{enamel}={scale}")

    assert distance(ours, drawn_stock(tiny_folder, {enamel: scale})) <= LEVELS
    assert distance(ours, drawn(tiny)) > 20


@pytest.mark.filterwarnings("ignore:Already found a `peft_config`")
def test_loras_add_up_in_any_order(tiny: Checkpoint, tiny_folder: Path, enamel: Path, glaze: Path) -> None:
    both = drawn(tiny, enamel, f"{glaze}=0.5")

    assert distance(both, drawn_stock(tiny_folder, {enamel: 1.0, glaze: 0.5})) <= LEVELS
    assert distance(both, drawn(tiny, f"{glaze}=0.5", enamel)) == 0
    assert min(distance(both, drawn(tiny, enamel)), distance(both, drawn(tiny, f"{glaze}=0.5"))) > 20


@pytest.mark.parametrize("prefix", ["lora_unet_", "diffusion_model.", "transformer.", ""])
def test_other_trainers_names_and_alphas_make_the_same_picture(
    tiny: Checkpoint, enamel: Path, tmp_path: Path, prefix: str
) -> None:
    other = with_alphas(enamel, tmp_path / "other.safetensors", prefix)

    assert distance(drawn(tiny, other), drawn(tiny, enamel)) <= LEVELS


def test_a_lora_with_magnitudes_makes_the_picture_that_diffusers_makes(
    tiny: Checkpoint, tiny_folder: Path, tmp_path: Path
) -> None:
    dora = save_lora(open_stock(tiny_folder).transformer, tmp_path / "dora.safetensors", use_dora=True)

    ours = drawn(tiny, f"{dora}=0.7")

    assert distance(ours, drawn_stock(tiny_folder, {dora: 0.7})) <= LEVELS
    assert distance(ours, drawn(tiny)) > 20


def test_a_scale_of_nothing_is_no_lora(tiny: Checkpoint, enamel: Path) -> None:
    assert find_loras([f"{enamel}=0"], tiny) == ()
    nothing = Lora(enamel, "", 0.0)

    [pixels] = draw(Generator.load(tiny, device="cpu", loras=(nothing,)), [WANTED])

    assert np.array_equal(pixels, drawn(tiny))


def test_merging_leaves_a_transformer_of_the_same_parts(tiny: Checkpoint, enamel: Path) -> None:
    plain, merged = (opened(tiny, *entries).components.transformer for entries in ((), (enamel,)))

    assert [(n, type(m)) for n, m in merged.named_modules()] == [(n, type(m)) for n, m in plain.named_modules()]
    assert not any(parameter.requires_grad for parameter in merged.parameters())
    changed = {n for n, tensor in merged.state_dict().items() if not torch.equal(tensor, plain.state_dict()[n])}
    assert changed == {
        f"{name.removeprefix('transformer.').removesuffix('.lora_A.weight')}.weight"
        for name in load_file(enamel)
        if name.endswith("lora_A.weight")
    }


def test_in_low_precision_a_merged_weight_is_rounded_once(tiny: Checkpoint, enamel: Path, glaze: Path) -> None:
    plain = opened(tiny, precision="bfloat16").components.transformer.state_dict()
    merged = opened(tiny, enamel, f"{glaze}=0.5", precision="bfloat16").components.transformer.state_dict()

    for layer in ("transformer_blocks.0.attn.to_q", "proj_out", "img_in"):
        expected = plain[f"{layer}.weight"].float()
        for file, scale in ((enamel, 1.0), (glaze, 0.5)):
            factors = {name: tensor.bfloat16().float() for name, tensor in load_file(file).items()}
            if f"transformer.{layer}.lora_A.weight" in factors:
                down, up = (factors[f"transformer.{layer}.lora_{letter}.weight"] for letter in "AB")
                expected = expected + scale * ALPHA / RANK * up @ down
        off = (merged[f"{layer}.weight"].float() - expected).abs()
        assert (off <= expected.abs() * 2**-8).all()  # half of bfloat16's last place, and a little
        assert not torch.equal(merged[f"{layer}.weight"], plain[f"{layer}.weight"])


@pytest.mark.parametrize("fused", [True, False])
def test_streamed_weights_are_merged_before_they_are_streamed(tiny: Checkpoint, enamel: Path, fused: bool) -> None:
    loras = find_loras([str(enamel)], tiny)
    placed = Generator.load(tiny, device="cpu", fused=fused, loras=loras, placement="streamed")

    [pixels] = draw(placed, [WANTED])

    assert distance(pixels, drawn(tiny, enamel)) <= (0 if fused else LEVELS)


def test_layers_take_loras_too(tiny_layered: Checkpoint, tmp_path: Path) -> None:
    transformer = tiny_transformer(2.0, use_layer3d_rope=True, use_additional_t_cond=True)
    file = save_lora(transformer, tmp_path / "layers.safetensors")
    wanted = LayersRequest(picture(64, 64), "a mug", " ", 1, Shape(64, 64, 2, 1.0, layers=2))

    def taken_apart(*entries: str) -> np.ndarray:
        model = Decomposer.load(tiny_layered, device="cpu", loras=find_loras(entries, tiny_layered))
        [result] = collect(model.decompose([wanted]), 1)
        assert result.pixels is not None
        pixels: np.ndarray = result.pixels
        return pixels

    assert distance(taken_apart(str(file)), taken_apart()) > 20


def test_a_lora_is_known_by_its_contents_not_by_its_name(tiny: Checkpoint, enamel: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copy(enamel, tmp_path / "copy.safetensors"))

    [one], [other], [folder] = (find_loras([str(entry)], tiny) for entry in (enamel, f"{copy}=0.5", tmp_path))

    assert (one.file, one.scale, str(one)) == (enamel, 1.0, "enamel=1")
    assert (other.scale, str(other)) == (0.5, "copy=0.5")
    assert one.revision == other.revision == folder.revision
    assert len(one.revision) == 64


def test_a_link_to_a_file_of_any_name_will_do(tiny: Checkpoint, enamel: Path, tmp_path: Path) -> None:
    shutil.copy(enamel, tmp_path / "0123abcd")
    (tmp_path / "link.safetensors").symlink_to("0123abcd")

    assert distance(drawn(tiny, tmp_path / "link.safetensors"), drawn(tiny, enamel)) == 0


@pytest.mark.usefixtures("hub")
def test_a_lora_of_the_hub_is_known_by_its_commit_and_file(tiny: Checkpoint) -> None:
    entries = (f"acme/shop@{COMMIT}:enamel.safetensors=0.8", f"acme/Lightning@{COMMIT}")

    shop, lightning = (find_loras([entry], tiny)[0] for entry in entries)

    assert (shop.revision, shop.scale, shop.repository) == (f"{COMMIT}/enamel.safetensors", 0.8, "acme/shop")
    assert shop.file.name == "enamel.safetensors"
    assert (shop.is_lightning, lightning.is_lightning) == (False, True)


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ("none.safetensors", "There is no LoRA none.safetensors: give a safetensors file"),
        ("loras/none.safetensors=0.8", "There is no LoRA loras/none.safetensors: give"),
        ("acme/shop", "pinned as in"),
        ("acme/shop:enamel.safetensors", "must be pinned: give a commit"),
        ("acme/shop@main:enamel.safetensors", "must be pinned: give a commit"),
        (f"acme/shop@{COMMIT}", "holds 2 safetensors files; name the one"),
        (f"acme/shop@{COMMIT}:none.safetensors", "isn't in the hub's cache and HF_HUB_OFFLINE is set"),
        (f"acme/none@{COMMIT}", "isn't in the hub's cache and HF_HUB_OFFLINE is set"),
        (f"acme/shop@{COMMIT}:enamel.bin", "is a pickle"),
        (f"acme/shop@{COMMIT}:../enamel.safetensors", "is no safetensors file"),
        ("{enamel}=strong", "has the scale 'strong'; give a number"),
        ("{enamel}=nan", "has the scale 'nan'; give a number"),
        ("{enamel}=inf", "has the scale 'inf'; give a number"),
        ("{enamel}=", "has the scale ''; give a number"),
        ("{folder}", "holds no safetensors file"),
        ("{pickle}", r"is a pickle \(enamel.bin\)"),
        ("{pickle}/enamel.bin", r"is a pickle \(enamel.bin\)"),
        ("{text}", "is no safetensors file"),
        ("{cut}", "has .* bytes where its header promises"),
    ],
)
def test_what_is_not_there_pinned_whole_or_safe_is_refused(
    tiny: Checkpoint, enamel: Path, tmp_path: Path, entry: str, sentence: str
) -> None:
    places = {name: tmp_path / name for name in ("folder", "pickle")}
    for place in places.values():
        place.mkdir()
    (places["pickle"] / "enamel.bin").touch()
    places |= {"text": tmp_path / "enamel.txt", "cut": tmp_path / "cut.safetensors", "enamel": enamel}
    places["text"].touch()
    places["cut"].write_bytes(enamel.read_bytes()[:-1])

    with pytest.raises(CheckpointError, match=sentence) as refused:
        find_loras([entry.format(**places)], tiny)

    assert str(refused.value).endswith(".")


BAD: dict[str, tuple[Callable[[str, torch.Tensor], tuple[str, torch.Tensor] | None], str]] = {
    "of no LoRA": (lambda name, tensor: (f"{name}.mean", tensor), "no part of a LoRA that diffusers merges"),
    "of another model": (
        lambda name, tensor: (name.replace("transformer_blocks", "double_blocks"), tensor),
        "for another model: it changes double_blocks.*, and .* has no such layer",
    ),
    "of a deeper model": (
        lambda name, tensor: (name.replace("blocks.1.", "blocks.59."), tensor),
        "for another model: it changes transformer_blocks.59.*, and .* has no such layer",
    ),
    "of a wider model": (
        lambda name, tensor: (name, tensor.repeat(1, 2) if "to_q.lora_A" in name else tensor),
        "to_q as a layer of 32 × 64, and in .* it is 32 × 32",
    ),
    "of factors that don't fit": (
        lambda name, tensor: (name, tensor.repeat(2, 1) if "to_q.lora_A" in name else tensor),
        "no pair of matrices that fit each other for .*to_q",
    ),
    "of one factor": (
        lambda name, tensor: None if "to_q.lora_B" in name else (name, tensor),
        "no pair of matrices that fit each other for .*to_q",
    ),
    "with a text encoder": (
        lambda name, tensor: (name.replace("transformer.proj_out", "text_encoder.lm_head"), tensor),
        "also changes the text encoder",
    ),
    "under another prefix": (
        lambda name, tensor: (name.replace("transformer.", "base_model.model.", 1), tensor),
        "diffusers doesn't read as a LoRA of this transformer",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_lora_that_does_not_fit_is_refused_before_anything_is_loaded(
    tiny: Checkpoint, enamel: Path, tmp_path: Path, kind: str
) -> None:
    edit, sentence = BAD[kind]
    bad = edited(enamel, tmp_path / "bad.safetensors", edit)

    with pytest.raises(CheckpointError, match=sentence) as refused:
        find_loras([str(bad)], tiny)

    assert str(refused.value).endswith(".")


def test_an_empty_lora_is_refused(tiny: Checkpoint, tmp_path: Path) -> None:
    save_file({}, tmp_path / "empty.safetensors")
    with pytest.raises(CheckpointError, match="holds no LoRA"):
        find_loras([str(tmp_path / "empty.safetensors")], tiny)


@pytest.mark.parametrize("kind", ["of no LoRA", "of another model", "of a deeper model", "of a wider model"])
def test_a_lora_that_does_not_fit_is_refused_with_a_sentence_when_it_is_merged(
    tiny: Checkpoint, enamel: Path, tmp_path: Path, kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    bad = edited(enamel, tmp_path / "bad.safetensors", BAD[kind][0])

    with pytest.raises(CheckpointError, match=r"bad\.safetensors can't be merged") as refused:
        Generator.load(tiny, device="cpu", loras=(Lora(bad, "", 1.0),))

    assert len(str(refused.value).splitlines()) == 1
    assert capfd.readouterr().err == ""


def test_what_diffusers_says_of_other_things_is_heard_again_afterwards(tiny: Checkpoint, enamel: Path) -> None:
    library = logging.getLogger("diffusers")
    before = (list(library.handlers), library.level)

    opened(tiny, enamel)

    assert (library.handlers, library.level) == before


def test_metadata_that_does_not_fit_its_tensors_is_refused_when_it_is_merged(
    tiny: Checkpoint, enamel: Path, tmp_path: Path
) -> None:
    config = {"transformer.r": 2 * RANK, "transformer.target_modules": ["to_q"], "transformer.lora_alpha": ALPHA}
    file = tmp_path / "part.safetensors"
    save_file(load_file(enamel), file, metadata={"format": "pt", "lora_adapter_metadata": json.dumps(config)})

    with pytest.raises(CheckpointError, match="can't be merged"):
        Generator.load(tiny, device="cpu", loras=find_loras([str(file)], tiny))
