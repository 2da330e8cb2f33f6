"""examples/edits.parquet through the edit flow, with a checkpoint of random weights: what no weights decide."""

from __future__ import annotations

from pathlib import Path

from flows.edit import edit
from tasks.job_file import load_job
from tasks.kinds.edit.edit_job import EditJob
from tasks.stores.opening import open_store
from tests.end_to_end.conftest import catalogue
from tests.models.conftest import save_edit

EXAMPLES = Path(__file__).parents[2] / "examples"
NEVER_EDITED = {
    "Asked for what no shop may show": ("blocked", "blocklist"),
    "Recoloured with its own pixels kept": ("failed", "bad_value"),
    "A scene that nobody named": ("failed", "bad_value"),
    "No instruction": ("failed", "bad_value"),
    "An instruction that nobody wrote": ("failed", "bad_value"),
    "A mask of another size": ("failed", "bad_value"),
    "A mask of nothing": ("failed", "bad_value"),
    "A second picture that is cut off": ("failed", "source_corrupt"),
    "Decompression bomb": ("failed", "source_too_large"),
}


def test_rows_that_reach_no_model_end_as_they_should(tmp_path: Path, another_clip: str) -> None:
    model = save_edit(tmp_path / "model", resolution=128, vision_resolution=64)
    policy = tmp_path / "policy.toml"
    policy.write_text(f'extends = "sources"\ncalibrated_for = "{another_clip}"\n', encoding="utf-8")
    store = open_store(str(tmp_path / "store"))
    job = {"model": str(model), "clip": another_clip, "policy": str(policy), "steps": 2, "width": 64, "height": 64}

    manifest = str(EXAMPLES / "edits.parquet")

    edit(load_job(EditJob, EXAMPLES / "edits.toml", manifest=manifest, store=store.uri, **job), None, ())

    rows = catalogue(store).values()
    ends = {row["title"]: (row["status"], row["reason"]) for row in rows}
    assert {title: end for title, end in ends.items() if end[0] in ("blocked", "failed")} == NEVER_EDITED
    assert len(ends) == len(rows) == 30
    (listed,) = (row["message"] for row in rows if row["status"] == "blocked")
    assert listed == "The instruction names something on the list “weapons” (en): rifle."
