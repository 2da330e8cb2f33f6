"""The report is one page for people: counts, causes, pictures with reasons, and nothing from the network."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tasks.encoding import Encoding
from tasks.outcome import Status, outcome_table
from tasks.report import SHOWN, render_report
from tasks.store import Store, open_store
from tasks.summary import Summary, summarise

from .test_catalogue import outcome

STARTED = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


def page(store: Store, rows: pa.Table) -> str:
    return render_report(store, rows, summary(store, rows), up="../../")


def summary(store: Store, rows: pa.Table) -> Summary:
    return summarise(
        rows,
        run="run",
        store=store.uri,
        catalogue="catalog.parquet",
        report="report.html",
        rows=rows.num_rows,
        started_at=STARTED,
        complete=True,
    )


def stored(store: Store, name: str) -> str:
    pixels = np.full((40, 80, 3), 200, np.uint8)
    store.put_once(f"images/{name}.png", Encoding("png", 1).encode(pixels))
    return store.uri_of(f"images/{name}.png")


def test_a_page_shows_its_pictures_and_why_rows_have_none(store: Store) -> None:
    rows = outcome_table(
        [
            outcome("good", uri=stored(store, "good"), width=80, height=40),
            outcome("bad", status=Status.REJECTED, reason="profile", message="The background isn't white.", key="k"),
            outcome("listed", status=Status.BLOCKED, reason="blocklist", message="The prompt names something."),
        ]
    )
    html = page(store, rows)
    assert html.count("data:image/jpeg;base64,") == 1
    assert 'href="../../images/good.png"' in html
    assert "The background isn&#39;t white." in html
    assert "blocklist" in html
    assert re.search(r"<b>1</b>\s*blocked", html)


def test_a_page_needs_nothing_from_the_network(store: Store) -> None:
    html = page(store, outcome_table([outcome("good", uri=stored(store, "good"), width=80, height=40)]))
    assert "http:" not in html
    assert "https:" not in html
    assert "<script" not in html


def test_what_a_manifest_says_is_text_and_not_html(store: Store) -> None:
    html = page(store, outcome_table([outcome("a", prompt="<script>alert(1)</script>", uri=None)]))
    assert "<script>" not in html
    assert "&lt;script&gt;" in html


def test_a_page_about_many_rows_shows_some_of_each_kind_and_says_so(store: Store) -> None:
    rows = outcome_table([outcome(f"r{n:04}") for n in range(1000)])
    html = page(store, rows)
    assert html.count('class="card done"') == SHOWN[Status.DONE]
    assert f"1000, {SHOWN[Status.DONE]} of them shown" in html
    assert "r0000" in html
    assert "r0983" in html


def test_a_picture_that_has_gone_leaves_the_rest_of_the_page(store: Store) -> None:
    store.put_once("images/torn.png", b"not a picture")
    rows = [outcome(name, uri=store.uri_of(f"images/{name}.png"), width=8, height=8) for name in ("gone", "torn")]
    html = page(store, outcome_table(rows))
    assert html.count('class="card done"') == 2
    assert "<img" not in html


def test_a_summary_counts_causes_with_the_commonest_first(store: Store) -> None:
    refused = [outcome(f"r{n}", status=Status.REJECTED, reason="profile", message="White.") for n in range(2)]
    rows = outcome_table(
        [
            *refused,
            outcome("c", status=Status.REJECTED, reason="concept", message="Weapons."),
            outcome("d", seconds=2.0),
            outcome("e", seconds=4.0, run="another"),
        ]
    )
    found = summary(store, rows)
    assert [(cause.reason, cause.rows, cause.example) for cause in found.causes] == [
        ("profile", 2, "White."),
        ("concept", 1, "Weapons."),
    ]
    assert (found.rendered, found.kept, found.pictures_a_minute) == (1, 1, 30.0)
