"""What a store that misbehaves looks like to the doctor: how far it got, and where it stopped."""

import os
from pathlib import Path

import boto3
import pytest

from models.finding import Finding
from tasks.doctor.store_check import check_store
from tests.faults.fault_proxy import Fault, FaultProxy, answer, without

pytestmark = pytest.mark.waits  # for servers, most of its time

ALL = ["store reach", "store write", "conditional put", "store copy", "store delete"]


def statuses(findings: list[Finding]) -> dict[str, str]:
    return {finding.name: finding.status for finding in findings}


def failed(findings: list[Finding]) -> Finding:
    """The one that failed, which is the last."""
    assert [finding.status for finding in findings[:-1]] == ["ok"] * (len(findings) - 1)
    last = findings[-1]
    assert (last.status, last.fault) == ("failed", "reach")
    assert last.do
    return last


def test_a_bucket_that_keeps_its_promises_is_ok_in_every_step(s3_store_uri: str) -> None:
    assert statuses(check_store(s3_store_uri)) == dict.fromkeys(ALL, "ok")


def test_a_folder_that_keeps_its_promises_is_ok_in_every_step_and_isnt_made(tmp_path: Path) -> None:
    assert statuses(check_store(str(tmp_path / "store"))) == dict.fromkeys(ALL, "ok")
    assert list(tmp_path.iterdir()) == []


def test_no_store_is_left_out_and_an_address_of_none_is_a_wrong_request() -> None:
    assert [finding.status for finding in check_store("")] == ["left out"]
    (finding,) = check_store("gs://bucket")
    assert (finding.status, finding.fault) == ("failed", "request")
    assert finding.do == "Write s3://bucket/prefix or a folder."


@pytest.mark.parametrize(
    ("fault", "method", "having", "step"),
    [
        (answer(403, "AccessDenied"), "GET", "", 0),
        (answer(403, "AccessDenied"), "PUT", "", 1),
        (answer(501, "NotImplemented"), "PUT", "if-none-match", 1),
        (without("if-none-match"), "PUT", "", 2),
        (without("if-match"), "PUT", "", 2),
        (answer(403, "AccessDenied"), "PUT", "x-amz-copy-source", 3),
        (answer(403, "AccessDenied"), "DELETE", "", 4),
    ],
)
def test_a_bucket_fails_in_the_step_that_it_refuses_or_ignores(
    proxy: FaultProxy, s3_store_uri: str, fault: Fault, method: str, having: str, step: int
) -> None:
    proxy.inject(fault, method=method, having=having, times=None)
    findings = check_store(s3_store_uri)
    assert [finding.name for finding in findings] == ALL[: step + 1]
    failed(findings)


def test_a_bucket_that_ignores_conditions_says_what_that_means(proxy: FaultProxy, s3_store_uri: str) -> None:
    proxy.inject(without("if-none-match"), method="PUT", times=None)
    finding = failed(check_store(s3_store_uri))
    assert "ignores the condition of a write" in finding.found
    assert (finding.do or "").startswith("Use a bucket without versioning")


def test_a_bucket_that_keeps_versions_warns_of_what_was_withdrawn(s3_store_uri: str) -> None:
    versioning = {"Bucket": s3_store_uri.split("/")[2], "VersioningConfiguration": {"Status": "Enabled"}}
    boto3.client("s3").put_bucket_versioning(**versioning)
    *passed, last = check_store(s3_store_uri)
    assert statuses(passed) == dict.fromkeys(ALL, "ok")
    assert (last.name, last.status) == ("store versions", "warning")
    assert "withdrawn" in last.found


@pytest.mark.parametrize("fault", [answer(403, "AccessDenied"), answer(501, "NotImplemented"), answer(405, "")])
def test_who_may_not_ask_for_versioning_isnt_warned(proxy: FaultProxy, s3_store_uri: str, fault: Fault) -> None:
    asked = proxy.inject(fault, method="GET", path="?versioning", times=None)
    assert statuses(check_store(s3_store_uri)) == dict.fromkeys(ALL, "ok")
    assert asked.met == 1


def test_a_store_out_of_reach_says_to_look_at_its_address(s3_store_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    finding = failed(check_store(s3_store_uri))
    assert finding.found.startswith("http://127.0.0.1:9 can't be reached")
    assert finding.do == "Is its address right?"


def test_a_folder_that_may_be_read_but_not_written_fails_in_writing(nobodys: Path) -> None:
    assert os.access(nobodys, os.R_OK)
    finding = failed(check_store(str(nobodys)))
    assert finding.name == "store write"
    assert finding.do == "Let this user write there, or use another folder."


def test_a_file_in_a_stores_place_fails_in_writing(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a note")
    assert failed(check_store(str(tmp_path / "store"))).name == "store write"
