"""A VAE reduced to single frames gives the same pictures."""

import pytest
import torch
from diffusers import AutoencoderKLQwenImage

from models.architectures.qwen_image.single_frame import single_frame


@pytest.fixture(params=[3, 4], ids=["RGB", "RGBA"])
def vae(request: pytest.FixtureRequest) -> AutoencoderKLQwenImage:
    torch.manual_seed(0)
    vae = AutoencoderKLQwenImage(
        base_dim=8, z_dim=16, dim_mult=[1, 2, 4, 4], num_res_blocks=1, input_channels=request.param
    )
    return vae.eval().requires_grad_(False)


def test_encoding_and_decoding_stay_exact(vae: AutoencoderKLQwenImage) -> None:
    channels = vae.config.input_channels
    pictures, latents = torch.rand(2, channels, 1, 48, 64) * 2 - 1, torch.randn(2, 16, 1, 6, 8)
    encoded, decoded = vae.encode(pictures).latent_dist.mode(), vae.decode(latents).sample
    assert single_frame(vae) is vae
    torch.testing.assert_close(vae.encode(pictures).latent_dist.mode(), encoded, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(vae.decode(latents).sample, decoded, rtol=1e-4, atol=1e-5)
    assert vae.decode(latents, return_dict=False)[0].shape == (2, channels, 1, 48, 64)


def test_slicing_and_tiling_still_work(vae: AutoencoderKLQwenImage) -> None:
    latents = torch.randn(2, 16, 1, 12, 8)
    vae.enable_slicing()
    vae.enable_tiling(64, 64, 48, 48)
    expected = vae.decode(latents).sample
    torch.testing.assert_close(single_frame(vae).decode(latents).sample, expected, rtol=1e-4, atol=1e-5)


def test_reducing_twice_does_no_harm(vae: AutoencoderKLQwenImage) -> None:
    latents = torch.randn(1, 16, 1, 4, 4)
    once = single_frame(vae).decode(latents).sample
    assert torch.equal(single_frame(vae).decode(latents).sample, once)


def test_more_than_one_frame_is_refused(vae: AutoencoderKLQwenImage) -> None:
    with pytest.raises(ValueError, match="single frames"):
        single_frame(vae).decode(torch.randn(1, 16, 2, 4, 4))
