"""Weights in 8 and 4 bits: dequantized as bitsandbytes does it, counted as they are, and near to the whole ones."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from bitsandbytes import functional as bitsandbytes
from torch import nn

from models.architectures.qwen_image.family import QWEN_IMAGE
from models.checkpoints.checkpoint import MINIATURE, Checkpoint, CheckpointError, find_checkpoint
from models.checkpoints.lora import find_loras
from models.devices.device import find_precision
from models.engines.generator import Generator
from models.files.quantization_schemes import DIFFUSERS, TRANSFORMERS, QuantizationScheme, count_bytes
from models.loading.components import load_components
from models.loading.sizes import read_sizes
from models.placement_names import WantedPlacement
from models.requests import Conditioning
from models.sampling.prompt_embeds import embed, tokenize
from models.transformer import quantized
from models.transformer.linears import Plain
from models.transformer.quantized import Compressed, CompressedLinear, product_of, quantize
from tests.models.conftest import MIXED, request, tiny_transformer
from tests.models.engines.test_generator import draw
from tests.models.loras import save_lora
from tests.models.miniature.test_miniature_engine import decibels

SCHEMES: tuple[QuantizationScheme, ...] = get_args(QuantizationScheme)
HOST = torch.device("cpu")
MUG = request("a red mug", seed=7, negative_prompt="blurry")


def weights(rows: int = 48, columns: int = 96, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)) * 0.02


def relative(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one.float() - other.float()).norm() / other.float().norm())


def test_weights_of_8_bits_are_those_of_bitsandbytes() -> None:
    weight = weights().half()  # all that its own function takes
    codes, tops, _ = bitsandbytes.int8_vectorwise_quant(weight)

    ours = quantize(weight, "int8")

    assert torch.equal(ours.codes, codes)
    expected = bitsandbytes.int8_vectorwise_dequant(codes, tops)
    assert torch.allclose(ours.dequantize(torch.float32), expected, rtol=1e-6)


@pytest.mark.parametrize("scheme", ["nf4", "fp4"])
@pytest.mark.parametrize("columns", [64, 32, 96])  # blocks of 64 that fill a row, two rows, one and a half
def test_weights_of_4_bits_are_those_of_bitsandbytes(scheme: QuantizationScheme, columns: int) -> None:
    weight = weights(48, columns)
    codes, state = bitsandbytes.quantize_4bit(weight, blocksize=64, quant_type=scheme)
    halves = torch.stack([codes.flatten() >> 4, codes.flatten() & 15], dim=1).flatten()
    expected = (state.code[halves.long()].view(-1, 64) * state.absmax[:, None]).view(weight.shape)

    dequantized = quantize(weight, scheme).dequantize(torch.float32)

    assert torch.allclose(dequantized, expected, rtol=1e-6)
    assert 0 < relative(dequantized, weight) < (0.1 if scheme == "nf4" else 0.15)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_one_product_of_several_linears_is_what_each_of_them_computes(scheme: QuantizationScheme) -> None:
    torch.manual_seed(0)
    linears = [CompressedLinear(quantize(weights(seed=seed), scheme), torch.randn(48)) for seed in range(3)]
    x = torch.randn(5, 96)
    apart = torch.cat([linear(x) for linear in linears], dim=1)

    product = product_of(linears)

    assert isinstance(product, Compressed)
    assert torch.allclose(product(x) + product.bias, apart, atol=1e-5)
    assert torch.allclose(torch.cat([linear(x) for linear in linears], dim=1), apart, atol=1e-6)
    shared = {tensor.untyped_storage().data_ptr() for linear in linears for tensor in linear.parameters()}
    assert shared == {tensor.untyped_storage().data_ptr() for tensor in (product.codes, product.scales, product.bias)}


def test_linears_of_which_some_are_compressed_make_a_product_of_floats() -> None:
    torch.manual_seed(0)
    linears = [CompressedLinear(quantize(weights(), "nf4"), torch.randn(48)), nn.Linear(96, 48)]
    x = torch.randn(5, 96)

    product = product_of(linears)

    assert isinstance(product, Plain)
    assert torch.allclose(product(x) + product.bias, torch.cat([linear(x) for linear in linears], dim=1), atol=1e-5)


def test_only_the_blocks_linear_layers_are_compressed(tiny: Checkpoint) -> None:
    parts = load_components(tiny, HOST, torch.bfloat16, scheme="int8")

    for model, blocks, count in ((parts.transformer, "transformer_blocks.", 14), (parts.text_encoder, "layers.", 7)):
        kept = [name for name, module in model.named_modules() if isinstance(module, CompressedLinear)]
        whole = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
        assert len(kept) == 2 * count
        assert all(name.startswith(blocks) for name in kept)
        assert not any(name.startswith(blocks) for name in whole)
        assert {p.dtype for n, p in model.named_parameters() if not n.endswith((".codes", ".scales"))} == {
            torch.bfloat16
        }


@pytest.mark.parametrize("scheme", [None, *SCHEMES])
def test_a_models_bytes_are_known_from_its_headers(tiny: Checkpoint, scheme: QuantizationScheme | None) -> None:
    parts = load_components(tiny, HOST, torch.bfloat16, scheme=scheme)

    for model, part, stem in (
        (parts.transformer, "transformer", DIFFUSERS),
        (parts.text_encoder, "text_encoder", TRANSFORMERS),
    ):
        counted = count_bytes(tiny.folder / part, stem, 2, scheme, QWEN_IMAGE.unused())
        assert counted == sum(parameter.nbytes for parameter in model.parameters())


def test_the_miniature_in_4_bits_takes_a_third_of_its_memory() -> None:
    folder = MINIATURE / "qwen-image" / "transformer"

    assert count_bytes(folder, DIFFUSERS, 2, "int8") < 0.55 * count_bytes(folder, DIFFUSERS, 2, None)
    assert count_bytes(folder, DIFFUSERS, 2, "nf4") < 0.33 * count_bytes(folder, DIFFUSERS, 2, None)


@pytest.mark.parametrize(("scheme", "most"), [("int8", 0.02), ("nf4", 0.1)])
def test_prompts_are_embedded_nearly_as_by_the_whole_text_encoder(scheme: QuantizationScheme, most: float) -> None:
    miniature = find_checkpoint("miniature")
    whole, kept = (load_components(miniature, HOST, torch.bfloat16, scheme=one) for one in (None, scheme))
    ids = tokenize(whole, map(Conditioning, MIXED[:4]))

    with torch.inference_mode():
        pairs = zip(embed(whole, ids, {}).values(), embed(kept, ids, {}).values(), strict=True)

    errors = [relative(one, other) for other, one in pairs]
    assert 0 < max(errors) < most, errors


@pytest.mark.parametrize("scheme", ["int8", "nf4"])
def test_pictures_are_the_same_as_diffusers_own_forward_makes_of_the_same_weights(
    tiny: Checkpoint, scheme: QuantizationScheme
) -> None:
    fused, unfused = (Generator.load(tiny, device="cpu", precision=scheme, fused=fused) for fused in (True, False))
    requests = [request(prompt) for prompt in MIXED[:3]]

    assert fused.precision == unfused.precision == scheme
    for one, other in zip(draw(fused, requests), draw(unfused, requests), strict=True):
        assert decibels(one, other) > 35


@pytest.mark.parametrize("placement", ["staged", "streamed"])
@pytest.mark.parametrize("fused", [True, False])
def test_compressed_weights_that_live_in_host_memory_make_the_same_pictures(
    tiny: Checkpoint, placement: WantedPlacement, fused: bool
) -> None:
    resident = Generator.load(tiny, device="cpu", precision="nf4", fused=fused)
    placed = Generator.load(tiny, device="cpu", precision="nf4", fused=fused, placement=placement)

    assert placed.placement.kind == placement
    [one], [other] = draw(placed, [MUG]), draw(resident, [MUG])
    assert np.array_equal(one, other)


def test_the_placement_is_chosen_by_the_bytes_of_the_compressed_weights(tiny: Checkpoint) -> None:
    schemes: tuple[QuantizationScheme | None, ...] = (None, "int8", "nf4")
    floats, eight, four = (read_sizes(tiny.folder, 2, scheme) for scheme in schemes)
    assert floats.text_encoder > eight.text_encoder > four.text_encoder
    assert floats.block > eight.block > four.block
    assert floats.modulation > eight.modulation > four.modulation


def test_a_lora_is_merged_before_weights_are_compressed(tiny: Checkpoint, tmp_path: Path) -> None:
    file = save_lora(tiny_transformer(), tmp_path / "enamel.safetensors", seed=1)
    loras = find_loras([str(file)], tiny)
    layer = "transformer_blocks.0.attn.to_q"

    def weight(scheme: QuantizationScheme | None) -> torch.Tensor:
        parts = load_components(tiny, HOST, torch.bfloat16, scheme=scheme, loras=loras)
        module = parts.transformer.get_submodule(layer)
        if isinstance(module, CompressedLinear):
            return module.kept.dequantize(torch.bfloat16)
        return module.weight

    plain = load_components(tiny, HOST, torch.bfloat16).transformer.get_submodule(layer).weight
    assert relative(weight("int8"), weight(None)) < 0.02
    assert relative(weight("int8"), plain) > 0.1


def test_float8_and_compressed_weights_are_part_of_what_an_engine_says_of_itself(tiny: Checkpoint) -> None:
    for precision in ("float8", *SCHEMES, "bfloat16"):
        assert Generator.load(tiny, device="cpu", precision=precision).precision == precision


def test_without_bitsandbytes_4_bits_are_refused_with_a_sentence(
    tiny: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.devices.device.find_spec", lambda _: None)
    with pytest.raises(CheckpointError, match="precision nf4 needs bitsandbytes, which isn't installed"):
        find_precision("nf4", HOST)
    assert find_precision("int8", HOST) == torch.bfloat16

    monkeypatch.setitem(sys.modules, "bitsandbytes.functional", None)
    with pytest.raises(CheckpointError, match="Weights in nf4 need bitsandbytes, which isn't installed"):
        load_components(tiny, HOST, torch.bfloat16, scheme="nf4")
    load_components(tiny, HOST, torch.bfloat16, scheme="int8")


def test_a_device_on_which_bitsandbytes_does_not_work_is_named(
    tiny: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise NotImplementedError("There is no kernel for this device.")

    monkeypatch.setattr(quantized, "quantize", refuse)
    with pytest.raises(
        CheckpointError, match=r"can't keep weights in nf4 on cpu \(There is no kernel for this device\)"
    ):
        load_components(tiny, HOST, torch.bfloat16, scheme="nf4")


def test_an_unknown_precision_names_those_that_there_are() -> None:
    with pytest.raises(CheckpointError, match=r"int4 is unknown; use auto or one of float32, .*int8, nf4"):
        find_precision("int4", HOST)
