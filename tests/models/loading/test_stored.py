"""Checkpoints that are stored in few bits: kept so, dequantized where that is asked for, refused where unreadable."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import bitsandbytes
import numpy as np
import pytest
import torch
from diffusers import QwenImageTransformer2DModel
from diffusers.quantizers.bitsandbytes import bnb_quantizer
from safetensors.torch import load_file, save_file
from torch import nn

from models.architectures.qwen_image.family import QWEN_IMAGE
from models.architectures.qwen_image.varlen import Varlen
from models.checkpoints.checkpoint import MINIATURE, Checkpoint, CheckpointError, find_checkpoint
from models.checkpoints.lora import find_loras
from models.engines.generator import Generator
from models.files.quantization_schemes import (
    DIFFUSERS,
    TRANSFORMERS,
    QuantizationScheme,
    count_bytes,
    kept_precision,
    scheme_for,
)
from models.loading.component import loading
from models.loading.components import load_components
from models.requests import PictureRequest, Shape
from models.transformer.linears import Float8
from models.transformer.quantized import Compressed, CompressedLinear
from tests.models.conftest import collect, request, tiny_transformer
from tests.models.loras import save_lora
from tests.models.miniature.test_miniature_engine import PROMPTS, decibels
from tests.models.stored_checkpoints import HOST, TRANSFORMER, copied, edit_config, save_bitsandbytes, save_float8

CPU = torch.device("cpu")
STORED: dict[str, dict[str, Any]] = {
    "int8": {"load_in_8bit": True},
    "nf4": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
    # What the model card of diffusers/qwen-image-nf4 says, and diffusers' own default in a type that isn't bytes.
    "nf4-twice": {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": True,
        "skip": ("transformer_blocks.0.img_mod",),
    },
    "fp4": {"load_in_4bit": True, "bnb_4bit_quant_storage": torch.bfloat16},
}
FLOAT8 = ("float8-none", "float8-tensor", "float8-row")
SHAPE = Shape(256, 256, 4, 4.0)
WANTED = [PictureRequest(prompt, " ", seed, SHAPE) for seed, prompt in enumerate(PROMPTS[:2])]
SMALL = [request(PROMPTS[0], shape=Shape(64, 64, 4, 4.0))]
TO_Q = "transformer_blocks.0.attn.to_q"


Find = Callable[[str], Checkpoint]


@pytest.fixture(scope="module")
def stored(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Find:
    """Gives a random Qwen-Image as bitsandbytes and others store it."""
    return storing(tiny_folder, tmp_path_factory.mktemp("stored"))


@pytest.fixture(scope="module")
def miniature(tmp_path_factory: pytest.TempPathFactory) -> Find:
    """The same of the miniature."""
    return storing(MINIATURE / "qwen-image", tmp_path_factory.mktemp("miniature"))


def storing(source: Path, folder: Path) -> Find:
    @cache
    def find(name: str) -> Checkpoint:
        if name in STORED:
            save_bitsandbytes(source, folder / name, **STORED[name])
        else:
            save_float8(source, folder / name, name.removeprefix("float8-"))
        return find_checkpoint(str(folder / name))

    return find


@pytest.fixture(scope="module")
def exact() -> list[np.ndarray]:
    return drawn(find_checkpoint("miniature"))


def own_scheme(checkpoint: Checkpoint) -> QuantizationScheme | None:
    return scheme_for(kept_precision("auto", checkpoint.folder), checkpoint.folder)


def drawn(checkpoint: Checkpoint, wanted: list[PictureRequest] = WANTED, **settings: Any) -> list[np.ndarray]:
    return rendered(Generator.load(checkpoint, device="cpu", **settings), wanted)


def rendered(model: Generator, wanted: list[PictureRequest]) -> list[np.ndarray]:
    pictures = collect(model.render(wanted), len(wanted))
    assert [picture.failure for picture in pictures] == [None] * len(wanted)
    return [picture.pixels for picture in pictures]


@pytest.mark.parametrize(
    ("name", "scheme", "least"),
    [
        ("int8", "int8", 36),
        ("nf4-twice", "nf4", 19),
        ("float8-row", "float8_weights", 22),
    ],
)
def test_a_checkpoint_is_kept_as_it_is_stored_and_draws(
    miniature: Find, exact: list[np.ndarray], name: str, scheme: str, least: float
) -> None:
    model = Generator.load(miniature(name), device="cpu")

    assert model.precision == kept_precision("auto", miniature(name).folder) == scheme
    assert model.components.dtype == torch.bfloat16
    ratios = [decibels(one, other) for one, other in zip(rendered(model, WANTED), exact, strict=True)]
    assert min(ratios) > least, ratios


@pytest.mark.parametrize("name", [*STORED, *FLOAT8])
def test_restored_when_loaded_or_for_every_product_the_picture_is_the_same(stored: Find, name: str) -> None:
    kept, floats = (Generator.load(stored(name), device="cpu", precision=one) for one in ("auto", "bfloat16"))

    assert floats.precision == "bfloat16"
    assert any(isinstance(module, CompressedLinear) for module in kept.components.transformer.modules())
    assert not any(isinstance(module, CompressedLinear) for module in floats.components.transformer.modules())
    assert np.array_equal(rendered(kept, SMALL), rendered(floats, SMALL))


@pytest.mark.parametrize("name", ["int8", "nf4-twice"])
def test_weights_are_those_that_bitsandbytes_restores(
    miniature: Find, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for quantizer in (bnb_quantizer.BnB4BitDiffusersQuantizer, bnb_quantizer.BnB8BitDiffusersQuantizer):
        monkeypatch.setattr(quantizer, "validate_environment", lambda *_, **__: None)
    with loading():
        theirs = QwenImageTransformer2DModel.from_pretrained(miniature(name).folder / "transformer", device_map=HOST)

    ours = load_components(miniature(name), CPU, torch.bfloat16, scheme=own_scheme(miniature(name)))

    compared = 0
    for path, module in theirs.named_modules():
        if isinstance(module, bitsandbytes.nn.Linear4bit):
            if module.in_features % module.weight.quant_state.blocksize:
                continue  # on the CPU bitsandbytes 0.50.2 restores wrongly what lies across rows
            expected = bitsandbytes.functional.dequantize_4bit(module.weight.data, module.weight.quant_state)
        elif isinstance(module, bitsandbytes.nn.Linear8bitLt):
            expected = bitsandbytes.functional.int8_vectorwise_dequant(module.weight.data, module.weight.SCB)
        else:
            continue
        mine = ours.transformer.get_submodule(path)
        weight = mine.kept.dequantize(torch.bfloat16) if isinstance(mine, CompressedLinear) else mine.weight
        assert torch.allclose(weight, expected.bfloat16(), rtol=2**-7, atol=0), path  # the last of bfloat16's bits
        compared += 1
    assert compared > 100
    skipped = isinstance(ours.transformer.transformer_blocks[0].img_mod[1], nn.Linear)
    assert skipped == ("skip" in STORED[name])


@pytest.mark.parametrize("name", ["int8", "nf4", "float8-row"])
def test_a_stored_models_bytes_are_known_from_its_headers(stored: Find, name: str) -> None:
    checkpoint = stored(name)
    parts = load_components(checkpoint, CPU, torch.bfloat16, scheme=own_scheme(checkpoint))

    scheme = parts.scheme
    transformer = count_bytes(checkpoint.folder / "transformer", DIFFUSERS, 2, scheme)
    assert transformer == sum(parameter.nbytes for parameter in parts.transformer.parameters())
    text_scheme = None if name.startswith("float8") else scheme
    text = count_bytes(checkpoint.folder / "text_encoder", TRANSFORMERS, 2, text_scheme, QWEN_IMAGE.unused())
    assert text == sum(parameter.nbytes for parameter in parts.text_encoder.parameters())


@pytest.mark.parametrize("scales", ["none", "tensor", "row"])
@pytest.mark.parametrize("name", ["weight_scale", "scale_weight"])
def test_float8_weights_are_multiplied_by_their_scales(
    tiny_folder: Path, tmp_path: Path, scales: str, name: str
) -> None:
    folder = save_float8(tiny_folder, tmp_path / "stored", scales, name=name)

    parts = load_components(find_checkpoint(str(folder)), CPU, torch.bfloat16, scheme="float8_weights")

    whole = load_file(tiny_folder / TRANSFORMER)
    to_q, proj_out = parts.transformer.get_submodule(TO_Q), parts.transformer.proj_out
    assert to_q.codes.dtype == torch.float8_e4m3fn
    assert torch.allclose(to_q.kept.dequantize(torch.float32), whole[f"{TO_Q}.weight"], rtol=2**-4, atol=2e-3)
    assert proj_out.weight.dtype == torch.bfloat16
    assert torch.allclose(proj_out.weight.float(), whole["proj_out.weight"], rtol=2**-4 + 2**-8, atol=2e-3)


def test_float8_takes_stored_weights_as_they_are(stored: Find) -> None:
    checkpoint = stored("float8-row")
    model = Generator.load(checkpoint, device="cpu", precision="float8")

    assert model.precision == "float8"
    assert isinstance(model.predictor, Varlen)
    with model.predictor.blocks.turn(0) as block:
        assert isinstance(block.image.out, Float8)
        assert isinstance(block.text.out, Compressed)
    name = "transformer_blocks.0.attn.to_out.0"
    tensors = load_file(checkpoint.folder / TRANSFORMER)
    assert torch.equal(block.image.out.weight.float(), tensors[f"{name}.weight"].float())
    assert torch.equal(block.image.out.scale.flatten(), tensors[f"{name}.weight_scale"].flatten())
    assert decibels(rendered(model, SMALL)[0], drawn(checkpoint, SMALL)[0]) > 20


@pytest.mark.parametrize("precision", ["float8", "int8", "float32"])
def test_weights_of_4_bits_are_drawn_with_in_any_precision(stored: Find, precision: str) -> None:
    kept, other = drawn(stored("nf4"), SMALL), drawn(stored("nf4"), SMALL, precision=precision)

    assert decibels(kept[0], other[0]) > 20


@pytest.mark.parametrize("part", ["text_encoder", "vae"])
def test_other_parts_in_float8_are_restored_with_their_scales(tiny_folder: Path, tmp_path: Path, part: str) -> None:
    file = {"text_encoder": "text_encoder/model.safetensors", "vae": f"vae/{DIFFUSERS}.safetensors"}[part]
    folder = save_float8(tiny_folder, tmp_path / "stored", "tensor", part=file, dimensions=(2, 4))

    model = Generator.load(find_checkpoint(str(folder)), device="cpu", precision="bfloat16")

    whole = Generator.load(find_checkpoint(str(tiny_folder)), device="cpu", precision="bfloat16")
    assert model.precision == "bfloat16"
    assert decibels(rendered(model, SMALL)[0], rendered(whole, SMALL)[0]) > 15


@pytest.mark.parametrize("name", ["nf4", "float8-none"])
def test_a_lora_is_merged_into_weights_that_are_stored_in_few_bits(stored: Find, tmp_path: Path, name: str) -> None:
    checkpoint = stored(name)
    loras = find_loras([str(save_lora(tiny_transformer(), tmp_path / "enamel.safetensors", seed=1))], checkpoint)
    plain = load_components(checkpoint, CPU, torch.bfloat16).transformer
    scheme = own_scheme(checkpoint)

    whole, kept = (load_components(checkpoint, CPU, torch.bfloat16, scheme=one, loras=loras) for one in (None, scheme))

    to_q = kept.transformer.get_submodule(TO_Q)
    assert isinstance(to_q, CompressedLinear)
    merged, mine = whole.transformer.get_submodule(TO_Q).weight.float(), to_q.kept.dequantize(torch.float32)
    assert (mine - merged).norm() < 0.12 * merged.norm()
    assert (merged - plain.get_submodule(TO_Q).weight.float()).norm() > 0.3 * merged.norm()


def test_a_lora_for_another_model_is_refused_beside_weights_of_4_bits_too(stored: Find, tmp_path: Path) -> None:
    other = find_checkpoint("miniature")
    file = save_lora(load_components(other, CPU, torch.float32).transformer, tmp_path / "enamel.safetensors")

    with pytest.raises(CheckpointError, match=r"proj_out as a layer of 96 × 192, and in .*nf4 it is 64 × 32"):
        find_loras([str(file)], stored("nf4"))


def test_a_form_that_is_not_read_is_refused_before_anything_is_loaded(tiny_folder: Path, tmp_path: Path) -> None:
    by_blocks = save_float8(tiny_folder, tmp_path / "blocks", "row")
    tensors = load_file(by_blocks / TRANSFORMER)
    save_file(tensors | {f"{TO_Q}.weight_scale": torch.ones(4, 4)}, by_blocks / TRANSFORMER)
    with pytest.raises(CheckpointError, match=rf"stores {TO_Q}.weight in a form that packshot doesn't read \(F8_E4M3"):
        find_checkpoint(str(by_blocks))

    alone = copied(tiny_folder, tmp_path / "alone")
    tensors = load_file(alone / TRANSFORMER)
    save_file(tensors | {f"{TO_Q}.weight": torch.zeros(512, 1, dtype=torch.uint8)}, alone / TRANSFORMER)
    with pytest.raises(CheckpointError, match=r"doesn't read \(U8 beside nothing"):
        find_checkpoint(str(alone))

    other = copied(tiny_folder, tmp_path / "other")
    edit_config(other / "transformer", quantization_config={"quant_method": "torchao"})
    with pytest.raises(CheckpointError, match="stored as torchao does it, which packshot doesn't read"):
        find_checkpoint(str(other))


def test_stored_weights_that_do_not_fit_their_config_are_refused(stored: Find, tmp_path: Path) -> None:
    folder = copied(stored("nf4").folder, tmp_path / "stored")
    edit_config(folder / "transformer", num_layers=3)

    with pytest.raises(CheckpointError, match=r"doesn't fit its own config.json: transformer_blocks\.2\."):
        Generator.load(find_checkpoint(str(folder)), device="cpu")
