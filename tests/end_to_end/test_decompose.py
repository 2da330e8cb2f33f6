"""The decompose flow whole: source pictures in, layers and a catalogue out."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from PIL import Image
from psd_tools import PSDImage

from flows.decompose import decompose
from models.miniature.world.world import draw, random_scene
from safety.marks.provenance import Aigc, read_marks
from tasks.job import DecomposeJob
from tasks.outcome import Retry
from tasks.reports.summary import Summary
from tasks.results.encoding import decode_rgba
from tasks.review.decide import decide, waiting
from tasks.stores.store import Store
from tests.end_to_end.conftest import ROAD, catalogue, source_of
from tests.models.conftest import save_layered, tiny_vae

PROFILE = "min_layers_psnr = 0\n"
"""The tiny checkpoint has random weights: its layers make no picture, and only the road matters."""


@pytest.fixture(scope="session")
def layered(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny checkpoint that sees and captions, with random weights."""
    return str(save_layered(tmp_path_factory.mktemp("tiny-qwen-image-layered"), tiny_vae(input_channels=4)))


@pytest.fixture
def run(
    manifest: Callable[..., str],
    store: Store,
    layered: str,
    another_clip: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Summary]:
    """Decomposes rows, in small, and lets layers of random weights pass."""
    (tmp_path / "any.toml").write_text(PROFILE)
    monkeypatch.setattr("safety.pictures.layers.COPY", 0.0)
    monkeypatch.setattr("safety.pictures.layers.LEAST_VISIBLE", 0.0)

    def go(rows: list[dict[str, Any]], *, retry: tuple[Retry, ...] = (), **job: Any) -> Summary:
        small = {
            "model": layered,
            "clip": another_clip,
            "layers": 2,
            "resolution": 64,
            "steps": 2,
            "guidance": 1.0,
            "policy": ROAD,
            "profile": str(tmp_path / "any.toml"),
        }
        return decompose(DecomposeJob.of(manifest=manifest(rows), store=store.uri, **{**small, **job}), None, retry)

    return go


def drawing(seed: int, width: int = 256, height: int = 256) -> bytes:
    """A drawn picture as PNG."""
    random, buffer = Random(seed), io.BytesIO()
    scene = random_scene(random, width=width, height=height)
    Image.fromarray(draw(scene, random).picture).save(buffer, "PNG")
    return buffer.getvalue()


def layers_of(row: dict[str, Any], name: str) -> Path:
    """A file beside a row's composite."""
    return Path(row["uri"]).parent / name


@pytest.mark.quick
def test_pictures_end_as_layers_beside_their_source(run: Callable[..., Summary], store: Store, tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "wide.png").write_bytes(drawing(1, 320, 160))
    said = {"caption": "a red mug", "title": "Mug"}
    rows = [
        {"id": "wide", "image": {"bytes": None, "path": "shop/wide.png"}, **said},
        {"id": "square", "image": {"bytes": drawing(2), "path": None}, **said},
    ]
    summary = run(rows, resolution=96)
    assert summary.statuses["done"] == 2, summary.causes
    found = catalogue(store)
    assert (found["wide"]["width"], found["wide"]["height"]) == (128, 64)
    for row in found.values():
        assert len(row["layer_uris"]) == 2
        layers = [decode_rgba(Path(uri).read_bytes()) for uri in row["layer_uris"]]
        assert all(layer.shape == (row["height"], row["width"], 4) for layer in layers)
        source = decode_rgba(source_of(store, row))
        assert source.shape == (row["height"], row["width"], 4)
        with layers_of(row, "layers.psd").open("rb") as file:
            names = [layer.name for layer in PSDImage.open(file)]
        assert names == ["background", "layer 1"]
        assert (row["caption"], row["title"]) == ("a red mug", "Mug")
        assert row["scores"]


def test_a_composite_is_flattened_and_marked_where_that_is_asked_for(
    run: Callable[..., Summary], store: Store, tmp_path: Path
) -> None:
    (tmp_path / "opaque.toml").write_text("min_layers_psnr = 0\nmax_transparent = 0.0")
    opaque = {"profile": str(tmp_path / "opaque.toml"), "aigc_producer": "CODE"}
    rows = [{"id": "a", "image": drawing(3), "caption": "a mug"}]
    run(rows, **opaque)
    found = catalogue(store)["a"]
    assert (found["status"], found["reason"], found["fixes"]) == ("rejected", "profile", [])
    assert "of its pixels are transparent, above 0 %" in found["message"]

    run(rows, flatten=True, **opaque)

    flat = catalogue(store)["a"]
    composite = Path(flat["uri"]).read_bytes()
    assert (flat["status"], flat["fixes"]) == ("done", ["flatten"])
    assert flat["key"] != found["key"]
    assert flat["marks"] == ["digital_source_type", "aigc"]
    assert (decode_rgba(composite)[..., 3] == 255).all()
    assert read_marks(composite).aigc == Aigc("CODE", flat["key"])
    numbers = [read_marks(Path(uri).read_bytes()).aigc for uri in flat["layer_uris"]]
    assert numbers == [Aigc("CODE", f"{flat['key']}.{number}") for number in range(2)]
    assert min(decode_rgba(Path(uri).read_bytes())[..., 3].min() for uri in flat["layer_uris"]) < 255
    assert read_marks(source_of(store, flat)).source_type is None


def test_the_same_command_again_makes_nothing(run: Callable[..., Summary], store: Store) -> None:
    rows = [{"id": "a", "image": drawing(3), "caption": "a mug"}, {"id": "b", "image": drawing(4), "caption": "a cap"}]
    run(rows)
    before = catalogue(store)
    again = run(rows)
    assert (again.rendered, again.kept) == (0, 2)
    assert catalogue(store) == before
    # Another picture under the same id is another key.
    changed = run([{**rows[0], "image": drawing(5)}, rows[1]])
    assert (changed.rendered, changed.kept) == (1, 1)


def test_a_bad_source_fails_its_own_row(run: Callable[..., Summary], store: Store) -> None:
    rows = [
        {"id": "good", "image": drawing(6), "caption": "a mug"},
        {"id": "cut", "image": drawing(6)[:-200]},
        {"id": "text", "image": b"not a picture", "caption": "a cap"},
        {"id": "none", "image": None},
        {"id": "thin", "image": thin()},
    ]
    run(rows)
    found = catalogue(store)
    assert {row_id: (row["status"], row["reason"]) for row_id, row in found.items()} == {
        "good": ("done", None),
        "cut": ("failed", "source_corrupt"),
        "text": ("failed", "source_unsupported"),
        "none": ("failed", "bad_value"),
        "thin": ("failed", "bad_value"),
    }
    assert all(row["message"].endswith(".") for row in found.values() if row["status"] == "failed")
    assert {(row["prompt"], row["caption"]) for row in found.values()} == {("", "a mug"), ("", "a cap"), ("", None)}


def test_paths_stay_inside_the_manifests_folder(
    run: Callable[..., Summary], store: Store, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "secret.png"
    elsewhere.write_bytes(drawing(7))
    (tmp_path / "link.png").symlink_to(elsewhere)
    names = ("../x.png", str(elsewhere), "link.png", "file:///etc/passwd", "https://example.com/a.png", "missing.png")
    run([{"id": f"r{number}", "image": name} for number, name in enumerate(names)])
    reasons = [row["reason"] for _, row in sorted(catalogue(store).items())]
    assert reasons == [*["source_not_allowed"] * 5, "source_not_found"]


def test_a_refused_source_never_reaches_the_model(
    run: Callable[..., Summary], store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "models.engines.decomposer.Decomposer.load", lambda *_, **__: pytest.fail("The model was loaded.")
    )
    strict = tmp_path / "strict.toml"
    strict.write_text(Path(ROAD).read_text().replace("picture_threshold = 1.0", "picture_threshold = -1.0"))
    run([{"id": "a", "image": drawing(8), "caption": "a mug"}], policy=str(strict))
    assert (catalogue(store)["a"]["status"], catalogue(store)["a"]["reason"]) == ("blocked", "concept")


def test_a_changed_policy_judges_stored_layers_again_without_the_model(
    run: Callable[..., Summary], store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"id": "a", "image": drawing(9), "caption": "a mug"}]
    run(rows)
    uri = catalogue(store)["a"]["uri"]
    monkeypatch.setattr(
        "models.engines.decomposer.Decomposer.load", lambda *_, **__: pytest.fail("The model was loaded.")
    )
    (tmp_path / "exact.toml").write_text("min_layers_psnr = 99\n")
    run(rows, profile=str(tmp_path / "exact.toml"))
    row = catalogue(store)["a"]
    assert (row["status"], row["reason"]) == ("rejected", "layers_mismatch")
    assert "/masters/" in row["uri"]
    assert not Path(uri).exists()
    assert all(Path(layer).exists() for layer in row["layer_uris"])
    run(rows)
    row = catalogue(store)["a"]
    assert row["status"] == "done"
    assert "/layers/" in row["uri"]
    assert row["uri"] != uri  # no name comes twice
    assert Path(row["uri"]).exists()


def test_a_written_caption_is_screened_like_any_prompt(
    run: Callable[..., Summary], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from models.engines.decomposer import Decomposer, WrittenCaption

    def caption(self: Decomposer, sources: list[np.ndarray], **_: Any) -> Any:  # noqa: ARG001
        yield [WrittenCaption(index, "a black handgun", None, 0.1) for index in range(len(sources))]

    monkeypatch.setattr(Decomposer, "caption", caption)
    run([{"id": "a", "image": drawing(10), "caption": None}, {"id": "b", "image": drawing(10), "caption": "a mug"}])
    found = catalogue(store)
    assert (found["a"]["status"], found["a"]["reason"], found["a"]["caption"]) == (
        "blocked",
        "blocklist",
        "a black handgun",
    )
    assert (found["b"]["status"], found["b"]["caption"]) == ("done", "a mug")


def test_a_written_caption_is_kept_with_the_layers(
    run: Callable[..., Summary], store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from models.engines.decomposer import Decomposer, WrittenCaption

    asked: list[int] = []

    def caption(self: Decomposer, sources: list[np.ndarray], **_: Any) -> Any:  # noqa: ARG001
        asked.append(len(sources))
        yield [WrittenCaption(index, "a red mug", None, 0.1) for index in range(len(sources))]

    monkeypatch.setattr(Decomposer, "caption", caption)
    rows = [{"id": "a", "image": drawing(11)}, {"id": "b", "image": drawing(11)}]
    run(rows)
    assert asked == [1]  # once a source picture
    assert {row["caption"] for row in catalogue(store).values()} == {"a red mug"}
    (tmp_path / "exact.toml").write_text("min_layers_psnr = 99\n")
    run(rows, profile=str(tmp_path / "exact.toml"))
    assert {(row["status"], row["caption"]) for row in catalogue(store).values()} == {("rejected", "a red mug")}
    # What is stored is screened by its caption, too.
    no_mugs = tmp_path / "no-mugs.toml"
    no_mugs.write_text(Path(ROAD).read_text().replace('blocklists = ["en", "zh"]', 'refuse = ["mug"]'))
    run(rows, policy=str(no_mugs))
    assert {(row["status"], row["reason"]) for row in catalogue(store).values()} == {("blocked", "blocklist")}
    assert asked == [1]


def test_a_caption_is_written_of_the_picture_at_the_size_of_its_row(
    run: Callable[..., Summary], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from models.engines.decomposer import Decomposer, WrittenCaption

    def caption(self: Decomposer, sources: list[np.ndarray], **_: Any) -> Any:  # noqa: ARG001
        yield [WrittenCaption(index, f"a mug of {source.shape[0]}", None, 0.1) for index, source in enumerate(sources)]

    monkeypatch.setattr(Decomposer, "caption", caption)
    rows = [{"id": str(resolution), "image": drawing(12), "resolution": resolution} for resolution in (64, 96, 128)]
    run([*rows, {**rows[1], "id": "again"}])
    found = catalogue(store)
    assert {row_id: row["caption"] for row_id, row in found.items()} == {
        "64": "a mug of 64",
        "96": "a mug of 96",
        "128": "a mug of 128",
        "again": "a mug of 96",
    }


def thin() -> bytes:
    """A picture so narrow that nothing would be left of it."""
    buffer = io.BytesIO()
    Image.new("RGB", (2, 4000), "red").save(buffer, "PNG")
    return buffer.getvalue()


ASK = """
[[concepts]]
name = "seen"
sentence = "Somebody should see it."
phrases = ["a mug"]
answer = "review"
{where}_threshold = -2.0
"""


@pytest.mark.parametrize("caption", ["a red mug", None], ids=["given caption", "written caption"])
def test_layers_that_wait_move_whole_when_a_person_answers(
    run: Callable[..., Summary],
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caption: str | None,
) -> None:
    from models.engines.decomposer import Decomposer, WrittenCaption

    def write(self: Decomposer, sources: list[np.ndarray], **_: Any) -> Any:  # noqa: ARG001
        yield [WrittenCaption(index, "a cap", None, 0.1) for index in range(len(sources))]

    monkeypatch.setattr(Decomposer, "caption", write)
    (policy := tmp_path / "ask.toml").write_text(ASK.format(where="picture"))
    rows = [{"id": name, "image": drawing(seed), "caption": caption} for name, seed in (("a", 7), ("b", 8))]
    # The source picture waits first: the policy looks at whatever conditions the layers.
    assert run(rows, policy=str(policy)).rendered == 0
    assert [(row.id, row.of) for row in waiting(store.uri)] == [("a", "input"), ("b", "input")]
    decide(store.uri, ["a", "b"], "approve", by="Ann")
    assert run(rows, policy=str(policy)).rendered == 2

    found = catalogue(store)
    if any(row["reason"] == "review" for row in found.values()):
        decide(store.uri, [row.id for row in waiting(store.uri)], "approve", by="Ann")
    found = catalogue(store)
    assert {row["caption"] for row in found.values()} == {caption or "a cap"}
    decide(store.uri, ["b"], "reject", by="Bo")

    found = catalogue(store)
    assert {row_id: row["status"] for row_id, row in found.items()} == {"a": "done", "b": "rejected"}
    folder = Path(found["a"]["uri"]).parent
    assert sorted(file.name for file in folder.iterdir()) == ["0.png", "1.png", "composite.png", "layers.psd"]
    assert found["a"]["layer_uris"] == [str(folder / f"{number}.png") for number in range(2)]
    assert {file.parent for file in Path(store.uri).glob("layers/*/*/*")} == {folder}
    for uri in (found["b"]["uri"], *found["b"]["layer_uris"]):
        assert "/masters/" in uri
        assert Path(uri).is_file()
    assert run(rows, policy=str(policy)).rendered == 0
    assert catalogue(store) == found
