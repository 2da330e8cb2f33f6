"""CLIP: texts and pictures in one space, for whoever judges prompts and pictures."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import open_clip
import torch
from PIL import Image

from models.checkpoint import Checkpoint, clip_weights
from models.device import find_device
from models.failure import first_line
from models.part import quiet
from models.weights import CheckpointError

BATCH = 64
Embeds = np.ndarray[Any, np.dtype[np.float32]]  # [N, D], each row of length one


class Clip:
    """An open_clip model held open on one device, in float32."""

    def __init__(self, model: Any, tokenizer: Any, preprocess: Any, device: torch.device) -> None:
        """Take parts that are loaded already; `load` is the usual way."""
        self.model, self.tokenizer, self.preprocess, self.device = model, tokenizer, preprocess, device

    @classmethod
    def load(cls, checkpoint: Checkpoint, *, device: str = "auto") -> "Clip":
        """Open a checkpoint that `find_clip` found.

        Raises:
            CheckpointError: if open_clip can't load it, or its tokenizer can't say where a text was cut.
        """
        clip_weights(checkpoint.folder)  # never a pickle
        found, source = find_device(device), f"local-dir:{checkpoint.folder}"
        try:
            with quiet():
                model, _, preprocess = open_clip.create_model_and_transforms(source, device=found)
                tokenizer = open_clip.get_tokenizer(source)
        except (OSError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"{checkpoint.folder} can't be loaded by open_clip: {first_line(error)}") from error
        if getattr(tokenizer, "tokenizer_mode", "") or getattr(tokenizer, "reduction_fn", None):
            raise CheckpointError(f"{checkpoint.folder} has a tokenizer that drops tokens; give another CLIP.")
        return cls(model.eval().requires_grad_(False), tokenizer, preprocess, found)

    def embed_texts(self, texts: Sequence[str]) -> Embeds:
        """Embed texts [N, D]; what a text has beyond the tower's length is cut: see `embed_windows`."""
        return self._embed_tokens(self.tokenizer(list(texts))) if texts else self._none()

    def embed_windows(self, texts: Sequence[str]) -> list[Embeds]:
        """Embed each text in as many overlapping windows as it takes to read all of it → [W, D] for each text.

        Windows overlap by half, so that what a cut separates in one stands together in the next.
        """
        windows = [self._windows(text) for text in texts]
        if not windows:
            return []
        embeds = self._embed_tokens(torch.cat(windows))
        ends = np.cumsum([len(some) for some in windows])
        return [embeds[end - len(some) : end] for some, end in zip(windows, ends, strict=True)]

    def embed_pictures(self, pictures: Sequence[np.ndarray[Any, np.dtype[np.uint8]]]) -> Embeds:
        """Embed pictures, each uint8 [H, W, 3], in the preprocessing that the checkpoint names → [N, D]."""
        batches = (pictures[start : start + BATCH] for start in range(0, len(pictures), BATCH))
        embeds = [self._embed(self.model.encode_image, self._pixels(some)) for some in batches]
        return np.concatenate(embeds) if embeds else self._none()

    def _pixels(self, pictures: Sequence[np.ndarray[Any, np.dtype[np.uint8]]]) -> torch.Tensor:
        return torch.stack([self.preprocess(Image.fromarray(picture)) for picture in pictures])

    def _windows(self, text: str) -> torch.Tensor:
        """Token ids [W, L] of one text; every token is in at least one window."""
        length = self.tokenizer.context_length
        if isinstance(self.tokenizer, open_clip.SimpleTokenizer):
            start, end = self.tokenizer.sot_token_id, self.tokenizer.eot_token_id
            pieces = [[start, *piece, end] for piece in _pieces(self.tokenizer.encode(text), length - 2)]
            return torch.tensor([piece + [0] * (length - len(piece)) for piece in pieces])
        hugging = self.tokenizer.tokenizer
        ids = hugging(
            self.tokenizer.clean_fn(text),
            max_length=length,
            padding="max_length",
            truncation=True,
            stride=(length - 2) // 2,
            return_overflowing_tokens=True,
            return_tensors="pt",
        ).input_ids
        return torch.where(ids == hugging.sep_token_id, 0, ids) if self.tokenizer.strip_sep_token else ids

    def _embed_tokens(self, tokens: torch.Tensor) -> Embeds:
        batches = (tokens[start : start + BATCH] for start in range(0, len(tokens), BATCH))
        return np.concatenate([self._embed(self.model.encode_text, some) for some in batches])

    @torch.inference_mode()
    def _embed(self, encode: Any, batch: torch.Tensor) -> Embeds:
        embeds: Embeds = encode(batch.to(self.device), normalize=True).float().cpu().numpy()
        return embeds

    def _none(self) -> Embeds:
        return np.zeros((0, self.embed_texts(["a"]).shape[1]), dtype=np.float32)


def _pieces(tokens: list[int], length: int) -> Iterator[list[int]]:
    """Cut tokens into pieces of at most `length`, each beginning halfway through the one before."""
    start = 0
    while start + length < len(tokens):
        yield tokens[start : start + length]
        start += length // 2
    yield tokens[start:]
