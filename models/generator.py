"""The bulk engine: pictures from prompts, many at a time, each as if it were alone."""

import gc
import logging
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from models.batches import cut_into_batches
from models.checkpoint import Checkpoint
from models.components import Components, load_components
from models.denoise import decode, denoise, draw_noise
from models.device import find_device, find_precision
from models.failure import DeviceLost, Failure, apart, blame, first_line
from models.fit import DoesNotFit, largest_fit
from models.placement import Placement, brought_in, free_memory
from models.prompt_embeds import embed, pad, tokenize
from models.sampling import PictureRequest, Shape

__all__ = ["DeviceLost", "Failure", "Generator", "Picture"]

logger = logging.getLogger(__name__)
Pixels = np.ndarray[Any, np.dtype[np.uint8]]  # [H, W, 3]

CPU_ROWS = 8
MOST_ROWS = 32
# Beyond so many image tokens a resident model gains nothing from a larger batch (one H200, 1024²: 16.8 s a picture at
# batch 4, 16.5 at 8; 512²: 0.083 s a step at 4, 0.077 at 16), while a smaller one loses less when it is interrupted.
RESIDENT_BATCH_TOKENS = 32768


@dataclass(frozen=True)
class Picture:
    """What became of one request: pixels, or a failure."""

    index: int  # its position in the requests
    pixels: Pixels | None
    failure: Failure | None
    seconds: float  # its share of its batch's time


class Generator:
    """A Qwen-Image held open on one device.

    generator = Generator.load(find_checkpoint("miniature"))
    for batch in generator.render(requests):
        for picture in batch:
            ...
    """

    def __init__(
        self,
        components: Components,
        *,
        batch: int | None = None,
        memory_fraction: float = 0.9,
        max_prompt_tokens: int = 1024,
    ) -> None:
        """Take parts that are loaded already; `load` is the usual way."""
        self.components = components
        self.batch = batch
        self.memory_fraction = memory_fraction
        self.max_prompt_tokens = max_prompt_tokens
        self._rows: dict[tuple[int, int, bool, int], int] = {}  # the batch sizes found so far

    @classmethod
    def load(
        cls,
        checkpoint: Checkpoint,
        *,
        device: str = "auto",
        precision: str = "auto",
        batch: int | None = None,
        memory_fraction: float = 0.9,
        max_prompt_tokens: int = 1024,
    ) -> "Generator":
        """Open a checkpoint.

        Args:
            checkpoint: what `find_checkpoint` found.
            device: `auto`, or as torch names it.
            precision: `auto` (bfloat16 on CUDA, float32 on the CPU), `float32`, `bfloat16` or `float16`.
            batch: the most rows that go through the device together; None for as many as do it good.
            memory_fraction: how much of the GPU's free memory may be used.
            max_prompt_tokens: a longer prompt fails its row, where stock would cut it without a word.

        Raises:
            CheckpointError: if the checkpoint, the device or the precision won't do.
        """
        found = find_device(device)
        budget = int(free_memory(found) * memory_fraction) if found.type == "cuda" else None
        components = load_components(checkpoint, found, find_precision(precision, found), budget)
        return cls(components, batch=batch, memory_fraction=memory_fraction, max_prompt_tokens=max_prompt_tokens)

    @property
    def device(self) -> torch.device:
        """Where pictures are made."""
        return self.components.device

    @property
    def precision(self) -> str:
        """The precision of weights and arithmetic: `float32`, `bfloat16` or `float16`."""
        return str(self.components.dtype).removeprefix("torch.")

    @property
    def placement(self) -> Placement:
        """Where the weights are: see `models.placement`."""
        return self.components.placement

    @property
    def size_multiple(self) -> int:
        """Width and height must be multiples of this many pixels."""
        return self.components.vae_scale * 2

    @property
    def fewest_steps(self) -> int:
        """A schedule that is stretched to end at a given noise level has no room for that in one step."""
        return 2 if self.components.scheduler.config.shift_terminal else 1

    def count_tokens(self, prompts: Sequence[str]) -> list[int]:
        """How many tokens of each prompt the transformer would read; `max_prompt_tokens` is compared with these."""
        ids = tokenize(self.components, prompts)
        return [len(ids[prompt]) - self.components.template_tokens for prompt in prompts]

    def render(self, requests: Sequence[PictureRequest]) -> Iterator[list[Picture]]:
        """Make the pictures of `requests`, which share one shape, and yield each batch as it finishes.

        Every request yields exactly one Picture; one that fails takes no other with it.

        Raises:
            ValueError: if the shapes differ, or can't be drawn.
            DeviceLost: if the GPU is in a state that only a new process leaves.
        """
        if not requests:
            return
        shape = requests[0].shape
        self._check(requests, shape)
        texts = [_texts(request) for request in requests]
        embeds, failures = self._embed({text for row in texts for text in row})
        refused = [
            Picture(index, None, failure, 0.0)
            for index, row in enumerate(texts)
            if (failure := next((failures[text] for text in row if text in failures), None))
        ]
        if refused:
            yield refused
        rows = {index: [embeds[text] for text in row] for index, row in enumerate(texts) if not failures.keys() & row}
        yield from self._render(shape, rows, [request.seed for request in requests])

    def _check(self, requests: Sequence[PictureRequest], shape: Shape) -> None:
        if any(request.shape != shape for request in requests):
            raise ValueError("The rows of one call to render must share one shape; cut them into shards by shape.")
        if min(shape.width, shape.height) < 1 or shape.width % self.size_multiple or shape.height % self.size_multiple:
            raise ValueError(
                f"A picture of {shape.width} × {shape.height} can't be drawn: "
                f"width and height must be multiples of {self.size_multiple}."
            )
        if shape.steps < self.fewest_steps:
            raise ValueError(f"A picture can't be drawn in {shape.steps} steps; give at least {self.fewest_steps}.")

    def _embed(self, prompts: set[str]) -> tuple[dict[str, torch.Tensor], dict[str, Failure]]:
        """Embed each prompt once → the embeddings [T, D] of those that can be, the failures of the others."""
        components = self.components
        ids, failures = apart(lambda some: tokenize(components, some), sorted(prompts))
        for prompt, tokens in list(ids.items()):
            if (count := len(tokens) - components.template_tokens) > self.max_prompt_tokens:
                message = f"A prompt of {count} tokens is longer than {self.max_prompt_tokens}; shorten it."
                failures[prompt] = Failure("prompt_too_long", message, retryable=False)
                del ids[prompt]
        with brought_in(components.text_encoder, components.device), torch.inference_mode():
            embeds, failed = apart(lambda some: embed(components, {prompt: ids[prompt] for prompt in some}), [*ids])
        return embeds, failures | failed

    def _render(
        self, shape: Shape, rows: dict[int, list[torch.Tensor]], seeds: Sequence[int]
    ) -> Iterator[list[Picture]]:
        """Render rows (index → its embeddings), batch by batch; smaller batches where one fails."""
        if not rows:
            return
        indices = list(rows)
        lengths = {index: tuple(len(embeds) for embeds in rows[index]) for index in indices}
        key = (shape.width, shape.height, shape.guidance > 1, -(-max(map(max, lengths.values())) // 128) * 128)
        if key not in self._rows:
            self._rows[key] = self._fit(shape, key[3])
        batches = cut_into_batches([lengths[index] for index in indices], self._rows[key])
        queue = deque([indices[position] for position in batch] for batch in batches)
        while queue:
            batch = queue.popleft()
            if len(batch) > self._rows[key]:  # it shrank since the rows were cut
                queue.extendleft((batch[self._rows[key] :], batch[: self._rows[key]]))
                continue
            started = time.perf_counter()
            pixels, error = self._try(shape, [rows[index] for index in batch], [seeds[index] for index in batch])
            seconds = (time.perf_counter() - started) / len(batch)
            if error is None:
                yield [
                    Picture(index, picture, self._not_finite() if picture is None else None, seconds)
                    for index, picture in zip(batch, pixels, strict=True)
                ]
                continue
            cause, line = blame(error), first_line(error)
            logger.warning("A batch of %d rows failed (%s)", len(batch), cause, exc_info=error)
            error = None  # its traceback keeps the batch's tensors alive
            self._clean_up()
            if len(batch) == 1:
                yield [Picture(batch[0], None, self._failure(cause, line, shape), seconds)]
            elif cause == "out_of_memory":
                self._rows[key] = len(batch) // 2  # remembered for the shards to come
                queue.appendleft(batch)
            else:
                queue.extendleft([index] for index in reversed(batch))  # one by one, to find the guilty one

    def _try(
        self, shape: Shape, rows: Sequence[Sequence[torch.Tensor]], seeds: Sequence[int]
    ) -> tuple[list[Pixels | None], Exception | None]:
        """Render one batch → the pixels of each row, None where they aren't finite; or the exception that ended it."""
        components = self.components
        try:
            with torch.inference_mode():
                prompt, *negative = (pad(embeds, self.device) for embeds in zip(*rows, strict=True))
                noise = draw_noise(components, shape, seeds)
                latents = denoise(components, shape, noise, prompt, negative[0] if negative else None)
                return decode(components, shape, latents), None
        except Exception as error:  # noqa: BLE001 one bad row never takes another with it: the caller finds out whose it is
            return [], error

    def _fit(self, shape: Shape, tokens: int) -> int:
        """How many rows of `shape`, with prompts of up to `tokens` tokens, go through the device together."""
        if self.device.type != "cuda":
            return min(self.batch or CPU_ROWS, MOST_ROWS)
        most = min(self.batch or MOST_ROWS, MOST_ROWS)
        if self.placement != "streamed":
            image_tokens = shape.width * shape.height // self.size_multiple**2
            most = min(most, max(1, RESIDENT_BATCH_TOKENS // image_tokens))
        budget = int(free_memory(self.device) * self.memory_fraction)
        try:
            fit = largest_fit(shape, budget, lambda rows: self._measure(shape, tokens, rows, budget), most)
        except DoesNotFit as error:
            logger.warning("%s Trying one at a time.", error)
            return 1
        logger.info("%d rows of %s take %.1f GiB beside the model", fit.rows, shape, fit.peak_bytes / 2**30)
        return fit.rows

    @torch.inference_mode()
    def _measure(self, shape: Shape, tokens: int, rows: int, budget: int) -> int:
        """The bytes that denoising so many rows takes beside the model: one step, measured."""
        components = self.components
        before = torch.cuda.memory_allocated(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)
        try:
            width = components.transformer.config.joint_attention_dim
            text = pad([torch.zeros(tokens, width, dtype=components.dtype)] * rows, self.device)
            noise = draw_noise(components, shape, [0] * rows)
            denoise(components, shape, noise, text, text if shape.guidance > 1 else None, steps=1)
        except torch.OutOfMemoryError:
            return budget + 1
        finally:
            torch.cuda.empty_cache()
        return torch.cuda.max_memory_allocated(self.device) - before

    def _clean_up(self) -> None:
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _failure(self, cause: Literal["out_of_memory", "internal"], line: str, shape: Shape) -> Failure:
        if cause == "out_of_memory":
            message = (
                f"One picture of {shape.width} × {shape.height} doesn't fit the memory that is left on {self.device}; "
                "use a smaller size, or a device with more memory."
            )
        else:
            message = f"The model failed on this row: {line.rstrip('.')}."
        return Failure(cause, message, retryable=True)

    def _not_finite(self) -> Failure:
        message = (
            f"The model computed something other than numbers in {self.precision}; change the seed or the precision."
        )
        return Failure("not_finite", message, retryable=False)


def _texts(request: PictureRequest) -> list[str]:
    """The texts that condition a picture: with guidance the negative prompt, too."""
    return [request.prompt, request.negative_prompt] if request.shape.guidance > 1 else [request.prompt]
