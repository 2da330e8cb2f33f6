"""`packshot manifest check` says in seconds, without a model, what a run would make of a manifest."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.models.conftest import save_edit

LIGHT = """
import sys
from flows.command import main
heavy = ("torch", "diffusers", "prefect", "transformers", "boto3")
try:
    main()
finally:
    print("imported:", *[name for name in heavy if name in sys.modules], file=sys.stderr)
"""


def command(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", LIGHT, "manifest", "check", *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def written(folder: Path, rows: list[dict[str, Any]]) -> str:
    pq.write_table(pa.Table.from_pylist(rows), folder / "m.parquet")
    return str(folder / "m.parquet")


def test_a_manifest_is_checked_without_importing_what_takes_seconds(tmp_path: Path) -> None:
    good = {"id": "a", "prompt": "a mug", "Seed": 1}
    manifest = written(tmp_path, [good, {"id": "b", "prompt": "nan", "Seed": 2}])
    said = command(manifest)
    assert (said.returncode, said.stderr) == (0, "imported:\n")
    assert "2 rows in 1 file, to generate with miniature" in said.stdout
    assert "The column 'Seed' is carried and not read" in said.stdout
    assert "1 row has a prompt that is 'nan', 'null' or the like" in said.stdout
    assert "No row would fail" in said.stdout

    manifest = written(tmp_path, [good, {"id": "a/b", "prompt": "a mug", "Seed": None}])
    said = command(manifest, "--json")
    document = json.loads(said.stdout)
    assert said.returncode == 1
    assert (document["rows"], document["would_fail"], document["columns"]["carried"]) == (2, 1, ["Seed"])
    (failure,) = document["failures"]
    assert (failure["reason"], failure["rows"], failure["ids"]) == ("bad_value", 1, ["a/b"])
    assert document["warnings"][0]["sentence"].startswith("The column 'Seed' is carried")

    edits = written(
        tmp_path, [{"id": "a", "image": "a.png", "instruction_name": "recolour", "colour": "red", "scene": "oak"}]
    )
    model = str(save_edit(tmp_path / "edits"))
    said = command(edits, "--keep", "product", "--instruction-name", "scene", "--model", model)
    assert (said.returncode, 'keep = "product"' in said.stdout) == (1, True)

    said = command(written(tmp_path, [{"prompt": "a mug"}]))
    assert said.returncode == 2
    assert "has no column 'id'; it has prompt" in said.stderr
