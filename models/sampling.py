"""What is asked of the picture model for one picture."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """What rows must share to go through the GPU together."""

    width: int  # pixels
    height: int  # pixels
    steps: int  # denoising steps
    guidance: float  # true classifier-free guidance; 1 or less means none, and half the work


@dataclass(frozen=True)
class PictureRequest:
    """All that decides one picture, given a checkpoint and a precision."""

    prompt: str
    negative_prompt: str
    seed: int
    shape: Shape


@dataclass(frozen=True)
class SamplingDefaults:
    """What a row gets for each setting that neither it nor its job names."""

    width: int
    height: int
    steps: int
    guidance: float
    source: str  # where the numbers come from, for people


QWEN_IMAGE_DEFAULTS = SamplingDefaults(
    width=1024,
    height=1024,
    steps=50,
    guidance=4.0,
    source="Qwen-Image's model card (50 steps, true_cfg_scale 4.0) at QwenImagePipeline's default size",
)
