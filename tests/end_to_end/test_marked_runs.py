"""Marks and fixes from a job to the store: what is read back from the stored object is what was asked for."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models.engines.generator import Generator
from safety.marks.credentials import read_credentials
from safety.marks.provenance import DigitalSourceType, digital_source_type, read_marks
from tasks.errors import RequestError
from tasks.job import GenerateJob
from tasks.runs.prepare import RunRequest, estimate
from tasks.stores.opening import open_store
from tasks.stores.store import Store
from tests.certificates import DAY, certificate
from tests.end_to_end.conftest import catalogue, run

MUG = {"id": "mug", "prompt": "a red mug on a white background", "profile": None}
TRAINED = DigitalSourceType.TRAINED_ALGORITHMIC_MEDIA
CODE = "001191110108MA01TEST0X00001"
needs_c2pa = pytest.mark.skipif(
    importlib.util.find_spec("c2pa") is None, reason="the extra packshot[c2pa] isn't installed"
)


@pytest.fixture
def credentials(tmp_path: Path) -> dict[str, str]:
    """A certificate and its key, as a job names them."""
    chain, key = certificate()
    (tmp_path / "chain.pem").write_bytes(chain)
    (tmp_path / "key.pem").write_bytes(key)
    return {"c2pa_certificate": str(tmp_path / "chain.pem"), "c2pa_key": str(tmp_path / "key.pem")}


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may be drawn from now on."""

    def load(*_: Any, **__: Any) -> Generator:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(Generator, "load", load)


def stored(store: Store, row: dict[str, Any]) -> bytes:
    found = store.read(row["uri"].removeprefix(store.uri).lstrip("/"))
    assert found is not None
    return found[0]


@needs_c2pa
def test_marks_survive_a_bucket(manifest: Callable[..., str], s3_store_uri: str, credentials: dict[str, str]) -> None:
    bucket = open_store(s3_store_uri)
    run(manifest([MUG]), bucket, aigc_producer=CODE, **credentials)
    picture = stored(bucket, catalogue(bucket)["mug"])
    assert (digital_source_type(picture), read_credentials(picture, "png")) == (TRAINED, TRAINED)
    assert read_marks(picture).aigc is not None


@needs_c2pa
def test_the_key_file_stays_where_it_is_and_another_certificate_makes_nothing_again(
    manifest: Callable[..., str],
    store: Store,
    credentials: dict[str, str],
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    file = manifest([MUG])
    summary = run(file, store, **credentials)
    before = catalogue(store)["mug"]
    document = json.loads((Path(store.uri) / f"runs/{summary.run}/job.json").read_text())
    assert document["job"]["marketplace"]["c2pa_key"] == credentials["c2pa_key"]
    everything = b"".join(path.read_bytes() for path in Path(store.uri).rglob("*") if path.is_file())
    assert b"PRIVATE KEY" not in everything
    request.getfixturevalue("no_model")
    for name, content in zip(("chain.pem", "key.pem"), certificate(), strict=True):
        (tmp_path / name).write_bytes(content)

    run(file, store, policy="default", **credentials)  # judged again, with the new certificate in force

    after = catalogue(store)["mug"]
    assert (after["sha256"], after["marks"]) == (before["sha256"], before["marks"])


def test_a_profile_that_wants_a_label_draws_its_rows_anew_and_no_others(
    manifest: Callable[..., str], store: Store
) -> None:
    rows = [MUG, {**MUG, "id": "cup"}]
    run(manifest(rows), store, aigc_producer=CODE)
    before = catalogue(store)

    summary = run(manifest([rows[0], {**rows[1], "profile": "china"}]), store, aigc_producer=CODE)

    after = catalogue(store)
    assert summary.rendered == 1
    assert after["mug"]["sha256"] == before["mug"]["sha256"]
    assert after["cup"]["key"] != before["cup"]["key"]
    assert "visible_label" in after["cup"]["marks"]


def refusal(manifest: str, store: Store, **job: Any) -> str:
    with pytest.raises(RequestError) as refused:
        estimate(RunRequest(GenerateJob.of(manifest=manifest, store=store.uri, **job)))
    return str(refused.value)


def test_what_could_never_be_met_is_refused_before_any_work(
    manifest: Callable[..., str], store: Store, tmp_path: Path
) -> None:
    file = manifest([MUG])
    assert "demands AIGC metadata: give the job's aigc_producer" in refusal(file, store, profile="china")
    (tmp_path / "signed.toml").write_text("content_credentials = true")
    assert "give the job's c2pa_certificate and c2pa_key" in refusal(file, store, profile=str(tmp_path / "signed.toml"))
    (tmp_path / "bare.toml").write_text("")
    said = refusal(file, store, profile="amazon-main", policy=str(tmp_path / "bare.toml"))
    assert "whether a picture shows “text_banner”" in said


@needs_c2pa
def test_a_certificate_that_cannot_sign_is_refused_before_any_work(
    manifest: Callable[..., str], store: Store, credentials: dict[str, str], tmp_path: Path
) -> None:
    file = manifest([MUG])
    absent = {**credentials, "c2pa_key": str(tmp_path / "absent.pem")}
    assert "absent.pem, can't be read: No such file" in refusal(file, store, **absent)
    chain, key = certificate(start=-9 * DAY, end=-DAY)
    Path(credentials["c2pa_certificate"]).write_bytes(chain)
    Path(credentials["c2pa_key"]).write_bytes(key)
    assert "the certificate was not valid at time of signing" in refusal(file, store, **credentials)
