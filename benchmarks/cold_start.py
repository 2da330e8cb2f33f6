"""Seconds from a folder on disk to the first picture, beside what the disk needs to read that folder.

    python -m benchmarks.cold_start --out out/cold_start.json    # 58 GB of random weights, one GPU
    python -m benchmarks.cold_start --blocks 4 --layers 4        # 8 GB, for a slower disk
    python -m benchmarks.cold_start --folder FOLDER              # of a checkpoint that is there, or is written there
    python -m benchmarks.cold_start --tiny                       # does this script work? on the CPU

Writes a checkpoint if there is none, reads it to find the disk's rate, and then starts a new process that does what a
lane does: find the checkpoint, read it ahead while torch and diffusers are imported, load it, draw one picture. Files
leave the page cache before each of these. The process starts twice: first with an empty cache folder but for the hashes
of the files, which are timed by themselves since a checkpoint is hashed once, and then again with the kernels that the
first one built.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from models.checkpoints.checkpoint import find_checkpoint, weight_files
from models.files.read_ahead import CHUNK_BYTES, chunks_of, read_chunk, reading_ahead
from models.requests import PictureRequest, Shape

PROMPT = "A red enamel mug with a white rim, studio photo on plain white"
THREADS = (1, 4, 8)
RATE_BYTES = 20 * 10**9  # read for each number of threads: enough that a disk's own cache doesn't count
BAR = (1.3, 20.0)  # times the disk's reading, and seconds on top, that a cold start may take


@dataclass(frozen=True)
class Start:
    """One process from its start to its first picture: seconds since then at the end of each phase."""

    found: float
    imported: float
    loaded: float
    drawn: float


@dataclass(frozen=True)
class Result:
    """What the disk and the starts took."""

    total_bytes: int  # of all weights
    hash_seconds: float
    rates: dict[int, float]  # bytes a second by threads
    starts: list[Start]

    @property
    def reading(self) -> float:
        """Seconds in which the disk reads it all, at its best rate."""
        return self.total_bytes / max(self.rates.values())

    @property
    def bar(self) -> float:
        factor, seconds = BAR
        return factor * self.reading + seconds


def start_lane(arguments: argparse.Namespace) -> None:
    """The new process: say when each phase is over."""

    def over(phase: str) -> None:
        print(json.dumps({"phase": phase, "seconds": time.time() - arguments.started}), flush=True)

    checkpoint = find_checkpoint(str(arguments.folder))
    over("found")
    with reading_ahead(weight_files(checkpoint)):
        from models.engines.generator import Generator

        over("imported")
        device = "cpu" if arguments.tiny else "auto"
        generator = Generator.load(checkpoint, device=device, precision=arguments.precision)
    over("loaded")
    size = 64 if arguments.tiny else 1024
    requests = [PictureRequest(PROMPT, " ", 0, Shape(size, size, arguments.steps, 1.0))]
    (picture,) = [picture for batch in generator.render(requests) for picture in batch]
    # Noise of random weights may leave the numbers that a precision has; that takes no less time.
    if picture.failure is not None and picture.failure.reason != "not_finite":
        raise SystemExit(f"The picture failed, so the times mean nothing: {picture.failure.message}")
    over("drawn")


def write(arguments: argparse.Namespace, folder: Path) -> list[Path]:
    """A checkpoint of random weights; returns its files."""
    from benchmarks.checkpoints import write_checkpoint  # imports torch, which the new process does in its own time

    print(f"writing a checkpoint to {folder}", flush=True)
    return write_checkpoint(folder, blocks=arguments.blocks, layers=arguments.layers, tiny=arguments.tiny)


def drop(files: Sequence[Path]) -> None:
    """Have the system forget the contents of files, which are on disk (posix_fadvise(2), POSIX_FADV_DONTNEED)."""
    for file in files:
        with file.open("rb") as content:
            os.posix_fadvise(content.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def rate(files: Sequence[Path], threads: int) -> float:
    """Bytes a second that so many threads read."""
    drop(files)
    chunks = chunks_of(files)[: RATE_BYTES // CHUNK_BYTES]
    began = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        read = sum(pool.map(lambda chunk: read_chunk(*chunk), chunks))
    return read / (time.perf_counter() - began)


def start(arguments: argparse.Namespace, folder: Path, environment: dict[str, str]) -> Start:
    """One new process."""
    command = [sys.executable, "-m", "benchmarks.cold_start", "--folder", str(folder), "--steps", str(arguments.steps)]
    command += ["--precision", arguments.precision, "--started", str(time.time())]
    process = subprocess.run(
        command + (["--tiny"] if arguments.tiny else []),
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if process.returncode:
        raise SystemExit(f"The process ended with exit code {process.returncode}; see above for why.")
    lines = [json.loads(line) for line in process.stdout.splitlines() if line.startswith('{"phase"')]
    return Start(**{line["phase"]: line["seconds"] for line in lines})


def measure(arguments: argparse.Namespace, folder: Path, cache: Path) -> Result:
    """Write, hash, find the disk's rate, start twice."""
    if (folder / "model_index.json").exists():
        files = sorted(folder.rglob("*.safetensors"))
    else:
        files = write(arguments, folder)
    os.environ["XDG_CACHE_HOME"] = str(cache)  # of packshot: hashes, and kernels that Triton built
    os.environ.pop("TRITON_CACHE_DIR", None)
    drop(files)
    began = time.perf_counter()
    find_checkpoint(str(folder))
    hashed = time.perf_counter() - began
    rates = {threads: rate(files, threads) for threads in THREADS}
    starts = []
    for _ in range(2):
        drop(files)
        starts.append(start(arguments, folder, dict(os.environ)))
    return Result(sum(file.stat().st_size for file in files), hashed, rates, starts)


def show(result: Result) -> None:
    """The tables."""
    print(f"\n{result.total_bytes / 1e9:.2f} GB of weights, hashed once in {result.hash_seconds:.1f} s")
    for threads, bytes_per_second in result.rates.items():
        print(f"the disk, {threads} threads: {bytes_per_second / 1e9:.2f} GB/s")
    print(
        f"so it is read in {result.reading:.1f} s; "
        f"the bar is {BAR[0]:g} times that and {BAR[1]:g} s: {result.bar:.1f} s\n"
    )
    print(f"{'seconds since the start':28}{'found':>10}{'imported':>10}{'loaded':>10}{'drawn':>10}{'of the bar':>12}")
    for name, one in zip(("first process", "second, with its kernels"), result.starts, strict=True):
        print(
            f"{name:28}{one.found:10.1f}{one.imported:10.1f}{one.loaded:10.1f}{one.drawn:10.1f}"
            f"{one.drawn / result.bar:12.1%}"
        )


def main() -> None:
    """Run, print tables, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="toy sizes on the CPU, to test this script")
    parser.add_argument("--blocks", type=int, help="blocks of the transformer (60)")
    parser.add_argument("--layers", type=int, help="layers of the text encoder (28)")
    parser.add_argument("--write", action="store_true", help="write the checkpoint to --folder, and nothing more")
    parser.add_argument("--steps", type=int, default=8, help="denoising steps of the picture, without guidance")
    parser.add_argument("--precision", default="auto", help="of the model: auto, bfloat16, float8")
    parser.add_argument("--folder", type=Path, help="where the checkpoint is, or goes; a temporary folder by default")
    parser.add_argument("--out", type=Path, help="where to write the result as JSON")
    parser.add_argument("--started", type=float, help=argparse.SUPPRESS)  # what the new process is told
    arguments = parser.parse_args()
    if arguments.started is not None:
        start_lane(arguments)
        return
    if arguments.write:
        write(arguments, arguments.folder)
        return

    with ExitStack() as folders:
        folder = arguments.folder or Path(folders.enter_context(tempfile.TemporaryDirectory(prefix="packshot-cold-")))
        cache = Path(folders.enter_context(tempfile.TemporaryDirectory(prefix="packshot-cache-")))
        result = measure(arguments, folder, cache)
    show(result)
    from benchmarks.results import tell

    computed = {"reading_seconds": result.reading, "bar_seconds": result.bar}
    tell(arguments.out, on_cpu=arguments.tiny, result={**asdict(result), **computed})


if __name__ == "__main__":
    main()
