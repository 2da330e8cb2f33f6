"""Bytes that are read from headers, against those that loading gives."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from models.architectures.qwen_image.family import QWEN_IMAGE
from models.architectures.qwen_image.modulations import STEPS_AT_ONCE
from models.architectures.qwen_image.varlen import Varlen
from models.checkpoints.checkpoint import Checkpoint
from models.files.quantization_schemes import QuantizationScheme
from models.loading.components import load_components
from models.loading.sizes import read_sizes

CPU = torch.device("cpu")


@pytest.mark.parametrize("scheme", [None, "int8", "nf4"])
def test_headers_tell_what_every_part_of_a_model_takes(tiny: Checkpoint, scheme: QuantizationScheme | None) -> None:
    sizes = read_sizes(tiny.folder, 2, scheme, unused=QWEN_IMAGE.unused())
    parts = load_components(tiny, CPU, torch.bfloat16, scheme=scheme)
    blocks = parts.transformer.transformer_blocks

    def taken(*modules: torch.nn.Module) -> int:
        return sum(parameter.nbytes for module in modules for parameter in module.parameters())

    of_modulations = taken(blocks[0].img_mod, blocks[0].txt_mod)
    assert sizes.blocks == len(blocks)
    assert sizes.modulation == of_modulations
    assert sizes.block == taken(blocks[0]) - of_modulations
    assert sizes.rest == taken(parts.transformer, parts.vae) - taken(*blocks)
    assert sizes.text_encoder == taken(parts.text_encoder)
    assert sizes.text_layer == taken(parts.text_encoder.layers[0])
    assert sizes.text_on_host == taken(parts.text_encoder.embed_tokens)
    assert sizes.whole == taken(parts.text_encoder, parts.transformer, parts.vae)


def test_float8_halves_what_the_image_is_multiplied_with(tiny: Checkpoint) -> None:
    whole, half = (read_sizes(tiny.folder, 2, None, float8=float8) for float8 in (False, True))
    assert 0.5 * whole.block < half.block < 0.8 * whole.block


def test_without_fused_operations_modulations_are_a_part_of_their_blocks(tiny: Checkpoint) -> None:
    fused, unfused = (read_sizes(tiny.folder, 2, None, fused=fused) for fused in (True, False))
    assert unfused.block == fused.block + fused.modulation
    assert (unfused.modulation, unfused.table) == (0, 0)
    assert unfused.whole == fused.whole


@pytest.mark.parametrize("zero_cond_t", [False, True])
def test_what_is_made_of_a_schedule_is_foreseen_also_where_condition_pictures_have_a_modulation_of_their_own(
    tiny: Checkpoint, tmp_path: Path, zero_cond_t: bool
) -> None:
    folder = shutil.copytree(tiny.folder, tmp_path / "tiny")
    config = folder / "transformer" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"zero_cond_t": zero_cond_t}))
    transformer = QWEN_IMAGE.transformer.from_pretrained(folder / "transformer")
    predictor = Varlen(transformer.requires_grad_(False))
    predictor.modulations(torch.linspace(1, 0.1, STEPS_AT_ONCE)).at(0, CPU)

    after_the_last_block = STEPS_AT_ONCE * 2 * transformer.inner_dim * 4
    assert predictor.schedule_bytes == read_sizes(folder, 4, None).table + after_the_last_block
