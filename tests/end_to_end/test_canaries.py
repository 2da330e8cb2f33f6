"""Secrets and whole prompts stay out of logs, of Prefect, of the terminal, and of what objects say of themselves."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from pathlib import Path

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from prefect.logging.handlers import APILogHandler
from prefect.settings import PREFECT_API_KEY, PREFECT_CLIENT_CUSTOM_HEADERS, temporary_settings
from rich.console import Console

from flows.commands.terminal import show_summary
from flows.decompose import decompose
from flows.generate import generate
from safety.verdict import Verdict
from tasks.job import DecomposeJob, GenerateJob
from tasks.lane import screen
from tasks.outcome import Status
from tasks.sources import web_source
from tasks.sources.web_address import public_addresses
from tasks.stores.opening import open_store
from tests.end_to_end.conftest import SMALL, catalogue, manifest, prefect_api
from tests.tasks.bad_server import sends, serving

__all__ = ["manifest", "prefect_api"]  # fixtures

CANARIES = {
    name: f"canary{number}{name}xylophone"
    for number, name in enumerate(
        ("access", "secret", "token", "signature", "header", "apikey", "prompt", "negative", "caption", "failing")
    )
}
OF_ROWS = ("prompt", "negative", "caption", "failing")  # which the store's own files may say


def told(content: str | bytes, names: tuple[str, ...] | list[str] = tuple(CANARIES)) -> list[str]:
    whole = content.encode() if isinstance(content, str) else content
    return [name for name in names if CANARIES[name].encode() in whole]


def test_no_secret_and_no_prompt_is_told_to_anybody(
    manifest: Callable[..., str],
    s3_store_uri: str,
    prefect_home: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    for name, canary in (("ACCESS_KEY_ID", "access"), ("SECRET_ACCESS_KEY", "secret"), ("SESSION_TOKEN", "token")):
        monkeypatch.setenv(f"AWS_{name}", CANARIES[canary])
    judge = screen.judge_text

    def failing(text: str, *arguments: object, **options: object) -> Verdict:
        if CANARIES["failing"] in text:
            raise ValueError(f"I can't read {text}")
        return judge(text, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(screen, "judge_text", failing)
    monkeypatch.setattr(
        web_source, "public_addresses", lambda host, port, **_: public_addresses(host, port, loopback=True)
    )
    console, prompts = Console(file=io.StringIO(), width=500), [CANARIES["prompt"], CANARIES["failing"]]
    rows = [
        {"id": f"r{n}", "prompt": f"a red mug {prompt}", "negative_prompt": CANARIES["negative"]}
        for n, prompt in enumerate(prompts)
    ]
    small = {"store": s3_store_uri, "steps": 2, "guidance": 2.0, "policy": SMALL["policy"], "device": "cpu"}
    caplog.set_level(logging.INFO)
    with (
        serving() as shop,
        temporary_settings(
            {PREFECT_CLIENT_CUSTOM_HEADERS: {"X-Gateway": CANARIES["header"]}, PREFECT_API_KEY: CANARIES["apikey"]}
        ),
    ):
        shop.answers = {
            f"/{name}.png?X-Amz-Signature={CANARIES['signature']}": [answer]
            for name, answer in (
                ("gone", sends(status="404 Not Found")),
                ("html", sends(b"<html>", content_type="text/html")),
            )
        }
        sources = [
            {"id": f"p{n}", "image": shop.address(target), "caption": CANARIES["caption"]}
            for n, target in enumerate(shop.answers)
        ]
        sources.append({"id": "other", "image": f"https://nobody.invalid/?X-Amz-Signature={CANARIES['signature']}"})
        job = GenerateJob.of(manifest=manifest(rows), width=64, height=64, **small)
        layers = DecomposeJob.of(
            manifest=manifest(sources, "sources.parquet"), image_hosts=(shop.host,), resolution=64, layers=2, **small
        )
        show_summary(console, generate(job))
        show_summary(console, decompose(layers))
        APILogHandler().flush()

    store = open_store(s3_store_uri)
    found = catalogue(store)
    assert len(found) == len(rows) + len(sources)
    assert {found[row["id"]]["status"] for row in sources} == {Status.FAILED}
    assert found["r1"]["reason"] == "screen_failed"

    assert told("\n".join(shop.targets())) == ["signature"]  # the canaries were there to be told
    said = capfd.readouterr()
    assert told(caplog.text + "".join(str(record.__dict__) for record in caplog.records)) == []
    assert told(said.out + said.err + console.file.getvalue()) == []  # type: ignore[attr-defined]
    for file in prefect_home.rglob("*"):
        assert not file.is_file() or told(file.read_bytes()) == [], file
    secrets = [name for name in CANARIES if name not in OF_ROWS]
    bucket = s3_store_uri.removeprefix("s3://").partition("/")[0]
    client = boto3.client("s3")
    for entry in client.list_objects_v2(Bucket=bucket)["Contents"]:
        one = client.get_object(Bucket=bucket, Key=entry["Key"])
        content = one.pop("Body").read()
        assert told(str(one)) == [], entry["Key"]
        if not entry["Key"].endswith(".parquet"):
            assert told(content, secrets) == [], entry["Key"]
        elif not entry["Key"].endswith("/plan.parquet"):
            assert told(str(pq.read_table(pa.BufferReader(content)).to_pydict()), secrets) == [], entry["Key"]
