"""How long it takes to plan a manifest, and to find that nothing is left to do: seconds and memory, no GPU.

python -m benchmarks.plan --rows 100000 1000000
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.figures import show_figures
from tasks.catalogue.catalogue import Catalogue
from tasks.kinds.generate.prompt_rows import Defaults, PromptRows
from tasks.ledger.plan import COLUMNS, Planner, write_plan
from tasks.manifests.fetch import fetch_manifest
from tasks.manifests.key import Maker
from tasks.manifests.manifest import open_manifest
from tasks.outcome import SCHEMA, Status

DEFAULTS = Defaults(
    width=1024,
    height=1024,
    steps=50,
    guidance=4.0,
    negative_prompt=" ",
    profile="none",
    seed=0,
    variants=1,
    template=None,
    fewest_steps=2,
    size_multiple=16,
)


def planner(catalogue: Catalogue) -> Planner:
    """A planner as a job makes it."""
    return Planner(
        rows=PromptRows(DEFAULTS),
        maker=Maker("checkpoint", "bfloat16", ("png", None)),
        policy_fingerprint=lambda _: "judges",
        known=catalogue.known,
        retry=frozenset(),
        shard_rows=128,
    )


def settled(plan: pa.Table) -> Catalogue:
    """The catalogue of a run that did everything in a plan."""
    rows = plan.num_rows
    columns = {name: pa.nulls(rows, SCHEMA.field(name).type) for name in SCHEMA.names}
    columns |= {name: plan.column(name) for name in ("id", "prompt", "seed", "key", "attempt")}
    columns["policy_fingerprint"] = plan.column("judged_by")
    columns |= {"status": pa.repeat(str(Status.DONE), rows), "retryable": pa.repeat(False, rows)}
    return Catalogue(pa.table(columns), None)


def measure(rows: int) -> dict[str, float]:
    """Write a manifest of so many rows, plan it, and plan it again when everything in it is done."""
    with tempfile.TemporaryDirectory() as folder:
        manifest, plan = Path(folder) / "manifest.parquet", Path(folder) / "plan.parquet"
        table = pa.table(
            {
                "id": [f"sku-{number:08}" for number in range(rows)],
                "prompt": [f"product number {number}, studio photo on a white background" for number in range(rows)],
                "price": list(range(rows)),
            }
        )
        pq.write_table(table, manifest)
        del table
        began = time.perf_counter()
        processor = time.process_time()
        opened = open_manifest("manifest", fetch_manifest(str(manifest), Path(folder)))
        plan_counts = write_plan(planner(Catalogue(SCHEMA.empty_table(), None)), opened, plan)
        planned, planned_processor = time.perf_counter(), time.process_time()
        catalogue = settled(pq.read_table(plan, columns=[name for name in COLUMNS.names if name != "shard"]))
        began_again, processor_again = time.perf_counter(), time.process_time()
        again = write_plan(planner(catalogue), opened, Path(folder) / "again.parquet")
        ended, ended_processor = time.perf_counter(), time.process_time()
        assert (plan_counts.to_do, again.to_do, again.carried_over) == (rows, 0, rows)
        return {
            "rows": rows,
            "shards": plan_counts.shards,
            "plan_s": round(planned - began, 1),
            "replan_s": round(ended - began_again, 1),
            "plan_cpu_s": round(planned_processor - processor, 1),
            "replan_cpu_s": round(ended_processor - processor_again, 1),
            "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        }


def main() -> None:
    """Measure each size in a process of its own, so that the peak memory is that size's."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000])
    parser.add_argument("--out", type=Path, help="write the figures as JSON, too")
    arguments = parser.parse_args()
    figures = []
    for rows in arguments.rows:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            figures.append(pool.apply(measure, (rows,)))
    show_figures("Planning a manifest", figures, arguments.out)


if __name__ == "__main__":
    main()
