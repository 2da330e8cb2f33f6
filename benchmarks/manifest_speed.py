"""How long `packshot manifest check` takes, and its peak memory: no GPU, no model.

python -m benchmarks.manifest_speed --rows 100000 1000000
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.figures import show_figures

BAD = 1000  # one row of so many has a width that isn't allowed
COMMAND = "from flows.command import main; main()"


def write(rows: int, file: Path) -> None:
    """Write a manifest as a shop exports it: widths and seeds as doubles, a title and a price that are carried."""
    numbers = np.arange(rows)
    texts = [f"product number {number} in enamel, studio photo on a white background" for number in range(rows)]
    columns = {
        "id": [f"sku-{number:08}" for number in range(rows)],
        "prompt": texts,
        "title": texts,
        "width": np.where(numbers % BAD == 0, 17.0, 1024.0),
        "seed": np.where(numbers % 2 == 0, np.nan, numbers),
        "price": numbers,
    }
    pq.write_table(pa.table(columns), file)


def measure(rows: int) -> dict[str, float]:
    """Check such a manifest by the command line."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "manifest.parquet"
        write(rows, file)
        began = time.perf_counter()
        command = [sys.executable, "-c", COMMAND, "manifest", "check", str(file), "--json"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        said = json.loads(process.stdout.read())
        _, status, usage = os.wait4(process.pid, 0)
        took = time.perf_counter() - began
        assert os.waitstatus_to_exitcode(status) == 1
        assert (said["rows"], said["would_fail"]) == (rows, -(-rows // BAD))
        return {
            "rows": rows,
            "check_s": round(took, 1),
            "cpu_s": round(usage.ru_utime + usage.ru_stime, 1),
            "peak_mib": usage.ru_maxrss // 1024,
        }


def main() -> None:
    """Measure each size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000])
    parser.add_argument("--out", type=Path, help="write the figures as JSON, too")
    arguments = parser.parse_args()
    figures = [measure(rows) for rows in arguments.rows]
    show_figures("Checking a manifest", figures, arguments.out)


if __name__ == "__main__":
    main()
