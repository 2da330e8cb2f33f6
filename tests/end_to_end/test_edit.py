"""The edit flow whole: pictures and instructions in, pictures and a catalogue out."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from flows.edit import edit
from models.doctor.checkpoint_check import check_model
from models.engines.editor import PictureEditor
from models.requests import EditRequest
from safety.marks.provenance import DigitalSourceType, read_marks
from tasks.kinds.edit.edit_job import EditJob
from tasks.kinds.job_to_check import load_job_to_check
from tasks.kinds.registry import kind_of
from tasks.outcome import Retry
from tasks.reports.summary import Summary
from tasks.results.encoding import decode
from tasks.stores.store import Store
from tests.end_to_end.conftest import ROAD, catalogue
from tests.flows.conftest import Ended, packshot
from tests.models.conftest import picture, save_edit

__all__ = ["packshot"]  # a fixture

SMALL = {"policy": ROAD, "steps": 2, "guidance": 4.0, "batch": 4}


@pytest.fixture(scope="session")
def edits(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny checkpoint that edits, with random weights."""
    return str(save_edit(tmp_path_factory.mktemp("tiny-qwen-image-edit"), resolution=96, vision_resolution=64))


@pytest.fixture
def run(manifest: Callable[..., str], store: Store, edits: str, another_clip: str) -> Callable[..., Summary]:
    """Edits rows, in small."""

    def go(rows: list[dict[str, Any]], *, retry: tuple[Retry, ...] = (), **job: Any) -> Summary:
        values = {"model": edits, "clip": another_clip, **SMALL, **job}
        return edit(EditJob.of(manifest=manifest(rows), store=store.uri, **values), None, retry)

    return go


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[EditRequest]]:
    """What the engine was asked for, call by call."""
    calls: list[list[EditRequest]] = []
    real = PictureEditor.edit

    def edits(editor: PictureEditor, requests: list[EditRequest], **more: Any) -> Any:
        calls.append([*requests])
        return real(editor, requests, **more)

    monkeypatch.setattr(PictureEditor, "edit", edits)
    return calls


def stored(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def source(seed: int, width: int = 96, height: int = 96) -> bytes:
    return stored(Image.fromarray(np.ascontiguousarray(picture(width, height, seed)[..., :3])))


def row(name: str, image: Any, instruction: str | None = "make it red", **more: Any) -> dict[str, Any]:
    empty = {"image2": None, "image3": None, "title": None}
    return {"id": name, "image": image, "instruction": instruction, **empty, **more}


@pytest.mark.quick
def test_pictures_are_edited_together_and_a_rerun_edits_what_changed_alone(
    run: Callable[..., Summary], store: Store, asked: list[list[EditRequest]]
) -> None:
    mug, lamp = source(1), source(2)
    rows = [
        row("square", mug, title="Mug"),
        row("wide", source(3, 160, 80), "put it on marble"),
        row("both", mug, "this beside that", image2=lamp),
        row("unnamed", lamp, None, title="lamp"),
        row("named", source(3, 160, 80), "put it on marble", width=96, height=96),
    ]
    rows = [{"width": None, "height": None, **one} for one in rows]

    first = run(rows, instruction_template="put the {title} on wood")

    assert first.statuses["done"] == 5, first.causes
    found = catalogue(store)
    assert {name: (one["width"], one["height"]) for name, one in found.items()} == {
        **dict.fromkeys(("square", "both", "unnamed", "named"), (96, 96)),
        "wide": (128, 64),
    }
    assert sorted(map(len, asked)) == [1, 4]  # by what comes out, whatever it is made from
    assert (found["square"]["prompt"], found["unnamed"]["prompt"]) == ("make it red", "put the lamp on wood")
    assert (found["square"]["caption"], found["square"]["title"]) == (None, "Mug")
    made = {name: decode(Path(one["uri"]).read_bytes()) for name, one in found.items()}
    assert made["square"].shape == (96, 96, 3)
    assert np.abs(made["square"].astype(int) - made["both"]).max() > 10
    marks = read_marks(Path(found["square"]["uri"]).read_bytes())
    assert marks.source_type == DigitalSourceType.TRAINED_ALGORITHMIC_MEDIA

    asked.clear()
    assert run(rows, instruction_template="put the {title} on wood").statuses["done"] == 5
    assert asked == []
    rows[0] |= {"instruction": "make it blue"}
    rows[2] |= {"image2": source(4)}
    run(rows, instruction_template="put the {title} on wood")
    assert [[one.instruction for one in call] for call in asked] == [["make it blue", "this beside that"]]
    after = catalogue(store)
    assert {name for name, one in after.items() if one["key"] != found[name]["key"]} == {"square", "both"}


def test_what_an_instruction_or_any_picture_of_a_row_shows_is_screened(
    run: Callable[..., Summary], store: Store, asked: list[list[EditRequest]], tmp_path: Path
) -> None:
    safe = source(1)
    rows = [
        row("fine", safe),
        row("english", safe, "put a handgun beside it"),
        row("chinese", safe, "在旁边放一把手枪"),
        row("negative", safe, "make it red", negative_prompt="child porn"),
    ]
    rows = [{"negative_prompt": None, **one} for one in rows]

    run(rows)

    assert {name: one["reason"] for name, one in catalogue(store).items()} == {
        "fine": None,
        **dict.fromkeys(("english", "chinese", "negative"), "blocklist"),
    }
    assert [len(call) for call in asked] == [1]
    strict = Path(ROAD).read_text().replace("picture_threshold = 1.0", "picture_threshold = -2.0")
    (tmp_path / "strict.toml").write_text(strict)
    asked.clear()
    run([row("fine", safe), row("reference", safe, image2=source(2))], policy=str(tmp_path / "strict.toml"))
    assert {one["status"] for one in catalogue(store).values()} == {"blocked"}
    assert asked == []


def test_bad_pictures_fail_their_own_rows_and_odd_ones_are_edited(run: Callable[..., Summary], store: Store) -> None:
    good, rgb = source(1), Image.open(io.BytesIO(source(1)))
    turned = Image.Exif()
    turned[0x0112] = 6
    grey16 = Image.fromarray((np.arange(96 * 96, dtype=np.uint16) * 7).reshape(96, 96))
    alpha = Image.fromarray(picture(96, 96, 5))
    bomb = stored(Image.new("1", (16_000, 4_100)))
    odd = {
        "cmyk": stored(rgb.convert("CMYK"), "JPEG"),
        "sixteen": stored(grey16),
        "turned": stored(rgb.resize((96, 192)), "JPEG", exif=turned),
        "transparent": stored(alpha),
        "pixel": stored(Image.new("RGB", (1, 1), "red")),
    }
    rows = [row(name, data) for name, data in odd.items()] + [
        row("good", good),
        row("same", good, image2=good, image3=good),
        row("none", None),
        row("cut", good, image2=good[:60]),
        row("bomb", good, image3=bomb),
        row("narrow", source(1, 8, 240)),
        row("long", good, "a" * 100_000),
        row("empty", good, ""),
    ]

    summary = run(rows, guidance=1.0)

    found = catalogue(store)
    ends = {name: one["reason"] or one["status"] for name, one in found.items()}
    assert ends == {
        **dict.fromkeys((*odd, "good", "same"), "done"),
        "none": "bad_value",
        "cut": "source_corrupt",
        "bomb": "source_too_large",
        "narrow": "bad_value",
        "long": "bad_value",
        "empty": "bad_value",
    }, summary.causes
    assert (found["turned"]["width"], found["turned"]["height"]) == (128, 64)
    assert all(one["message"] for one in found.values() if one["status"] != "done")


def test_what_looks_at_jobs_models_and_manifests_knows_edits(
    packshot: Callable[..., Ended], manifest: Callable[..., str], edits: str, another_clip: str, tmp_path: Path
) -> None:
    rows = [row("good", source(1)), row("long", source(1), "a" * 30_000), row("empty", source(1), "")]
    address, store = manifest(rows), str(tmp_path / "store")
    said = ("--model", edits, "--clip", another_clip, "--policy", ROAD)

    checked = packshot("manifest", "check", address, *said, "--json")
    verified = packshot("models", "verify", edits)
    told = packshot("edit", address, "--store", store, *said, "--dry-run")
    job = load_job_to_check(None, model=edits)
    finding, checkpoint = check_model(edits, None, kind_of(job).pipeline)

    assert (checked.code, json.loads(checked.out)["kind"]) == (1, "edit")
    assert "The instruction is empty." in checked.out
    assert "30000 characters" in checked.out
    assert (verified.code, "whole" in verified.out) == (0, True), verified
    assert "1 × 96×96, 2 steps" in told.out
    assert isinstance(job, EditJob)
    assert (finding.status, checkpoint and checkpoint.folder) == ("ok", Path(edits).resolve())


def test_an_edit_by_a_ready_made_instruction_is_judged_beside_its_source(
    run: Callable[..., Summary], store: Store, asked: list[list[EditRequest]]
) -> None:
    product = Image.new("RGB", (192, 192), "white")
    product.paste((40, 80, 208), (50, 60, 140, 140))
    rows = [
        row("named", stored(product), None, instruction_name="recolour", colour="red"),
        row("free", source(1), instruction_name=None, colour=None),
    ]

    run(rows, guidance=1.0)

    found = catalogue(store)
    assert found["free"]["status"] == "done"
    assert found["named"]["prompt"].startswith("Change the colour of the product to red.")
    assert found["named"]["reason"] in ("product_changed", "not_changed", "moved", "review")
    assert any(name.startswith("fidelity_") for name, _ in found["named"]["scores"])
    assert not any(name.startswith("fidelity_") for name, _ in found["free"]["scores"])
    assert dict(found["named"]["limits"])["fidelity_wanted_colour"]["most"] == 18.0
    assert [len(found[name]["source_uris"]) for name in ("named", "free")] == [1, 1]
    kept = decode(Path(found["named"]["source_uris"][0]).read_bytes())  # as the model was given it
    assert np.abs(kept[40:60, 30:50].astype(int) - (40, 80, 208)).mean() < 4
    asked.clear()
    run(rows, guidance=1.0)
    assert asked == []
