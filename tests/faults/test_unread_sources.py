"""A source picture that can't be read now takes nothing from a row that was settled, and the run says so."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from flows.commands.terminal import show_summary
from flows.orchestration.artifacts import summary_text
from tasks.reports.summary import Summary
from tasks.sources.source_error import SourceError
from tasks.sources.web_source import WebSource
from tasks.stores.store import Store
from tests.end_to_end.conftest import ROAD, catalogue, manifest, prefect_api, store
from tests.end_to_end.conftest import run as generate
from tests.end_to_end.test_control_pictures import drawing as drawing_after
from tests.end_to_end.test_control_pictures import png
from tests.end_to_end.test_decompose import drawing, layered, run
from tests.tasks.bad_server import BadServer, resets, sends, serving

__all__ = ["drawing_after", "layered", "manifest", "prefect_api", "run", "store"]  # fixtures


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[BadServer]:
    """A shop's picture host on this machine, asked once and not again."""
    monkeypatch.setattr(
        "tasks.sources.intake.WebSource", partial(WebSource, loopback=True, pauses=(), read_timeout=2.0)
    )
    with serving() as server:
        yield server


@pytest.fixture
def dead_end(monkeypatch: pytest.MonkeyPatch) -> Callable[[SourceError], AbstractContextManager[None]]:
    """Lets a lane read no source picture for a while, though the plan could."""

    @contextmanager
    def fail(error: SourceError) -> Iterator[None]:
        def read(*_: Any) -> bytes:
            raise error

        with monkeypatch.context() as broken:
            broken.setattr("tasks.lane.original_reader.read_source", read)
            yield

    return fail


def said(summary: Summary) -> str:
    """What a person sees at the terminal."""
    show_summary(Console(file=(terminal := io.StringIO()), width=400), summary)
    return terminal.getvalue()


def test_a_host_that_does_not_answer_takes_no_done_row_away(
    run: Callable[..., Summary], store: Store, server: BadServer
) -> None:
    def row(name: str, **values: Any) -> dict[str, Any]:
        return {"id": name, "image": server.address(f"/{name}.png"), "caption": "a mug", "price": 1, **values}

    names = ("busy", "cut", "gone", "calm")
    server.answers |= {f"/{name}.png": [sends(drawing(seed))] for seed, name in enumerate(names)}
    go = partial(run, image_hosts=(server.host,))
    go([row(name) for name in names])
    before = catalogue(store)
    assert {found["status"] for found in before.values()} == {"done"}

    server.answers["/busy.png"] = [sends(status="503 Service Unavailable")]
    server.answers["/cut.png"] = [resets]
    del server.answers["/gone.png"]
    server.answers["/calm.png"] = [sends(drawing(9))]
    away = [row("new"), *(row(name, price=2) for name in names)]
    server.answers["/new.png"] = server.answers["/busy.png"]
    summary = go(away)

    after = catalogue(store)
    for name in ("busy", "cut"):
        assert after[name] == {**before[name], "price": 2}
        assert Path(after[name]["uri"]).exists()
    assert (after["gone"]["status"], after["gone"]["reason"]) == ("failed", "source_not_found")
    assert (after["new"]["status"], after["new"]["reason"]) == ("failed", "source_unreachable")
    assert (after["calm"]["status"], after["calm"]["key"] == before["calm"]["key"]) == ("done", False)
    assert (summary.unread.rows, summary.unread.example) == (2, "busy")
    sentence = "2 rows were kept as they were because their source can't be read now, busy for one:"
    report = store.read(f"runs/{summary.run}/report.html")
    assert report is not None
    for text in (said(summary), summary_text(summary), report[0].decode().replace("&#39;", "'")):
        assert sentence in " ".join(text.split())
        assert "HTTP 503" in text

    # The same command again starts no work, and still says what it couldn't look at.
    again = go(away)
    assert (again.run, again.rendered, again.unread) == (None, 0, summary.unread)
    assert catalogue(store) == after

    for seed, name in enumerate(("busy", "cut")):
        server.answers[f"/{name}.png"] = [sends(drawing(seed))]
    assert go(away).unread.rows == 0
    assert catalogue(store)["busy"] == after["busy"]


@pytest.mark.parametrize("retryable", [True, False])
def test_a_picture_is_not_lost_because_a_lane_cannot_read_what_it_was_drawn_after(
    manifest: Callable[..., str],
    store: Store,
    tmp_path: Path,
    drawing_after: dict[str, Any],
    dead_end: Callable[[SourceError], AbstractContextManager[None]],
    retryable: bool,
) -> None:
    rows = [{"id": "a", "prompt": "a red mug", "control": png(1)}]
    generate(manifest(rows), store, **drawing_after)
    before = catalogue(store)["a"]
    (policy := tmp_path / "stricter.toml").write_text(Path(ROAD).read_text().replace("= 1.0", "= 0.99"))
    stricter = {**drawing_after, "policy": str(policy)}
    more = manifest([*rows, {**rows[0], "id": "new", "seed": 5}])

    with dead_end(SourceError("source_unreachable", "The host doesn't answer.", retryable=retryable)):
        summary = generate(more, store, **stricter)

    found = catalogue(store)
    assert found["a"] == {**before, "retryable": True}
    assert (found["new"]["status"], found["new"]["reason"]) == ("failed", "source_unreachable")
    assert summary.to_judge == 1
    assert Path(before["uri"]).exists()

    assert generate(manifest(rows), store, **stricter).rendered == 0
    assert catalogue(store)["a"] == {
        **before,
        **{name: catalogue(store)["a"][name] for name in ("policy_fingerprint", "run", "seconds", "finished_at")},
    }
