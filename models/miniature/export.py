"""The folders that the libraries load by themselves, in fp16 safetensors."""

import copy
import json
import shutil
from dataclasses import asdict
from pathlib import Path

from diffusers import AutoencoderKLQwenImage, DiffusionPipeline, QwenImageLayeredPipeline, QwenImagePipeline
from safetensors.torch import save_file
from torch import nn
from transformers import PreTrainedTokenizerFast, Qwen2Tokenizer

from models.miniature.architecture import LayeredSampling, Sampling, clip_config, new_scheduler, put_back
from models.miniature.denoiser import Denoiser

PIPELINE, LAYERED, CLIP = "qwen-image", "qwen-image-layered", "clip"  # folders under weights/


def pipeline_of(vae: AutoencoderKLQwenImage, denoiser: Denoiser, tokenizer: Qwen2Tokenizer) -> QwenImagePipeline:
    """Put the parts together; nothing is copied."""
    pipeline = QwenImagePipeline(
        scheduler=new_scheduler(),
        vae=vae,
        text_encoder=denoiser.text_encoder,
        tokenizer=tokenizer,
        transformer=denoiser.transformer,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def export_pipeline(
    weights: Path, vae: AutoencoderKLQwenImage, denoiser: Denoiser, tokenizer: Qwen2Tokenizer, sampling: Sampling
) -> Path:
    """Write what `QwenImagePipeline.from_pretrained` reads, and `sampling_config.json`; returns the folder."""
    return _saved(weights / PIPELINE, pipeline_of(put_back(vae).half(), _halves(denoiser), tokenizer), sampling)


def layered_pipeline_of(
    vae: AutoencoderKLQwenImage, denoiser: Denoiser, tokenizer: Qwen2Tokenizer
) -> QwenImageLayeredPipeline:
    """As `pipeline_of`, for layers; the text encoder sees no pictures, so there is no processor that shows it any."""
    return QwenImageLayeredPipeline(
        scheduler=new_scheduler(),
        vae=vae,
        text_encoder=denoiser.text_encoder,
        tokenizer=tokenizer,
        processor=None,
        transformer=denoiser.transformer,
    )


def export_layered(
    weights: Path,
    vae: AutoencoderKLQwenImage,
    denoiser: Denoiser,
    tokenizer: Qwen2Tokenizer,
    sampling: LayeredSampling,
) -> Path:
    """Write what `QwenImageLayeredPipeline.from_pretrained` reads, and `sampling_config.json`; returns the folder.

    Whoever opens it with diffusers 0.42.1 has to say `processor=None`, as model_index.json says, too.
    """
    return _saved(weights / LAYERED, layered_pipeline_of(put_back(vae).half(), _halves(denoiser), tokenizer), sampling)


def _halves(denoiser: Denoiser) -> Denoiser:
    return Denoiser(copy.deepcopy(denoiser.text_encoder).half(), copy.deepcopy(denoiser.transformer).half())


def _saved(folder: Path, pipeline: DiffusionPipeline, sampling: Sampling | LayeredSampling) -> Path:
    pipeline.save_pretrained(_emptied(folder), safe_serialization=True)
    (folder / "sampling_config.json").write_text(json.dumps(asdict(sampling), indent=2) + "\n", encoding="utf-8")
    return folder


def export_clip(weights: Path, model: nn.Module, tokenizer: PreTrainedTokenizerFast) -> Path:
    """Write what `open_clip.create_model_from_pretrained("local-dir:...")` reads; returns the folder."""
    folder = _emptied(weights / CLIP)
    tokenizer.save_pretrained(folder)
    (folder / "open_clip_config.json").write_text(json.dumps(clip_config(tokenizer), indent=2) + "\n", encoding="utf-8")
    tensors = {name: tensor.half().cpu().contiguous() for name, tensor in model.state_dict().items()}
    save_file(tensors, folder / "open_clip_model.safetensors", metadata={"format": "pt"})
    return folder


def _emptied(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
