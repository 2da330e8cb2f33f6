"""A manifest of prompts becomes a catalogue: every row once, whatever is changed between two runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName

from models.clip.clip import Clip
from models.engines.generator import Generator
from safety.marks.provenance import digital_source_type
from tasks.job import GenerateJob
from tasks.outcome import Retry
from tasks.results.encoding import decode
from tasks.runs.prepare import RunRequest, estimate
from tasks.stores.opening import open_store
from tasks.stores.store import Store
from tests.waiting import wait_for

from .conftest import SMALL, catalogue, run

SHOWN = {"width": None, "height": None, "steps": None, "guidance": None, "policy": "default"}
"""Pictures as the miniature draws them by default, under the default policy."""

MUGS = [{"id": f"mug-{n}", "prompt": f"a {c} mug on a white background"} for n, c in enumerate(("red", "blue", "teal"))]
REFUSE_MUGS = """
blocklists = ["en", "zh"]
neutral = ["a red boot", "a green sofa"]
[[concepts]]
name = "mug"
sentence = "Mugs aren't sold here any more."
phrases = ["a mug", "a red mug", "a blue mug", "a teal mug on a white background"]
picture_threshold = 0.0
"""


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may be drawn."""

    def load(*_: Any, **__: Any) -> Generator:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(Generator, "load", load)


@pytest.mark.quick
def test_every_row_ends_once_with_its_picture_its_scores_and_its_carried_columns(
    manifest: Callable[..., str], store: Store
) -> None:
    rows = [
        {"id": "good", "prompt": "a red mug on a white background", "width": None, "price": 1.5},
        {"id": "listed", "prompt": "a black handgun", "width": None, "price": 2.5},
        {"id": "hidden", "prompt": "a black h.a.n.d.g.u.n", "width": None, "price": 3.5},
        {"id": "bad", "prompt": "a red mug", "width": 17, "price": 4.5},
        {"id": "long", "prompt": "mug " * 2000, "width": None, "price": 5.5},
    ]

    summary = run(manifest(rows), store, **SHOWN)

    found = catalogue(store)
    assert {row: (found[row]["status"], found[row]["reason"]) for row in found} == {
        "good": ("done", None),
        "listed": ("blocked", "blocklist"),
        "hidden": ("blocked", "blocklist"),
        "bad": ("failed", "bad_value"),
        "long": ("failed", "prompt_too_long"),
    }
    assert [found[row["id"]]["price"] for row in rows] == [row["price"] for row in rows]
    good = found["good"]
    picture = Path(good["uri"]).read_bytes()
    assert hashlib.sha256(picture).hexdigest() == good["sha256"]
    assert len(picture) == good["bytes"]
    assert decode(picture).shape == (good["height"], good["width"], 3) == (256, 256, 3)
    assert str(digital_source_type(picture)).endswith("trainedAlgorithmicMedia")
    assert "weapon" in dict(good["scores"])
    assert all(found[row]["message"].endswith(".") for row in found if row != "good")
    assert summary.statuses == {"done": 1, "blocked": 2, "rejected": 0, "failed": 2}
    document = json.loads((Path(store.uri) / f"runs/{summary.run}/summary.json").read_text())
    assert document["statuses"] == summary.statuses
    (lane,) = document["lanes"]
    assert (lane["device"], lane["precision"], lane["placement"], lane["pictures"]) == ("CPU", "float32", "resident", 1)
    assert "CPU, float32: " in Path(summary.report).read_text()
    assert "mug" in Path(summary.report).read_text()


def test_the_same_command_again_draws_nothing(
    manifest: Callable[..., str], store: Store, request: pytest.FixtureRequest
) -> None:
    file = manifest(MUGS)
    first, before = run(file, store), catalogue(store)
    request.getfixturevalue("no_model")

    again = run(file, store)

    assert (first.rendered, again.rendered, again.kept) == (3, 0, 3)
    assert catalogue(store) == before


@pytest.mark.quick
def test_a_changed_prompt_makes_exactly_its_row_again(manifest: Callable[..., str], store: Store) -> None:
    run(manifest(MUGS), store)
    before = catalogue(store)
    changed = [{**MUGS[0], "prompt": "a green mug on a white background"}, *MUGS[1:]]

    summary = run(manifest(changed), store)

    after = catalogue(store)
    assert summary.rendered == 1
    assert summary.expectation is not None
    assert summary.expectation.rows == 1
    assert [row for row in after if after[row] != before[row]] == ["mug-0"]
    assert after["mug-0"]["key"] != before["mug-0"]["key"]


def test_a_clip_that_comes_later_judges_what_was_drawn_without_one(
    manifest: Callable[..., str], store: Store, request: pytest.FixtureRequest
) -> None:
    file = manifest(MUGS)
    first = run(file, store, clip="none")
    assert {row["status"] for row in catalogue(store).values()} == {"done"}
    assert ["weapon" in dict(row["scores"]) for row in catalogue(store).values()] == [False] * 3
    (warning,) = first.warnings
    assert "its concepts (weapon) aren't looked for" in warning
    assert warning.split(",")[0] in Path(first.report).read_text()
    (said,) = estimate(RunRequest(GenerateJob.of(manifest=file, store=store.uri, clip="none", **SMALL))).warnings
    assert said == warning
    request.getfixturevalue("no_model")

    again = run(file, store)

    assert (again.rendered, again.kept, again.warnings) == (0, 0, ())
    assert ["weapon" in dict(row["scores"]) for row in catalogue(store).values()] == [True] * 3


def test_a_changed_price_shows_in_the_catalogue_and_draws_nothing(
    manifest: Callable[..., str], store: Store, request: pytest.FixtureRequest
) -> None:
    run(manifest([{**row, "price": 1} for row in MUGS]), store)
    request.getfixturevalue("no_model")
    run(manifest([{**row, "price": 2} for row in MUGS]), store)
    assert {row["price"] for row in catalogue(store).values()} == {2}


def test_going_back_to_an_earlier_manifest_finds_its_pictures(
    manifest: Callable[..., str], store: Store, request: pytest.FixtureRequest
) -> None:
    one, two = manifest(MUGS, "1.parquet"), manifest([{**MUGS[0], "prompt": "a boot"}, *MUGS[1:]], "2.parquet")
    run(one, store)
    first = catalogue(store)
    run(two, store)
    request.getfixturevalue("no_model")

    run(one, store)

    assert catalogue(store)["mug-0"]["sha256"] == first["mug-0"]["sha256"]


def test_another_policy_judges_the_stored_pictures_again_and_draws_nothing(
    manifest: Callable[..., str], store: Store, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    file = manifest(MUGS)
    run(file, store, **SHOWN)
    before = catalogue(store)
    assert {row["status"] for row in before.values()} == {"done"}
    request.getfixturevalue("no_model")
    (tmp_path / "strict.toml").write_text(REFUSE_MUGS)

    run(file, store, **{**SHOWN, "policy": str(tmp_path / "strict.toml")})

    refused = catalogue(store)
    assert {(row["status"], row["reason"]) for row in refused.values()} == {("rejected", "concept")}
    assert {row["sha256"] for row in refused.values()} == {row["sha256"] for row in before.values()}
    assert all("/masters/" in row["uri"] and Path(row["uri"]).exists() for row in refused.values())
    assert not any(Path(row["uri"]).exists() for row in before.values())

    run(file, store, **SHOWN)

    after = catalogue(store)
    assert {row["status"] for row in after.values()} == {"done"}
    assert all(Path(row["uri"]).exists() and "/images/" in row["uri"] for row in after.values())
    assert all(Path(row["uri"]).exists() for row in refused.values())  # the masters stay
    assert {row["uri"] for row in after.values()}.isdisjoint(row["uri"] for row in before.values())


def test_a_rejected_row_is_retried_with_another_seed(
    manifest: Callable[..., str], store: Store, tmp_path: Path
) -> None:
    (tmp_path / "strict.toml").write_text(REFUSE_MUGS)
    file, strict = manifest(MUGS[:1]), {**SHOWN, "policy": str(tmp_path / "strict.toml")}
    run(file, store, **strict)
    first = catalogue(store)["mug-0"]

    run(file, store, retry=(Retry.REJECTED,), **strict)

    second = catalogue(store)["mug-0"]
    assert (first["attempt"], second["attempt"]) == (1, 2)
    assert first["seed"] != second["seed"]
    assert first["key"] != second["key"]


def test_a_limit_does_the_first_rows_and_the_rest_later(manifest: Callable[..., str], store: Store) -> None:
    file = manifest(MUGS)
    assert run(file, store, limit=1).rendered == 1
    assert list(catalogue(store)) == ["mug-0"]
    assert run(file, store).rendered == 2
    assert len(catalogue(store)) == 3


def test_two_runs_of_one_job_at_once_end_with_every_row_once(manifest: Callable[..., str], store: Store) -> None:
    rows = [{"id": f"r{n}", "prompt": f"a red mug number {n}"} for n in range(8)]
    file = manifest(rows)
    # A copied context, or a thread's flow would not know of the tests' server and start one of its own.
    threads = [Thread(target=copy_context().run, args=(partial(run, file, store, shard_rows=2),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    found = catalogue(store)

    assert {row["id"]: (row["status"], row["message"]) for row in found.values()} == {
        row["id"]: ("done", None) for row in rows
    }
    assert len(list(Path(store.uri).glob("runs/*"))) == 1
    for row in found.values():
        assert hashlib.sha256(Path(row["uri"]).read_bytes()).hexdigest() == row["sha256"]


def test_rows_that_share_a_picture_are_both_done(manifest: Callable[..., str], store: Store) -> None:
    run(manifest([{"id": name, "prompt": "a red mug", "seed": 1} for name in ("a", "b")]), store)
    found = catalogue(store)
    assert found["a"]["uri"] == found["b"]["uri"]
    assert {row["status"] for row in found.values()} == {"done"}


def test_where_a_profile_wants_it_a_row_with_the_picture_of_an_earlier_one_is_rejected(
    manifest: Callable[..., str], store: Store, tmp_path: Path
) -> None:
    (tmp_path / "unlike.toml").write_text("unlike_others = true")
    job = {"profile": str(tmp_path / "unlike.toml"), "shard_rows": 1}
    rows = [{"id": name, "prompt": "a red mug", "seed": 1} for name in ("b", "a")]
    file = manifest([*rows, {"id": "c", "prompt": "a red mug", "seed": 2}])

    run(file, store, **job)

    found = catalogue(store)
    assert {row: (found[row]["status"], found[row]["reason"]) for row in found} == {
        "b": ("done", None),
        "a": ("rejected", "duplicate"),
        "c": ("done", None),
    }
    assert "the row b, which comes first in the manifest" in found["a"]["message"]
    assert all(Path(row["uri"]).exists() for row in found.values())
    before = found
    assert run(file, store, **job).rendered == 0
    assert catalogue(store) == before


def test_a_bucket_holds_the_same_catalogue_as_a_folder(
    manifest: Callable[..., str], store: Store, s3_store_uri: str
) -> None:
    file, bucket = manifest(MUGS), open_store(s3_store_uri)

    summary = run(file, bucket)
    run(file, store)

    here, there = catalogue(store), catalogue(bucket)
    assert {i: there[i]["sha256"] for i in there} == {i: here[i]["sha256"] for i in here}
    assert all(there[i]["uri"].startswith(s3_store_uri) for i in there)
    assert bucket.exists(f"runs/{summary.run}/report.html")


@pytest.mark.parametrize(
    ("method", "ending"), [("embed_windows", "screen_failed"), ("embed_pictures", "classifier_failed")]
)
def test_a_clip_that_fails_lets_nothing_through(
    manifest: Callable[..., str], store: Store, monkeypatch: pytest.MonkeyPatch, method: str, ending: str
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("broken")

    with monkeypatch.context() as broken:
        broken.setattr(Clip, method, fail)
        run(manifest(MUGS), store)
    found = catalogue(store)
    assert {row["reason"] for row in found.values()} == {ending}
    assert not list(Path(store.uri).glob("images/*/*"))

    run(manifest(MUGS), store, retry=(Retry.BLOCKED, Retry.REJECTED))
    assert {row["status"] for row in catalogue(store).values()} == {"done"}


def test_prefect_shows_four_task_runs_a_shard_and_no_prompt(manifest: Callable[..., str], store: Store) -> None:
    canary = "xylophone7231"
    rows = [{"id": f"r{n}", "prompt": f"a red mug {canary} {n}"} for n in range(6)]
    name = manifest(rows, "seen.parquet")
    run(name, store, shard_rows=2)

    stages = [f"{stage} {shard}" for stage in ("classify", "keep", "render", "screen") for shard in range(3)]
    with get_client(sync_client=True) as client:
        (flow_run,) = client.read_flow_runs(flow_run_filter=FlowRunFilter(name=FlowRunFilterName(like_="seen.parquet")))

        def told() -> list[tuple[str, str | None]]:
            tasks = client.read_task_runs(flow_run_filter=FlowRunFilter(id={"any_": [flow_run.id]}))
            return sorted((task.name, task.state_name) for task in tasks)

        expected = sorted((name, "Completed") for name in (*stages, "lane 0", "plan", "finish"))
        wait_for(lambda: told() == expected)  # what becomes of tasks is written after a while
        artifacts = client.request("POST", "/artifacts/filter", json={}).text
        logs = client.request("POST", "/logs/filter", json={}).text

    assert canary not in artifacts + logs
