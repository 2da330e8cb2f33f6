"""Edits of pictures, packshot beside stock diffusers at full size: every road first compared, then timed, in one run.

    python -m benchmarks.edit_speed --out out/edit_speed.json   # Edit-2511, random weights, one GPU with 100 GiB
    python -m benchmarks.edit_speed --only bf16 two             # some rows of the table alone
    python -m benchmarks.edit_speed --tiny                      # does this script work? on the CPU

Each fast road predicts two steps of rows with pictures of two aspects, and is compared with the simple one, diffusers'
own forward, before it is timed. Whole pictures of 40 steps would take an hour, so two runs of few steps are timed and
the rest is computed: marked as such. With a step cache, and in eight steps, whole pictures are timed; what a step cache
decides means nothing where weights are random, so rows take turns: see `benchmarks.generate`. Stock takes one row at a
time, since it raises for two (diffusers 0.42.1). Under the caps of memory a checkpoint is opened as a job opens it: see
`benchmarks.placement`. What is counted comes from the floating-point operations of the blocks and the rates that
`benchmarks.generate` measured of them. The file is written after every measurement.
"""

from __future__ import annotations

import argparse
import gc
import io
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import QwenImageEditPlusPipeline
from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit_plus
from PIL import Image

from benchmarks.checkpoints import write_checkpoint
from benchmarks.full_size import components_of, new_edit_pipeline
from benchmarks.generate import THRESHOLD, taking_turns
from benchmarks.placement import Caps, Work, show
from benchmarks.precision import relative
from benchmarks.results import save, tell
from benchmarks.side_by_side import HEADER, Draw, Result, Workload, measure
from models.architectures.qwen_image.padded import Padded
from models.architectures.qwen_image.varlen import Varlen
from models.checkpoints.checkpoint import find_checkpoint
from models.engines.editor import PictureEditor
from models.loading.components import Components
from models.loading.optimization_options import OptimizationOptions
from models.memory.batch_sizes import BatchSizes
from models.requests import ConditionPicture, EditPicture, EditRequest, Pixels, SeenPicture, Shape, edit_size
from models.sampling.latents import resized
from models.transformer.predictor import EncodedPicture, Predictor

INSTRUCTION = "Put the red enamel mug on a white marble table, soft light from the left"
STEPS = 40  # of Edit-2511's model card
TIMED_STEPS = (2, 6)  # what they differ by is as many turns of a condition cache as a whole picture has, in proportion
CONDITION_CACHE = 2
ROWS = 4  # of a batch; at 1024² more of them are hardly faster
TURNS = 5  # rows of which each is computed at every fifth step: see `benchmarks.generate.taking_turns`
FLOW_ROWS, SHARD_ROWS = 32, 16
CAPS = (24, 8)  # GiB
EVERYTHING = 72  # GiB in which everything is resident
PNG_LEVEL = 1  # of zlib, as pictures are stored

PRODUCTS = {"bf16": 622e12, "float8": 1057e12}
"""Operations a second that products and all that lies between them reach together, and attention by itself."""
ATTENTION = 553e12
BESIDE = 0.15  # seconds that reading, encoding and decoding take of a row
SKIPPED = 0.015  # seconds of a step of a row that a step cache skips

BOUNDS = {"fused": 0.05, "float8": 0.2, "kept, computed": 0.02, "kept, recalled": 0.2, "step cache": 0.02}
"""How far a road may be from the simple one at one step, ‖one − other‖ / ‖other‖, or from itself without a cache."""


@dataclass(frozen=True)
class Goal:
    """What a row of the table must reach, in seconds a picture; or times as long as with everything resident."""

    work: str
    must: float | tuple[float, ...]
    aim: float | None


GOALS = {
    "bf16": Goal("1024², one picture, 40 steps, CFG, bf16", 25.5, 24),
    "float8": Goal("the same, float8", 19, 17.5),
    "caches": Goal("float8, step cache and condition cache", 9.5, 7.5),
    "lightning": Goal("float8, Lightning, 8 steps, no CFG, file to file", 2.1, 1.9),
    "two": Goal("two pictures, bf16", 46, 43),
    "caps": Goal("under 24 GiB, 8 GiB, bf16, of resident", (1.05, 1.10), None),
}


@dataclass(frozen=True)
class Check:
    """How far a road is from the one that it is compared with."""

    road: str
    step: int
    relative: float
    bound: float

    @property
    def holds(self) -> bool:
        """Whether it is near enough."""
        return self.relative <= self.bound

    def __str__(self) -> str:
        return f"  {self.road}, step {self.step}: {self.relative:.1e} {'≤' if self.holds else 'BEYOND'} {self.bound:g}"


class Log:
    """What was found so far, on the terminal and in the file."""

    def __init__(self, file: Path | None, *, tiny: bool) -> None:
        self.file, self.tiny = file, tiny
        self.checks: list[Check] = []
        self.results: list[Result] = []
        self.counted: dict[str, float] = {}  # seconds a picture, by the system and workload of a result
        self.caps: Caps | None = None

    def check(self, road: str, predicted: Sequence[torch.Tensor], wanted: Sequence[torch.Tensor]) -> None:
        """Compare the predictions of as many steps."""
        for step, (one, other) in enumerate(zip(predicted, wanted, strict=True)):
            name = road if road != "kept" else f"kept, {'recalled' if step % CONDITION_CACHE else 'computed'}"
            self.checks.append(Check(name, step, relative(one, other), BOUNDS[name]))
            print(self.checks[-1], flush=True)
        self.save()

    def add(self, result: Result, counted: float | None) -> None:
        """Take a result that `measure` has printed."""
        self.results.append(result)
        if counted is not None:
            self.counted[f"{result.system} {result.workload}"] = counted
            print(f"  counted: {counted:.3f} s a picture", flush=True)
        self.save()

    def save(self) -> None:
        """Write everything."""
        if self.file:
            save(self.file, on_cpu=self.tiny, **self.measured())

    def measured(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return {
            "checks": [{**asdict(one), "holds": one.holds} for one in self.checks],
            "results": [asdict(one) for one in self.results],
            "counted": self.counted,
            "cases": [asdict(case) for case in self.caps.cases] if self.caps else [],
            "goals": {name: asdict(goal) for name, goal in GOALS.items()},
        }


def forward_work(config: Any, tokens: int, attending: int) -> tuple[float, float]:
    """Floating-point operations of one forward of one sequence: of its products, and of attention.

    Args:
        tokens: of the sequence.
        attending: of these, those that go through the blocks; the keys and values of the others are kept.
    """
    width = config.num_attention_heads * config.attention_head_dim
    return config.num_layers * 24.0 * width**2 * attending, config.num_layers * 4.0 * tokens * attending * width


def tokens_of(components: Components, workload: Workload, *, tiny: bool) -> tuple[int, int]:
    """A row's tokens of the prompt and of all pictures, and of the prompt and what is made alone."""
    eyes = components.eyes
    assert eyes is not None
    side = vision_side(tiny=tiny)
    seen = eyes.image_processor.get_number_of_image_patches(side, side) // eyes.merged**2
    text = len(INSTRUCTION) + 5 + workload.pictures * (seen + len("Picture 1: ") + 2)
    made = workload.size**2 // 256
    return text + made * (1 + workload.pictures), text + made


def counted_seconds(
    components: Components, workload: Workload, rate: str, *, tiny: bool, every: int = 1, computed: float = 1.0
) -> float | None:
    """What a picture of a workload takes by counting; None at toy size.

    Args:
        rate: a precision of `PRODUCTS`.
        every: the steps of a condition cache.
        computed: share of the steps that a step cache computes.
    """
    if tiny:
        return None
    tokens, attending = tokens_of(components, workload, tiny=tiny)
    config = components.transformer.config
    seconds = [
        products / PRODUCTS[rate] + attention / ATTENTION
        for products, attention in (forward_work(config, tokens, some) for some in (tokens, attending))
    ]
    step = (seconds[0] + (every - 1) * seconds[1]) / every
    branches = 2 if workload.guidance > 1 else 1
    return workload.steps * (computed * branches * step + (1 - computed) * SKIPPED) + BESIDE


def step_flop(components: Components, workload: Workload, *, tiny: bool) -> float:
    """Floating-point operations of one step of a workload, all of it computed."""
    tokens, _ = tokens_of(components, workload, tiny=tiny)
    branches = 2 if workload.guidance > 1 else 1
    return workload.rows * branches * sum(forward_work(components.transformer.config, tokens, tokens))


def vision_side(*, tiny: bool) -> int:
    """The side at which the text encoder sees a picture, in pixels."""
    return 96 if tiny else 384


def source(size: int, seed: int) -> Pixels:
    """A picture of noise, uint8 [H, W, 3]."""
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8)


def looked_at(pixels: Pixels, side: int, *, tiny: bool) -> EditPicture:
    """A picture at both sizes at which a model looks at it; `side` is the larger one's, of a square, in pixels."""
    height, width = pixels.shape[:2]
    encoded, seen = (edit_size(width, height, each, 32) for each in (side, vision_side(tiny=tiny)))
    small = np.asarray(resized(pixels, *seen, channels=3))
    return EditPicture(SeenPicture.of(small), ConditionPicture(np.asarray(resized(pixels, *encoded, 3)), *encoded))


def request(row: int, pictures: Sequence[EditPicture], workload: Workload, steps: int) -> EditRequest:
    """One row of a workload, in so many steps."""
    shape = Shape(workload.size, workload.size, steps, workload.guidance)
    return EditRequest(INSTRUCTION, " ", row, shape, tuple(pictures))


def stock_draws(pipeline: QwenImageEditPlusPipeline, workload: Workload) -> Draw:
    """Stock: one row after another."""
    sources = [[source(workload.size, 10 * row + n) for n in range(workload.pictures)] for row in range(workload.rows)]

    def draw(steps: int) -> tuple[list[np.ndarray | None], list[int]]:
        made: list[np.ndarray | None] = []
        for row, pictures in enumerate(sources):
            image = pipeline(
                image=[Image.fromarray(pixels) for pixels in pictures],
                prompt=INSTRUCTION,
                negative_prompt=" ",
                true_cfg_scale=workload.guidance,
                width=workload.size,
                height=workload.size,
                num_inference_steps=steps,
                generator=torch.Generator("cpu").manual_seed(row),
            ).images[0]
            made.append(np.asarray(image))
        return made, [1] * workload.rows

    return draw


def packshot_draws(editor: PictureEditor, workload: Workload) -> Draw:
    """packshot: `PictureEditor.edit`, which chooses its own batches, of pictures that are at hand."""
    tiny = editor.device.type == "cpu"
    rows = [
        [looked_at(source(workload.size, 10 * row + n), workload.size, tiny=tiny) for n in range(workload.pictures)]
        for row in range(workload.rows)
    ]

    def draw(steps: int) -> tuple[list[np.ndarray | None], list[int]]:
        requests = [request(row, pictures, workload, steps) for row, pictures in enumerate(rows)]
        batches = list(editor.edit(requests))
        made = sorted((one for batch in batches for one in batch), key=lambda one: one.index)
        return [one.pixels for one in made], [len(batch) for batch in batches]

    return draw


def flow_draws(editor: PictureEditor, workload: Workload) -> Draw:
    """packshot: from stored pictures to stored pictures, shard after shard, as a lane does: while one is edited, the
    next one is read and what was made is encoded. The store, the judges and Prefect aren't in it.
    """
    tiny = editor.device.type == "cpu"
    stored = [encoded(source(workload.size, row)) for row in range(workload.rows)]

    def read(file: bytes) -> EditPicture:
        return looked_at(np.asarray(Image.open(io.BytesIO(file)).convert("RGB")), workload.size, tiny=tiny)

    def draw(steps: int) -> tuple[list[np.ndarray | None], list[int]]:
        made: dict[int, np.ndarray | None] = {}
        sizes, files = [], []
        with ThreadPoolExecutor(8) as pool:
            looked = [pool.submit(read, file) for file in stored]
            for start in range(0, workload.rows, SHARD_ROWS):
                rows = range(start, min(start + SHARD_ROWS, workload.rows))
                requests = [request(row, [looked[row].result()], workload, steps) for row in rows]
                for batch in editor.edit(requests):
                    sizes.append(len(batch))
                    for one in batch:
                        made[start + one.index] = one.pixels
                        if one.pixels is not None:
                            files.append(pool.submit(encoded, one.pixels))
            for file in files:
                file.result()
        return [made[row] for row in range(workload.rows)], sizes

    return draw


def encoded(pixels: np.ndarray) -> bytes:
    """The bytes of a PNG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=PNG_LEVEL)
    return buffer.getvalue()


class Probe:
    """Rows whose pictures have two aspects, of which every road predicts the same two steps."""

    def __init__(self, components: Components, size: int) -> None:
        """Of noise, in the transformer's precision."""
        self.components, self.side = components, size // 16
        generator = torch.Generator().manual_seed(0)
        channels = int(components.transformer.config.in_channels)

        def noise(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, generator=generator).to(components.device, components.dtype)

        wide = (1, self.side * 7 // 8, self.side * 9 // 8)
        self.pictures = [
            [EncodedPicture(noise(frames * height * width, channels), (frames, height, width))]
            for frames, height, width in ((1, self.side, self.side), wide)
        ]
        width = components.transformer.config.joint_attention_dim
        self.texts = [[noise(length, width).cpu() for length in lengths] for lengths in ((290, 216), (260, 216))]
        start, towards = noise(2, self.side**2, channels), noise(2, self.side**2, channels)
        self.latents = [start, start + 0.02 * towards]

    @torch.inference_mode()
    def predict(self, predictor: Predictor) -> list[torch.Tensor]:
        """The predictions of the steps, each [branches, rows, N, C]."""
        device, dtype = self.components.device, self.components.dtype
        timesteps = torch.linspace(1, 0.02, STEPS, device=device).to(dtype)
        conditions = predictor.condition(self.texts, [(1, self.side, self.side)], timesteps, self.pictures)
        return [conditions.predict(step, latents) for step, latents in enumerate(self.latents)]


def in_memory(log: Log, wanted: set[str], size: int, *, tiny: bool) -> None:
    """The rows of the table whose model is resident, stock first; float8 last, for it gives up the other weights."""
    pipeline = new_edit_pipeline(tiny=tiny)
    components = components_of(pipeline)
    probe = Probe(components, size)
    simple = probe.predict(Padded(components.transformer))
    one = Workload(size, ROWS, steps=STEPS, pictures=1)
    exact = [work for name, work in (("bf16", one), ("two", replace(one, rows=2, pictures=2))) if name in wanted]

    def run(
        system: str,
        draw: Draw,
        workload: Workload,
        rate: str | None,
        editor: PictureEditor | None = None,
        **cached: float,
    ) -> None:
        predictor = editor.predictor if editor else None
        result, _ = measure(
            system,
            draw,
            workload,
            step_flop=step_flop(components, workload, tiny=tiny),
            counted=(lambda: (predictor.asked, predictor.computed)) if isinstance(predictor, Varlen) else None,
            timed_steps=TIMED_STEPS,
        )
        log.add(result, counted_seconds(components, workload, rate, tiny=tiny, **cached) if rate else None)
        gc.collect()

    for workload in exact:
        alone = replace(workload, rows=1)
        run("stock", stock_draws(pipeline, alone), alone, None)
    if exact:
        editor = PictureEditor(components)
        log.check("fused", probe.predict(editor.predictor), simple)
        for workload in exact:
            run("packshot", packshot_draws(editor, workload), workload, "bf16", editor)
        del editor
        gc.collect()
    if not wanted & {"float8", "caches", "lightning"}:
        return
    editor = PictureEditor(components, options=OptimizationOptions(float8=True))
    predictor = editor.predictor
    assert isinstance(predictor, Varlen)
    in_float8 = probe.predict(predictor)
    log.check("float8", in_float8, simple)
    if "float8" in wanted:
        run("packshot float8", packshot_draws(editor, one), one, "float8", editor)
    if "lightning" in wanted:
        eight = Workload(size, FLOW_ROWS, guidance=1.0, steps=8, pictures=1, whole=True)
        run("packshot float8 flow", flow_draws(editor, eight), eight, "float8", editor)
    if "caches" in wanted:
        predictor.condition_cache = CONDITION_CACHE
        editor._rows = BatchSizes()  # what is kept takes its room
        log.check("kept", probe.predict(predictor), in_float8)
        run("packshot float8+kept", packshot_draws(editor, one), one, "float8", editor, every=CONDITION_CACHE)
        predictor.step_cache = 0.0
        kept = probe.predict(predictor)[:1]
        log.check("step cache", kept, in_float8[:1])
        predictor.step_cache = THRESHOLD
        whole = replace(one, rows=TURNS, whole=True)
        with taking_turns():
            draw = packshot_draws(editor, whole)
            run("packshot float8+both", draw, whole, "float8", editor, every=CONDITION_CACHE, computed=0.4)


def under_caps(log: Log, size: int, *, tiny: bool) -> None:
    """The row of the table about less memory; pictures are compared bit for bit with those of everything resident."""

    def flop(engine: PictureEditor, workload: Workload) -> float:
        return step_flop(engine.components, workload, tiny=tiny)

    work = Work(PictureEditor, packshot_draws, flop)
    with tempfile.TemporaryDirectory(prefix="packshot-hollow-") as folder:
        write_checkpoint(Path(folder), tiny=tiny, edits=True, hollow=True)
        checkpoint = find_checkpoint(folder, pipeline=PictureEditor.pipeline, hashed=False)
        log.caps = Caps(checkpoint, [Workload(size, ROWS, steps=STEPS, pictures=1)], work, tiny=tiny)
        for cap in (EVERYTHING, *CAPS, EVERYTHING):  # again: a warm card is slower than a cool one
            log.caps.run(cap, ("resident" if cap == EVERYTHING else "streamed") if tiny else "auto")
            log.save()
    show(log.caps.cases)


def compare_with_goals(log: Log, wanted: Sequence[str]) -> None:
    """Say of each row of the table what it reached."""
    by_name = {
        "bf16": ("packshot", 1),
        "two": ("packshot", 2),
        "float8": ("packshot float8", 1),
        "caches": ("packshot float8+both", 1),
        "lightning": ("packshot float8 flow", 1),
    }
    print(f"\n{'row':48} {'stock':>8} {'packshot':>9} {'counted':>8} {'must':>6} {'aim':>6}")
    for name in wanted:
        goal = GOALS[name]
        if name == "caps":
            continue
        system, pictures = by_name[name]
        found = {one.system: one for one in log.results if one.workload.pictures == pictures}
        if system not in found:
            continue
        ours, stock = found[system], found.get("stock") if name in ("bf16", "two") else None
        counted = log.counted.get(f"{system} {ours.workload}")
        print(
            f"{goal.work:48} {f'{stock.seconds_per_picture:.2f}' if stock else '':>8} {ours.seconds_per_picture:9.2f} "
            f"{f'{counted:.2f}' if counted else '':>8} {goal.must!s:>6} {goal.aim!s:>6}"
        )
    print("Seconds a picture; of 40 steps computed from the seconds a step and the rest, but where both caches are on.")


def main() -> None:
    """Run, print tables, write JSON; ends with 1 if a road is further from the simple one than it may be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="toy sizes on the CPU, to test this script")
    parser.add_argument("--only", nargs="+", default=[*GOALS], choices=[*GOALS], help="some rows of the table alone")
    parser.add_argument("--out", type=Path, help="where to write the results as JSON")
    arguments = parser.parse_args()

    tiny = arguments.tiny
    size = 64 if tiny else 1024
    if tiny:
        pipeline_qwenimage_edit_plus.VAE_IMAGE_SIZE = size**2
        pipeline_qwenimage_edit_plus.CONDITION_IMAGE_SIZE = vision_side(tiny=tiny) ** 2
    log = Log(arguments.out, tiny=tiny)
    print(HEADER)
    if resident := {*arguments.only} - {"caps"}:
        in_memory(log, resident, size, tiny=tiny)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    if "caps" in arguments.only:
        under_caps(log, size, tiny=tiny)
    compare_with_goals(log, arguments.only)
    tell(arguments.out, on_cpu=tiny, **log.measured())
    if not all(check.holds for check in log.checks):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
