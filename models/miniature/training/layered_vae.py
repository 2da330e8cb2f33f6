"""Training the VAE of the layered miniature: pictures, and layers that are clear where there is nothing."""

import random
from dataclasses import dataclass

import torch
from diffusers import AutoencoderKLQwenImage
from torch import Tensor

from models.miniature.datasets.drawings import signed
from models.miniature.datasets.layered_drawings import Layers, frames
from models.miniature.training.autoencoder import cut, edge_loss, encoded

SHARES = (0.3, 0.15, 0.25, 0.15, 0.15)  # how often a frame is learned from, in the order of `layers.frames`


@dataclass(frozen=True)
class LayerLessons:
    """Pictures and their layers, RGBA."""

    layers: list[Layers]
    held_back: Tensor  # uint8 [N, 3, H, W, 4]: drawings that aren't among `layers`

    def batch(self, cropped: bool) -> Tensor:
        """Crops or whole frames of drawings of any shape."""
        (source,) = random.choices(self.layers, [len(each) for each in self.layers])
        device = source.layers.device
        chosen, rows, columns = cut(len(source), source.height, source.width, cropped, device)
        every = frames(source.layers[chosen][:, :, rows, columns])
        which = torch.multinomial(torch.tensor(SHARES, device=device), len(chosen), replacement=True)
        return signed(every[torch.arange(len(chosen), device=device), which])

    def losses(self, made: Tensor, meant: Tensor) -> dict[str, tuple[float, Tensor]]:
        """Return the losses of alpha, of colours as far as they are seen, and of the layers laid over a colour.

        Values beyond the ends count as at the ends, where decoding clamps them: so clear pixels become quite clear.
        """
        made = torch.where((meant.abs() >= 1) & (made * meant > 1), meant, made)
        alpha = made[:, 3:], meant[:, 3:]
        seen = (meant[:, 3:] + 1) / 2
        ground = torch.empty(len(made), 3, 1, 1, device=made.device).uniform_(-1, 1)
        laid, truth = laid_over(made, ground), laid_over(meant, ground)
        return {
            "colour": (0.5, (seen * (made[:, :3] - meant[:, :3]).abs()).mean()),
            "alpha": (0.5, (alpha[0] - alpha[1]).abs().mean()),
            "alpha_mse": (1.0, (alpha[0] - alpha[1]).square().mean()),
            "alpha_edges": (0.3, edge_loss(*alpha)),
            "laid": (1.0, (laid - truth).abs().mean()),
            "laid_mse": (2.0, (laid - truth).square().mean()),
            "laid_edges": (0.7, edge_loss(laid, truth)),
        }

    def samples(self) -> Tensor:
        """Return all frames of up to 1024 drawings of the commonest shape."""
        return frames(self.layers[0].layers[:1024]).flatten(0, 1)

    def figures(self, vae: AutoencoderKLQwenImage) -> str:
        """Return how well pictures and layers come through the VAE, of drawings that it never saw."""
        noise, wrong = [], []
        for meant in frames(self.held_back):
            made = passed(vae, meant)
            truth = signed(meant)
            ground = torch.zeros(1, 3, 1, 1, device=made.device)
            noise.append((laid_over(made, ground) - laid_over(truth, ground)).square().mean((1, 2, 3)))
            wrong.append((made[:, 3] - truth[:, 3]).abs().mean((1, 2)) / 2)
        decibels = (10 * torch.log10(4 / torch.stack(noise).clamp(min=1e-9))).mean(0).tolist()
        alphas = torch.stack(wrong).mean(0).tolist()
        names = ("picture", "background", "product", "overlay", "both")
        return f"on {len(self.held_back)} held-out drawings: " + ", ".join(
            f"{name} {ratio:.1f} dB, alpha {alpha:.4f} off"
            for name, ratio, alpha in zip(names, decibels, alphas, strict=True)
        )


def laid_over(frames: Tensor, ground: Tensor) -> Tensor:
    """Lay frames [B, 4, H, W], all values -1 to 1, over colours [B, 3, 1, 1]: [B, 3, H, W]."""
    cover = (frames[:, 3:] + 1) / 2
    return cover * frames[:, :3] + (1 - cover) * ground


@torch.no_grad()
def passed(vae: AutoencoderKLQwenImage, frames: Tensor) -> Tensor:
    """Frames, uint8 [B, H, W, 4], after encoding and decoding: floats -1 to 1 [B, 4, H, W]."""
    decoded: Tensor = vae.decode(encoded(vae, frames).unsqueeze(2)).sample[:, :, 0]
    return decoded.float()
