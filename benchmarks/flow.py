"""A whole flow against its own denoising loop: what share of the GPU's time goes into pictures.

    python -m benchmarks.flow --out out/flow.json     # full size, random weights, one GPU with 80 GB or more
    python -m benchmarks.flow --edits                 # edits of drawings with Edit-2511 instead of Qwen-Image
    python -m benchmarks.flow --exact                 # bfloat16 instead of float8
    python -m benchmarks.flow --tiny                  # does this script work? on the CPU

The flow is the one that a person starts, with its own Prefect server, from a Parquet manifest to a folder full of
pictures; only its model is one of random weights at full size. Its denoising loop alone, over the same batches with
everything ready, is what it could reach if nothing else took time. The model is warm for both: kernels are built and
the size of batches is measured before either is timed. Pictures of random weights are noise, which judges refuse; what
is refused takes the same way into the store.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

import numpy as np
import prefect
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

import models.engines.engine
import tasks.judging.clip_classifier
from benchmarks.checkpoints import write_checkpoint
from benchmarks.edit_speed import looked_at, vision_side
from benchmarks.full_size import components_of, new_edit_pipeline, new_pipeline, sampling_gpu, synchronized
from benchmarks.results import tell
from benchmarks.timers import Moment, Timers
from flows.edit import edit
from flows.generate import generate
from flows.orchestration.server import prefect_server
from models.checkpoints.checkpoint import find_clip
from models.engines.editor import PictureEditor
from models.engines.engine import Engine
from models.engines.generator import Generator
from models.loading.optimization_options import OptimizationOptions
from models.miniature.language.captions import caption
from models.miniature.world.world import FAULTS, Scene, draw, random_scene
from models.requests import EditPicture, EditRequest, PictureRequest, Shape
from models.transformer.predictor import Pictures
from safety.policy.concepts import judge_prompt
from safety.policy.policy import Policy
from safety.text.texts import judge_text
from safety.verdict import strictest
from tasks.job import GenerateJob, Job
from tasks.judging.clip_classifier import ClipClassifier
from tasks.judging.judges import Judges
from tasks.kinds.edit.edit_job import EditJob
from tasks.lane.bounded_queue import BoundedQueue
from tasks.lane.picture_stages import PictureStages
from tasks.lane.stages import Made
from tasks.ledger.run import Run
from tasks.reports.summary import Summary
from tasks.results.encoding import Encoding
from tasks.results.shelf import PictureShelf
from tasks.runs.lane import LaneWorker

COMPUTED_STEPS = 50  # with guidance, which doubles a step's work: Qwen-Image's model card


@dataclass(frozen=True)
class Batch:
    """Rows that the engine takes together, ready to be denoised."""

    shape: Shape
    noise: torch.Tensor
    texts: Sequence[Sequence[torch.Tensor]]
    pictures: Pictures | None


@dataclass(frozen=True)
class OnGpu:
    """Where the GPU's time between a lane's first denoising and its last picture goes, in seconds."""

    denoising: float
    decoding: float  # the VAE, and handing pixels over
    between_batches: float  # from one batch's last pixel to the next batch's first step
    longest_between: float


@dataclass(frozen=True)
class Result:
    """What one run of the flow took."""

    precision: str
    size: int
    steps: int
    guidance: float
    rows: int
    batches: list[int]  # rows of each
    flow_seconds: float
    lane_seconds: float  # from its first rendering to its last commit
    raw_seconds: float
    first_step_seconds: float  # of one step of every batch before anything was warm; it isn't part of the others
    computed_share: float | None  # of the lane, for 50 steps with guidance; computed
    busy: float | None  # share of the lane's time in which the GPU ran anything, as NVML samples it
    on_gpu: OnGpu
    timers: dict[str, dict[str, float]]  # seconds, over all threads, and calls
    statuses: dict[str, int]

    @property
    def lane_share(self) -> float:
        """The raw loop's seconds for one of the lane's."""
        return self.raw_seconds / self.lane_seconds

    @property
    def flow_share(self) -> float:
        """The raw loop's seconds for one of the flow's."""
        return self.raw_seconds / self.flow_seconds


@dataclass(frozen=True)
class Work:
    """What an engine has to do, and the flow that has it done."""

    engine: Engine
    make: Callable[[Sequence[Any]], Iterator[list[Any]]]  # of the engine: renders or edits what is asked for
    requests: Sequence[Any]
    flow: Callable[..., Summary]
    job: Job


def products(count: int) -> dict[str, Scene]:
    """So many products that the default policy lets pass here, by their captions, which are of differing lengths.

    Judged by the CLIP on the very device: what is refused would be missing from the batches.
    """
    policy = Policy.load("default")
    clip = ClipClassifier(find_clip("miniature")).open(policy, device="auto")
    random, found = Random(0), dict[str, Scene]()
    while len(found) < count:
        scene = replace(random_scene(random, held_out=None), fault=FAULTS[0])
        text = caption(scene, random, language="en", split="test")
        [windows] = clip.windows([text])
        verdicts = [
            judge_text(text, policy.blocklist, what="prompt"),
            judge_prompt(windows, clip.concepts, policy),
        ]
        if strictest(verdicts).allowed:
            found[text] = scene
    return found


def drawing(arguments: argparse.Namespace, folder: Path) -> Work:
    """Pictures of captions."""
    components = components_of(new_pipeline(tiny=arguments.tiny))
    generator = Generator(components, options=OptimizationOptions(float8=not arguments.exact))
    texts, shape = list(products(arguments.rows)), shape_of(arguments)
    manifest = {"id": [f"row-{n:04}" for n in range(len(texts))], "prompt": texts}
    return Work(
        engine=generator,
        make=generator.render,
        requests=[PictureRequest(text, " ", seed, shape) for seed, text in enumerate(texts)],
        flow=generate,
        job=GenerateJob.of(**asked(arguments, folder, manifest)),
    )


def editing(arguments: argparse.Namespace, folder: Path) -> Work:
    """Edits of drawings, in JPEG; an instruction is the caption of another product."""
    components = components_of(new_edit_pipeline(tiny=arguments.tiny))
    editor = PictureEditor(components, options=OptimizationOptions(float8=not arguments.exact))
    scenes, size = products(arguments.rows), arguments.size
    pictures, files = list[EditPicture](), list[str]()
    for number, scene in enumerate(scenes.values()):
        drawn = Image.fromarray(draw(scene, Random(number)).picture).resize((size, size), Image.Resampling.LANCZOS)
        files.append(f"source-{number:04}.jpg")
        drawn.save(folder / files[-1], quality=95)
        pictures.append(looked_at(np.asarray(drawn), size, tiny=arguments.tiny))
    texts = [*scenes][1:] + [*scenes][:1]
    manifest = {"id": [f"row-{n:04}" for n in range(len(texts))], "image": files, "instruction": texts}
    checkpoint = folder / "checkpoint"  # what a job reads of one; its weights are a toy's
    write_checkpoint(checkpoint, tiny=True, edits=True, hollow=True)
    sampling = {"resolution": size, "vision_resolution": vision_side(tiny=arguments.tiny)}
    (checkpoint / "sampling_config.json").write_text(json.dumps(sampling))
    shape = shape_of(arguments)
    return Work(
        engine=editor,
        make=editor.edit,
        requests=[
            EditRequest(text, " ", seed, shape, (picture,))
            for seed, (text, picture) in enumerate(zip(texts, pictures, strict=True))
        ],
        flow=edit,
        job=EditJob.of(**asked(arguments, folder, manifest), model=str(checkpoint)),
    )


def shape_of(arguments: argparse.Namespace) -> Shape:
    """What all rows are made at."""
    return Shape(arguments.size, arguments.size, arguments.steps, arguments.guidance)


def asked(arguments: argparse.Namespace, folder: Path, manifest: dict[str, list[str]]) -> dict[str, Any]:
    """A job's fields, and the manifest that they name."""
    file = folder / "manifest.parquet"
    pq.write_table(pa.table(manifest), file)
    return {
        "manifest": str(file),
        "store": str(folder / "store"),
        "device": "cpu" if arguments.tiny else "auto",
        "width": arguments.size,
        "height": arguments.size,
        "steps": arguments.steps,
        "guidance": arguments.guidance,
        "shard_rows": arguments.shard_rows,
    }


def batches_of(work: Work, shard_rows: int) -> list[Batch]:
    """The batches that an engine makes of shards, each row with its embeddings and noise; nothing is drawn."""
    batches: list[Batch] = []

    def take(
        shape: Shape,
        noise: torch.Tensor,
        rows: Sequence[Sequence[torch.Tensor]],
        pictures: Pictures | None,
        control: torch.Tensor | None,
    ) -> list[Any]:
        del control
        batches.append(Batch(shape, noise, rows, pictures))
        return [np.zeros((1, 1, 1, 3), np.uint8)] * len(rows)

    with patch.object(work.engine, "_make", take):
        for start in range(0, len(work.requests), shard_rows):
            list(work.make(work.requests[start : start + shard_rows]))
    return batches


@torch.inference_mode()
def raw_seconds(engine: Engine, batches: Sequence[Batch], steps: int | None = None) -> float:
    """Denoise batches one after another and nothing else, `steps` of each or all."""
    began = synchronized()
    for batch in batches:
        models.engines.engine.denoise(
            engine.components, engine.predictor, batch.shape, batch.noise, batch.texts, batch.pictures, steps=steps
        )
    return synchronized() - began


class Watch:
    """Times a lane from its first rendering to its last commit, and what happens in between."""

    def __init__(self, shards: int) -> None:
        self.timers = Timers()
        self.moments: list[tuple[Moment, Moment, Moment]] = []  # of each batch: begun, denoised, decoded
        self.began: float | None = None
        self.ended = 0.0
        self.busy: list[float] = []
        self._sampling = ExitStack()
        self._left, self._lock = shards, threading.Lock()

    def __enter__(self) -> Watch:
        timers = self.timers
        timers.open.__enter__()
        timers.around(models.engines.engine, "embed_prompts", "embed prompts")
        timers.around(models.engines.engine, "draw_noise", "draw noise")
        timers.around(LaneWorker, "_screen", "screen")
        timers.around(PictureStages, "classify", "classify")
        timers.around(Judges, "see", "of it CLIP")
        timers.around(Encoding, "encode", "of it encoding")
        timers.around(PictureShelf, "keep", "store")
        timers.around(
            BoundedQueue, "put", lambda _, batch: "waiting for keep" if _judged(batch) else "waiting for classify"
        )
        self._watch_batches()
        self._watch_lane()
        return self

    def __exit__(self, *_: object) -> None:
        self._sampling.close()
        self.timers.open.close()

    @property
    def seconds(self) -> float:
        assert self.began is not None
        return self.ended - self.began

    def on_gpu(self) -> OnGpu:
        """Where the GPU's time went."""
        synchronized()
        gaps = [one[2].until(next_one[0]) for one, next_one in zip(self.moments, self.moments[1:], strict=False)]
        return OnGpu(
            denoising=sum(begun.until(denoised) for begun, denoised, _ in self.moments),
            decoding=sum(denoised.until(decoded) for _, denoised, decoded in self.moments),
            between_batches=sum(gaps),
            longest_between=max(gaps, default=0.0),
        )

    def _watch_batches(self) -> None:
        denoise, decode = models.engines.engine.denoise, models.engines.engine.decode

        def watched_denoise(*args: Any, **kwargs: Any) -> torch.Tensor:
            self._denoising = Moment()
            return denoise(*args, **kwargs)

        def watched_decode(*args: Any) -> list[Any]:
            denoised = Moment()
            pictures = decode(*args)
            self.moments.append((self._denoising, denoised, Moment()))
            return pictures

        self.timers.open.enter_context(patch.object(models.engines.engine, "denoise", watched_denoise))
        self.timers.open.enter_context(patch.object(models.engines.engine, "decode", watched_decode))

    def _watch_lane(self) -> None:
        render, commit = PictureStages.render, Run.commit

        def watched_render(*args: Any) -> Any:
            if self.began is None:
                self.busy = self._sampling.enter_context(sampling_gpu())
                self.began = time.perf_counter()
            yield from render(*args)

        def watched_commit(*args: Any) -> None:
            commit(*args)
            with self._lock:
                self._left -= 1
                if self._left == 0:
                    self.ended = time.perf_counter()
                    self._sampling.close()

        self.timers.open.enter_context(patch.object(PictureStages, "render", watched_render))
        self.timers.open.enter_context(patch.object(Run, "commit", watched_commit))


def _judged(batch: Sequence[Any]) -> bool:
    return any(isinstance(thing, Made) and thing.contents is not None for thing in batch)


def run_flow(work: Work) -> tuple[float, Watch, Summary]:
    """The flow as it is, but with this engine in the place of the one that its lane would load.

    The miniature's CLIP judges whatever model it is, for the work is there, whatever it finds.
    """
    job, rows = work.job, len(work.requests)
    with (
        patch.object(tasks.judging.clip_classifier, "check_judge"),
        patch.object(LaneWorker, "engine", work.engine),
        Watch(math.ceil(rows / job.output.shard_rows)) as watch,
    ):
        began = time.perf_counter()
        summary = work.flow(job)
        seconds = time.perf_counter() - began
    if summary.rendered != rows or summary.failed:
        causes = "; ".join(f"{cause.rows} {cause.status} ({cause.reason}): {cause.example}" for cause in summary.causes)
        raise SystemExit(f"Of {rows} rows {summary.rendered} were rendered, so the times mean nothing: {causes}")
    return seconds, watch, summary


def measure(arguments: argparse.Namespace, folder: Path) -> Result:
    """The raw loop, then the flow."""
    work = editing(arguments, folder) if arguments.edits else drawing(arguments, folder)
    batches = batches_of(work, arguments.shard_rows)
    list(work.make(work.requests[: len(batches[0].texts)]))  # builds what is left of the kernels: the VAE's
    # Attention has a plan to make for every length of sequences.
    first_step = raw_seconds(work.engine, batches, steps=1)
    raw = raw_seconds(work.engine, batches)

    os.environ["PREFECT_HOME"] = str(folder / "prefect")  # of the server
    with prefect_server():
        seconds, watch, summary = run_flow(work)
    timers = watch.timers
    return Result(
        precision=work.engine.precision,
        size=arguments.size,
        steps=arguments.steps,
        guidance=arguments.guidance,
        rows=arguments.rows,
        batches=[len(batch.texts) for batch in batches],
        flow_seconds=seconds,
        lane_seconds=watch.seconds,
        raw_seconds=raw,
        first_step_seconds=first_step,
        computed_share=_computed_share(raw, watch.seconds, arguments) if not arguments.tiny else None,
        busy=watch.busy[0] if watch.busy else None,
        on_gpu=watch.on_gpu(),
        timers={name: {"seconds": timers.seconds[name], "calls": timers.calls[name]} for name in timers.seconds},
        statuses=summary.statuses,
    )


def _computed_share(raw: float, lane: float, arguments: argparse.Namespace) -> float:
    """The lane's share if its pictures took 50 steps with guidance and all else what it takes now."""
    forwards = arguments.steps * (2 if arguments.guidance > 1 else 1)
    long = raw * 2 * COMPUTED_STEPS / forwards
    return long / (long + lane - raw)


def show(result: Result) -> None:
    """The tables."""
    rows = result.rows
    print(
        f"{rows} pictures of {result.size}², {result.steps} steps, guidance {result.guidance:g}, {result.precision}, "
        f"in batches of {', '.join(map(str, result.batches))}\n"
    )
    print(f"{'':34}{'seconds':>9}{'s/picture':>11}{'raw/this':>10}")
    for name, seconds in (
        ("raw: the denoising loop alone", result.raw_seconds),
        ("lane: first render to last commit", result.lane_seconds),
        ("flow: manifest to report", result.flow_seconds),
    ):
        print(f"{name:34}{seconds:9.2f}{seconds / rows:11.3f}{result.raw_seconds / seconds:10.1%}")
    print(
        f"one step of every batch, warm {result.raw_seconds / result.steps:.2f} s, "
        f"as the first ones of a process {result.first_step_seconds:.2f} s; the flow ran warm"
    )
    if result.computed_share is not None:
        print(
            f"lane, {COMPUTED_STEPS} steps with guidance, computed from the same overhead: {result.computed_share:.1%}"
        )
    gpu = result.on_gpu
    rest = result.lane_seconds - gpu.denoising - gpu.decoding - gpu.between_batches
    print(f"\n{'the device, while the lane renders':42}{'seconds':>9}{'of the lane':>13}")
    for name, seconds in (
        ("denoising", gpu.denoising),
        ("VAE, and pixels to host memory", gpu.decoding),
        (f"between batches (longest {gpu.longest_between:.3f} s)", gpu.between_batches),
        ("before the first batch, after the last", rest),
    ):
        print(f"{name:42}{seconds:9.2f}{seconds / result.lane_seconds:13.1%}")
    print(f"\n{'beside it, summed over threads':34}{'seconds':>9}{'calls':>8}")
    for name, timer in result.timers.items():
        print(f"{name:34}{timer['seconds']:9.2f}{timer['calls']:8.0f}")
    statuses = [f"{rows} {status}" for status, rows in result.statuses.items() if rows]
    busy = "unknown" if result.busy is None else f"{result.busy:.1%}"
    print(f"\nGPU busy while the lane rendered: {busy}; rows: {', '.join(statuses)}")


def main() -> None:
    """Run, print tables, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="toy sizes on the CPU, to test this script")
    parser.add_argument("--edits", action="store_true", help="Edit-2511's edits of one picture each")
    parser.add_argument("--exact", action="store_true", help="bfloat16 instead of float8")
    parser.add_argument("--rows", type=int, help="pictures (64)")
    parser.add_argument("--shard-rows", type=int, help="rows of a shard (32)")
    parser.add_argument("--size", type=int, help="pixels of a side (1024)")
    parser.add_argument("--steps", type=int, help="denoising steps (8)")
    parser.add_argument("--guidance", type=float, default=1.0, help="true CFG scale; 1 is none, the Lightning way")
    parser.add_argument("--out", type=Path, help="where to write the result as JSON")
    arguments = parser.parse_args()
    sizes = {"rows": 20, "shard_rows": 12, "size": 64, "steps": 2} if arguments.tiny else {}
    for name, value in {"rows": 64, "shard_rows": 32, "size": 1024, "steps": 8, **sizes}.items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, value)
    for handler in logging.getLogger().handlers:  # what reaches the terminal; the server still gets it all
        handler.setLevel(logging.CRITICAL)

    with tempfile.TemporaryDirectory(prefix="packshot-flow-") as folder:
        result = measure(arguments, Path(folder))
    show(result)
    shares = {"lane_share": result.lane_share, "flow_share": result.flow_share}
    tell(arguments.out, on_cpu=arguments.tiny, modules=(prefect,), result={**asdict(result), **shares})


if __name__ == "__main__":
    main()
