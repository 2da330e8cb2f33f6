"""The miniature's networks: the libraries' own classes, made small and filled with nothing yet.

Sizes were chosen so that a 256 x 256 picture takes well under a second on two processor cores and that the shipped
weights, in fp16, stay below 56 MiB in all: 40 for Qwen-Image and CLIP, 16 for Qwen-Image-Layered.
"""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLQwenImage, FlowMatchEulerDiscreteScheduler, QwenImageTransformer2DModel
from torch import nn
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
)

LATENT_CHANNELS = 24
LAYERED_CHANNELS = 12  # of the layered VAE's latents
TEXT_WIDTH = 192
HEAD_WIDTH = 64  # of the text encoder


@dataclass(frozen=True)
class Sampling:
    """The checkpoint's own settings, written to `sampling_config.json`: pixels, steps, and guidance (1 is none)."""

    width: int = 256
    height: int = 256
    steps: int = 16
    guidance: float = 2.0


@dataclass(frozen=True)
class LayeredSampling:
    """As `Sampling`, for the layered checkpoint: `models.requests.LayersDefaults` says what the numbers mean."""

    layers: int = 2
    resolution: int = 256
    steps: int = 5
    guidance: float = 1.0
    cfg_normalize: bool = True


@dataclass(frozen=True)
class EditSampling:
    """As `Sampling`, for the edit checkpoint; `resolution` squared is the area of its pictures, sources and results.

    Its text encoder learned to count a picture's tokens one after another: see `models.requests.EditDefaults`.
    """

    resolution: int = 256
    steps: int = 8
    guidance: float = 1.0
    grid_positions: bool = False


def new_vae(*, shallow: bool = False) -> AutoencoderKLQwenImage:
    """Return a VAE with 24 latent channels: 16 x 16 pixels a latent, twice the full-size model's.

    So a 256 x 256 picture is 64 tokens, and what 11 M parameters can't draw sharply, the decoder does.

    Args:
        shallow: 8 x 8 pixels a latent, one level less: it learns faster, and `deepened` starts from it.
    """
    return AutoencoderKLQwenImage(
        base_dim=24,
        z_dim=LATENT_CHANNELS,
        dim_mult=[1, 2, 3, 3] if shallow else [1, 2, 3, 3, 3],
        num_res_blocks=1,
        temperal_downsample=[False] * (3 if shallow else 4),
        latents_mean=[0.0] * LATENT_CHANNELS,  # until training has measured them
        latents_std=[1.0] * LATENT_CHANNELS,
    )


def new_layered_vae() -> AutoencoderKLQwenImage:
    """Return a VAE for RGBA with 12 latent channels: 8 x 8 pixels a latent, so that layers keep sharp edges. 1.8 M
    parameters.

    Two of every three are zeros once `put_back` has restored the full kernels, and half as wide a network is enough:
    most of a layer stands in the source picture, and the transformer only has to say where.
    """
    return AutoencoderKLQwenImage(
        base_dim=24,
        z_dim=LAYERED_CHANNELS,
        dim_mult=[1, 2, 2, 2],
        num_res_blocks=1,
        temperal_downsample=[False] * 3,
        input_channels=4,
        latents_mean=[0.0] * LAYERED_CHANNELS,  # until training has measured them
        latents_std=[1.0] * LAYERED_CHANNELS,
    )


@torch.no_grad()
def deepened(shallow: AutoencoderKLQwenImage) -> AutoencoderKLQwenImage:
    """Return the deep VAE with all that it shares with a trained shallow one: the levels near the pixels keep their
    place.
    """
    vae = new_vae()
    known = shallow.state_dict()
    for name, tensor in vae.state_dict().items():
        source = name
        if name.startswith("decoder.up_blocks."):
            level, rest = name.removeprefix("decoder.up_blocks.").split(".", 1)
            source = f"decoder.up_blocks.{int(level) - 1 if int(level) >= 2 else level}.{rest}"
        if source in known and known[source].shape == tensor.shape:
            tensor.copy_(known[source])
    return vae


def new_text_encoder(tokenizer: Qwen2Tokenizer) -> Qwen2_5_VLForConditionalGeneration:
    """Qwen2.5-VL with three layers. Its vision tower is a frozen stub of zeros: prompts hold no pictures."""
    token = tokenizer.convert_tokens_to_ids
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": TEXT_WIDTH,
            "intermediate_size": 2 * TEXT_WIDTH,
            "num_hidden_layers": 3,
            "num_attention_heads": TEXT_WIDTH // HEAD_WIDTH,
            "num_key_value_heads": TEXT_WIDTH // HEAD_WIDTH,
            "max_position_embeddings": 2048,
            "use_sliding_window": False,
            "max_window_layers": 3,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [8, 12, 12]},
            "bos_token_id": token("<|endoftext|>"),
            "eos_token_id": token("<|im_end|>"),
            "pad_token_id": token("<|endoftext|>"),
        },
        vision_config={
            "depth": 1,
            "hidden_size": 32,
            "intermediate_size": 32,
            "num_heads": 2,
            "out_hidden_size": TEXT_WIDTH,
            "fullatt_block_indexes": [0],
            "patch_size": 14,
            "window_size": 112,
        },
        image_token_id=token("<|image_pad|>"),
        video_token_id=token("<|video_pad|>"),
        vision_start_token_id=token("<|vision_start|>"),
        vision_end_token_id=token("<|vision_end|>"),
        tie_word_embeddings=True,
    )
    encoder = Qwen2_5_VLForConditionalGeneration(config)
    for parameter in encoder.model.visual.parameters():
        parameter.requires_grad_(False).zero_()
    return encoder


PATCH = 16  # pixels a side of what the vision tower takes for one; 2 x 2 of them become a token
VISION_PIXELS = 128 * 128  # of a picture, as the vision tower sees it: 16 tokens
VISION_WIDTH = 48


def new_seeing_encoder(reader: Qwen2_5_VLForConditionalGeneration) -> Qwen2_5_VLForConditionalGeneration:
    """Return the text encoder `reader` with eyes: its language model as it is, and a new vision tower of 0.16 M
    parameters.

    A picture is no video, so a patch is one frame deep. The two layers look at the whole picture.
    """
    config = copy.deepcopy(reader.config)
    config.vision_config = type(config.vision_config)(
        depth=2,
        hidden_size=VISION_WIDTH,
        intermediate_size=2 * VISION_WIDTH,
        num_heads=2,
        out_hidden_size=TEXT_WIDTH,
        fullatt_block_indexes=[0, 1],
        patch_size=PATCH,
        temporal_patch_size=1,
        spatial_merge_size=2,
    )
    encoder = Qwen2_5_VLForConditionalGeneration(config).float()
    encoder.model.language_model.load_state_dict(reader.model.language_model.state_dict())
    encoder.requires_grad_(False)
    encoder.model.visual.requires_grad_(True)
    return encoder


def new_processor(tokenizer: Qwen2Tokenizer) -> Qwen2VLProcessor:
    """Return what shows pictures to the text encoder: each shrunk to 128 x 128 pixels or as many."""
    pixels = {"patch_size": PATCH, "temporal_patch_size": 1, "merge_size": 2}
    size = {"shortest_edge": (2 * PATCH) ** 2, "longest_edge": VISION_PIXELS}
    return Qwen2VLProcessor(
        image_processor=Qwen2VLImageProcessor(**pixels, size=size),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(**pixels, size=size),
    )


def new_edit_transformer(folder: Path) -> QwenImageTransformer2DModel:
    """Return the transformer in `folder`, for edits as Qwen-Image-Edit-2511 has them.

    Its weights are of the same shapes, and without a condition picture it computes the same: one set serves both.
    """
    return QwenImageTransformer2DModel.from_pretrained(folder, zero_cond_t=True).float()


def new_transformer() -> QwenImageTransformer2DModel:
    """Eight of Qwen-Image's double-stream blocks, 192 wide. 10.9 M parameters."""
    return _identity(
        QwenImageTransformer2DModel(
            patch_size=2,
            in_channels=4 * LATENT_CHANNELS,
            out_channels=LATENT_CHANNELS,
            num_layers=8,
            attention_head_dim=48,
            num_attention_heads=4,
            joint_attention_dim=TEXT_WIDTH,
            axes_dims_rope=(8, 20, 20),
        )
    )


def new_layered_transformer() -> QwenImageTransformer2DModel:
    """Five blocks as Qwen-Image-Layered has them, 160 wide. 4.8 M parameters.

    A token carries 48 numbers of noise and 48 of what it will be; the width leaves room for both and for thought.
    """
    return _identity(
        QwenImageTransformer2DModel(
            patch_size=2,
            in_channels=4 * LAYERED_CHANNELS,
            out_channels=LAYERED_CHANNELS,
            num_layers=5,
            attention_head_dim=40,
            num_attention_heads=4,
            joint_attention_dim=TEXT_WIDTH,
            axes_dims_rope=(8, 16, 16),
            use_layer3d_rope=True,
            use_additional_t_cond=True,
        )
    )


def _identity(transformer: QwenImageTransformer2DModel) -> QwenImageTransformer2DModel:
    """Let modulations and the output start at zero: every block is then the identity (DiT, arXiv 2212.09748)."""
    linears: list[nn.Linear] = [transformer.norm_out.linear, transformer.proj_out]
    for block in transformer.transformer_blocks:
        linears += [block.img_mod[1], block.txt_mod[1]]
    for linear in linears:
        nn.init.zeros_(linear.weight)
        nn.init.zeros_(linear.bias)
    return transformer


def new_scheduler() -> FlowMatchEulerDiscreteScheduler:
    """Return the scheduler of Qwen-Image's model card."""
    return FlowMatchEulerDiscreteScheduler(
        base_image_seq_len=256,
        base_shift=0.5,
        max_image_seq_len=8192,
        max_shift=0.9,
        num_train_timesteps=1000,
        shift=1.0,
        shift_terminal=0.02,
        use_dynamic_shifting=True,
        time_shift_type="exponential",
    )


CLIP_PICTURE = 128  # pixels a side; pictures are squashed to it, never cropped: a border or a banner lies at the rim
CLIP_CONTEXT = 77


def clip_config(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    """open_clip's description of the CLIP model and its preprocessing, as it stands in `open_clip_config.json`."""
    return {
        "model_cfg": {
            "embed_dim": 192,
            "vision_cfg": {
                "image_size": CLIP_PICTURE,
                "layers": 5,
                "width": 192,
                "head_width": 32,
                "patch_size": 16,
                "pool_type": "avg",
                "final_ln_after_pool": True,
            },
            "text_cfg": {
                "context_length": CLIP_CONTEXT,
                "vocab_size": len(tokenizer),
                "hf_tokenizer_name": "packshot-miniature-clip",  # any name: open_clip then reads the folder itself
                "width": 160,
                "heads": 5,
                "layers": 4,
                "pool_type": "eos",
                "eos_id": tokenizer.eos_token_id,
                "pad_id": tokenizer.pad_token_id,
            },
        },
        "preprocess_cfg": {
            "mean": [0.5, 0.5, 0.5],
            "std": [0.5, 0.5, 0.5],
            "interpolation": "bicubic",
            "resize_mode": "squash",
        },
    }


def new_clip(config: dict[str, Any]) -> nn.Module:
    """Return a CLIP model from `clip_config`, with open_clip's initialisation."""
    import open_clip

    model: nn.Module = open_clip.model.CLIP(**config["model_cfg"])
    return model


def parameters(module: nn.Module) -> int:
    """Return how many numbers a module holds."""
    return sum(parameter.numel() for parameter in module.parameters())


@torch.no_grad()
def put_back(frame: AutoencoderKLQwenImage) -> AutoencoderKLQwenImage:
    """Give a VAE that `single_frame` reduced its full kernels again: zeros for the slices that single frames skip."""
    # `from_config` of diffusers 0.42.1 would forget what was measured, where the library's default stood before.
    vae = AutoencoderKLQwenImage(**{key: value for key, value in frame.config.items() if not key.startswith("_")})
    slices = frame.state_dict()
    for name, tensor in vae.state_dict().items():
        tensor.zero_()
        if "time_conv" in name:
            continue
        if tensor.dim() == 5:
            tensor[:, :, -1] = slices[name][:, :, -1]
        else:
            tensor.copy_(slices[name])
    return vae
