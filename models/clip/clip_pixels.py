"""Pictures at the size that a CLIP looks at, whole."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn.functional import interpolate

Picture = np.ndarray[Any, np.dtype[np.uint8]]  # [H, W, 3]


@dataclass(frozen=True)
class Pixels:
    """How a CLIP's checkpoint wants its pictures, as open_clip's `preprocess_cfg` says it, but never cropped.

    Where open_clip would fit the shorter side and cut off the ends (`resize_mode = "shortest"`), the longer side is
    fitted instead, and the rest filled with the colour of the picture's own edge: what stands at the end of a wide
    picture is seen, too. A square picture is seen just as open_clip would show it.
    """

    height: int
    width: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    smoothing: str  # bicubic or bilinear
    mode: str  # squash, longest, shortest
    fill: int  # of 255: what open_clip fills with in mode longest

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> "Pixels":
        """Return the settings in a model's `visual.preprocess_cfg`."""
        size = settings["size"]
        height, width = (size, size) if isinstance(size, int) else (size[0], size[-1])
        mean, std = (
            tuple(value) if isinstance(value, list | tuple) else (value,) * 3
            for value in (settings["mean"], settings["std"])
        )
        smoothing = "bilinear" if settings["interpolation"] == "bilinear" else "bicubic"
        return cls(height, width, mean, std, smoothing, settings["resize_mode"], int(settings.get("fill_color", 0)))

    def fit(self, pictures: Sequence[Picture]) -> torch.Tensor:
        """Bring pictures to this size, one by one → uint8 [N, 3, height, width].

        torch's own resizing of bytes does as Pillow's to a level, in a tenth of its time: 1.5 ms for 1024² pixels.
        """
        batch = torch.empty(len(pictures), 3, self.height, self.width, dtype=torch.uint8)
        for row, picture in zip(batch, pictures, strict=True):
            self._fit_one(picture, row)
        return batch

    def normalised(self, batch: torch.Tensor) -> torch.Tensor:
        """Bytes [N, 3, H, W] as the tower takes them: float32, on the device where they are."""
        mean, std = (torch.tensor(value, device=batch.device).view(3, 1, 1) for value in (self.mean, self.std))
        return (batch.float() / 255 - mean) / std

    def _fit_one(self, picture: Picture, row: torch.Tensor) -> None:
        high, wide = picture.shape[:2]
        if self.mode == "squash" or high * self.width == wide * self.height:
            row.copy_(self._resized(picture, self.height, self.width))
            return
        scale = min(self.height / high, self.width / wide)
        height, width = (max(1, min(side, round(length * scale))) for side, length in self._sides(high, wide))
        small = self._resized(picture, height, width)
        top, left = (self.height - height) // 2, (self.width - width) // 2
        row.copy_(self._filling(small).view(3, 1, 1).expand_as(row))
        row[:, top : top + height, left : left + width] = small

    def _sides(self, high: int, wide: int) -> tuple[tuple[int, int], tuple[int, int]]:
        return (self.height, high), (self.width, wide)

    def _filling(self, small: torch.Tensor) -> torch.Tensor:
        """The colour beside a picture [3, H, W]: uint8 [3]."""
        if self.mode == "longest":
            return torch.full((3,), self.fill, dtype=torch.uint8)
        beside = small[:, :, [0, -1]] if small.shape[1] == self.height else small[:, [0, -1], :]
        return beside.reshape(3, -1).median(dim=1).values

    def _resized(self, picture: Picture, height: int, width: int) -> torch.Tensor:
        pixels = torch.from_numpy(np.require(picture, requirements=("C", "W"))).permute(2, 0, 1)[None]
        return interpolate(pixels, size=(height, width), mode=self.smoothing, antialias=True)[0]
