"""What is asked of the picture models for one picture."""

import hashlib
import math
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

MOST_STRETCHED = 1.125
"""How much longer a side of layers may be, beside the other one, than it is in their source: by so much a picture of
20 : 1 is rounded at a resolution of 640."""

Pixels = np.ndarray[Any, np.dtype[np.uint8]]


@dataclass(frozen=True)
class SeenPicture:
    """A picture as the text encoder sees it; two of one digest are the same."""

    digest: str  # SHA-256 of its size and its pixels
    pixels: Pixels = field(compare=False, repr=False)  # [H, W, 3]

    @classmethod
    def of(cls, pixels: Pixels) -> Self:
        """Take pixels, and tell them by their content."""
        return cls(hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest(), pixels)


@dataclass(frozen=True)
class Conditioning:
    """What the transformer is conditioned on: a text, and the pictures that the text encoder sees with it, in order.

    Embeddings belong to it: one text beside other pictures has others.
    """

    text: str
    pictures: tuple[SeenPicture, ...] = ()


@dataclass(frozen=True, eq=False)
class ConditionPicture:
    """A picture that the transformer itself sees beside what it makes, as the VAE encodes it."""

    pixels: Pixels  # [H, W, channels] of any size
    width: int  # pixels that it is resized to
    height: int  # pixels


@dataclass(frozen=True)
class Shape:
    """What rows must share to go through the GPU together."""

    width: int  # pixels
    height: int  # pixels
    steps: int  # denoising steps
    guidance: float  # true classifier-free guidance; 1 or less means none, and half the work
    layers: int = 0  # RGBA layers that a source picture is decomposed into; 0 for a picture made from a prompt
    cfg_normalize: bool = True  # guided predictions keep the norm of the conditional ones; Qwen-Image's always do

    @property
    def frames(self) -> int:
        """Pictures in the latents: a single one, or the layers below one another after the composite of them all."""
        return self.layers + 1

    def __str__(self) -> str:
        return f"{self.width} × {self.height}" + (f" in {self.layers} layers" if self.layers else "")


@dataclass(frozen=True)
class Workload:
    """What decides the memory and the time that a row takes, beside the length of its texts."""

    shape: Shape
    condition_sizes: tuple[tuple[int, int], ...] = ()  # width and height in pixels of each condition picture

    def image_tokens(self, multiple: int) -> int:
        """Return how many tokens the transformer reads, of what is made and of condition pictures.

        Args:
            multiple: pixels a token, along each axis.
        """
        shape = self.shape
        sizes = [(shape.width, shape.height)] * shape.frames + [*self.condition_sizes]
        return sum(width * height for width, height in sizes) // multiple**2


@dataclass(frozen=True)
class PictureRequest:
    """All that decides one picture, given a checkpoint, a ControlNet if there is one, and a precision."""

    prompt: str
    negative_prompt: str
    seed: int
    shape: Shape
    # [H, W, 3] of any size, with a ControlNet; requests are compared without it, since arrays have no truth value
    control: Pixels | None = field(default=None, compare=False)

    @property
    def conditionings(self) -> list[Conditioning]:
        """What conditions the picture: with guidance the negative prompt, too."""
        return conditionings(self.shape, self.prompt, self.negative_prompt)

    @property
    def condition_pictures(self) -> tuple[ConditionPicture, ...]:
        """What the transformer sees beside the picture: nothing."""
        return ()


@dataclass(frozen=True, eq=False)
class EditPicture:
    """A picture that an instruction is about, at both sizes at which a model looks at it."""

    seen: SeenPicture  # by the text encoder
    encoded: ConditionPicture  # by the VAE


@dataclass(frozen=True, eq=False)
class EditRequest:
    """All that decides one edited picture, given a checkpoint and a precision."""

    instruction: str
    negative_prompt: str
    seed: int
    shape: Shape
    pictures: tuple[EditPicture, ...]  # the one that is edited, then references, in the order of their numbers

    @property
    def conditionings(self) -> list[Conditioning]:
        """What conditions the picture: with guidance the negative prompt, too, beside the same pictures."""
        seen = tuple(picture.seen for picture in self.pictures)
        return conditionings(self.shape, self.instruction, self.negative_prompt, seen)

    @property
    def condition_pictures(self) -> tuple[ConditionPicture, ...]:
        """What the transformer sees beside what it makes."""
        return tuple(picture.encoded for picture in self.pictures)


@dataclass(frozen=True, eq=False)
class LayersRequest:
    """All that decides the layers of one source picture, given a checkpoint and a precision."""

    source: Pixels  # [H, W, 4] of any size, with straight alpha
    caption: str  # what the whole picture shows; it may be empty
    negative_prompt: str
    seed: int
    shape: Shape  # from `layers_shape`

    @property
    def conditionings(self) -> list[Conditioning]:
        """What conditions the layers beside the source: with guidance the negative prompt, too."""
        return conditionings(self.shape, self.caption, self.negative_prompt)

    @property
    def condition_pictures(self) -> tuple[ConditionPicture, ...]:
        """What the transformer sees beside the layers: the source, at their size."""
        return (ConditionPicture(self.source, self.shape.width, self.shape.height),)


def conditionings(
    shape: Shape, text: str, negative_text: str, pictures: tuple[SeenPicture, ...] = ()
) -> list[Conditioning]:
    """Return what each branch of guidance is conditioned on; without guidance the negative text isn't even read."""
    texts = [text, negative_text] if shape.guidance > 1 else [text]
    return [Conditioning(each, pictures) for each in texts]


@dataclass(frozen=True)
class SamplingDefaults:
    """What a row gets for each setting that neither it nor its job names."""

    width: int
    height: int
    steps: int
    guidance: float
    source: str  # where the numbers come from, for people

    @property
    def workload(self) -> Workload:
        """What a row with nothing but these settings takes."""
        return Workload(Shape(self.width, self.height, self.steps, self.guidance))


@dataclass(frozen=True)
class LayersDefaults:
    """What a decomposed row gets for each setting that neither it nor its job names."""

    layers: int
    resolution: int  # see `layers_size`
    steps: int
    guidance: float
    cfg_normalize: bool
    source: str  # where the numbers come from, for people

    @property
    def workload(self) -> Workload:
        """What a row with nothing but these settings takes, whose source is a square."""
        side = self.resolution
        shape = Shape(side, side, self.steps, self.guidance, self.layers, self.cfg_normalize)
        return Workload(shape, ((side, side),))


@dataclass(frozen=True)
class EditDefaults:
    """What an edited row gets for each setting that neither it nor its job names, and how its pictures are looked at.

    A resolution is the side of a square of the same area, pixels.
    """

    resolution: int  # of what is made, and of condition pictures as the VAE encodes them
    vision_resolution: int  # of condition pictures, before the checkpoint's processor shows them to the text encoder
    grid_positions: bool  # the text encoder counts a picture's tokens by row and column, not one after another
    steps: int
    guidance: float
    source: str  # where the numbers come from, for people

    @property
    def workload(self) -> Workload:
        """What a row with nothing but these settings takes, whose one picture is a square."""
        side = self.resolution
        return Workload(Shape(side, side, self.steps, self.guidance), ((side, side),))


QWEN_IMAGE_DEFAULTS = SamplingDefaults(
    width=1024,
    height=1024,
    steps=50,
    guidance=4.0,
    source="Qwen-Image's model card (50 steps, true_cfg_scale 4.0) at QwenImagePipeline's default size",
)
QWEN_IMAGE_LAYERED_DEFAULTS = LayersDefaults(
    layers=4,
    resolution=640,
    steps=50,
    guidance=4.0,
    cfg_normalize=True,
    source="Qwen-Image-Layered's model card (4 layers, resolution 640, 50 steps, true_cfg_scale 4.0, cfg_normalize)",
)
QWEN_IMAGE_EDIT_PLUS_DEFAULTS = EditDefaults(
    resolution=1024,
    vision_resolution=384,
    grid_positions=True,
    steps=40,
    guidance=4.0,
    source="Qwen-Image-Edit-2511's model card (40 steps, true_cfg_scale 4.0) at QwenImageEditPlusPipeline's sizes",
)
QWEN_IMAGE_EDIT_DEFAULTS = EditDefaults(
    resolution=1024,
    vision_resolution=1024,
    grid_positions=True,
    steps=50,
    guidance=4.0,
    source="Qwen-Image-Edit's model card (50 steps, true_cfg_scale 4.0) at QwenImageEditPipeline's sizes",
)


def edit_size(width: int, height: int, resolution: int, multiple: int) -> tuple[int, int]:
    """Return the width and height in pixels at which a condition picture is looked at, or an edited one comes out.

    As `QwenImageEditPlusPipeline` has it: see `layers_size`, which says the same of layers.

    Raises:
        ValueError: with a sentence, if the picture is empty, or so narrow that nothing would be left.
    """
    sides = _sides(width, height, resolution, multiple) if min(width, height) > 0 else (0, 0)
    if min(sides) < multiple:
        raise ValueError(
            f"A picture of {width} × {height} is too narrow to be edited at resolution {resolution}; add background to "
            "its long sides, or crop it."
        )
    return sides


def layers_size(width: int, height: int, resolution: int, multiple: int) -> tuple[int, int]:
    """Return the width and height in pixels that layers of a source picture come out at, and the picture is resized to.

    As `QwenImageLayeredPipeline` has it: an area of about resolution² in the picture's own aspect, each side rounded to
    32 pixels, and down to `multiple` where that isn't a divisor of 32. So all pictures of nearly one aspect come out at
    one size, smaller ones enlarged.

    Args:
        width: of the source, in pixels.
        height: of the source, in pixels.
        resolution: 640 or 1024 for Qwen-Image-Layered, which was trained at these; the side of a square picture.
        multiple: what the checkpoint's sizes must be multiples of: see `models.checkpoints.checkpoint.size_multiple`.

    Raises:
        ValueError: if the picture is empty, or so narrow that nothing would be left of it.
    """
    if min(width, height) < 1:
        raise ValueError(f"A picture of {width} × {height} is empty; there is nothing to decompose.")
    sides = _sides(width, height, resolution, multiple)
    if min(sides) < multiple:
        raise ValueError(f"A picture of {width} × {height} is too narrow to be decomposed at resolution {resolution}.")
    return sides


def _sides(width: int, height: int, resolution: int, multiple: int) -> tuple[int, int]:
    ideal = math.sqrt(resolution * resolution * (width / height))
    wide, high = (round(side / 32) * 32 // multiple * multiple for side in (ideal, ideal / (width / height)))
    return wide, high


def is_stretched(width: int, height: int, size: tuple[int, int]) -> bool:
    """Say whether a picture has another aspect at `size`, because that is rounded."""
    stretched = size[0] * height / (size[1] * width)
    return max(stretched, 1 / stretched) > MOST_STRETCHED


def check_aspect(width: int, height: int, layers: tuple[int, int]) -> None:
    """Refuse a source picture whose layers would come out in another aspect, because their short side is rounded.

    Raises:
        ValueError: if it is so; `layers` is their size by `layers_size`.
    """
    if is_stretched(width, height, layers):
        raise ValueError(
            f"The layers of a picture of {width} × {height} would come out at {layers[0]} × {layers[1]}, in another "
            "aspect; give a higher resolution, add background to its long sides, or crop it."
        )


def layers_shape(
    width: int,
    height: int,
    *,
    multiple: int,
    resolution: int,
    layers: int,
    steps: int,
    guidance: float,
    cfg_normalize: bool,
) -> Shape:
    """Return the shape that a source picture of `width` × `height` pixels is decomposed in: its own aspect, see
    `layers_size`.

    Without guidance nothing is normalised, so `cfg_normalize` then makes no difference to the shape.

    Raises:
        ValueError: as `layers_size`.
    """
    size = layers_size(width, height, resolution, multiple)
    return Shape(*size, steps, guidance, layers, cfg_normalize or guidance <= 1)
