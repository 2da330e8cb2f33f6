"""The report is one page for people: counts, causes, pictures with reasons, and nothing from the network."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from rich.console import Console

from flows.commands.terminal import show_summary
from flows.orchestration.artifacts import summary_text
from models.memory.usage import Usage
from safety.marks.provenance import xmp_packet
from safety.verdict import ScoreLimit
from tasks.kinds.decompose.decompose_kind import DECOMPOSE
from tasks.ledger.run import Run, write_json
from tasks.outcome import Outcome, Status, outcome_table
from tasks.reports.report import SHOWN, render_report
from tasks.reports.summary import Summary, summarise
from tasks.results.encoding import Encoding, reference_copy
from tasks.results.layer_shelf import LayeredPicture, LayerShelf
from tasks.results.marking import Marking
from tasks.results.publication import addresses, publication_of, publish
from tasks.stores.opening import open_store
from tasks.stores.store import Store
from tests.tasks.catalogue.test_catalogue import outcome

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
    store.put_once(f"images/{name}.png", Encoding("png", 1).encode(pixels, xmp_packet()))
    return store.uri_of(f"images/{name}.png")


def layered(store: Store, name: str, *, place: str = "layers", with_psd: bool = True, **values: Any) -> Outcome:
    """A row of two layers whose objects are in the store: a white ground and a translucent red square."""
    folder = f"{place}/na/{name}"
    pictures = {file: np.full((40, 80, 4), 255, np.uint8) for file in ("source", "composite", "0", "1")}
    pictures["1"][...] = (200, 0, 0, 0)
    pictures["1"][10:30, 20:60, 3] = 128
    for file, pixels in pictures.items():
        buffer = io.BytesIO()
        Image.fromarray(pixels, "RGBA").save(buffer, "PNG")
        store.put_once(f"{folder}/{file}.png", buffer.getvalue())
    if with_psd:
        store.put_once(f"{folder}/layers.psd", b"8BPS")
    return outcome(
        name,
        uri=store.uri_of(f"{folder}/composite.png"),
        layer_uris=[store.uri_of(f"{folder}/{index}.png") for index in range(2)],
        width=80,
        height=40,
        prompt="",
        **{"caption": "a red square", "scores": {"layers_psnr": 31.25}, **values},
    )


def edited(store: Store, name: str, *, references: int = 0, **values: Any) -> Outcome:
    """A row of an edit whose pictures are in the store: a grey source, a lighter result, and references."""
    pictures = {"picture.png": 220, "source.jpg": 120, **{f"image{n}.jpg": 60 for n in range(2, 2 + references)}}
    for file, grey in pictures.items():
        pixels = np.full((40, 80, 3), grey, np.uint8)
        data = reference_copy(pixels) if file.endswith("jpg") else Encoding("png", 1).encode(pixels, xmp_packet())
        store.put_once(f"masters/na/{name}/{file}", data)
    first, *beside = (store.uri_of(f"masters/na/{name}/{file}") for file in pictures)
    return outcome(name, uri=first, source_uris=beside, width=80, height=40, **{"prompt": "on white", **values})


def compared(colour: float, **values: Any) -> dict[str, Any]:
    """What was measured of an edit, and what it was held to."""
    return {
        "scores": {"weapon": 0.1, "fidelity_colour": colour, "fidelity_shift": 0.01, "fidelity_light": 1.0},
        "limits": {"fidelity_shift": ScoreLimit(most=0.035), "fidelity_colour": ScoreLimit(most=5.0, review=3.5)},
        **values,
    }


def thumbnails(html: str) -> dict[str, Image.Image]:
    """The pictures of strips by what they are called."""
    found = re.findall(r'src="data:image/\w+;base64,([^"]+)" alt="([^"]+) of ', html)
    return {name: Image.open(io.BytesIO(base64.b64decode(data))) for data, name in found}


def test_a_page_shows_its_pictures_and_why_rows_have_none(store: Store) -> None:
    rows = outcome_table(
        [
            outcome("good", uri=stored(store, "good"), width=80, height=40),
            outcome("bad", status=Status.REJECTED, reason="profile", message="The background isn't white.", key="k"),
            outcome("listed", status=Status.BLOCKED, reason="blocklist", message="The prompt names something."),
        ]
    )
    html = page(store, rows)
    assert "<h1>3 rows, 1 picture to publish</h1>" in html
    assert html.count("data:image/jpeg;base64,") == 1
    assert 'href="../../images/good.png"' in html
    assert "The background isn&#39;t white." in html
    assert "blocklist" in html
    assert re.search(r"<b>1</b>\s*blocked", html)


def test_layers_stand_beside_their_source_and_composite_from_the_bottom_up(store: Store) -> None:
    html = page(store, outcome_table([layered(store, "mug")]))
    names = re.findall(r"<figcaption>(.+)</figcaption>", html)
    assert names == ["source", "composite", "background", "layer 1"]
    links = re.findall(r'<a href="([^"]+)"><img', html)
    assert links == [f"../../layers/na/mug/{file}.png" for file in ("source", "composite", "0", "1")]
    assert "80 × 40 · 2 layers · 31.2 dB · seed 1" in html
    assert "a red square" in html
    assert 'class="picture"' not in html


def test_the_source_of_published_layers_is_found_in_their_master(store: Store) -> None:
    pixels = np.full((2, 40, 80, 4), 255, np.uint8)
    shelf = LayerShelf(store, with_psd=True, flatten=False, marker=Marking().open(DECOMPOSE.source_type))
    master, _ = shelf.keep("k" * 64, LayeredPicture(pixels[0], pixels, "a mug"))
    publication = publication_of("k" * 64, "0123", extension="png", layers=2)
    publish(store, master, publication)
    uri, layer_uris = addresses(store, publication)
    row = outcome("mug", key="k" * 64, uri=uri, layer_uris=layer_uris, width=80, height=40, caption="a mug")
    html = page(store, outcome_table([row]))
    links = re.findall(r'<a href="([^"]+)"><img', html)
    folder = f"../../layers/kk/{'k' * 64}-0123"
    assert links == [
        f"../../{master.parts['source.png'].path}",
        *(f"{folder}/{name}.png" for name in ("composite", "0", "1")),
    ]
    assert re.findall(r'<a href="([^"]+psd)">PSD</a>', html) == [f"{folder}/layers.psd"]


def test_a_layer_keeps_its_holes_in_the_page(store: Store) -> None:
    shown = thumbnails(page(store, outcome_table([layered(store, "mug")])))
    assert {name: picture.mode for name, picture in shown.items()} == {
        "source": "RGB",
        "composite": "RGB",
        "background": "RGB",
        "layer 1": "RGBA",
    }
    assert [shown["layer 1"].getpixel(at)[3] for at in ((5, 5), (40, 20))] == [0, 128]  # type: ignore[index]


def test_a_psd_is_linked_where_there_is_one(store: Store) -> None:
    rows = [layered(store, "with"), layered(store, "without", with_psd=False)]
    html = page(store, outcome_table(rows))
    assert re.findall(r'<a href="([^"]+psd)">PSD</a>', html) == ["../../layers/na/with/layers.psd"]


def test_refused_layers_are_shown_with_what_is_wrong(store: Store) -> None:
    refused = {"status": Status.REJECTED, "reason": "empty_layer", "message": "Layer 1 is empty."}
    html = page(store, outcome_table([layered(store, "mug", place="quarantine", **refused)]))
    assert 'class="card rejected layered"' in html
    assert 'href="../../quarantine/na/mug/1.png"' in html
    assert html.count("Layer 1 is empty.") == 2  # among the causes, and under its layers


def test_layers_that_have_gone_leave_the_rest_of_the_strip(store: Store) -> None:
    row = layered(store, "mug", scores={})
    store.delete("layers/na/mug/source.png")
    html = page(store, outcome_table([row]))
    assert html.count("<img") == 3
    assert html.count("gone</div>") == 1
    assert "2 layers · seed" in html


def test_pictures_and_layers_share_a_page(store: Store) -> None:
    rows = [layered(store, "mug"), outcome("good", uri=stored(store, "good"), width=80, height=40)]
    html = page(store, outcome_table(rows))
    assert html.count('class="card done layered"') == 1
    assert html.count('class="picture"') == 1


def test_a_page_needs_nothing_from_the_network(store: Store) -> None:
    html = page(store, outcome_table([outcome("good", uri=stored(store, "good"), width=80, height=40)]))
    assert "http:" not in html
    assert "https:" not in html
    assert "<script" not in html


def test_a_page_of_a_catalogue_that_no_run_worked_on_names_none(store: Store) -> None:
    rows = outcome_table([outcome("good", uri=stored(store, "good"), width=80, height=40)])
    html = render_report(store, rows, replace(summary(store, rows), run=None), up="")
    assert "run None" not in html.lower()


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


def test_a_summary_says_what_was_predicted_of_a_lane_and_what_it_took(store: Store) -> None:
    on_cpu = Usage("CPU", "float32", "resident", 3, 0.5, None, None, None)
    on_gpu = Usage("NVIDIA H200", "bfloat16", "streamed", 3, 12.0, 11.9, 3 * 2**30, 4 * 2**30)
    found = replace(summary(store, outcome_table([])), lanes=(asdict(on_cpu), asdict(on_gpu)))
    assert found.used == [
        "CPU, float32: 0.50 s a picture",
        "NVIDIA H200, bfloat16, streamed: 12.00 s a picture (predicted 11.90), 3.0 GiB at the peak (predicted 4.0)",
    ]


def test_a_summary_names_where_each_of_several_lanes_was_its_rows_its_rate_and_how_often_it_was_begun_again(
    store: Store,
) -> None:
    run, took = Run("abc"), asdict(Usage("NVIDIA H200", "bfloat16", "resident", 3, 0.5, None, 2**30, None))
    lanes = [
        {"lane": 0, "machine": "north", "place": "GPU 0", "rows": 40, "restarts": 0},
        {"lane": 1, "machine": "south", "place": "GPU 1", "rows": 0, "restarts": 0},
        {"lane": 2, "machine": "south", "place": "GPU 0", "rows": 1, "restarts": 2},
    ]
    write_json(store, run.lanes_path, {"lanes": lanes})
    for number in (0, 2):  # one has made nothing
        write_json(store, run.lane_path(number), took)
    found = replace(summary(store, outcome_table([])), lanes=tuple(run.lanes(store)))
    assert found.used == [
        "lane 0 on north (GPU 0), 40 rows; "
        "NVIDIA H200, bfloat16, resident: 0.50 s a picture, 120.0 a minute, 1.0 GiB at the peak",
        "lane 1 on south (GPU 1), 0 rows; nothing was drawn there",
        "lane 2 on south (GPU 0), 1 row, begun again 2 times; "
        "NVIDIA H200, bfloat16, resident: 0.50 s a picture, 120.0 a minute, 1.0 GiB at the peak",
    ]


def test_what_waits_for_review_comes_first_with_what_asks_and_how_near_it_is(store: Store) -> None:
    asks = {"reason": "review", "message": "A person must look: it comes too close."}
    rows = outcome_table(
        [
            outcome("done", uri=stored(store, "done")),
            outcome("near", status=Status.REJECTED, uri=stored(store, "near"), asks={"weapon": 0.01}, **asks),
            outcome("far", status=Status.REJECTED, uri=stored(store, "far"), asks={"a_b": 0.5, "weapon": 0.6}, **asks),
            outcome("prompt", status=Status.BLOCKED, asks={"weapon": 0.3}, **asks),
            outcome("refused", status=Status.REJECTED, reason="blank", message="Nothing is on it."),
        ]
    )
    html = page(store, rows)
    assert summary(store, rows).waiting == 3
    assert "<b>3</b>of them wait for review" in html
    sections = re.split("<h2>", html)[2:]
    assert [re.match(r"[\w ]+", section)[0].strip() for section in sections] == [  # type: ignore[index]
        "Waiting for review",
        "Done",
        "Rejected",
    ]
    waiting = sections[0]
    assert re.findall(r'class="id">(\w+)<', waiting) == ["far", "prompt", "near"]
    assert re.findall(r'class="why">([^<]+)<', waiting) == [
        "weapon: 0.600 over its limit",
        "a b: 0.500 over its limit",
        "weapon: 0.300 over its limit",
        "weapon: 0.010 over its limit",
    ]
    assert "nothing was made yet" in waiting
    assert f"packshot review approve ID … --store {store.uri}" in waiting


@pytest.mark.parametrize("place", ["folder", "s3"])
def test_an_edit_stands_beside_its_source_with_its_references_and_what_was_measured(
    request: pytest.FixtureRequest, tmp_path: Path, place: str
) -> None:
    store = open_store(str(tmp_path / "s") if place == "folder" else request.getfixturevalue("s3_store_uri"))
    html = page(store, outcome_table([edited(store, "mug", references=2, **compared(4.0))]))
    shown = {name: picture.convert("RGB").getpixel((9, 9)) for name, picture in thumbnails(html).items()}
    assert list(shown) == ["source", "result", "picture 2", "picture 3"]
    assert [abs(shown[name][0] - grey) < 4 for name, grey in (("source", 120), ("result", 220), ("picture 3", 60))] == [
        True,
        True,
        True,
    ]
    assert re.findall(r'<a href="([^"]+)"><img', html)[:2] == [
        f"../../masters/na/mug/{file}" for file in ("source.jpg", "picture.png")
    ]
    lines = re.findall(r'<tr class="(\w+)"><td>(.+?) <span[^>]+>(.+?)</span>', html)
    assert lines == [  # the furthest beyond its limit first; what nothing was held to isn't told
        ("asks", "the difference of the product&#39;s colours", "(CIEDE2000)"),
        ("within", "how far the product was moved", "of the frame&#39;s shorter side"),
    ]
    assert re.findall(r'number">([^<]*)</td>', html) == ["4", "at most 5", "above 3.5", "1 %", "at most 3.5 %", ""]
    assert "<details>" in html  # closed: it passed


def test_of_refused_edits_the_worst_comes_first_with_its_measures_in_view(store: Store) -> None:
    refused = {"status": Status.REJECTED, "reason": "product_changed", "message": "The product isn't the same."}
    rows = [
        edited(store, "near", **compared(5.5, **refused)),
        outcome("blank", status=Status.REJECTED, reason="blank", message="Nothing is on it."),
        edited(store, "far", **compared(9.0, **refused)),
    ]
    html = page(store, outcome_table(rows))
    assert re.findall(r'class="id">(\w+)<', html) == ["far", "near", "blank"]
    assert html.count("<details open>") == 2
    assert html.count('<tr class="beyond">') == 2


def test_a_waiting_edit_says_what_was_measured_and_not_by_how_much_a_concept_is_over(store: Store) -> None:
    said = "A person has to compare the result with its source: it differs."
    waits = {"status": Status.REJECTED, "reason": "review", "asks": {"fidelity_colour": 0.1}, "message": said}
    html = page(store, outcome_table([edited(store, "mug", **compared(4.0, **waits))]))
    waiting = html.partition("Waiting for review")[2]
    assert re.findall(r'class="why">([^<]+)<', waiting) == [said]
    assert waiting.count("<img") == 2


def test_an_edit_in_words_of_its_own_is_shown_without_measures_and_without_what_is_gone(store: Store) -> None:
    row = edited(store, "mug")
    store.delete("masters/na/mug/source.jpg")
    html = page(store, outcome_table([row]))
    assert list(thumbnails(html)) == ["result"]
    assert html.count("gone</div>") == 1
    assert "<details" not in html


def test_a_run_of_edits_says_how_many_were_edited_for_review_and_rejected_for_which_reason(store: Store) -> None:
    refused = [
        outcome(
            name, status=Status.REJECTED, reason=name, message=f"{name}!", asks={"a": 1.0} if name == "review" else {}
        )
        for name in ("product_changed", "not_changed", "moved", "review")
    ]
    rows = outcome_table([*refused, outcome("fine", seconds=2.0)])
    found = replace(summary(store, rows), made="edited")
    show_summary(Console(file=(terminal := io.StringIO()), width=200), found)
    for text in (terminal.getvalue(), summary_text(found), render_report(store, rows, found, up="")):
        assert "1 edited" in text
        assert all(reason in text for reason in ("product_changed", "not_changed", "moved", "review"))
    assert "1 row waits for a person" in terminal.getvalue()
