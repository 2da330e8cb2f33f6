"""The prompt encoder: a checkpoint's tokenizer and text encoder, with the rest of it or alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PreTrainedTokenizerBase

from models.architectures.architecture_registry import architecture_of, rules_of
from models.architectures.model_family import Architecture, PipelineRules
from models.checkpoints.checkpoint import Checkpoint, check_kind, pipeline_of
from models.devices.device import find_device, find_precision
from models.files.quantization_schemes import TRANSFORMERS, QuantizationSchemes, count_bytes, kept_precision, scheme_for
from models.loading.component import load_part, loading
from models.loading.placement import free_memory, limit_memory
from models.transformer.host_weights import look_up_on_host, stream_layers
from models.transformer.quantized import check_scheme, compress
from models.transformer.weight_stream import WeightStream


@dataclass(frozen=True)
class Eyes:
    """What a text encoder sees pictures with, beside the texts that it reads."""

    vision_tower: torch.nn.Module  # on the device, or in host memory while nothing is seen
    image_processor: Any  # resizes pictures and cuts them into what the tower reads
    token: int  # the id of the token in whose places a picture is seen
    merged: int  # patches along each axis that become one token
    by_grid: bool  # see `models.requests.EditDefaults.grid_positions`


@dataclass(frozen=True, kw_only=True)
class PromptEncoder:
    """The parts that turn prompts into embeddings, on one device."""

    tokenizer: PreTrainedTokenizerBase
    text_encoder: torch.nn.Module  # its language model, without vision tower and head
    architecture: Architecture
    rules: PipelineRules  # of the pipeline that the checkpoint is for
    device: torch.device
    dtype: torch.dtype
    text_layers: WeightStream | None = None  # of a text encoder whose layers are in host memory
    eyes: Eyes | None = None  # where prompts are read beside pictures

    @property
    def template(self) -> str:
        """The text that a prompt is put into."""
        return self.rules.template

    @property
    def template_tokens(self) -> int:
        """How many tokens of the template come before the prompt, and are dropped."""
        return self.rules.template_tokens

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Hold while prompts are read; afterwards the text encoder leaves the device where it isn't resident."""
        try:
            yield
        finally:
            if self.text_layers is not None:
                self.text_layers.release()


def load_prompt_encoder(
    checkpoint: Checkpoint,
    *,
    device: str = "auto",
    precision: str = "auto",
    memory_fraction: float = 0.9,
    gpu_memory: int | None = None,
) -> PromptEncoder:
    """Open a checkpoint's prompt encoder, and nothing else of it; its weights as an engine has them.

    They stay on the device if they fit, else in host memory, from where they come layer by layer.

    Args:
        device, precision, memory_fraction, gpu_memory: see `models.engines.engine.Engine.load`.

    Raises:
        CheckpointError: if the checkpoint, the device or the precision won't do.
    """
    folder, found, pipeline = checkpoint.folder, find_device(device), pipeline_of(checkpoint).name
    architecture = architecture_of(pipeline)
    precision = kept_precision(precision, folder)
    dtype = find_precision(precision, found)
    schemes = QuantizationSchemes.of(folder, scheme_for(precision, folder), changed=False)
    check_scheme(schemes.text_encoder, found)
    is_streamed = False
    if found.type == "cuda":
        if gpu_memory is not None:
            limit_memory(found, gpu_memory)
        size = count_bytes(folder / "text_encoder", TRANSFORMERS, dtype.itemsize, schemes.text_encoder)
        is_streamed = size > free_memory(found) * memory_fraction
    tokenizer_class = check_kind(folder, pipeline)["tokenizer"][1]
    with loading():
        # No logits are computed and no picture is read: head and vision tower needn't be there.
        home = torch.device("cpu") if is_streamed else found
        text_encoder = load_text_encoder(
            architecture.text_encoder, folder, schemes, found, home, dtype, architecture.unused()
        )
        tokenizer = load_tokenizer(folder, tokenizer_class)
    language_model = architecture.language_model(text_encoder)
    return PromptEncoder(
        tokenizer=tokenizer,
        text_encoder=language_model,
        architecture=architecture,
        rules=rules_of(pipeline),
        device=found,
        dtype=dtype,
        text_layers=stream_text_encoder(language_model, found) if is_streamed else None,
    )


def load_tokenizer(folder: Path, class_name: str) -> PreTrainedTokenizerBase:
    """Return the tokenizer of the checkpoint in `folder`."""
    tokenizer_class = getattr(transformers, class_name)
    tokenizer: PreTrainedTokenizerBase = tokenizer_class.from_pretrained(folder / "tokenizer", local_files_only=True)
    return tokenizer


def load_text_encoder(
    model_class: Any,
    folder: Path,
    schemes: QuantizationSchemes,
    device: torch.device,
    home: torch.device,
    dtype: torch.dtype,
    unused: tuple[str, ...],
) -> Any:
    """Return the text encoder of the checkpoint in `folder`, its vision tower and head included.

    Args:
        schemes: what its weights are kept in; they are compressed on `device`.
        home: where they stay.
        unused: beginnings of the names of weights that may be missing.

    Raises:
        CheckpointError: if it lacks weights, or can't be loaded.
    """
    first = torch.device("cpu") if schemes.text_encoder else home
    text_encoder = load_part(model_class, folder / "text_encoder", first, dtype, unused)
    if schemes.text_encoder and schemes.compresses_text_encoder:
        compress(text_encoder, schemes.text_encoder, device, home)
    return text_encoder.to(home)


def stream_text_encoder(text_encoder: Any, device: torch.device) -> WeightStream:
    """Have a text encoder read prompts on `device`, whose weights stay in host memory."""
    stream = stream_layers(text_encoder.layers, device)
    look_up_on_host(text_encoder.embed_tokens, device)
    text_encoder.norm.to(device)
    text_encoder.rotary_emb.to(device)
    return stream
