"""What is judged of a picture is what is stored: fixes, marks and the visible label, read back from the store."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from safety.marks.credentials import read_credentials
from safety.marks.provenance import Aigc, DigitalSourceType, read_marks
from safety.pictures.label import find_label
from safety.pictures.measures import measure_background
from safety.pictures.profile import Profile
from safety.policy.policy import Policy
from safety.verdict import Verdict, allow
from tasks.checkpoints.checkpoints import find_clip
from tasks.judging.clip_classifier import ClipClassifier
from tasks.judging.judges import Judges
from tasks.lane.keep import kept
from tasks.lane.outcome_recorder import OutcomeRecorder
from tasks.lane.picture_stages import PictureStages
from tasks.lane.stages import Made, Screened, StoredRow
from tasks.manifests.row import Row
from tasks.outcome import Outcome
from tasks.results.encoding import Encoding, decode
from tasks.results.finishing import Finishing
from tasks.results.marking import Marking
from tasks.results.retouching import Retouching
from tasks.results.shelf import StoredPicture
from tasks.stores.opening import open_store
from tasks.stores.store import Store
from tests.certificates import certificate

ROAD = Path(__file__).parents[2] / "end_to_end" / "road.toml"
FORMATS = ["png", "jpeg", "webp"]
TRAINED = DigitalSourceType.TRAINED_ALGORITHMIC_MEDIA
CODE = "001191110108MA01TEST0X00001"
KEY = "ab" * 32
needs_c2pa = pytest.mark.skipif(
    importlib.util.find_spec("c2pa") is None, reason="the extra packshot[c2pa] isn't installed"
)


@pytest.fixture(scope="module")
def judges() -> Judges:
    profiles = {
        "none": Profile.load("none"),
        "china": Profile.load("china"),
        "plain": Profile.load("plain"),
        "banned": Profile(name="banned", concepts=("weapon",)),
        "opaque": Profile(name="opaque", max_transparent=0.0, formats=("jpeg",), extension=True),
    }
    return Judges(Policy.load(str(ROAD)), [ClipClassifier(find_clip("miniature", None))], profiles, device="cpu")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


@pytest.fixture
def stages_of(judges: Judges, store: Store, pool: ThreadPoolExecutor) -> Callable[..., PictureStages]:
    def make(kind: str, *, marking: Marking | None = None, **fixes: bool) -> PictureStages:
        def no_generator(*_: Any) -> Any:
            raise AssertionError("nothing is to be drawn")

        encoding: Any = Encoding(kind, 92)  # type: ignore[arg-type]
        resources: Any = SimpleNamespace(
            spec=SimpleNamespace(from_before=False),
            store=store,
            judges=judges,
            pool=pool,
            recorder=OutcomeRecorder("run", "model", "prompt"),
        )
        finishing = Finishing(encoding, Retouching(**fixes), marking or Marking())
        return PictureStages(no_generator, resources, finishing, TRAINED, intake=None, conditions=False)

    return make


def planned(profile: str = "none", key: str = KEY) -> Row:
    row = Row("mug", "a red mug", " ", 1, 320, 256, 8, 1.0, profile)
    return replace(row, key=key, policy_fingerprint="judges", attempt=1)


def drawn(ground: tuple[int, int, int] = (255, 255, 255)) -> np.ndarray:
    image = Image.new("RGB", (320, 256), ground)
    ImageDraw.Draw(image).rectangle((110, 60, 210, 190), fill=(190, 30, 40))
    return np.asarray(image)


def end(stages: PictureStages, thing: Made | StoredRow) -> Outcome:
    """Classify one row and store it, as `classify` and `keep` do."""
    (reading,) = stages.judges.screen(["a red mug"])
    screened = Screened(0, [], [], [], {"mug": reading.kept}, sources={"mug": (drawn(),)}, compared={"mug": (drawn(),)})
    judged = stages.classify([thing], screened)
    (outcome,) = kept(judged, screened, stages=stages, pool=stages.pool, recorder=stages.recorder)
    return outcome


def found(stages: PictureStages, profile: str) -> StoredRow:
    """The row, with what is stored under its key."""
    master = stages.shelf.find(KEY)
    assert master is not None
    return StoredRow(planned(profile), master)


def stored(store: Store, outcome: Outcome) -> bytes:
    found = store.read(str(outcome.uri).removeprefix(store.uri).lstrip("/"))
    assert found is not None
    return found[0]


@needs_c2pa
@pytest.mark.parametrize("kind", FORMATS)
def test_every_mark_is_in_the_stored_object(
    stages_of: Callable[..., PictureStages], store: Store, tmp_path: Path, kind: str
) -> None:
    for name, content in zip(("chain.pem", "key.pem"), certificate(), strict=True):
        (tmp_path / name).write_bytes(content)
    marking = Marking(CODE, str(tmp_path / "chain.pem"), str(tmp_path / "key.pem"))

    outcome = end(stages_of(kind, marking=marking), Made(planned("china"), drawn(), 1.0))

    picture = stored(store, outcome)
    said = read_marks(picture)
    assert (outcome.status, outcome.message) == ("done", None)
    assert outcome.marks == ["digital_source_type", "aigc", "content_credentials", "visible_label"]
    assert (said.source_type, said.aigc, said.edits) == (TRAINED, Aigc(CODE, KEY), ("visible_label",))
    assert read_credentials(picture, kind) == TRAINED
    assert find_label(decode(picture), "AI生成") is not None


@pytest.mark.parametrize("kind", FORMATS)
def test_fixes_are_in_the_stored_object_and_read_off_it_again(
    stages_of: Callable[..., PictureStages], store: Store, kind: str
) -> None:
    stages = stages_of(kind, snap_white=True, pad_square=True)

    outcome = end(stages, Made(planned("plain"), drawn((247, 245, 243)), 1.0))

    pixels = decode(stored(store, outcome))
    assert outcome.fixes == ["snap_white", "pad_square"]
    assert (outcome.width, outcome.height) == (320, 320) == pixels.shape[:2]
    assert measure_background(pixels, white=True, tolerance=0, shadows=False).share == 1
    assert np.abs(pixels[100:215, 120:200].astype(int) - (190, 30, 40)).max() <= 8
    again = end(stages, found(stages, "plain"))
    assert (again.fixes, again.marks, again.sha256) == (outcome.fixes, outcome.marks, outcome.sha256)
    assert (again.width, again.height, again.fingerprint) == (320, 320, outcome.fingerprint)


def test_a_fix_that_changes_nothing_is_not_recorded(stages_of: Callable[..., PictureStages]) -> None:
    outcome = end(stages_of("png", snap_white=True), Made(planned(), drawn(), 1.0))
    assert outcome.fixes == []


@pytest.mark.parametrize("kind", FORMATS)
def test_a_stored_picture_that_lost_its_marks_is_refused(stages_of: Callable[..., PictureStages], kind: str) -> None:
    stages = stages_of(kind, marking=Marking(CODE))
    bare = stages.encoding.encode(drawn(), b"<x/>")  # as a picture service of the shop's would write it
    stages.shelf.keep(KEY, StoredPicture(bare))

    outcome = end(stages, found(stages, "china"))

    assert (outcome.status, outcome.reason, outcome.marks) == ("rejected", "unmarked", [])
    assert outcome.message == (
        "The stored picture lacks IPTC's DigitalSourceType and the AIGC label of GB 45438-2025 and the visible label "
        "of its profile."
    )


def test_what_another_process_made_meanwhile_is_judged_in_place_of_ones_own(
    stages_of: Callable[..., PictureStages], store: Store
) -> None:
    stages = stages_of("png", marking=Marking(CODE))
    theirs = stages.encoding.encode(drawn((0, 0, 0)), b"<x/>")
    stages.shelf.keep(KEY, StoredPicture(theirs))
    outcome = end(stages, Made(planned(), drawn(), 1.0))
    assert stored(store, outcome) == theirs
    assert (outcome.status, outcome.reason) == ("rejected", "unmarked")
    assert outcome.seconds == 0


def test_a_visible_label_is_not_judged_as_a_part_of_the_picture(stages_of: Callable[..., PictureStages]) -> None:
    plain = end(stages_of("png"), Made(planned("none"), drawn(), 1.0))
    labelled = end(stages_of("png"), Made(planned("china", "cd" * 32), drawn(), 1.0))
    assert labelled.scores == pytest.approx(plain.scores)
    assert labelled.fingerprint == plain.fingerprint


def test_a_concept_that_the_policy_lets_pass_is_refused_where_the_profile_names_it(
    stages_of: Callable[..., PictureStages], monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = stages_of("png")
    assert end(stages, Made(planned("banned"), drawn(), 1.0)).status == "done"
    monkeypatch.setattr("tasks.judging.judges.looked_for", lambda _: {"weapon": -2.0})
    outcome = end(stages, Made(planned("banned"), drawn(), 1.0))
    assert (outcome.status, outcome.reason) == ("rejected", "profile")
    assert "comes too close to “weapon”" in str(outcome.message)


def test_a_profile_goes_by_the_bytes_and_by_the_name(stages_of: Callable[..., PictureStages]) -> None:
    assert end(stages_of("jpeg"), Made(planned("opaque"), drawn(), 1.0)).status == "done"
    other = Made(planned("opaque", "cd" * 32), drawn(), 1.0)
    assert "png isn't one of jpeg" in str(end(stages_of("png"), other).message)


@needs_c2pa
def test_a_picture_that_cannot_be_signed_fails_alone_and_may_do_later(
    stages_of: Callable[..., PictureStages], tmp_path: Path
) -> None:
    for name, content in zip(("chain.pem", "key.pem"), certificate(), strict=True):
        (tmp_path / name).write_bytes(content)
    stages = stages_of("png", marking=Marking(None, str(tmp_path / "chain.pem"), str(tmp_path / "key.pem")))
    assert stages.marker.signer is not None
    object.__setattr__(stages.marker.signer, "key", certificate()[1])  # as if it had been exchanged meanwhile

    outcome = end(stages, Made(planned(), drawn(), 1.0))

    assert (outcome.status, outcome.reason, outcome.retryable) == ("failed", "unsigned", True)
    assert str(outcome.message).startswith("Content credentials can't be written")


def test_a_picture_that_cannot_be_compared_with_what_it_was_made_from_is_refused(
    stages_of: Callable[..., PictureStages],
) -> None:
    def fails(row: Row, originals: tuple[np.ndarray, ...], picture: np.ndarray) -> Verdict:
        assert row.id == "mug"
        assert originals[0].shape == picture.shape
        raise RuntimeError("out of registers")

    stages = stages_of("png")
    stages.compare = fails
    outcome = end(stages, Made(planned(), drawn(), 0.1))
    assert (outcome.status, outcome.reason, outcome.retryable) == ("rejected", "classifier_failed", True)
    assert "compared with what it was made from" in str(outcome.message)
    stages.compare = lambda *_: allow({"likeness": 0.5})
    assert end(stages, found(stages, "none")).scores["likeness"] == 0.5


def test_a_row_whose_product_cannot_be_laid_over_its_picture_is_stored_and_refused_whoever_judges_it(
    stages_of: Callable[..., PictureStages],
) -> None:
    stages = stages_of("png")
    stages.keep = lambda *_: None
    row = replace(planned(), keep_digest="kept")
    outcome = end(stages, Made(row, drawn(), 1.0))
    again = end(stages, replace(found(stages, "none"), row=row))
    assert (outcome.status, outcome.reason, outcome.fixes) == ("rejected", "product_changed", [])
    assert outcome.marks == ["digital_source_type"]
    assert str(outcome.message).startswith("The product wasn't found in the result")
    assert (again.reason, again.sha256) == (outcome.reason, outcome.sha256)


def test_where_laying_a_product_over_its_picture_goes_wrong_its_row_fails_alone(
    stages_of: Callable[..., PictureStages],
) -> None:
    def fails(originals: tuple[np.ndarray, ...], picture: np.ndarray) -> np.ndarray:
        raise RuntimeError(f"out of registers for {len(originals)} of {picture.shape}")

    stages = stages_of("png")
    stages.keep = fails
    outcome = end(stages, Made(replace(planned(), keep_digest="kept"), drawn(), 1.0))
    assert (outcome.status, outcome.reason, outcome.retryable) == ("failed", "internal", True)
    assert outcome.message == "The source's product could not be laid over the picture: RuntimeError."
    assert end(stages, Made(planned(), drawn(), 1.0)).status == "done"
