"""Several lanes against one, on the product's own road: how near N lanes come to N times the pictures of one.

    python -m benchmarks.lanes --lanes 2 --out out/lanes.json      # full size, random weights, float8, that many GPUs
    python -m benchmarks.lanes --lanes 2 --folder FOLDER           # of a checkpoint that is there, or is written there
    python -m benchmarks.lanes --lanes 2 --beside out/lanes.json --kill-one --fail-one   # a lane killed, a GPU left out
    python -m benchmarks.lanes --lanes 2 --gpu-memory 8GiB         # weights streamed: they share the host and its bus
    python -m benchmarks.lanes --tiny                              # the miniature on two cores: does this script work?

Each number of lanes is a command of its own, `packshot generate --lanes`, into a store of its own: the flow, Ray, the
stages and the store are as a person has them. Each lane has as many rows, of two sizes, so that shards are uneven. What
counts is the time in which all lanes drew: from when the last one began until the first one had nothing left, each row
of it worth the seconds that rows of its size took one lane. What it takes to start stands beside that. Where a lane is
killed or left out, it is the time from the first row to the last.

All of it takes no longer than `--minutes`: a command that would is stopped, as a person stops one, and what its lanes
had drawn until then counts. The figures so far are in `--out` after each command.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.results import tell

PROMPT = "A red enamel mug with a white rim, studio photo on plain white"
ROOT = Path(__file__).parents[1]
COMMANDS = {"packshot": ("-c", "from flows.command import main; main()"), "failing": ("-m", "benchmarks.failing_lane")}
# Random weights may leave the numbers that a precision has: a row that fails takes no less time. 130: stopped.
ENDED_WELL = (0, 1, 130, -signal.SIGKILL)
SECONDS_BETWEEN_LOOKS = 0.5
SECONDS_BETWEEN_WORDS = 10.0
SECONDS_TO_STOP = 60.0
CLUE = 3000  # characters
WRITE = """
import sys
from pathlib import Path
from benchmarks.checkpoints import write_checkpoint
write_checkpoint(Path(sys.argv[1]), durable=False)
"""
FAILING = "PACKSHOT_BENCHMARK_FAILING_LANE"  # the variable that names a lane whose GPU is to fail
LANE = "ray::RayLane"  # how Ray names a lane's process
BEGAN = time.monotonic()


@dataclass(frozen=True)
class Batch:
    """Rows that went through a GPU together."""

    began: float  # seconds since 1970
    ended: float
    widths: tuple[int, ...]

    def share(self, window: tuple[float, float]) -> float:
        """How much of it was drawn within a time."""
        inside = min(self.ended, window[1]) - max(self.began, window[0])
        return max(0.0, inside) / max(self.ended - self.began, 1e-9)


@dataclass(frozen=True)
class Result:
    """What so many lanes did."""

    what: str
    lanes: int
    rows: int  # that were drawn
    start_seconds: float  # from the command's start until the first lane drew
    all_drew_seconds: float  # in which all lanes drew, or from the first row to the last
    whole_seconds: float
    pictures_a_second: float  # while all drew
    work: float  # seconds of one lane that were drawn a second, while all drew
    ratio: float  # to one lane's
    gpu_busy: list[float] = field(default_factory=list)  # of each GPU, while all drew; a share of time
    notices: list[str] = field(default_factory=list)  # that the command gave


def say(words: str) -> None:
    """Print a line with the seconds that have passed."""
    print(f"{time.monotonic() - BEGAN:6.0f} s  {words}", flush=True)


def write_manifest(file: Path, rows: int, size: int) -> None:
    """Write rows of which every third is of a quarter of the pixels."""
    sizes = [size if row % 3 else size // 2 for row in range(rows)]
    ids = [f"r{row:06}" for row in range(rows)]
    pq.write_table(pa.table({"id": ids, "prompt": [PROMPT] * rows, "width": sizes, "height": sizes}), file)


@contextmanager
def sampling_gpus(seconds: float = 0.25) -> Iterator[list[tuple[float, list[float]]]]:
    """Sample how busy each GPU is: gives a list of times and shares, 0 … 1, that grows. Empty without NVML.

    What NVML calls utilization: the share of its last sample period in which any kernel ran.
    """
    samples: list[tuple[float, list[float]]] = []
    try:
        import pynvml

        pynvml.nvmlInit()
        gpus = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
    except Exception as error:  # noqa: BLE001  no driver, no library, no permission
        say(f"how busy GPUs are can't be asked: {error}")
        yield samples
        return
    over = threading.Event()

    def sample() -> None:
        while not over.wait(seconds):
            samples.append((time.time(), [pynvml.nvmlDeviceGetUtilizationRates(gpu).gpu / 100 for gpu in gpus]))

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield samples
    finally:
        over.set()
        thread.join()


def batches_in(store: Path) -> list[Batch]:
    """Read what was drawn from the ledgers: rows of one batch have the same share of its time."""
    rows: dict[tuple[Path, float], list[tuple[float, int]]] = defaultdict(list)
    for file in store.glob("runs/*/shards/*.parquet"):
        for row in pq.read_table(file, columns=["seconds", "finished_at", "width", "id"]).to_pylist():
            if row["seconds"] > 0:
                rows[file, row["seconds"]].append((row["finished_at"].timestamp(), row["width"] or 0))
    return sorted((_batch(seconds, finished) for (_, seconds), finished in rows.items()), key=lambda batch: batch.began)


def _batch(seconds: float, finished: list[tuple[float, int]]) -> Batch:
    ended = min(time for time, _ in finished)
    return Batch(ended - seconds * len(finished), ended, tuple(width for _, width in finished))


def all_drawing(batches: Sequence[Batch], lanes: int) -> tuple[float, float]:
    """Return from when until when so many batches were drawn at once, for the first and the last time."""
    edges = sorted([(batch.began, 1) for batch in batches] + [(batch.ended, -1) for batch in batches])
    drawing, times = 0, list[float]()
    for at, more in edges:
        if drawing == lanes and more < 0:
            times.append(at)
        drawing += more
        if drawing == lanes and more > 0:
            times.append(at)
    return (times[0], times[-1]) if times else (0.0, 0.0)


class Command:
    """One command, from its start to its end."""

    def __init__(
        self, arguments: argparse.Namespace, folder: Path, model: Sequence[str], lanes: int, what: str
    ) -> None:
        self.lanes, self.what, self.rows = lanes, what, lanes * arguments.rows
        self.store = folder / f"store-{lanes}-{what}"
        manifest = folder / f"manifest-{lanes}.parquet"
        write_manifest(manifest, self.rows, arguments.size)
        words = ["generate", str(manifest), "--store", str(self.store), "--lanes", str(lanes), *model]
        words += ["--steps", str(arguments.steps), "--guidance", str(arguments.guidance), "--clip", "none"]
        words += ["--shard-rows", str(arguments.shard_rows), "--precision", arguments.precision]
        words += ["--gpu-memory", arguments.gpu_memory] if arguments.gpu_memory else []
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
        if arguments.tiny:
            environment["OMP_NUM_THREADS"] = "1"  # threads of lanes that share a CPU would count against each other
        if what == "failing":
            environment[FAILING] = str(lanes - 1)
        self.said = (folder / f"said-{lanes}-{what}.txt").open("w+")
        self.began = time.time()
        command = [sys.executable, *COMMANDS["failing" if what == "failing" else "packshot"], *words]
        self.process = subprocess.Popen(command, env=environment, stdout=self.said, stderr=subprocess.STDOUT)

    def follow(self, until: float, at_half: Callable[[], None] | None) -> None:
        """Follow it to its end, and stop it where that is late.

        Args:
            until: a time, monotonic.
            at_half: called once, when half of the shards have ended.
        """
        word = time.monotonic()
        while self.process.poll() is None:
            time.sleep(SECONDS_BETWEEN_LOOKS)
            rows = sum(pq.read_metadata(file).num_rows for file in self.store.glob("runs/*/shards/*.parquet"))
            if time.monotonic() - word > SECONDS_BETWEEN_WORDS:
                word = time.monotonic()
                say(f"  {rows} of {self.rows} rows have ended")
            if at_half is not None and 2 * rows >= self.rows:
                at_half()
                at_half = None
            if time.monotonic() > until:
                say("  it takes too long, and is stopped")
                self.process.send_signal(signal.SIGTERM)
                try:
                    self.process.wait(SECONDS_TO_STOP)
                except subprocess.TimeoutExpired:
                    say(f"  it hasn't ended after {SECONDS_TO_STOP:g} s, and is killed")
                    self.process.kill()
        self.whole = time.time() - self.began

    def words(self) -> str:
        """What it said."""
        self.said.seek(0)
        return self.said.read()

    def clues(self) -> str:
        """Give what there is of a command that went wrong: its words, its traceback, and what Ray's processes wrote."""
        words = self.words()
        logs = Path(tempfile.gettempdir(), "ray", "session_latest", "logs")
        files = [Path(name.rstrip(".;,")) for name in words.split() if name.startswith("/")]
        files += [*sorted(logs.glob("worker-*.err")), logs / "raylet.err", logs / "gcs_server.err"]
        parts = [f"{file}:\n{file.read_text(errors='replace')[-CLUE:]}" for file in files if file.is_file()]
        return "\n\n".join([f"The command said: {words[-CLUE:]}", *parts])

    def kill_one(self) -> None:
        """Kill one of its lanes."""
        lanes = [child for child in self._children() if child.name().startswith(LANE[:15])]  # as the system cuts names
        if lanes:
            say(f"  a lane is killed: process {lanes[-1].pid}")
            lanes[-1].kill()
        else:
            say("  no lane is there to be killed")

    def _children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def result(self, alone: dict[int, float], base: float, samples: list[tuple[float, list[float]]]) -> Result:
        """Return what it did, beside one lane: `alone` has its seconds of a row by width, `base` its work."""
        batches = batches_in(self.store)
        if self.what == "plain":
            window = all_drawing(batches, self.lanes)
        else:
            window = batches[0].began, max(batch.ended for batch in batches)
        seconds = window[1] - window[0]
        if seconds <= 0:
            raise SystemExit(f"The {self.lanes} lanes never drew at once. {self.clues()}")
        pictures = sum(batch.share(window) * len(batch.widths) for batch in batches)
        work = sum(batch.share(window) * sum(alone[width] for width in batch.widths) for batch in batches) / seconds
        inside = [shares for at, shares in samples if window[0] <= at <= window[1]]
        return Result(
            self.what,
            self.lanes,
            sum(len(batch.widths) for batch in batches),
            batches[0].began - self.began,
            seconds,
            self.whole,
            pictures / seconds,
            work,
            work / (base or work),
            [mean(each) for each in zip(*inside, strict=True)],
            [line for line in self.words().splitlines() if line.startswith("notice")],
        )


def seconds_of_rows(batches: Sequence[Batch]) -> dict[int, float]:
    """Return how long one row of each width took."""
    took: dict[int, list[float]] = defaultdict(list)
    for batch in batches:
        for width in batch.widths:
            took[width].append((batch.ended - batch.began) / len(batch.widths))
    return {width: mean(seconds) for width, seconds in took.items()}


@dataclass
class OfOneLane:
    """What one lane took, which others stand beside."""

    alone: dict[int, float] = field(default_factory=dict)  # seconds of a row by its width
    base: float = 0.0  # seconds of drawing in a second


def read_earlier(file: Path) -> tuple[OfOneLane, set[int]]:
    """Read what an earlier command measured: of one lane, and which numbers of lanes."""
    document = json.loads(file.read_text())
    alone = {int(width): seconds for width, seconds in document["of_one_lane"]["alone"].items()}
    measured = {result["lanes"] for result in document["results"] if result["what"] == "plain"}
    return OfOneLane(alone, document["of_one_lane"]["base"]), measured


def measure(
    arguments: argparse.Namespace,
    folder: Path,
    model: Sequence[str],
    until: float,
    known: OfOneLane,
    measured: set[int],
) -> Iterator[Result]:
    """Measure one command after another; each gets its share of the time that is left."""
    most = max(arguments.lanes)
    asked = [(lanes, "plain") for lanes in sorted({1, *arguments.lanes} - measured)]
    asked += [(most, "killed")] * arguments.kill_one + [(most, "failing")] * arguments.fail_one
    for number, (lanes, what) in enumerate(asked):
        left = until - time.monotonic()
        say(f"{lanes} {'lane' if lanes == 1 else 'lanes'}, {what}, {left / (len(asked) - number):.0f} s at most")
        with sampling_gpus() as samples:
            command = Command(arguments, folder, model, lanes, what)
            at_half = command.kill_one if what == "killed" else None
            command.follow(time.monotonic() + left / (len(asked) - number) - 20, at_half)
        if command.process.returncode not in ENDED_WELL:
            raise SystemExit(f"The command ended with {command.process.returncode}. {command.clues()}")
        if not batches_in(command.store):
            say(f"nothing was drawn. {command.clues()}")
            continue
        known.alone = known.alone or seconds_of_rows(batches_in(command.store))
        result = command.result(known.alone, known.base, samples)
        known.base = known.base or result.work
        yield result


TITLES = {"lanes": 6, "rows": 6, "start s": 9, "all drew s": 11, "whole s": 9, "a second": 10, "ratio": 8, "of N": 8}
HEAD = " " * 10 + "".join(f"{title:>{width}}" for title, width in TITLES.items())


def line(result: Result) -> str:
    """One row of the table."""
    times = f"{result.start_seconds:9.1f}{result.all_drew_seconds:11.1f}{result.whole_seconds:9.1f}"
    rates = f"{result.pictures_a_second:10.3f}{result.ratio:8.3f}{result.ratio / result.lanes:8.1%}"
    busy = f"  GPUs busy {', '.join(f'{share:.1%}' for share in result.gpu_busy)}" if result.gpu_busy else ""
    return f"{result.what:10}{result.lanes:6}{result.rows:6}{times}{rates}{busy}"


def checkpoint(folder: Path) -> list[str]:
    """Write a checkpoint of random weights, unless there is one; in a process that leaves nothing on a GPU."""
    if not (folder / "model_index.json").exists():
        say(f"a checkpoint is written to {folder}")
        subprocess.run([sys.executable, "-c", WRITE, str(folder)], cwd=ROOT, check=True)
        say("it is there")
    return ["--model", str(folder)]


def main() -> None:
    """Run, print a table, write JSON after each of its lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="the miniature on the CPU, to test this script")
    parser.add_argument("--lanes", type=int, nargs="+", default=[2], help="numbers of lanes to measure beside one")
    parser.add_argument("--rows", type=int, help="of the manifest, for each lane (144)")
    parser.add_argument("--shard-rows", type=int, help="rows of a shard (8)")
    parser.add_argument("--size", type=int, help="pixels of a side of two thirds of the rows (1024)")
    parser.add_argument("--steps", type=int, default=8, help="denoising steps")
    parser.add_argument("--guidance", type=float, default=1.0, help="true CFG scale; 1 is none")
    parser.add_argument("--precision", help="as packshot's (float8)")
    parser.add_argument("--gpu-memory", help="as packshot's, of each lane: 8GiB (all there is)")
    parser.add_argument("--minutes", type=float, default=9.0, help="that all of it may take")
    parser.add_argument(
        "--beside", type=Path, help="JSON of an earlier command: numbers of lanes in it aren't measured again"
    )
    parser.add_argument("--kill-one", action="store_true", help="once more with a lane killed in the middle")
    parser.add_argument("--fail-one", action="store_true", help="once more with a GPU that fails three times")
    parser.add_argument("--folder", type=Path, help="of the checkpoint (a temporary one)")
    parser.add_argument("--out", type=Path, help="where to write the results as JSON")
    arguments = parser.parse_args()
    arguments.size = arguments.size or (128 if arguments.tiny else 1024)
    arguments.rows = arguments.rows or (48 if arguments.tiny else 144)
    arguments.shard_rows = arguments.shard_rows or (4 if arguments.tiny else 8)
    arguments.precision = arguments.precision or ("auto" if arguments.tiny else "float8")
    import ray  # before anything that takes minutes

    say(f"Ray {ray.__version__}, Python {sys.version.split()[0]}, {os.cpu_count()} cores")
    names = ("rows", "shard_rows", "size", "steps", "guidance", "precision", "gpu_memory")
    settings = {name: getattr(arguments, name) for name in names}
    known, measured = read_earlier(arguments.beside) if arguments.beside else (OfOneLane(), set[int]())
    results: list[Result] = []

    def document() -> dict[str, Any]:
        return {**settings, "of_one_lane": asdict(known), "results": list(map(asdict, results))}

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model = ["--device", "cpu"] if arguments.tiny else checkpoint(arguments.folder or folder / "checkpoint")
        for result in measure(arguments, folder, model, BEGAN + 60 * arguments.minutes, known, measured):
            results.append(result)
            say(json.dumps(asdict(result)))
            if arguments.out:
                arguments.out.parent.mkdir(parents=True, exist_ok=True)
                arguments.out.write_text(json.dumps(document(), indent=2))
    print(HEAD, *map(line, results), sep="\n")
    tell(arguments.out, on_cpu=arguments.tiny, **document())


if __name__ == "__main__":
    main()
