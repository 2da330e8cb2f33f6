"""Several lanes against one, on the product's own road: how near N lanes come to N times the pictures of one.

    python -m benchmarks.lanes --lanes 2 4 --out out/lanes.json    # full size, random weights, that many GPUs
    python -m benchmarks.lanes --lanes 2 --folder FOLDER           # of a checkpoint that is there, or is written there
    python -m benchmarks.lanes --tiny                              # the miniature on two cores: does this script work?

Each number of lanes is a command of its own, `packshot generate --lanes`, into a store of its own: the flow, Ray,
the stages and the store are as a person has them. Rows are of two sizes, so that shards are uneven. What counts is how
long it takes for the middle eight tenths of the rows to end, as the catalogue has it: neither the models' loading nor
the end. Whole seconds, from the command's start to its end, stand beside that.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.results import tell

PROMPT = "A red enamel mug with a white rim, studio photo on plain white"
COMMAND = (sys.executable, "-c", "from flows.command import main; main()")
ENDED_WELL = (0, 1)  # random weights may leave the numbers that a precision has: a row that fails takes no less time
MIDDLE = (0.1, 0.9)  # of the rows


@dataclass(frozen=True)
class Result:
    """What so many lanes did."""

    lanes: int
    rows: int
    middle_seconds: float
    whole_seconds: float
    ratio: float  # of one lane's middle seconds to these


def write_manifest(file: Path, rows: int, size: int) -> None:
    """Write rows of which every third is of a quarter of the pixels."""
    sizes = [size if row % 3 else size // 2 for row in range(rows)]
    ids = [f"r{row:06}" for row in range(rows)]
    pq.write_table(pa.table({"id": ids, "prompt": [PROMPT] * rows, "width": sizes, "height": sizes}), file)


def run(arguments: argparse.Namespace, folder: Path, model: Sequence[str], lanes: int) -> tuple[float, float]:
    """Run the command with so many lanes; returns the seconds of the middle rows, and of all."""
    store = folder / f"store-{lanes}"
    words = ["generate", str(folder / "manifest.parquet"), "--store", str(store), "--lanes", str(lanes), *model]
    words += ["--steps", str(arguments.steps), "--guidance", str(arguments.guidance), "--clip", "none"]
    words += ["--shard-rows", str(arguments.shard_rows), "--precision", arguments.precision]
    # Threads of lanes that share a CPU would be counted against each other.
    environment = {**os.environ, **({"OMP_NUM_THREADS": "1"} if arguments.tiny else {})}
    began = time.perf_counter()
    ended = subprocess.run([*COMMAND, *words], env=environment, check=False, capture_output=True, text=True)
    whole = time.perf_counter() - began
    if ended.returncode not in ENDED_WELL:
        raise SystemExit(f"The command with {lanes} lanes ended with {ended.returncode}: {ended.stderr.strip()}")
    finished = sorted(pq.read_table(store / "catalog.parquet", columns=["finished_at"]).column(0).to_pylist())
    first, last = (finished[int(share * (len(finished) - 1))] for share in MIDDLE)
    return (last - first).total_seconds(), whole


def compare(arguments: argparse.Namespace, folder: Path, model: Sequence[str]) -> list[Result]:
    """Measure one number of lanes after another."""
    print(f"{'lanes':>5}{'rows':>8}{'middle s':>10}{'whole s':>9}{'ratio':>8}{'of N':>8}")
    results: list[Result] = []
    for lanes in sorted({1, *arguments.lanes}):
        middle, whole = run(arguments, folder, model, lanes)
        alone = results[0].middle_seconds if results else middle
        results.append(Result(lanes, arguments.rows, middle, whole, alone / middle))
        print(line(results[-1]), flush=True)
    return results


def line(result: Result) -> str:
    """One row of the table."""
    times = f"{result.middle_seconds:10.1f}{result.whole_seconds:9.1f}"
    return f"{result.lanes:5}{result.rows:8}{times}{result.ratio:8.3f}{result.ratio / result.lanes:8.1%}"


def checkpoint(folder: Path) -> list[str]:
    """Write a checkpoint of random weights, unless there is one."""
    if not (folder / "model_index.json").exists():
        from benchmarks.checkpoints import write_checkpoint

        print(f"writing a checkpoint to {folder}", flush=True)
        write_checkpoint(folder)
    return ["--model", str(folder)]


def main() -> None:
    """Run, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="the miniature on the CPU, to test this script")
    parser.add_argument("--lanes", type=int, nargs="+", default=[2], help="numbers of lanes to measure beside one")
    parser.add_argument("--rows", type=int, help="of the manifest (512)")
    parser.add_argument("--shard-rows", type=int, help="rows of a shard (16)")
    parser.add_argument("--size", type=int, help="pixels of a side of two thirds of the rows (1024)")
    parser.add_argument("--steps", type=int, default=8, help="denoising steps")
    parser.add_argument("--guidance", type=float, default=1.0, help="true CFG scale; 1 is none")
    parser.add_argument("--precision", default="auto", help="as packshot's")
    parser.add_argument("--folder", type=Path, help="of the checkpoint (a temporary one)")
    parser.add_argument("--out", type=Path, help="where to write the results as JSON")
    arguments = parser.parse_args()
    arguments.size = arguments.size or (128 if arguments.tiny else 1024)
    arguments.rows = arguments.rows or (48 if arguments.tiny else 512)
    arguments.shard_rows = arguments.shard_rows or (4 if arguments.tiny else 16)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model = ["--device", "cpu"] if arguments.tiny else checkpoint(arguments.folder or folder / "checkpoint")
        write_manifest(folder / "manifest.parquet", arguments.rows, arguments.size)
        results = compare(arguments, folder, model)
    settings = {name: getattr(arguments, name) for name in ("rows", "shard_rows", "size", "steps", "guidance")}
    tell(
        arguments.out,
        on_cpu=arguments.tiny,
        **settings,
        precision=arguments.precision,
        results=list(map(asdict, results)),
    )


if __name__ == "__main__":
    main()
