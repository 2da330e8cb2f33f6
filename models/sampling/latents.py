"""Between pixels and packed latents: what the VAE does for rows of one shape.

Varlen latents are what the transformer reads: a token for every two by two latents, frame after frame. A picture made
from a prompt has one frame, a decomposed one has its composite and its layers.
"""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch
from diffusers.image_processor import VaeImageProcessor
from PIL import Image

from models.loading.components import Components
from models.requests import ConditionPicture, Pixels, Shape
from models.transformer.predictor import EncodedPicture, Pictures, Size

CODED_PIXELS = 1024 * 1024  # en- or decoded at once: 0.6 GiB on a GPU, and more at once is no faster (one H200)


def resized(source: Pixels, width: int, height: int, channels: int = 4) -> Image.Image:
    """Return a picture [H, W, channels] at the size that it is encoded at, as the pipelines' own image processor
    resizes it.

    Pillow weights colours by their alpha, so that what is hidden doesn't bleed into what is seen.

    Raises:
        ValueError: if it isn't uint8 [H, W, channels].
    """
    if source.dtype != np.uint8 or source.ndim != 3 or source.shape[2] != channels:
        raise ValueError(f"a picture must be uint8 [H, W, {channels}] here, not {source.dtype} {list(source.shape)}")
    picture: Image.Image = VaeImageProcessor().resize(Image.fromarray(source), height, width)
    return picture


def token_size(components: Components, width: int, height: int) -> Size:
    """Return the size in tokens of a picture of so many pixels."""
    return 1, height // components.token_pixels, width // components.token_pixels


def encode_conditions(components: Components, rows: Sequence[Sequence[ConditionPicture]]) -> Pictures:
    """Encode the condition pictures of each row, those of one size together.

    Raises:
        ValueError: as `resized`.
    """
    places: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    for row, pictures in enumerate(rows):
        for number, picture in enumerate(pictures):
            places[picture.width, picture.height].append((row, number))
    encoded: dict[tuple[int, int], EncodedPicture] = {}
    for size, where in places.items():
        latents = encode(components, *size, [rows[row][number].pixels for row, number in where])
        for place, of_picture in zip(where, latents, strict=True):
            encoded[place] = EncodedPicture(of_picture, token_size(components, *size))
    return [[encoded[row, number] for number in range(len(pictures))] for row, pictures in enumerate(rows)]


def encode(components: Components, width: int, height: int, sources: Sequence[Pixels]) -> torch.Tensor:
    """Encode pictures of any size, each resized to `width` × `height` pixels: source pictures [H, W, 4], alpha and all,
    or control pictures [H, W, 3], as many channels as the VAE reads.

    A picture is encoded as the mode of what the VAE says. `QwenImageControlNetPipeline` draws a sample instead, from
    the row's own generator and before its noise (diffusers 0.42.1): then a seed's noise would be another one with a
    control picture than without, and one picture a little different at every seed.

    Returns:
        packed latents [B, H/16 · W/16, 64].

    Raises:
        ValueError: as `resized`.
    """
    vae = components.vae
    mean, std = _statistics(components)
    pictures = VaeImageProcessor(do_resize=False).preprocess(
        [resized(source, width, height, vae.config.input_channels) for source in sources]
    )
    encoded = [
        vae.encode(some.unsqueeze(2).to(components.device, components.dtype)).latent_dist.mode()
        for some in pictures.split(_coded_at_once(width, height))
    ]
    scaled = (torch.cat(encoded) - mean) / std  # [B, 16, 1, H/8, W/8]
    return components.architecture.pack(scaled.transpose(1, 2))


def decode(components: Components, shape: Shape, latents: torch.Tensor) -> list[Pixels | None]:
    """Decode packed latents, a megapixel at a time; a row is None where not all of it is finite.

    A batch of stock's layered pipeline is cut in the wrong places (diffusers 0.42.1: a row is taken to have as many
    decoded frames as latent ones, but the composite isn't decoded), so that rows but the first get each other's layers.

    Returns:
        of each row uint8 [frames, H, W, 3], or [layers, H, W, 4] from bottom to top, without the composite.
    """
    vae = components.vae
    scale = components.vae_scale
    unpacked = components.architecture.unpack(latents, shape.frames, shape.height // scale, shape.width // scale)
    mean, std = _statistics(components)
    scaled = unpacked / (1.0 / std) + mean  # [B, 16, frames, H/8, W/8]
    wanted = scaled[:, :, -shape.layers :].transpose(1, 2) if shape.layers else scaled.transpose(1, 2)
    frames = wanted.flatten(0, 1).unsqueeze(2)  # the VAE's own frames are a video's, and each of these is a picture
    levels, finite = [], []
    for some in frames.split(_coded_at_once(shape.width, shape.height)):
        decoded = vae.decode(some, return_dict=False)[0][:, :, 0].float()  # [b, 3 or 4, H, W]
        # Before the cast: a cast turns NaN into a black picture.
        finite.append(torch.isfinite(decoded).flatten(1).all(1) & torch.isfinite(some).flatten(1).all(1))
        scaled_up = (decoded * 0.5 + 0.5).clamp(0, 1) * 255
        levels.append(scaled_up.nan_to_num().round().to(torch.uint8).permute(0, 2, 3, 1))
    # Read once, after all is decoded: every reading waits for the device.
    whole = torch.cat(finite).view(len(latents), -1).all(1).tolist()
    pictures = torch.cat(levels).contiguous().cpu().numpy()
    rows = pictures.reshape(len(latents), -1, *pictures.shape[1:])
    return [row if is_whole else None for row, is_whole in zip(rows, whole, strict=True)]


def _statistics(components: Components) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of the VAE's latents, each [1, C, 1, 1, 1]."""
    config = components.vae.config
    mean, std = (
        torch.tensor(values).view(1, config.z_dim, 1, 1, 1).to(components.device, components.dtype)
        for values in (config.latents_mean, config.latents_std)
    )
    return mean, std


def _coded_at_once(width: int, height: int) -> int:
    return max(1, CODED_PIXELS // (width * height))
