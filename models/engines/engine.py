"""What the bulk engines share: a checkpoint held open on one device, and rows of one shape through it."""

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, NamedTuple, Protocol, Self

import diffusers
import torch

from models.checkpoints.checkpoint import Checkpoint, check_condition_cache
from models.checkpoints.lora import Lora
from models.checkpoints.schedule import Scheduler
from models.devices.attention import Attention
from models.devices.device import find_device, find_precision
from models.engines.attempts import Done, attempt
from models.engines.made_picture import Picture
from models.failure import Cause, Failure
from models.files.quantization_schemes import kept_precision, scheme_for
from models.loading.components import Components, load_components
from models.loading.optimization_options import OptimizationOptions, open_predictor
from models.loading.placement import Placement, free_memory
from models.memory.batch_sizes import BatchSizes, memory_of
from models.memory.batches import cut_into_batches
from models.memory.fit import DoesNotFit, Fit, best_fit
from models.memory.measure import Cost, measure_decoding, measure_steps, warm_up
from models.memory.memory_breakdown import format_breakdown, memory_breakdown
from models.memory.memory_plan import MemoryPlan
from models.memory.placement_choice import Budget, choose_placement
from models.memory.usage import Expected, Meter, Usage
from models.placement_names import WantedPlacement
from models.requests import Conditioning, ConditionPicture, Pixels, Shape, Workload
from models.sampling.denoise import denoise, draw_noise
from models.sampling.encoded_once import EncodedOnce
from models.sampling.latents import decode
from models.sampling.pooled import Pooled, pool_all
from models.sampling.prompt_embeds import embed_prompts, tokenize
from models.transformer.predictor import Pictures
from models.units import GIB

logger = logging.getLogger(__name__)

EXACT = OptimizationOptions()
CPU_ROWS = 8
MOST_ROWS = 64
# Beyond so many image tokens a resident model gains nothing from a larger batch (one H200: 1024² in 11.40 s a picture
# alone and 11.37 in batches of 8, 512² in 2.50 s in batches of 32 and 2.47 of 64), and pictures come in larger lumps.
RESIDENT_BATCH_TOKENS = 65536


Admit = Callable[[Mapping[Conditioning, Pooled]], Collection[int]]
"""From the conditionings of all requests, with their vectors as `models.sampling.pooled` makes them, to the positions
of the requests that nothing may be made of. It is asked once, after prompts were read and before anything is drawn.
"""


class Request(Protocol):
    """What decides the pixels of one row."""

    @property
    def conditionings(self) -> list[Conditioning]:
        """What conditions it: the prompt and, with guidance, the negative prompt."""

    @property
    def condition_pictures(self) -> Sequence[ConditionPicture]:
        """What the transformer sees beside what it makes."""

    @property
    def seed(self) -> int:
        """The seed of its noise."""

    @property
    def shape(self) -> Shape:
        """What it shares with the rows of its batch."""


def workload_of(request: Request) -> Workload:
    """Return what a row takes, going by what is asked for."""
    sizes = ((picture.width, picture.height) for picture in request.condition_pictures)
    return Workload(request.shape, tuple(sizes))


class Demand(NamedTuple):
    """What decides how much memory a row takes."""

    width: int
    height: int
    layers: int
    is_guided: bool
    tokens: int  # of its longest prompt, rounded up
    condition_sizes: tuple[tuple[int, int], ...] = ()  # see `models.requests.Workload`


class Engine:
    """A checkpoint held open on one device: see `Generator`, `Decomposer` and `PictureEditor`."""

    pipeline: ClassVar[str]  # the diffusers pipeline whose work it does

    def __init__(
        self,
        components: Components,
        *,
        options: OptimizationOptions = EXACT,
        batch: int | None = None,
        memory_fraction: float = 0.9,
        max_prompt_tokens: int = 1024,
        memory: Path | None = None,
    ) -> None:
        """Take parts that are loaded already; `load` is the usual way.

        Args:
            memory: the file that batch sizes are remembered in.
        """
        self.components = components
        self.options = options
        self.predictor = open_predictor(components, options)
        self.batch = batch
        self.memory_fraction = memory_fraction
        self.max_prompt_tokens = max_prompt_tokens
        self.plan: MemoryPlan | None = None  # what its placement was chosen by, if it was chosen
        self._rows = BatchSizes(memory)
        self._meter = Meter(components.device)
        self._expected: dict[Demand, Expected] = {}
        self._crowded_by: Demand | None = None  # the pictures that the predictor last had to make room for

    @classmethod
    def load(
        cls,
        checkpoint: Checkpoint,
        *,
        device: str = "auto",
        precision: str = "auto",
        fused: bool = True,
        attention: Attention = "auto",
        step_cache: float | None = None,
        condition_cache: int = 1,
        batch: int | None = None,
        memory_fraction: float = 0.9,
        gpu_memory: int | None = None,
        placement: WantedPlacement = "auto",
        max_prompt_tokens: int = 1024,
        controlnet: Checkpoint | None = None,
        controlnet_scale: float = 1.0,
        loras: Sequence[Lora] = (),
        scheduler: Scheduler = "checkpoint",
    ) -> Self:
        """Open a checkpoint.

        Args:
            checkpoint: what `find_checkpoint` found.
            device: `auto`, or as torch names it.
            precision: `auto` (bfloat16 on CUDA, float32 on the CPU; where weights are stored compressed, as they are
                stored), `float32`, `bfloat16`, `float16`; `float8`: bfloat16, but the transformer's image tokens are
                multiplied in float8; or a `models.files.quantization_schemes.QuantizationScheme`: bfloat16, but weights
                are kept compressed.
            fused, attention, step_cache, condition_cache: see `models.loading.optimization_options`.
            batch: the most rows that go through the device together; None for as many as do it good.
            memory_fraction: how much of the GPU's free memory may be used.
            gpu_memory: bytes of the GPU's memory that this process may use; None for all of it.
            placement: where the weights are: see `models.loading.placement`; `auto` is the fastest that fits.
            max_prompt_tokens: a longer prompt fails its row, where stock would cut it without a word.
            controlnet: what `find_controlnet` found for it; every picture is then drawn after a control picture.
            controlnet_scale: how strictly, stock's `controlnet_conditioning_scale`.
            loras: what `find_loras` found; they are merged into the transformer here and cost nothing afterwards.
            scheduler: whose noise schedule pictures are made with: see `models.checkpoints.schedule`.

        Raises:
            CheckpointError: if the checkpoint, a LoRA, the device or the precision won't do.
        """
        check_condition_cache(checkpoint, condition_cache)
        found = find_device(device)
        precision = kept_precision(precision, checkpoint.folder)
        dtype, scheme = find_precision(precision, found), scheme_for(precision, checkpoint.folder)
        options = OptimizationOptions(fused, attention, precision == "float8", step_cache, condition_cache)
        placed, plan = choose_placement(
            checkpoint,
            found,
            dtype,
            scheme=scheme,
            options=options,
            wanted=placement,
            budget=Budget.of(device, found, memory_fraction, gpu_memory),
            most=min(batch or MOST_ROWS, MOST_ROWS),
            changed=bool(loras),
            controlnet=controlnet,
        )
        components = load_components(
            checkpoint,
            found,
            dtype,
            placed,
            pipeline=cls.pipeline,
            scheme=scheme,
            controlnet=controlnet,
            controlnet_scale=controlnet_scale,
            loras=loras,
            scheduler=scheduler,
        )
        engine = cls(
            components,
            options=options,
            batch=batch,
            memory_fraction=memory_fraction,
            max_prompt_tokens=max_prompt_tokens,
            memory=_memory(checkpoint, components, options) if found.type == "cuda" else None,
        )
        engine.plan = plan
        return engine

    @property
    def device(self) -> torch.device:
        """The device that pictures are made on."""
        return self.components.device

    @property
    def precision(self) -> str:
        """The precision of weights and arithmetic, as `load` takes it; never `auto`."""
        if self.options.float8:
            return "float8"
        return self.components.scheme or str(self.components.dtype).removeprefix("torch.")

    @property
    def placement(self) -> Placement:
        """The placement of the weights: see `models.loading.placement`."""
        return self.components.placement

    @property
    def usage(self) -> Usage | None:
        """What was predicted and what was measured of all that was made so far; None if nothing was."""
        return self._meter.total(self.precision, str(self.placement))

    @property
    def size_multiple(self) -> int:
        """Width and height must be multiples of this many pixels."""
        return self.components.token_pixels

    @property
    def fewest_steps(self) -> int:
        """A schedule that is stretched to end at a given noise level has no room for that in one step."""
        return 2 if self.components.scheduler.config.shift_terminal else 1

    def count_tokens(self, prompts: Sequence[str]) -> list[int]:
        """Return how many tokens of each prompt the transformer would read; `max_prompt_tokens` is compared
        with these.
        """
        ids = tokenize(self.components, map(Conditioning, prompts))
        return [len(ids[Conditioning(prompt)]) - self.components.template_tokens for prompt in prompts]

    def _check(self, requests: Sequence[Request]) -> None:
        """Refuse what can't be drawn together: whoever asked made a mistake, and no row is to blame."""
        shape = requests[0].shape
        if any(request.shape != shape for request in requests):
            raise ValueError("The rows of one call must share one shape; cut them into shards by shape.")
        if min(shape.width, shape.height) < 1 or shape.width % self.size_multiple or shape.height % self.size_multiple:
            raise ValueError(
                f"A picture of {shape.width} × {shape.height} can't be drawn: "
                f"width and height must be multiples of {self.size_multiple}."
            )
        if shape.steps < self.fewest_steps:
            raise ValueError(f"A picture can't be drawn in {shape.steps} steps; give at least {self.fewest_steps}.")

    def _run(
        self,
        requests: Sequence[Request],
        controls: Callable[[list[int]], torch.Tensor] | None = None,
        admit: Admit | None = None,
    ) -> Iterator[list[Picture]]:
        """Make what is asked for and yield each batch as it finishes; every request yields exactly one Picture.

        Args:
            requests: of one shape, which `_check` has seen.
            controls: from positions in `requests` to the packed latents [B, H/16 · W/16, 64] of their control pictures.
            admit: says what may be made; all of it without one.
        """
        shape = requests[0].shape
        conditionings = [request.conditionings for request in requests]
        embeds, failures = embed_prompts(
            self.components, (each for row in conditionings for each in row), self.max_prompt_tokens
        )
        barred = set(admit(pool_all(self._alone(embeds)))) if admit else set[int]()
        ended = [
            Picture(index, None, failure, 0.0, is_refused=failure is None)
            for index, row in enumerate(conditionings)
            if (failure := _failure_of(row, failures)) or index in barred
        ]
        if ended:
            yield ended
        out = {picture.index for picture in ended}
        rows = {index: [embeds[each] for each in row] for index, row in enumerate(conditionings) if index not in out}
        if not rows:
            return

        encoded = EncodedOnce(self.components, {index: requests[index].condition_pictures for index in rows})

        def make(batch: list[int]) -> list[Pixels | None]:
            noise = draw_noise(self.components, shape, [requests[index].seed for index in batch])
            pictures = encoded.of(batch)
            control = controls(batch) if controls else None
            return self._make(shape, noise, [rows[index] for index in batch], pictures, control)

        lengths = {index: tuple(map(len, embeds)) for index, embeds in rows.items()}
        tokens = -(-max(map(max, lengths.values())) // 128) * 128
        workloads = {index: workload_of(requests[index]) for index in rows}
        workload = max(workloads.values(), key=self._image_tokens)
        demand = Demand(shape.width, shape.height, shape.layers, shape.guidance > 1, tokens, workload.condition_sizes)
        if self._crowded_by not in (None, demand):
            self.predictor.reload()
            self._crowded_by = None
        self._fit(demand, workload, len(rows))
        indices = list(rows)
        unlike = [(self._image_tokens(workloads[index]), *lengths[index]) for index in indices]
        batches = cut_into_batches(unlike, self._rows[demand])
        queue = [[indices[position] for position in batch] for batch in batches]
        for tried in attempt(queue, make, self._rows, demand, self.device, lambda: self._make_room(demand)):
            encoded.let_go(tried.batch if isinstance(tried, Done) else [tried.row])
            if isinstance(tried, Done):
                self._meter.add(len(tried.batch), tried.seconds, shape.steps, self._expected.get(demand))
                yield [
                    Picture(index, pixels, None if pixels is not None else self._not_finite(), tried.seconds)
                    for index, pixels in zip(tried.batch, tried.made, strict=True)
                ]
            else:
                yield [Picture(tried.row, None, self._failure(tried.cause, tried.line, shape), tried.seconds)]

    def _alone(self, embeds: Mapping[Conditioning, torch.Tensor]) -> Mapping[Conditioning, torch.Tensor]:
        """The embeddings of texts alone, by which they are judged, whatever pictures they are read beside."""
        beside = {Conditioning(each.text) for each in embeds if each.pictures}
        return {**embeds, **embed_prompts(self.components, beside, self.max_prompt_tokens)[0]} if beside else embeds

    @torch.inference_mode()
    def _make(
        self,
        shape: Shape,
        noise: torch.Tensor,
        rows: Sequence[Sequence[torch.Tensor]],
        pictures: Pictures | None,
        control: torch.Tensor | None,
    ) -> list[Pixels | None]:
        """Make one batch → the frames of each row, None where they aren't finite."""
        latents = denoise(self.components, self.predictor, shape, noise, rows, pictures, control)
        return decode(self.components, shape, latents)

    def _image_tokens(self, workload: Workload) -> int:
        return workload.image_tokens(self.size_multiple)

    def _make_room(self, demand: Demand) -> bool:
        """For pictures of this kind leave less of the model on the device; whether there was anything to leave."""
        if not self.predictor.offload():
            return False
        self._crowded_by = demand
        logger.warning("Memory is short: half of the blocks that stayed on %s wait in host memory now.", self.device)
        return True

    def _fit(self, demand: Demand, workload: Workload, count: int) -> None:
        """Find how many of `count` rows, none of which takes more than `workload`, go through the device together."""
        shape = workload.shape
        most = min(self.batch or MOST_ROWS, MOST_ROWS, count)
        if self.device.type != "cuda":
            self._rows.setdefault(demand, min(self.batch or CPU_ROWS, MOST_ROWS))
            return
        if self.placement.kind == "resident":
            most = min(most, max(1, RESIDENT_BATCH_TOKENS // self._image_tokens(workload)))

        def measure(rows: int) -> Cost | None:
            torch.cuda.empty_cache()  # what other sizes left behind
            try:
                cost = measure_steps(self.components, self.predictor, workload, demand.tokens, rows)
            except torch.OutOfMemoryError:
                return None
            return None if cost.is_tight and rows > 1 else cost

        budget = int(free_memory(self.device) * self.memory_fraction)
        if (known := self._rows.found(demand, most, budget)) is not None:
            self._rows.use(demand, min(known.rows, self.batch or MOST_ROWS))
            self._expect(demand, shape, known)
            return
        # Slots for streamed weights and the modulations of this schedule take their room, too.
        warm_up(self.device, lambda: measure(1))
        budget = int(free_memory(self.device) * self.memory_fraction)
        try:
            fit = best_fit(shape, budget, measure, most)
        except DoesNotFit as error:
            logger.warning("%s Trying one at a time.", error)
            fit = Fit(rows=1, peak_bytes=0, step_seconds=0.0, grows=False)
        torch.cuda.empty_cache()
        self._rows.keep(demand, fit)
        self._expect(demand, shape, fit)
        logger.info("%d rows of %s take %.1f GiB beside the model", fit.rows, shape, fit.peak_bytes / GIB)

    def _expect(self, demand: Demand, shape: Shape, fit: Fit) -> None:
        """Predict what pictures of a demand take, once."""
        if demand in self._expected or not fit.peak_bytes:
            return
        try:
            decoding = measure_decoding(self.components, shape)
        except torch.OutOfMemoryError:
            return  # nothing that could be predicted will be made
        beside = max(fit.peak_bytes, decoding.bytes)
        self._expected[demand] = self._meter.expect(beside, fit.step_seconds / fit.rows, decoding.seconds)

    def _failure(self, cause: Cause, line: str, shape: Shape) -> Failure:
        if cause == "out_of_memory":
            held = format_breakdown(memory_breakdown(self.components, self.predictor))
            message = (
                f"One picture of {shape} doesn't fit the memory that is left on {self.device} beside the model "
                f"({held}); "
                f"use {'fewer layers, ' if shape.layers else ''}a smaller size, or a device with more memory."
            )
        else:
            message = f"The model failed on this row: {line.rstrip('.')}."
        return Failure(cause, message, retryable=True)

    def _not_finite(self) -> Failure:
        message = (
            f"The model computed something other than numbers in {self.precision}; change the seed or the precision."
        )
        return Failure("not_finite", message, retryable=False)


def _memory(checkpoint: Checkpoint, components: Components, options: OptimizationOptions) -> Path:
    """The file that remembers batch sizes for a checkpoint on a GPU, as far as speed or memory depend on it."""
    gpu = torch.cuda.get_device_properties(components.device)
    cap = torch.cuda.get_per_process_memory_fraction(components.device)
    controlnet = components.controlnet is not None
    model = checkpoint.revision, str(components.placement), components.dtype, components.scheme, controlnet
    return memory_of(model, options, gpu.name, gpu.total_memory, cap, torch.__version__, diffusers.__version__)


def _failure_of(row: Sequence[Conditioning], failures: Mapping[Conditioning, Failure]) -> Failure | None:
    """Return the first failure of a row's texts; that of its negative prompt, which comes second, says so."""
    for place, each in enumerate(row):
        if (failure := failures.get(each)) is not None:
            return replace(failure, message=f"negative_prompt: {failure.message}") if place else failure
    return None
