"""What a night costs on which nothing changed, and a dry run: seconds and peak memory of the whole command, no GPU.

python -m benchmarks.idle --rows 100 100000
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.figures import show_figures
from tasks.catalogue.catalogue import PATH as CATALOGUE
from tasks.catalogue.catalogue import State, content_of
from tasks.job import GenerateJob
from tasks.ledger.run import write_json
from tasks.outcome import CATALOGUE_SCHEMA, Status
from tasks.runs.prepare import RunRequest, prepare

COMMAND = [sys.executable, "-c", "from flows.command import main; main()"]


def settle(manifest: Path, store: Path) -> None:
    """Leave a store as a run leaves it that drew every row of a manifest, but for the pictures."""
    prepared = prepare(RunRequest(GenerateJob.of(manifest=str(manifest), store=str(store))))
    prepared.leave()
    plan = pq.read_table(store / prepared.run.path("plan.parquet"))
    rows = plan.num_rows
    columns = {name: pa.nulls(rows, CATALOGUE_SCHEMA.field(name).type) for name in CATALOGUE_SCHEMA.names}
    columns |= {name: plan.column(name) for name in ("id", "prompt", "seed", "key", "attempt")}
    columns["policy_fingerprint"] = plan.column("judged_by")
    columns |= {"status": pa.repeat(str(Status.DONE), rows), "retryable": pa.repeat(False, rows)}
    columns |= {"run": pa.repeat(prepared.run.id, rows), "seconds": pa.repeat(0.5, rows)}
    columns |= {name: pa.repeat(1, rows) for name in ("planned_from", "changed_in")}
    content = content_of(pa.table(columns).cast(CATALOGUE_SCHEMA), State(version=1))
    prepared.store.overwrite(CATALOGUE, content)
    write_json(prepared.store, prepared.run.path("summary.json"), {})


def measure(rows: int, folder: Path) -> list[dict[str, float | str]]:
    """The two commands over so many rows."""
    manifest, store = folder / f"{rows}.parquet", folder / str(rows)
    ids = [f"sku-{number:08}" for number in range(rows)]
    pq.write_table(pa.table({"id": ids, "prompt": [f"product {one}, studio photo on white" for one in ids]}), manifest)
    settle(manifest, store)
    words = ["generate", str(manifest), "--store", str(store)]
    return [
        {"command": name, "rows": rows, **_took([*COMMAND, *words, *flags])}
        for name, flags in (("nothing to do", []), ("--dry-run", ["--dry-run"]))
    ]


def _took(command: list[str]) -> dict[str, float]:
    before = time.perf_counter()
    with Path(os.devnull).open("w") as nowhere:
        actions = [(os.POSIX_SPAWN_DUP2, nowhere.fileno(), 1)]
        process = os.posix_spawn(command[0], command, os.environ, file_actions=actions)
        _, status, used = os.wait4(process, 0)
    seconds = time.perf_counter() - before
    assert os.waitstatus_to_exitcode(status) == 0
    return {
        "seconds": round(seconds, 2),
        "processor_s": round(used.ru_utime + used.ru_stime, 2),
        "peak_mib": used.ru_maxrss // 1024,
    }


def main() -> None:
    """Measure every size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[100, 100_000])
    parser.add_argument("--out", type=Path, help="write the figures as JSON, too")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = [figure for rows in arguments.rows for figure in measure(rows, Path(folder))]
    show_figures("A night on which nothing changed", figures, arguments.out)


if __name__ == "__main__":
    main()
