"""A manifest that is written while a run reads it, or goes on, is noticed."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.job import GenerateJob
from tasks.manifests.manifest_file import ManifestError
from tasks.manifests.manifest_state import manifest_state
from tasks.runs import prepare as preparing
from tasks.runs.finish import finish
from tasks.runs.prepare import RunRequest, prepare
from tasks.stores.opening import open_store


def written(file: Path, prompt: str = "a mug") -> str:
    pq.write_table(pa.table({"id": ["a"], "prompt": [prompt], "width": [3]}), file)
    return str(file)


def test_a_state_is_another_after_every_write(tmp_path: Path) -> None:
    file, folder = written(tmp_path / "one.parquet"), str(tmp_path)
    files, folders = [manifest_state(file)], [manifest_state(folder)]
    assert (manifest_state(file), manifest_state(folder)) == (files[0], folders[0])
    written(tmp_path / "two.parquet")
    folders.append(manifest_state(folder))
    os.utime(file, ns=(0, 0))
    files.append(manifest_state(file))
    folders.append(manifest_state(folder))
    (tmp_path / "one.parquet").unlink()
    files.append(manifest_state(file))
    folders.append(manifest_state(folder))
    assert (len(set(files)), len(set(folders))) == (len(files), len(folders)) == (3, 4)
    (tmp_path / "_SUCCESS").touch()
    (tmp_path / "notes.txt").touch()
    assert manifest_state(folder) == folders[-1]  # they are nobody's, or no manifest's


def test_a_state_in_a_bucket_is_another_after_a_write(s3_store_uri: str) -> None:
    store = open_store(s3_store_uri)
    store.overwrite("one.parquet", b"one")
    file = f"{s3_store_uri}/one.parquet"
    states = [manifest_state(file), manifest_state(s3_store_uri)]
    assert states == [manifest_state(file), manifest_state(s3_store_uri)]
    store.overwrite("one.parquet", b"another")
    states += [manifest_state(file), manifest_state(s3_store_uri), manifest_state(f"{s3_store_uri}/none.parquet")]
    assert len(set(states)) == len(states)


def test_rows_of_two_versions_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = written(tmp_path / "rows.parquet")
    draft = preparing.draft

    def drafted_late(*arguments: object, **options: object) -> object:
        written(tmp_path / "rows.parquet", "a cup")
        return draft(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(preparing, "draft", drafted_late)
    with pytest.raises(ManifestError, match=r"rows.parquet was written while it was read"):
        prepare(RunRequest(GenerateJob.of(manifest=file, store=str(tmp_path / "store"))))
    assert not list((tmp_path / "store").rglob("*.parquet"))


def test_a_manifest_that_was_written_again_is_a_notice_of_the_summary(tmp_path: Path) -> None:
    file = written(tmp_path / "rows.parquet")
    request = RunRequest(GenerateJob.of(manifest=file, store=str(tmp_path / "store")))
    started_at = datetime.now(UTC)
    unchanged = finish(prepare(request), started_at=started_at)
    prepared = prepare(request)
    written(tmp_path / "rows.parquet", "a cup")
    changed = finish(prepared, started_at=started_at)
    assert unchanged.notices == []
    assert changed.notices == [
        f"The manifest {file} was written again while this ran: what is new in it is for the next run."
    ]
