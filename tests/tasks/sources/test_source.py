"""A row's image is bytes, a path, an object or a web address, and every one has its rules."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from tasks.outcome import FailureReason
from tasks.sources.source import Sources, folder_of
from tasks.sources.source_error import Reason, SourceError
from tasks.sources.web_source import WebSource
from tasks.stores.opening import open_store
from tasks.stores.s3_store import S3Store
from tests.tasks.bad_server import sends, serving


def sources(folder: str | Path, *hosts: str, limit: int = 100) -> Sources:
    return Sources(str(folder), web=WebSource(hosts, loopback=True), limit=limit)


def refusal(read: Sources, image: str | bytes) -> SourceError:
    with pytest.raises(SourceError) as refused:
        read.read(image)
    return refused.value


def test_every_reason_is_on_the_projects_list() -> None:
    assert {FailureReason(reason) for reason in get_args(Reason)}


def test_bytes_are_the_picture(tmp_path: Path) -> None:
    assert sources(tmp_path).read(b"picture") == b"picture"
    assert refusal(sources(tmp_path, limit=3), b"picture").reason == "source_too_large"


def test_a_path_is_relative_to_the_manifests_folder(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"picture")
    assert sources(folder_of(str(tmp_path / "manifest.parquet"))).read("a.png") == b"picture"
    assert sources(folder_of(str(tmp_path))).read("./a.png") == b"picture"


def test_a_relative_manifest_has_an_absolute_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "manifests").mkdir()
    assert folder_of("manifest.parquet") == str(tmp_path)
    assert folder_of("manifests") == str(tmp_path / "manifests")


@pytest.mark.parametrize(
    ("manifest", "folder"),
    [
        ("s3://bucket/manifest.parquet", "s3://bucket"),
        ("s3://bucket/shop/manifest.parquet", "s3://bucket/shop"),
        ("s3://bucket/shop/manifests/", "s3://bucket/shop/manifests"),
    ],
)
def test_a_manifest_in_a_bucket_has_a_prefix_for_a_folder(manifest: str, folder: str) -> None:
    assert folder_of(manifest) == folder


def test_a_web_address_is_asked_for_on_hosts_that_the_job_names(tmp_path: Path) -> None:
    with serving() as server:
        server.answers["/a.png"] = [sends(b"picture")]
        assert sources(tmp_path, server.host).read(server.address("/a.png")) == b"picture"
        assert refusal(sources(tmp_path), server.address("/a.png")).reason == "source_not_allowed"
        assert refusal(sources(tmp_path, server.host, limit=3), server.address("/a.png")).reason == "source_too_large"


@pytest.mark.parametrize(
    "image", ["file:///etc/passwd", "file:a.png", "ftp://shop/a.png", "data:image/png;base64,AAAA", "gs://b/k", "C:\\a"]
)
def test_an_address_of_another_kind_is_refused(tmp_path: Path, image: str) -> None:
    error = refusal(sources(tmp_path), image)
    assert error.reason == "source_not_allowed"
    assert "image_hosts" in error.message


@pytest.mark.parametrize("image", ["", "  ", "a\nb.png", "https://shop/\x00"])
def test_what_is_no_address_at_all_is_a_bad_value(tmp_path: Path, image: str) -> None:
    assert refusal(sources(tmp_path), image).reason == "bad_value"


def test_an_object_is_read_from_its_bucket(s3_store_uri: str, tmp_path: Path) -> None:
    open_store(s3_store_uri).put_once("images/a b.png", b"picture")
    assert sources(tmp_path).read(f"{s3_store_uri}/images/a b.png") == b"picture"
    assert refusal(sources(tmp_path, limit=6), f"{s3_store_uri}/images/a b.png").reason == "source_too_large"
    assert sources(tmp_path, limit=7).read(f"{s3_store_uri}/images/a b.png") == b"picture"


def test_a_path_beside_a_manifest_in_a_bucket_is_a_key_beside_it(s3_store_uri: str) -> None:
    open_store(s3_store_uri).put_once("images/a.png", b"picture")
    read = sources(folder_of(f"{s3_store_uri}/manifest.parquet"))
    assert read.read("images/a.png") == read.read("./images/a.png") == b"picture"
    for path in ("../images/a.png", "/images/a.png", "images//a.png"):
        assert refusal(read, path).reason == "source_not_allowed"


def test_an_object_that_is_not_there_is_said_to_be_missing(s3_store_uri: str, tmp_path: Path) -> None:
    error = refusal(sources(tmp_path), f"{s3_store_uri}/none.png")
    assert error.reason == "source_not_found"
    assert f"{s3_store_uri}/none.png" in error.message


@pytest.mark.usefixtures("s3_environment")
def test_a_bucket_that_is_not_there_is_out_of_reach(tmp_path: Path) -> None:
    error = refusal(sources(tmp_path), "s3://packshot-nobody-made-this/none.png")
    assert (error.reason, error.retryable) == ("source_unreachable", False)


@pytest.mark.parametrize(
    "image", ["s3://", "s3://bucket", "s3://bucket/", "s3:bucket/a", "s3://b/a", "s3://k:canary@bu/a"]
)
def test_what_is_no_objects_address_is_a_bad_value(tmp_path: Path, image: str) -> None:
    error = refusal(sources(tmp_path), image)
    assert error.reason == "bad_value"
    assert "canary" not in error.message


@pytest.mark.usefixtures("s3_environment")
def test_a_store_that_is_away_may_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setattr("tasks.sources.source.open_store", lambda _: S3Store("bucket", patience=0.0))
    error = refusal(sources(tmp_path), "s3://bucket/a.png")
    assert (error.reason, error.retryable) == ("source_unreachable", True)
