"""The video VAE of Qwen-Image, reduced to what a single picture uses of it."""

from types import MethodType

import torch
from diffusers import AutoencoderKLQwenImage
from diffusers.models.autoencoders.autoencoder_kl_qwenimage import QwenImageCausalConv3d
from diffusers.models.autoencoders.vae import DecoderOutput
from torch import Tensor, nn
from torch.nn import functional


class SingleFrameConv(QwenImageCausalConv3d):  # type: ignore[misc]  # diffusers has no types
    """A causal 3-D convolution that keeps only its last temporal slice: weight [out, in, 1, height, width].

    It stays a `QwenImageCausalConv3d` because the VAE counts those to size its caches.
    """

    def forward(self, x: Tensor, cache_x: Tensor | None = None) -> Tensor:
        """Convolve frames [batch, in, 1, height, width]; the cache belongs to earlier frames, and there are none."""
        if x.shape[2] != 1 or cache_x is not None:
            raise ValueError(f"this VAE was reduced to single frames by single_frame(), but got {x.shape[2]} frames")
        left, _, top, _, _, _ = self._padding
        y = functional.conv2d(x[:, :, 0], self.weight[:, :, -1], self.bias, self.stride[1:], (top, left))
        return y.unsqueeze(2)


def single_frame(vae: AutoencoderKLQwenImage) -> AutoencoderKLQwenImage:
    """Reduce `vae` to single frames, in place, and return it: the same pictures, fewer operations.

    Every causal convolution pads the past with zeros, so for a first and only frame all temporal slices of a kernel
    but the last meet zeros alone: a 2-D convolution with that slice is exact. The copies that the VAE keeps of every
    activation, for frames to come, are not made either. Temporal resampling is skipped by the VAE itself at frame 0.

    Encoding and decoding take [batch, channels, 1, height, width] as before; more than one frame raises ValueError.
    Calling it twice does no harm. Read in diffusers 0.42.1.
    """
    for name, module in vae.named_modules():
        if type(module) is QwenImageCausalConv3d and not name.endswith("time_conv"):
            module.weight = nn.Parameter(module.weight[:, :, -1:].detach().clone(), module.weight.requires_grad)
            module.kernel_size = (1, *module.kernel_size[1:])
            module.__class__ = SingleFrameConv
    vae._encode = MethodType(_encode, vae)
    vae._decode = MethodType(_decode, vae)
    return vae


def _encode(vae: AutoencoderKLQwenImage, x: Tensor) -> Tensor:
    """`AutoencoderKLQwenImage._encode` without the frame caches: [B, 3, 1, H, W] to [B, 2 * 16, 1, H/8, W/8]."""
    if vae.use_tiling and (x.shape[-1] > vae.tile_sample_min_width or x.shape[-2] > vae.tile_sample_min_height):
        tiled: Tensor = vae.tiled_encode(x)
        return tiled
    moments: Tensor = vae.quant_conv(vae.encoder(x))
    return moments


def _decode(vae: AutoencoderKLQwenImage, z: Tensor, return_dict: bool = True) -> DecoderOutput | tuple[Tensor]:
    """`AutoencoderKLQwenImage._decode` without the frame caches: [B, 16, 1, H/8, W/8] to [B, 3, 1, H, W] in -1..1."""
    ratio = vae.spatial_compression_ratio
    if vae.use_tiling and (
        z.shape[-1] > vae.tile_sample_min_width // ratio or z.shape[-2] > vae.tile_sample_min_height // ratio
    ):
        tiled: DecoderOutput | tuple[Tensor] = vae.tiled_decode(z, return_dict=return_dict)
        return tiled
    sample = torch.clamp(vae.decoder(vae.post_quant_conv(z)), -1.0, 1.0)
    return DecoderOutput(sample=sample) if return_dict else (sample,)
