"""One lane on every GPU against one lane alone: pictures a second, and how near that is to N times as many.

    python -m benchmarks.lanes --lanes 1 2 --out out/lanes.json    # full size, random weights, that many GPUs
    python -m benchmarks.lanes --tiny                              # does this script work? on the CPU

A lane is a process that sees one GPU and holds a model of its own, as on Ray. Lanes build and warm up side by side;
when the last one is ready, one renders alone, and then as many as are asked for together, so many pictures each. What
they share is the host: cores, memory, power. The slowest lane's seconds count.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.full_size import components_of, new_pipeline, synchronized
from benchmarks.results import tell
from models.engines.generator import Generator
from models.loading.optimization_options import OptimizationOptions
from models.requests import PictureRequest, Shape

PROMPT = "A red enamel mug with a white rim, studio photo on plain white"
READY = "ready"
STOP_SECONDS = 60


@dataclass(frozen=True)
class Result:
    """What so many lanes did together."""

    lanes: int
    pictures: int  # of all lanes
    seconds: list[float]  # of each lane
    pictures_per_second: float  # of all lanes, by the slowest one's seconds
    ratio: float  # to one lane


def render_when_told(arguments: argparse.Namespace) -> None:
    """A lane: build, warm up, say so; then at every word render, and say how many seconds that took."""
    if arguments.tiny:
        torch.set_num_threads(1)
    generator = Generator(
        components_of(new_pipeline(tiny=arguments.tiny)), options=OptimizationOptions(float8=arguments.float8)
    )
    shape = Shape(arguments.size, arguments.size, arguments.steps, arguments.guidance)
    first = arguments.lane * arguments.rows
    requests = [PictureRequest(PROMPT, " ", first + row, shape) for row in range(arguments.rows)]
    _render(generator, [replace(request, shape=replace(shape, steps=2)) for request in requests])
    print(READY, flush=True)
    for _ in sys.stdin:
        began = synchronized()
        _render(generator, requests)
        print(json.dumps({"seconds": synchronized() - began}), flush=True)


def _render(generator: Generator, requests: Sequence[PictureRequest]) -> None:
    failures = [picture.failure for batch in generator.render(requests) for picture in batch if picture.failure]
    # Noise of random weights may leave the numbers that a precision has; that takes no less time.
    if others := [failure for failure in failures if failure.reason != "not_finite"]:
        raise SystemExit(f"A picture failed, so the time means nothing: {others[0].message}")


@contextmanager
def open_lane(lane: int, gpu: str | None) -> Iterator[subprocess.Popen[str]]:
    """A lane in a process of its own, which sees one GPU; it ends with the block."""
    command = [sys.executable, "-m", "benchmarks.lanes", *sys.argv[1:], "--lane", str(lane)]
    environment = dict(os.environ) if gpu is None else {**os.environ, "CUDA_VISIBLE_DEVICES": gpu}
    process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def measure(lanes: Sequence[subprocess.Popen[str]], rows: int) -> Result:
    """Seconds of lanes that start together."""
    for lane in lanes:
        assert lane.stdin is not None
        lane.stdin.write("render\n")
        lane.stdin.flush()
    seconds = [json.loads(_expect(lane, '{"seconds"'))["seconds"] for lane in lanes]
    pictures = len(lanes) * rows
    return Result(len(lanes), pictures, seconds, pictures / max(seconds), 1.0)


def _expect(process: subprocess.Popen[str], beginning: str) -> str:
    """The line of a lane that begins so; libraries may print others before it."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(beginning):
            return line
    raise SystemExit(f"A lane ended with exit code {process.wait()} and didn't say '{beginning}'; see above for why.")


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    return named.split(",")[:count] if named else [str(number) for number in range(count)]


def compare(arguments: argparse.Namespace) -> list[Result]:
    """Measure one number of lanes after another."""
    gpus: Sequence[Any] = [None] * max(arguments.lanes) if arguments.tiny else visible_gpus()
    if len(gpus) < max(arguments.lanes):
        raise SystemExit(f"There are {len(gpus)} GPUs for {max(arguments.lanes)} lanes; give --lanes fewer.")
    results: list[Result] = []
    with ExitStack() as open_lanes:
        lanes = [open_lanes.enter_context(open_lane(lane, gpus[lane])) for lane in range(max(arguments.lanes))]
        for lane in lanes:
            _expect(lane, READY)
        print(
            f"{'lanes':>5}{'pictures':>10}{'slowest s':>11}{'fastest s':>11}{'pictures/s':>12}{'ratio':>8}{'of N':>8}"
        )
        for count in sorted({1, *arguments.lanes}):
            result = measure(lanes[:count], arguments.rows)
            alone = results[0] if results else result
            results.append(replace(result, ratio=result.pictures_per_second / alone.pictures_per_second))
            print(line(results[-1]), flush=True)
    return results


def line(result: Result) -> str:
    """One row of the table."""
    return (
        f"{result.lanes:5}{result.pictures:10}{max(result.seconds):11.2f}{min(result.seconds):11.2f}"
        f"{result.pictures_per_second:12.4f}{result.ratio:8.3f}{result.ratio / result.lanes:8.1%}"
    )


def main() -> None:
    """Run, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="toy sizes on the CPU, to test this script")
    parser.add_argument("--lanes", type=int, nargs="+", default=[2], help="numbers of lanes to measure beside one")
    parser.add_argument("--rows", type=int, default=16, help="pictures of each lane")
    parser.add_argument("--size", type=int, help="pixels of a side (1024)")
    parser.add_argument("--steps", type=int, default=8, help="denoising steps")
    parser.add_argument("--guidance", type=float, default=4.0, help="true CFG scale; 1 is none")
    parser.add_argument("--float8", action="store_true", help="multiply in float8 instead of bfloat16")
    parser.add_argument("--out", type=Path, help="where to write the results as JSON")
    parser.add_argument("--lane", type=int, help=argparse.SUPPRESS)  # what a lane's own process is told
    arguments = parser.parse_args()
    arguments.size = arguments.size or (64 if arguments.tiny else 1024)
    if arguments.lane is not None:
        render_when_told(arguments)
        return

    results = compare(arguments)
    precision = "float32" if arguments.tiny else "float8" if arguments.float8 else "bfloat16"
    settings = {name: getattr(arguments, name) for name in ("rows", "size", "steps", "guidance")}
    print(f"{arguments.size}², {arguments.steps} steps, guidance {arguments.guidance:g}, {precision}")
    tell(
        arguments.out,
        on_cpu=arguments.tiny,
        **settings,
        precision=precision,
        results=list(map(asdict, results)),
    )


if __name__ == "__main__":
    main()
