"""The video VAE of Qwen-Image, reduced to what a single picture uses of it."""

from types import MethodType

import torch
from diffusers import AutoencoderKLQwenImage
from diffusers.models.autoencoders.autoencoder_kl_qwenimage import (
    QwenImageAttentionBlock,
    QwenImageCausalConv3d,
    QwenImageDecoder3d,
    QwenImageEncoder3d,
    QwenImageResample,
    QwenImageResidualBlock,
    QwenImageUpsample,
)
from diffusers.models.autoencoders.vae import DecoderOutput
from torch import Tensor, nn
from torch.nn import functional

from models.architectures.qwen_image.vae_operations import attend, convolve, doubled, rms_norm, rms_norm_silu


def single_frame(vae: AutoencoderKLQwenImage) -> AutoencoderKLQwenImage:
    """Reduce `vae` to single frames, in place, and return it: the same pictures, fewer operations.

    Every causal convolution pads the past with zeros, so for a first and only frame all temporal slices of a kernel
    but the last meet zeros alone: a 2-D convolution with that slice is exact. The copies that the VAE keeps of every
    activation, for frames to come, are not made either. Temporal resampling is skipped by the VAE itself at frame 0.

    Activations are pictures [B, C, H, W] from the first convolution to the last, channels-last in memory as the
    weights are: the layout that cuDNN's fastest kernels want, and in which a norm over channels reads what is adjacent.
    What happens between convolutions is in `models.architectures.qwen_image.vae_operations`.

    Encoding and decoding take [batch, channels, 1, height, width] as before; more than one frame raises ValueError.
    Calling it twice does no harm. Read in diffusers 0.42.1.
    """
    for half in (vae.encoder, vae.decoder):
        for name, module in half.named_modules():
            if type(module) is QwenImageCausalConv3d and not name.endswith("time_conv"):
                last = module.weight[:, :, -1:].detach().clone(memory_format=torch.channels_last_3d)
                module.weight = nn.Parameter(last, module.weight.requires_grad)
                module.kernel_size = (1, *module.kernel_size[1:])
                module.__class__ = SingleFrameConv
            elif isinstance(module, nn.Conv2d):
                module.to(memory_format=torch.channels_last)
            elif type(module) in REDUCED:
                module.__class__ = REDUCED[type(module)]
    vae._encode = MethodType(_encode, vae)
    vae._decode = MethodType(_decode, vae)
    return vae


class SingleFrameConv(QwenImageCausalConv3d):  # type: ignore[misc]  # diffusers has no types
    """A causal 3-D convolution that keeps only its last temporal slice: weight [out, in, 1, height, width].

    It stays a `QwenImageCausalConv3d` because the VAE counts those to size its caches.
    """

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """Convolve pictures [B, in, H, W] to [B, out, H, W], and add `residual`, as large."""
        return convolve(x, self.weight[:, :, 0], self.bias, self.stride[1:], self._spatial_padding, residual)

    def without_bias(self, x: Tensor) -> Tensor:
        """Convolve without the bias, which is left to whatever comes next."""
        return functional.conv2d(x, self.weight[:, :, 0], None, self.stride[1:], self._spatial_padding)

    @property
    def _spatial_padding(self) -> tuple[int, int]:
        left, _, top, _, _, _ = self._padding
        return top, left


# diffusers hands frame caches to blocks, None where there are none; a single frame has no others to remember.


class SingleFrameResidualBlock(QwenImageResidualBlock):  # type: ignore[misc]
    """A residual block for pictures; without dropout, which Qwen-Image's VAE doesn't use."""

    def forward(self, x: Tensor, feat_cache: None = None, feat_idx: object = None) -> Tensor:  # noqa: ARG002
        """Take pictures [B, in, H, W] to [B, out, H, W]."""
        y = self.conv1.without_bias(rms_norm_silu(x, self.norm1.gamma.flatten()))
        y = rms_norm_silu(y, self.norm2.gamma.flatten(), self.conv1.bias)
        added: Tensor = self.conv2(y, self.conv_shortcut(x))
        return added


class SingleFrameAttentionBlock(QwenImageAttentionBlock):  # type: ignore[misc]
    """Attention among all pixels of a picture; its 1 × 1 convolutions are products of pixels by channels."""

    def forward(self, x: Tensor) -> Tensor:
        """Take pictures [B, C, H, W] to as large ones."""
        pixels = rms_norm(x, self.norm.gamma.flatten()).movedim(1, -1)  # [B, H, W, C]
        qkv = functional.linear(pixels.flatten(1, 2), self.to_qkv.weight.flatten(1), self.to_qkv.bias)
        attended = attend(*qkv.chunk(3, -1))
        y = functional.linear(attended, self.proj.weight.flatten(1), self.proj.bias)
        return x + y.view(pixels.shape).movedim(-1, 1)


class SingleFrameResample(QwenImageResample):  # type: ignore[misc]
    """Resampling by two, up or down, in the activations' own precision."""

    def forward(self, x: Tensor, feat_cache: None = None, feat_idx: object = None) -> Tensor:  # noqa: ARG002
        """Take pictures [B, C, H, W] to [B, C/2, 2H, 2W], or to [B, C, H/2, W/2]."""
        resize, conv = self.resample
        # QwenImageUpsample would go through float32.
        resized = doubled(x) if isinstance(resize, QwenImageUpsample) else resize(x)
        return convolve(resized, conv.weight, conv.bias, conv.stride, conv.padding)


class SingleFrameEncoder(QwenImageEncoder3d):  # type: ignore[misc]
    """The encoder, which takes a frame and gives one."""

    def forward(self, x: Tensor, feat_cache: object = None, feat_idx: object = None) -> Tensor:  # noqa: ARG002
        """Encode [B, 3 or 4, 1, H, W] to [B, 2 * 16, 1, H/8, W/8]; the caches, which tiling makes, are empty."""
        x = self.conv_in(_only_frame(x))
        for block in self.down_blocks:
            x = block(x)
        x = self.mid_block(x)
        out: Tensor = self.conv_out(rms_norm_silu(x, self.norm_out.gamma.flatten()))
        return out.unsqueeze(2)


class SingleFrameDecoder(QwenImageDecoder3d):  # type: ignore[misc]
    """The decoder, which takes a frame and gives one."""

    def forward(self, x: Tensor, feat_cache: object = None, feat_idx: object = None) -> Tensor:  # noqa: ARG002
        """Decode [B, 16, 1, H/8, W/8] to [B, 3 or 4, 1, H, W]; the caches, of which tiling makes some, stay empty."""
        x = self.mid_block(self.conv_in(_only_frame(x)))
        for block in self.up_blocks:
            x = block(x)
        out: Tensor = self.conv_out(rms_norm_silu(x, self.norm_out.gamma.flatten()))
        return out.unsqueeze(2)


REDUCED = {
    QwenImageResidualBlock: SingleFrameResidualBlock,
    QwenImageAttentionBlock: SingleFrameAttentionBlock,
    QwenImageResample: SingleFrameResample,
    QwenImageEncoder3d: SingleFrameEncoder,
    QwenImageDecoder3d: SingleFrameDecoder,
}


def _encode(vae: AutoencoderKLQwenImage, x: Tensor) -> Tensor:
    """`AutoencoderKLQwenImage._encode` without the frame caches: [B, 3, 1, H, W] to [B, 2 * 16, 1, H/8, W/8]."""
    _check_frames(x)
    if vae.use_tiling and (x.shape[-1] > vae.tile_sample_min_width or x.shape[-2] > vae.tile_sample_min_height):
        tiled: Tensor = vae.tiled_encode(x)
        return tiled
    moments: Tensor = vae.quant_conv(vae.encoder(x))
    return moments


def _decode(vae: AutoencoderKLQwenImage, z: Tensor, return_dict: bool = True) -> DecoderOutput | tuple[Tensor]:
    """`AutoencoderKLQwenImage._decode` without the frame caches: [B, 16, 1, H/8, W/8] to [B, 3, 1, H, W] in -1..1."""
    _check_frames(z)
    ratio = vae.spatial_compression_ratio
    if vae.use_tiling and (
        z.shape[-1] > vae.tile_sample_min_width // ratio or z.shape[-2] > vae.tile_sample_min_height // ratio
    ):
        tiled: DecoderOutput | tuple[Tensor] = vae.tiled_decode(z, return_dict=return_dict)
        return tiled
    sample = torch.clamp(vae.decoder(vae.post_quant_conv(z)), -1.0, 1.0)
    return DecoderOutput(sample=sample) if return_dict else (sample,)


def _only_frame(x: Tensor) -> Tensor:
    """[B, C, 1, H, W] to [B, C, H, W], channels-last."""
    _check_frames(x)
    return x[:, :, 0].contiguous(memory_format=torch.channels_last)


def _check_frames(x: Tensor) -> None:
    if x.shape[2] != 1:
        raise ValueError(f"this VAE was reduced to single frames by single_frame(), but got {x.shape[2]} frames")
