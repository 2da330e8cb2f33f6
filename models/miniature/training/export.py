"""The folders that the libraries load by themselves, in fp16 safetensors."""

import copy
import filecmp
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

from diffusers import (
    AutoencoderKLQwenImage,
    DiffusionPipeline,
    QwenImageEditPlusPipeline,
    QwenImageLayeredPipeline,
    QwenImagePipeline,
)
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast, Qwen2Tokenizer

from models.miniature.networks.architecture import (
    EditSampling,
    LayeredSampling,
    Sampling,
    clip_config,
    new_processor,
    new_scheduler,
    put_back,
)
from models.miniature.training.denoiser import Denoiser

PIPELINE, LAYERED, EDIT, CLIP = "qwen-image", "qwen-image-layered", "qwen-image-edit", "clip"  # under weights/
SHARED = ("text_encoder/model.safetensors", "tokenizer/tokenizer.json")  # what Qwen-Image-Layered has of Qwen-Image


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
    unlink_shared(weights)
    return _saved(weights / PIPELINE, pipeline_of(put_back(vae).half(), _halves(denoiser), tokenizer), sampling)


def layered_pipeline_of(
    vae: AutoencoderKLQwenImage, denoiser: Denoiser, tokenizer: Qwen2Tokenizer
) -> QwenImageLayeredPipeline:
    """Return a pipeline as `pipeline_of` does, for layers, with a text encoder that sees no pictures."""
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
    pipeline = layered_pipeline_of(put_back(vae).half(), _halves(denoiser), tokenizer)
    folder = _saved(weights / LAYERED, pipeline, sampling)
    link_shared(weights)
    return folder


def link_shared(weights: Path) -> None:
    """Replace each file of Qwen-Image-Layered that is the same in Qwen-Image beside it with a relative link to that."""
    for name in SHARED:
        one, other = weights / PIPELINE / name, weights / LAYERED / name
        if one.is_file() and other.is_file() and filecmp.cmp(one, other, shallow=False):
            other.unlink()
            other.symlink_to(os.path.relpath(one, other.parent))


def unlink_shared(weights: Path) -> None:
    """Replace the links of `link_shared` with copies, so that another Qwen-Image doesn't change Qwen-Image-Layered."""
    for name in SHARED:
        link = weights / LAYERED / name
        if link.is_symlink() and link.is_file():
            content = link.read_bytes()
            link.unlink()
            link.write_bytes(content)


def edit_pipeline_of(
    vae: AutoencoderKLQwenImage, denoiser: Denoiser, tokenizer: Qwen2Tokenizer
) -> QwenImageEditPlusPipeline:
    """Return a pipeline as `pipeline_of` does, for edits; the processor shows pictures to the text encoder."""
    pipeline = QwenImageEditPlusPipeline(
        scheduler=new_scheduler(),
        vae=vae,
        text_encoder=denoiser.text_encoder,
        tokenizer=tokenizer,
        processor=new_processor(tokenizer),
        transformer=denoiser.transformer,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def export_edit(
    weights: Path, qwen_image: Path, denoiser: Denoiser, tokenizer: Qwen2Tokenizer, sampling: EditSampling
) -> Path:
    """Write what `QwenImageEditPlusPipeline.from_pretrained` reads, and `sampling_config.json`; returns the folder.

    Beside it lies the Qwen-Image that it shares with, a copy of `qwen_image` if that is elsewhere. The transformer's
    weights take the place of that one's, which draws with them, too. They and what else the two share are links, each
    of a file: into a linked folder not everybody looks who lists files. The text encoder is two files: the other one's,
    and a second one of what sees. Libraries read them in that order, and the last one counts.
    """
    beside = weights / PIPELINE
    if not (beside.exists() and beside.samefile(qwen_image)):
        shutil.copytree(qwen_image, beside, dirs_exist_ok=True)
    qwen_image = beside
    vae = AutoencoderKLQwenImage.from_pretrained(qwen_image / "vae")
    folder = _saved(weights / EDIT, edit_pipeline_of(vae, _halves(denoiser), tokenizer), sampling)
    for part in ("vae", "tokenizer"):
        _emptied(folder / part)
        for file in (qwen_image / part).iterdir():
            (folder / part / file.name).symlink_to(_way(folder / part, file))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / "processor" / name).unlink()
        (folder / "processor" / name).symlink_to(Path("..", "tokenizer", name))
    own, shared = (each / "transformer" / "diffusion_pytorch_model.safetensors" for each in (folder, qwen_image))
    own.replace(shared)
    own.symlink_to(_way(own.parent, shared))
    _share(folder, qwen_image, "text_encoder", "model", lambda name: name.startswith("visual."))
    return folder


def _share(folder: Path, other: Path, part: str, stem: str, is_new: Callable[[str], bool]) -> None:
    """Replace a part's one file by a link to that of the same part in `other`, and a file of what `is_new`."""
    whole = folder / part / f"{stem}.safetensors"
    shared, own = (folder / part / f"{stem}-0000{number}-of-00002.safetensors" for number in (1, 2))
    with safe_open(whole, "pt") as file:
        names = list(file.keys())
        tensors = {name: file.get_tensor(name) for name in names if is_new(name)}
    whole.unlink()
    save_file(tensors, own, metadata={"format": "pt"})
    shared.symlink_to(_way(folder / part, other / part / whole.name))
    index: Mapping[str, object] = {
        "metadata": {"total_size": sum(map(_bytes, tensors.values()))},
        "weight_map": {name: (own if name in tensors else shared).name for name in sorted(names)},
    }
    text = json.dumps(index, indent=1) + "\n"
    (folder / part / f"{whole.name}.index.json").write_text(text, encoding="utf-8")


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _way(folder: Path, target: Path) -> str:
    """The relative path from a folder to what lies elsewhere."""
    return os.path.relpath(target.resolve(), folder.resolve())


def _halves(denoiser: Denoiser) -> Denoiser:
    return Denoiser(copy.deepcopy(denoiser.text_encoder).half(), copy.deepcopy(denoiser.transformer).half())


def _saved(folder: Path, pipeline: DiffusionPipeline, sampling: Sampling | LayeredSampling | EditSampling) -> Path:
    pipeline.save_pretrained(_emptied(folder), safe_serialization=True)
    _forget_place(folder / "transformer" / "config.json")
    (folder / "sampling_config.json").write_text(json.dumps(asdict(sampling), indent=2) + "\n", encoding="utf-8")
    return folder


def _forget_place(config: Path) -> None:
    """Take from a model's settings where it was loaded from, on the machine that trained it."""
    settings = json.loads(config.read_text(encoding="utf-8"))
    settings.pop("_name_or_path", None)
    config.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")


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
