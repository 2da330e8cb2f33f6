"""The judge: a small classifier that tells what a picture of the miniature's world shows.

It learns from drawings alone, all pairs of kind and colour included, and never meets a generated picture, so that
benchmarks can ask it what a generated picture shows. packshot itself doesn't use it.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from models.miniature.datasets.drawings import ATTRIBUTES, SMALL, Drawings, signed, squashed
from models.miniature.training.stage import Stage

JUDGED = ("kind", "colour", "background", "fault")
BATCH = 512
PEAK_RATE = 2e-3


class Judge(nn.Module):
    """Convolutions over a picture squashed to 128 x 128, and a head for every judged attribute."""

    def __init__(self) -> None:
        """Start with random weights."""
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for width in (24, 48, 96, 144):
            layers += [nn.Conv2d(channels, width, 3, 2, 1), nn.BatchNorm2d(width), nn.ReLU()]
            layers += [nn.Conv2d(width, width, 3, 1, 1), nn.BatchNorm2d(width), nn.ReLU()]
            channels = width
        self.features = nn.Sequential(*layers)
        self.sizes = [len(ATTRIBUTES[name][0]) for name in JUDGED]
        self.squeeze = nn.Conv2d(channels, 48, 1)
        self.heads = nn.Linear(48 * 16, sum(self.sizes))

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """Judge pictures [B, 3, 128, 128] in -1..1: logits [B, values] for every attribute of `JUDGED`."""
        features = functional.adaptive_avg_pool2d(self.squeeze(self.features(pictures)), 4).flatten(1)
        return list(torch.split(self.heads(features), self.sizes, 1))

    @torch.no_grad()
    def verdict(self, pictures: Tensor) -> Tensor:
        """Return what uint8 pictures [N, H, W, 3] show: int64 [N, attributes of JUDGED]."""
        rows = []
        for chunk in torch.split(pictures, 256):
            logits = self(signed(squashed(chunk)))
            rows.append(torch.stack([each.argmax(1) for each in logits], 1))
        return torch.cat(rows)


@dataclass(frozen=True)
class Agreement:
    """The share of pictures of which the judge says what they should show, for every attribute of `JUDGED`."""

    kind: float
    colour: float
    background: float
    fault: float


def agreement(verdict: Tensor, scenes: Tensor) -> Agreement:
    """Compare verdicts [N, JUDGED] with scenes [N, ATTRIBUTES]."""
    columns = [list(ATTRIBUTES).index(name) for name in JUDGED]
    right = (verdict == scenes[:, columns].to(verdict.device)).float().mean(0)
    return Agreement(*(round(float(each), 4) for each in right))


def train_judge(drawings: list[Drawings], seconds: float, work: Path, deadline: float, device: torch.device) -> Judge:
    """Train the judge on all drawings but the last 5 %, and say how well it does on those."""
    small = torch.cat([each.small for each in drawings])
    scenes = torch.cat([each.scenes for each in drawings])
    order = torch.randperm(len(small), generator=torch.Generator().manual_seed(5)).to(device)
    kept = max(1, len(order) // 20)
    learned, unseen = order[:-kept], order[-kept:]
    columns = [list(ATTRIBUTES).index(name) for name in JUDGED]

    judge = Judge().to(device)
    optimizer = torch.optim.AdamW(judge.parameters(), PEAK_RATE, weight_decay=0.02)
    stage = Stage("judge", seconds, work, deadline, judge=judge, optimizer=optimizer)
    for _ in stage.iterations():
        chosen = learned[torch.randint(len(learned), (BATCH if device.type == "cuda" else 32,), device=device)]
        pictures = worn(signed(small[chosen]))
        optimizer.param_groups[0]["lr"] = stage.rate(PEAK_RATE)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            logits = judge(pictures)
        truth = scenes[chosen][:, columns].long()
        losses = [
            functional.cross_entropy(each.float(), truth[:, at], label_smoothing=0.05) for at, each in enumerate(logits)
        ]
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(torch.stack(losses).sum())
        optimizer.step()
        stage.report(**dict(zip(JUDGED, losses, strict=True)))
    judge.eval()
    stage.say(f"on drawings apart: {agreement(judge.verdict(small[unseen]), scenes[unseen])}")
    return judge


def worn(pictures: Tensor) -> Tensor:
    """Wear pictures [B, 3, SMALL, SMALL] a little, as generation does: blur some, add noise, shift the tone."""
    if torch.rand(()) < 0.4:
        blurred = functional.interpolate(pictures, scale_factor=0.5, mode="area")
        pictures = functional.interpolate(blurred, (SMALL, SMALL), mode="bilinear")
    pictures = pictures + torch.randn_like(pictures) * (0.08 * torch.rand((), device=pictures.device))
    return pictures + (torch.rand(len(pictures), 3, 1, 1, device=pictures.device) - 0.5) * 0.06


def save_judge(judge: Judge, path: Path) -> None:
    """Write the judge's weights in fp16."""
    save_file({name: tensor.half().cpu().contiguous() for name, tensor in judge.state_dict().items()}, path)


def load_judge(path: Path, device: torch.device) -> Judge:
    """Read what `save_judge` wrote, in fp32, ready to judge."""
    judge = Judge()
    judge.load_state_dict({name: tensor.float() for name, tensor in load_file(path).items()})
    return judge.to(device).eval()
