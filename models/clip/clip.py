"""CLIP: texts and pictures in one space, for whoever judges prompts and pictures."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import open_clip
import torch
from transformers.initialization import no_init_weights

from models.checkpoints.checkpoint import Checkpoint, clip_weights
from models.checkpoints.clip_settings import read_settings, text_tower
from models.clip.clip_pixels import Picture, Pixels
from models.clip.clip_windows import Windows
from models.devices.device import find_device
from models.failure import first_line
from models.files.safetensors_files import CheckpointError
from models.loading.component import loading

BATCH = 64
PIECE = 8  # pictures that one thread brings to size at a time
MOST_THREADS = 8  # that bring pictures to size while a GPU looks at those before
Thing = TypeVar("Thing")
Embeds = np.ndarray[Any, np.dtype[np.float32]]  # [N, D], each row of length one


class Clip:
    """An open_clip model held open on one device, in float32."""

    def __init__(self, model: Any, windows: Windows, pixels: Pixels, device: torch.device) -> None:
        """Take parts that are loaded already; `load` is the usual way."""
        self.model, self.windows, self.pixels, self.device = model, windows, pixels, device
        threads = min(MOST_THREADS, os.cpu_count() or 1) if device.type == "cuda" else 1
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="clip")

    @classmethod
    def load(cls, checkpoint: Checkpoint, *, device: str = "auto") -> "Clip":
        """Open a checkpoint that `find_clip` found.

        Raises:
            CheckpointError: if open_clip can't load it, or its tokenizer can't say where a text was cut.
        """
        clip_weights(checkpoint.folder)  # never a pickle
        settings = read_settings(checkpoint.folder)  # nor code, nor the network
        found, source = find_device(device), f"local-dir:{checkpoint.folder}"
        try:
            # Every weight is read: to draw random ones for them first took half of the time.
            with loading(), no_init_weights(), text_tower(checkpoint.folder, settings) as tower:
                model = open_clip.create_model(source, device=found, **tower)
                windows = Windows(open_clip.get_tokenizer(source), checkpoint.folder)
        except CheckpointError:
            raise
        except (OSError, ValueError, RuntimeError, TypeError, KeyError) as error:
            raise CheckpointError(f"{checkpoint.folder} can't be loaded by open_clip: {first_line(error)}") from error
        pixels = Pixels.of(model.visual.preprocess_cfg)
        return cls(model.eval().requires_grad_(False), windows, pixels, found)

    def embed_texts(self, texts: Sequence[str]) -> Embeds:
        """Embed texts [N, D]; what a text has beyond the tower's first window is cut: see `embed_windows`."""
        first = (windows[:1] for windows in self._cut(texts))
        return self._embed_tokens(first) if texts else self._none()

    def embed_windows(self, texts: Sequence[str]) -> list[Embeds]:
        """Embed each text in as many overlapping windows as it takes to read all of it → [W, D] for each text."""
        counts: list[int] = []

        def counted() -> Iterator[torch.Tensor]:
            for windows in self._cut(texts):
                counts.append(len(windows))
                yield windows

        if not texts:
            return []
        embeds = self._embed_tokens(counted())
        return np.split(embeds, np.cumsum(counts)[:-1])

    def embed_pictures(self, pictures: Sequence[Picture]) -> Embeds:
        """Embed pictures, each uint8 [H, W, 3], whole, at the size that the checkpoint names → [N, D].

        The next batch is brought to size while the tower looks at the one before.
        """
        if not pictures:
            return self._none()
        fitted = self._fitted(_batches(pictures))
        return self._embed(self.model.encode_image, (self.pixels.normalised(batch) for batch in fitted))

    def _fitted(self, batches: Iterable[Sequence[Picture]]) -> Iterator[torch.Tensor]:
        """Batches of pictures at the tower's size, on the device."""
        for pieces in _ahead(self._begin_fitting(batch) for batch in batches):
            yield torch.cat([piece.result() for piece in pieces]).to(self.device)

    def _begin_fitting(self, pictures: Sequence[Picture]) -> list[Future[torch.Tensor]]:
        pieces = (pictures[start : start + PIECE] for start in range(0, len(pictures), PIECE))
        return [self._threads.submit(self.pixels.fit, piece) for piece in pieces]

    def _cut(self, texts: Sequence[str]) -> Iterator[torch.Tensor]:
        """The windows [W, L] of each text."""
        for batch in _ahead(self._threads.submit(self.windows.of, some) for some in _batches(texts)):
            yield from batch.result()

    def _embed_tokens(self, windows: Iterable[torch.Tensor]) -> Embeds:
        return self._embed(self.model.encode_text, (batch.to(self.device) for batch in _regrouped(windows)))

    @torch.inference_mode()
    def _embed(self, encode: Callable[..., torch.Tensor], batches: Iterable[torch.Tensor]) -> Embeds:
        embeds = [encode(batch, normalize=True).float() for batch in batches]  # on the device until all are done
        found: Embeds = torch.cat(embeds).cpu().numpy()
        return found

    def _none(self) -> Embeds:
        return np.zeros((0, self.embed_texts(["a"]).shape[1]), dtype=np.float32)


def _batches(things: Sequence[Thing]) -> Iterator[Sequence[Thing]]:
    return (things[start : start + BATCH] for start in range(0, len(things), BATCH))


def _ahead(begun: Iterable[Thing]) -> Iterator[Thing]:
    """What has begun, each given out when the next has begun, too."""
    before: list[Thing] = []
    for one in begun:
        yield from before
        before = [one]
    yield from before


def _regrouped(windows: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
    """Windows of many texts, in batches."""
    held: list[torch.Tensor] = []
    for some in windows:
        held.extend(some.split(1))
        while len(held) >= BATCH:
            yield torch.cat(held[:BATCH])
            held = held[BATCH:]
    if held:
        yield torch.cat(held)
