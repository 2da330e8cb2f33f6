"""What a shard's commit costs from the first shard of a run to its last, and what reading all ledgers costs; no GPU.

python -m benchmarks.ledgers --shards 10000
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from statistics import median

from rich.console import Console
from rich.table import Table

from safety.verdict import Reason
from tasks.ledger.run import Run
from tasks.outcome import Outcome, Status
from tasks.stores.opening import open_store

SHOWN = 5  # parts of a run that the figures are given for
THREADS = 8  # that read ledgers, as in a run


def outcomes(shard: int, rows: int) -> list[Outcome]:
    """What became of the rows of a shard, each with a message and scores of its own."""
    return [
        Outcome(
            id=f"sku-{shard:05}-{number:04}",
            status=Status.REJECTED,
            key=hashlib.sha256(f"{shard} {number}".encode()).hexdigest(),
            seed=number,
            prompt=f"product number {number} of shard {shard}, studio photo on a white background",
            model="Qwen/Qwen-Image@0123456789ab",
            profile="none",
            policy_fingerprint="0123456789ab",
            run="benchmark",
            attempt=0,
            reason=Reason.OFF_PROMPT,
            message=f"The picture matches its prompt by {number / rows:.3f}.",
            scores={"prompt match": number / rows, "weapon": 0.1},
        )
        for number in range(rows)
    ]


def main() -> None:
    """Commit shards to a folder, one after another, and read their ledgers as the end of a run does."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", type=int, default=10_000)
    parser.add_argument("--rows", type=int, default=128, help="of a shard")
    arguments = parser.parse_args()
    run, seconds = Run("benchmark"), []
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(THREADS) as pool:
        store = open_store(folder)
        for shard in range(arguments.shards):
            ended = outcomes(shard, arguments.rows)
            began = time.perf_counter()
            run.commit(store, shard, ended)
            seconds.append(time.perf_counter() - began)
        began = time.perf_counter()
        table, read = run.outcomes(store, arguments.shards, pool)
        reading = time.perf_counter() - began
        assert (table.num_rows, read) == (arguments.shards * arguments.rows, arguments.shards)
    shown = Table(title=f"Committing {arguments.shards:,} shards of {arguments.rows} rows to a folder")
    shown.add_column("shards", justify="right")
    shown.add_column("ms a commit, median", justify="right")
    part = max(1, arguments.shards // SHOWN)
    for first in range(0, arguments.shards, part):
        some = seconds[first : first + part]
        shown.add_row(f"{first:,} to {first + len(some) - 1:,}", f"{1000 * median(some):.2f}")
    console = Console()
    console.print(shown)
    console.print(f"Reading all of them: {reading:.1f} s, {table.num_rows:,} rows.")


if __name__ == "__main__":
    main()
