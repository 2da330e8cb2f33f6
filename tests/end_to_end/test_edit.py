"""The edit flow whole: pictures and instructions in, pictures and a catalogue out."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import signal
import weakref
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from flows.commands.doctor_checks import checks_of
from flows.edit import edit
from models.checkpoints.checkpoint import find_checkpoint
from models.doctor.checkpoint_check import check_model
from models.engines.decomposer import Decomposer
from models.engines.editor import Picture, PictureEditor
from models.failure import Failure
from models.miniature.world.world import Alteration, Scene, draw_alike
from models.requests import EditRequest, LayersRequest
from safety.fidelity.frames import no_larger
from safety.fidelity.instruction import SHIPPED
from safety.fidelity.kept_product import feathered
from safety.fidelity.product_mask import ProductMask
from safety.marks.provenance import DigitalSourceType, read_marks
from tasks.errors import RequestError
from tasks.kinds.edit.edit_job import EditJob
from tasks.kinds.edit.mask_finder import finding_of
from tasks.kinds.job_to_check import load_job_to_check
from tasks.kinds.registry import kind_of
from tasks.manifests.key import digest
from tasks.outcome import Retry
from tasks.reports.summary import Summary
from tasks.results.encoding import decode
from tasks.rows.originals import kept_path
from tasks.stores.store import Store
from tests.end_to_end.conftest import ROAD, catalogue, command
from tests.flows.conftest import Ended, packshot
from tests.models.conftest import picture, save_edit
from tests.waiting import wait_for

__all__ = ["packshot"]  # a fixture

OWN = 'en = "Do it."\nzh = "做。"\nkeep_product = true\n[checks]\nbeside = { reason = "not_changed", least = 2.0 }\n'
"""An instruction with a name that keeps the product, and a check that reads no texts."""
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


def test_edits_that_are_killed_go_on_with_nothing_made_twice_and_nothing_lost(
    run: Callable[..., Summary],
    manifest: Callable[..., str],
    store: Store,
    asked: list[list[EditRequest]],
    edits: str,
    another_clip: str,
) -> None:
    rows = [row(f"r{n}", source(n // 2), f"make it number {n}", seed=n) for n in range(20)]  # two share a picture
    job = {**SMALL, "model": edits, "clip": another_clip, "batch": 1, "shard-rows": 4, "guidance": 1.0}
    flags = [word for name, value in job.items() for word in (f"--{name}", str(value))]
    kept = Path(store.uri, "masters")
    process = command("edit", manifest(rows), "--store", store.uri, *flags)
    wait_for(lambda: process.poll() is not None or len([*kept.rglob("*.json")]) >= 3, 200)
    process.send_signal(signal.SIGKILL)
    said = process.communicate()
    assert process.returncode == -signal.SIGKILL, said
    before = {file: file.stat().st_mtime_ns for file in kept.rglob("*.*")}
    made = {file.stem for file in before if file.suffix == ".json"}
    assert 3 <= len(made) < len(rows)

    summary = run(rows, batch=1, shard_rows=4, guidance=1.0)

    found = catalogue(store)
    assert [found[one["id"]]["status"] for one in rows] == ["done"] * len(rows), summary.causes
    left = {one["seed"] for one in found.values() if one["key"] not in made}
    assert sorted(one.seed for call in asked for one in call) == sorted(left)
    assert {file: file.stat().st_mtime_ns for file in before} == before
    for one in found.values():
        assert hashlib.sha256(Path(one["uri"]).read_bytes()).hexdigest() == one["sha256"]
        assert Path(one["source_uris"][0]).is_file()


def test_condition_pictures_computed_at_every_second_step_make_rows_again_and_once_alone(
    run: Callable[..., Summary], store: Store, asked: list[list[EditRequest]]
) -> None:
    rows = [row("one", source(1)), row("other", source(2))]
    run(rows, steps=4)
    exact = catalogue(store)

    assert run(rows, steps=4, condition_cache=2).rendered == 2

    near = catalogue(store)
    for name in ("one", "other"):
        assert near[name]["status"] == "done"
        assert near[name]["key"] != exact[name]["key"]
        assert near[name]["sha256"] != exact[name]["sha256"]
    asked.clear()
    assert run(rows, steps=4, condition_cache=2).rendered == run(rows, steps=4, condition_cache=1).rendered == 0
    assert asked == []
    assert {name: one["key"] for name, one in catalogue(store).items()} == {
        name: one["key"] for name, one in exact.items()
    }


def test_a_condition_cache_is_refused_before_any_work_where_condition_pictures_change_with_the_step(
    run: Callable[..., Summary], store: Store, tmp_path: Path
) -> None:
    older = save_edit(tmp_path / "older", zero_cond_t=False, resolution=96)
    with pytest.raises(RequestError, match="without zero_cond_t; leave condition_cache out"):
        run([row("one", source(1))], model=str(older), condition_cache=2)
    with pytest.raises(ValueError, match="condition_cache needs the fused transformer; leave fused on"):
        run([row("one", source(1))], condition_cache=2, fused=False)
    assert not Path(store.uri).exists() or not any(Path(store.uri).iterdir())


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
        row("torn", good, image3=good[:-60]),
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
        "torn": "source_corrupt",
        "bomb": "source_too_large",
        "narrow": "bad_value",
        "long": "bad_value",
        "empty": "bad_value",
    }, summary.causes
    assert (found["turned"]["width"], found["turned"]["height"]) == (128, 64)
    assert found["cut"]["message"].startswith("image2: ")
    assert found["torn"]["message"].startswith("image3: ")  # whose header is whole: a lane finds it
    assert all(one["message"] for one in found.values() if one["status"] != "done")


def test_a_picture_that_is_gone_fails_its_row_though_nothing_else_is_to_be_done(
    run: Callable[..., Summary], store: Store, tmp_path: Path
) -> None:
    (tmp_path / "mug.png").write_bytes(source(1))
    rows = [row("good", source(2)), row("gone", "mug.png")]
    rows = [{**one, "image": {"bytes": None, "path": None} | _held(one["image"])} for one in rows]
    assert run(rows, guidance=1.0).statuses["done"] == 2
    (tmp_path / "mug.png").unlink()

    ended, after = run(rows, guidance=1.0), run(rows, guidance=1.0)

    assert (ended.statuses["done"], ended.statuses["failed"]) == (1, 1)
    assert catalogue(store)["gone"]["reason"] == "source_not_found"
    assert (ended.kept, after.kept, after.statuses) == (1, 2, ended.statuses)  # for it is settled then


def _held(image: bytes | str) -> dict[str, bytes | str]:
    return {"bytes": image} if isinstance(image, bytes) else {"path": image}


def test_what_looks_at_jobs_models_and_manifests_knows_edits(
    packshot: Callable[..., Ended], manifest: Callable[..., str], edits: str, another_clip: str, tmp_path: Path
) -> None:
    rows = [row("good", source(1)), row("long", source(1), "a" * 30_000), row("empty", source(1), "")]
    address, store = manifest(rows), str(tmp_path / "store")
    said = ("--model", edits, "--clip", another_clip, "--policy", ROAD)

    checked = packshot("manifest", "check", address, *said, "--json")
    verified = packshot("models", "verify", edits)
    told = packshot("edit", address, "--store", store, *said, "--mask-model", "miniature", "--dry-run")
    wrong = packshot("edit", address, "--store", store, *said, "--mask-model", edits, "--dry-run")
    job = load_job_to_check(None, model=edits)
    (looks_at_models,) = (one.look for one in checks_of(job.with_values(mask_model=edits)) if one.name == "checkpoint")
    finding, checkpoint = check_model(edits, None, kind_of(job).pipeline)

    assert (checked.code, json.loads(checked.out)["kind"]) == (1, "edit")
    assert "The instruction is empty: write one" in checked.out
    assert "30000 characters" in checked.out
    assert (verified.code, "whole" in verified.out) == (0, True), verified
    assert "1 × 96×96, 2 steps" in told.out
    assert "with the mask_model miniature@" in told.out
    assert (wrong.code, "give a checkpoint such as Qwen/Qwen-Image-Layered" in wrong.err) == (2, True), wrong
    assert [(one.name, one.status) for one in looks_at_models() if one.name == "mask model"] == [
        ("mask model", "failed")
    ]
    assert isinstance(job, EditJob)
    assert (finding.status, checkpoint and checkpoint.folder) == ("ok", Path(edits).resolve())


def test_an_edit_by_a_ready_made_instruction_is_judged_beside_its_source(
    run: Callable[..., Summary], store: Store, asked: list[list[EditRequest]], own_instructions: str
) -> None:
    shipped = (SHIPPED / "recolour.toml").read_text("utf-8").splitlines(keepends=True)
    texts = "".join(line for line in shipped if not line.startswith("text_kept"))  # reading takes seconds
    Path(own_instructions, "recolour.toml").write_text(texts, "utf-8")
    product = Image.new("RGB", (192, 192), "white")
    product.paste((40, 80, 208), (50, 60, 140, 140))
    rows = [
        row("named", stored(product), None, instruction_name="recolour", colour="red"),
        row("free", source(1), instruction_name=None, colour=None),
    ]

    run(rows, guidance=1.0, instructions=own_instructions)

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
    run(rows, guidance=1.0, instructions=own_instructions)
    assert asked == []


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch, asked: list[list[EditRequest]]) -> dict[int, np.ndarray]:
    """What is made in place of a model's pictures, by seed: no model that ships paints a scene around a product."""
    paintings: dict[int, np.ndarray] = {}

    def edits(editor: PictureEditor, requests: list[EditRequest], **more: Any) -> Any:
        del editor, more
        asked.append([*requests])
        for index, one in enumerate(requests):
            yield [Picture(index, paintings[one.seed], None, 0.1)]

    monkeypatch.setattr(PictureEditor, "edit", edits)
    return paintings


@pytest.fixture
def own_instructions(tmp_path: Path) -> str:
    """A folder with one instruction, `own`."""
    (folder := tmp_path / "instructions").mkdir()
    (folder / "own.toml").write_text(OWN)
    return str(folder)


SHOE = Scene("sneaker", "red", "plain", "plain", "table", "medium", "centre", "none")


def painted() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A shoe on a table, the same with its alpha, and what a model might paint of it, which smears it; 256 pixels."""
    lawn = replace(SHOE, background="grass")
    source, result = draw_alike([SHOE, lawn], Random(3), [Alteration(label="ACME")] * 2)
    smeared = np.random.default_rng(1).normal(0, 6, result.picture.shape) + result.picture
    cut_out = np.dstack([source.picture, source.product[..., 3]])
    return source.picture, cut_out, smeared.clip(0, 255).astype(np.uint8)


def test_a_row_that_keeps_its_product_is_stored_with_the_sources_own_pixels(
    run: Callable[..., Summary],
    store: Store,
    asked: list[list[EditRequest]],
    stand_in: dict[int, np.ndarray],
    own_instructions: str,
) -> None:
    picture, cut_out, made = painted()
    mask = cut_out[..., 3]
    large = cv2.resize(picture, (640, 640), interpolation=cv2.INTER_CUBIC)
    large_mask = cv2.resize(mask, (640, 640), interpolation=cv2.INTER_LINEAR)
    _, other = draw_alike([SHOE, replace(SHOE, kind="teapot", background="grass")], Random(3), [Alteration()] * 2)
    stand_in |= dict.fromkeys(range(1, 7), made) | {7: other.picture}
    pictures = {"masked": picture, "clear": cut_out, "large": large, "left": picture, "plain": picture, "lost": picture}
    rows = [
        row(name, stored(Image.fromarray(pixels)), "put it on grass", seed=seed, keep="product", mask=None)
        for seed, (name, pixels) in enumerate(pictures.items(), 1)
    ]
    shape = stored(Image.fromarray(mask))
    rows = [one | {"instruction_name": None, "width": 256, "height": 256} for one in rows]
    rows[0] |= {"mask": shape, "instruction_name": "own", "instruction": None}
    rows[2] |= {"mask": stored(Image.fromarray(large_mask))}
    rows[3] |= {"keep": None}
    rows[5] |= {"mask": shape, "seed": 7}

    summary = run(rows, instructions=own_instructions)

    found = catalogue(store)
    assert {name: one["reason"] or one["status"] for name, one in found.items()} == {
        **dict.fromkeys(("masked", "clear", "large", "left"), "done"),
        "plain": "bad_value",
        "lost": "product_changed",
    }, summary.causes
    shown = {name: decode(Path(one["uri"]).read_bytes()) for name, one in found.items() if one["uri"]}
    core = feathered(mask) == 255
    assert core.sum() > 0.8 * (mask >= 128).sum()
    assert [np.array_equal(shown[name][core], picture[core]) for name in ("masked", "clear")] == [True, True]
    scaled, soft = no_larger(large, (256, 256)), feathered(no_larger(large_mask, (256, 256)))
    assert np.array_equal(shown["large"][soft == 255], scaled[soft == 255])
    beside = mask == 0
    assert np.array_equal(shown["masked"][beside], made[beside])  # the shadow with it
    assert [np.array_equal(shown[name], it) for name, it in (("left", made), ("lost", other.picture))] == [True, True]
    assert {name for name, one in found.items() if one["fixes"] == ["keep_product"]} == {"masked", "clear", "large"}
    assert found["left"]["fixes"] == found["lost"]["fixes"] == []
    types = {name: read_marks(Path(found[name]["uri"]).read_bytes()).source_type for name in shown}
    composite = DigitalSourceType.COMPOSITE_WITH_TRAINED_ALGORITHMIC_MEDIA
    trained = DigitalSourceType.TRAINED_ALGORITHMIC_MEDIA
    assert types == {
        **dict.fromkeys(("masked", "clear", "large"), composite),
        **dict.fromkeys(("left", "lost"), trained),
    }
    assert found["plain"]["message"].startswith("keep: No product was found: ")
    assert "Give a mask" in found["plain"]["message"]

    asked.clear()
    run(rows, instructions=own_instructions)
    assert asked == []
    rows[2] |= {"mask": stored(Image.fromarray(np.maximum(large_mask, 1)))}
    run(rows, instructions=own_instructions)
    assert [[one.seed for one in call] for call in asked] == [[3]]


def test_a_product_is_found_once_for_all_rows_that_share_its_picture_and_mask(
    run: Callable[..., Summary],
    stand_in: dict[int, np.ndarray],
    own_instructions: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found: Counter[str] = Counter()
    real = ProductMask.__init__

    def counted(mask: ProductMask, cover: np.ndarray, origin: Any) -> None:
        found[origin] += 1
        real(mask, cover, origin)

    monkeypatch.setattr(ProductMask, "__init__", counted)
    lively, cut_out, made = painted()
    shelf = np.where(cut_out[..., 3:] >= 128, lively, 255).astype(np.uint8)  # the same shoe on white
    white, grey, table = (stored(Image.fromarray(pixels)) for pixels in (shelf, np.minimum(shelf, 200), lively))
    shape = stored(Image.fromarray(cut_out[..., 3]))
    pictures = {"kept": (white, None), "again": (white, None), "judged": (grey, None)}
    pictures |= dict.fromkeys(("masked", "masked-too"), (table, shape))
    named = {"instruction_name": "own", "width": 256, "height": 256}
    rows = [
        row(name, pixels, None, seed=seed, mask=mask, keep=None if name == "judged" else "product", **named)
        for seed, (name, (pixels, mask)) in enumerate(pictures.items(), 1)
    ]
    stand_in |= dict.fromkeys(range(1, 6), made)

    summary = run(rows, instructions=own_instructions)

    assert summary.statuses["done"] == len(rows), summary.causes
    assert found == {"background": 2, "mask": 2}  # a mask is looked at as it is read, and then over its picture


def test_a_source_of_one_pixel_or_of_one_to_thirty_ends_its_own_row_where_a_product_is_to_be_found_on_it(
    run: Callable[..., Summary],
    store: Store,
    asked: list[list[EditRequest]],
    stand_in: dict[int, np.ndarray],
    edits: str,
    own_instructions: str,
    tmp_path: Path,
) -> None:
    patient = Path(shutil.copytree(edits, tmp_path / "patient"))  # at its resolution 1 : 30 is looked at as it is
    settings = json.loads((patient / "sampling_config.json").read_text())
    (patient / "sampling_config.json").write_text(json.dumps(settings | {"resolution": 176, "vision_resolution": 96}))
    _, cut_out, made = painted()
    dot, strip, tall = (Image.new("RGB", size, "red") for size in ((1, 1), (240, 8), (20, 600)))
    half = Image.fromarray(np.repeat([[0] * 10 + [255] * 10], 600, axis=0).astype(np.uint8))
    kept, named = {"keep": "product"}, {"instruction_name": "own"}
    shapes: dict[str, tuple[Image.Image, Image.Image | None, dict[str, Any]]] = {
        "good": (Image.fromarray(cut_out), None, {**kept, **named}),
        "free": (dot, None, {}),
        "free strip": (strip, None, {}),
        "unasked": (tall, half, {}),
        "kept dot": (dot, None, kept),
        "kept strip": (strip, None, kept),
        "masked dot": (dot, Image.new("L", (1, 1), 255), kept),
        "masked strip": (tall, half, kept),
        "named dot": (dot, None, named),
        "named strip": (strip, None, named),
        "named and masked": (tall, half, named),
        "no mask of its": (strip, half, {**kept, **named}),
    }
    rows = [
        {
            **row(name.replace(" ", "-"), stored(pixels), "put it on grass", width=256, height=256, seed=seed),
            "mask": shape and stored(shape),
            "keep": None,
            "instruction_name": None,
            **said,
        }
        for seed, (name, (pixels, shape, said)) in enumerate(shapes.items())
    ]
    stand_in |= dict.fromkeys(range(len(rows)), made)

    summary = run(rows, model=str(patient), instructions=own_instructions)

    found = {name.replace("-", " "): one for name, one in catalogue(store).items()}
    assert {name: one["reason"] or one["status"] for name, one in found.items()} == {
        **dict.fromkeys(("good", "free", "free strip", "unasked"), "done"),
        **dict.fromkeys(("named dot", "named strip"), "review"),
        **dict.fromkeys(("kept dot", "kept strip", "masked dot", "masked strip"), "bad_value"),
        **dict.fromkeys(("named and masked", "no mask of its"), "bad_value"),
    }, summary.causes
    told = {name: one["message"] for name, one in found.items()}
    assert told["kept dot"].startswith("keep: The source is 1 × 1 pixels, too small to compare")
    assert told["kept strip"].startswith("keep: The source is 240 × 8 pixels, too small to compare")
    assert told["masked dot"].startswith("The mask is 1 × 1 pixels, too small to compare")
    assert told["masked strip"].startswith("The mask is 20 × 600 pixels, too long to compare")
    assert told["named dot"].startswith("A person has to compare the result with its source. The source is 1 × 1")
    assert "give one of the picture's own size" in told["no mask of its"]
    assert len(asked) == 1
    assert len(asked[0]) == 6  # what can't be kept isn't made


def test_the_gate_goes_by_a_rows_mask_or_its_sources_alpha(
    run: Callable[..., Summary],
    store: Store,
    asked: list[list[EditRequest]],
    stand_in: dict[int, np.ndarray],
    own_instructions: str,
) -> None:
    picture, cut_out, made = painted()
    stand_in |= dict.fromkeys(range(1, 7), made)
    mask = cut_out[..., 3]
    half = mask.copy()
    half[:, :128] = 0
    shapes = {"masked": mask, "part": half, "empty": np.zeros_like(mask), "all": np.full_like(mask, 255)}
    rows = [
        row(name, stored(Image.fromarray(picture)), mask=stored(Image.fromarray(it))) for name, it in shapes.items()
    ]
    rows += [row("clear", stored(Image.fromarray(cut_out)), mask=None)]
    rows += [row("bare", stored(Image.fromarray(picture)), mask=None)]
    named = {"instruction": None, "instruction_name": "own", "scene": "a lawn", "width": 256, "height": 256}
    rows = [{**one, **named, "seed": seed} for seed, one in enumerate(rows, 1)]
    rows[0] |= {"instruction_name": "scene"}  # whose checks read texts, which takes a second of the processor

    run(rows, instructions=own_instructions)

    found = catalogue(store)
    outlines = {name: dict(one["scores"]).get("fidelity_outlines") for name, one in found.items()}
    assert outlines["masked"] > 0.7
    assert outlines["clear"] > 0.7
    assert outlines["part"] != outlines["masked"]
    assert dict(found["masked"]["scores"])["fidelity_text_kept"] > 0.9  # read by the extra ocr
    assert {name: found[name]["reason"] for name in ("empty", "all", "bare")} == {
        "empty": "bad_value",
        "all": "bad_value",
        "bare": "review",
    }
    assert found["empty"]["message"].startswith("The mask shows no product at all")
    assert found["all"]["message"].startswith("The mask shows 100 % of the picture as the product")
    assert "No product was found" in found["bare"]["message"]

    asked.clear()
    rows[1] |= {"mask": stored(Image.fromarray(mask))}
    run(rows, instructions=own_instructions)
    assert asked == []  # judged again by another mask, and not made again
    assert dict(catalogue(store)["part"]["scores"])["fidelity_outlines"] == outlines["masked"]


def test_a_layered_model_finds_each_product_once_that_nothing_else_tells_and_is_gone_before_the_first_edit(
    run: Callable[..., Summary],
    store: Store,
    asked: list[list[EditRequest]],
    stand_in: dict[int, np.ndarray],
    own_instructions: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    picture, cut_out, made = painted()
    mask = cut_out[..., 3]
    taken_apart: list[int] = []
    models: list[weakref.ref[Decomposer]] = []
    take_apart, paint = Decomposer.decompose, PictureEditor.edit

    def decompose(decomposer: Decomposer, requests: list[LayersRequest], **more: Any) -> Any:
        if requests[0].shape.width != requests[0].shape.height:
            yield [Picture(0, None, Failure("out_of_memory", "There was no room.", True), 0.0)]
            return
        taken_apart.append(len(requests))
        models.append(weakref.ref(decomposer))
        yield from take_apart(decomposer, requests, **more)

    def edits_alone(editor: PictureEditor, requests: list[EditRequest], **more: Any) -> Any:
        assert [model() for model in models] == [None] * len(models)
        return paint(editor, requests, **more)

    monkeypatch.setattr(Decomposer, "decompose", decompose)
    monkeypatch.setattr(PictureEditor, "edit", edits_alone)
    stand_in |= dict.fromkeys(range(1, 6), made)
    cut, bare, grass = (stored(Image.fromarray(pixels)) for pixels in (cut_out, picture, made))
    mask_model = find_checkpoint("miniature", pipeline=Decomposer.pipeline)
    known = (
        f"{kept_path(hashlib.sha256(grass).hexdigest())}.mask-{digest([finding_of(mask_model), 'float32'])[:16]}.png"
    )
    store.put_once(known, stored(Image.new("L", (256, 256))))  # another run took it apart, and found no product
    rows = [
        row("found", bare, seed=1, keep="product"),
        row("judged", bare, seed=2, instruction_name="own"),
        row("free", grass, seed=3),
        row("clear", cut, seed=4, keep="product"),
        row("masked", bare, seed=5, keep="product", mask=stored(Image.fromarray(mask))),
        row("none", grass, seed=6, keep="product"),
        row("failed", stored(Image.fromarray(picture[64:192])), seed=6, keep="product"),
    ]
    rows = [{"keep": None, "mask": None, "instruction_name": None, "width": 256, "height": 256, **one} for one in rows]
    job = {"mask_model": "miniature", "instructions": own_instructions, "shard_rows": 2}

    summary = run(rows, **job)

    found = catalogue(store)
    assert {name: one["reason"] or one["status"] for name, one in found.items()} == {
        **dict.fromkeys(("found", "judged", "free", "clear", "masked"), "done"),
        "none": "bad_value",
        "failed": "internal",
    }, summary.causes
    assert found["none"]["message"].endswith("and miniature found none, either. Give a mask.")
    assert (found["failed"]["retryable"], found["none"]["retryable"]) == (True, False)
    assert taken_apart == [1]
    (file,) = {*Path(store.uri).glob("sources/*/*.mask-*.png")} - {Path(store.uri, known)}
    plane = np.asarray(Image.open(file))
    both, either = (plane >= 128) & (mask >= 128), (plane >= 128) | (mask >= 128)
    assert both.sum() / either.sum() >= 0.9
    core = feathered(plane) == 255
    assert np.array_equal(decode(Path(found["found"]["uri"]).read_bytes())[core], picture[core])
    assert dict(found["judged"]["scores"])["fidelity_beside"] > 2
    document = json.loads(Path(store.uri, "runs", summary.run, "job.json").read_text())
    assert document["mask_model_revision"] == mask_model.revision

    asked.clear()
    Path(own_instructions, "own.toml").write_text(OWN.replace("2.0", "99.0"))
    run(rows, **job)
    assert (asked, taken_apart) == ([], [1])  # what was found lies beside the source
    assert catalogue(store)["judged"]["reason"] == "not_changed"


def test_another_limit_of_an_instruction_judges_again_and_makes_nothing(
    run: Callable[..., Summary],
    store: Store,
    asked: list[list[EditRequest]],
    stand_in: dict[int, np.ndarray],
    tmp_path: Path,
) -> None:
    _, cut_out, made = painted()
    stand_in[1] = made
    own = tmp_path / "own.toml"
    own.write_text(OWN)
    rows = [row("one", stored(Image.fromarray(cut_out)), None, seed=1, width=256, height=256)]

    run(rows, instruction_name=str(own))
    before = catalogue(store)["one"]
    own.write_text(own.read_text().replace("2.0", "99.0"))
    run(rows, instruction_name=str(own))

    after = catalogue(store)["one"]
    assert (before["status"], after["reason"], len(asked)) == ("done", "not_changed", 1)
    assert (after["key"], after["scores"]) == (before["key"], before["scores"])
