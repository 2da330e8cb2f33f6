"""What the store does when the way to it, or the store itself, misbehaves."""

import contextlib
import dataclasses
import errno
import functools
import json
import os
import pickle
import resource
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import botocore.credentials
import pytest

import tasks.stores.folder_store
from tasks.stores.dialect import Dialect
from tasks.stores.folder_store import FolderStore, make
from tasks.stores.opening import open_store
from tasks.stores.s3_store import S3Store
from tasks.stores.store import (
    Changed,
    Conflict,
    Damaged,
    Missing,
    StoreError,
    StoreReadOnly,
    StoreUnreachable,
    sha256_of,
)
from tests.faults.dialects import Busy
from tests.faults.fault_proxy import (
    Answer,
    Exchange,
    Fault,
    FaultProxy,
    answer,
    damaged_reply,
    hang,
    lost_reply,
    lost_request,
    taken_in_part,
    torn_reply,
    without,
)

ROOT = Path(__file__).parents[2]
PATH = "images/ab/ab12.png"


@pytest.fixture
def bucket(proxy: FaultProxy, s3_store_uri: str) -> S3Store:
    """A store beyond the proxy."""
    del proxy
    return S3Store(*s3_store_uri.removeprefix("s3://").split("/"), patience=30.0)


def content_of(store: S3Store | FolderStore, path: str = PATH) -> bytes:
    content, _ = store.read(path) or pytest.fail(f"{path} is absent")
    return content


def names_in(bucket: S3Store, server: str) -> list[str]:
    listed = boto3.client("s3", endpoint_url=server).list_objects_v2(Bucket=bucket.bucket)
    return [one["Key"] for one in listed.get("Contents", [])]


# The bucket


@pytest.mark.parametrize(
    "fault",
    [answer(409, "ConditionalRequestConflict"), answer(503, "SlowDown"), answer(400, "BadDigest"), lost_request],
)
def test_what_passes_is_tried_again_until_the_object_is_written(
    proxy: FaultProxy, bucket: S3Store, fault: Fault
) -> None:
    met = proxy.inject(fault, method="PUT", times=3)  # boto3 itself gives up after three
    assert not bucket.put_once(PATH, b"picture").adopted
    assert met.met == 3
    assert content_of(bucket) == b"picture"


def test_a_file_is_sent_from_its_start_again_after_a_lost_request(
    proxy: FaultProxy, bucket: S3Store, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(os.urandom(2_000_000))
    proxy.inject(lost_request, method="PUT", times=3)
    bucket.put_once(PATH, tmp_path / "file")
    assert content_of(bucket) == (tmp_path / "file").read_bytes()


def test_twenty_lanes_on_a_busy_store_ask_for_less_until_all_are_served(
    s3_server: str, s3_store_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy = Busy(40.0)
    with FaultProxy(s3_server, busy) as proxy, ThreadPoolExecutor(160) as threads:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.address)
        lanes = [
            S3Store(*s3_store_uri.removeprefix("s3://").split("/"), patience=4.0, dialect=Dialect()) for _ in "x" * 20
        ]
        put = [threads.submit(lane.overwrite, f"x/{n}", b"x") for n in range(16) for lane in lanes]
        assert [error for error in (one.exception() for one in put) if error is not None] == []
    assert busy.served == len(put)
    assert busy.refused < 2 * busy.served  # told once, and not for every request again and again


@pytest.mark.parametrize("code", ["ConditionalRequestConflict", "SlowDown"])
def test_what_doesnt_pass_in_time_ends_in_a_sentence(proxy: FaultProxy, bucket: S3Store, code: str) -> None:
    proxy.inject(answer(409 if code.startswith("C") else 503, code), method="PUT", times=None)
    bucket.patience = 1.0
    started = time.monotonic()
    with pytest.raises(StoreUnreachable, match=rf"kept refusing to write {bucket.uri}/{PATH} \({code}\)"):
        bucket.put_once(PATH, b"picture")
    assert time.monotonic() - started < 20  # and not after the two minutes of the usual patience


def test_after_a_lost_reply_the_repeat_adopts_its_own_object(proxy: FaultProxy, bucket: S3Store) -> None:
    proxy.inject(lost_reply, method="PUT")
    assert bucket.put_once(PATH, b"picture").adopted
    assert content_of(bucket) == b"picture"


def test_after_a_lost_reply_another_writers_object_is_still_a_conflict(proxy: FaultProxy, bucket: S3Store) -> None:
    bucket.put_once(PATH, b"theirs")
    proxy.inject(lost_reply, method="PUT")
    with pytest.raises(Conflict):
        bucket.put_once(PATH, b"ours")


def test_after_a_lost_reply_a_replacement_isnt_mistaken_for_somebody_elses(proxy: FaultProxy, bucket: S3Store) -> None:
    proxy.inject(lost_reply, method="PUT")
    bucket.replace("catalog.parquet", b"one", expect=None)
    _, one = bucket.read("catalog.parquet") or pytest.fail("absent")
    proxy.inject(lost_reply, method="PUT")
    bucket.replace("catalog.parquet", b"two", expect=one)
    assert content_of(bucket, "catalog.parquet") == b"two"
    with pytest.raises(Changed):
        bucket.replace("catalog.parquet", b"three", expect=one)


@pytest.mark.parametrize("fault", [torn_reply, damaged_reply])
def test_a_torn_or_damaged_download_is_fetched_again(
    proxy: FaultProxy, bucket: S3Store, tmp_path: Path, fault: Fault
) -> None:
    content = os.urandom(1_500_000)
    bucket.put_once(PATH, content)
    met = proxy.inject(fault, method="GET", times=2)
    bucket.download(PATH, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == content
    assert met.met == 2
    proxy.inject(fault, method="GET", times=2)
    assert content_of(bucket) == content


def test_a_download_that_stays_damaged_leaves_no_file(proxy: FaultProxy, bucket: S3Store, tmp_path: Path) -> None:
    bucket.put_once(PATH, b"picture")
    proxy.inject(damaged_reply, method="GET", times=None)
    bucket.patience = 0.5
    with pytest.raises(StoreError, match="doesn't match the SHA-256"):
        bucket.download(PATH, tmp_path / "copy")
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_hangs_is_given_up_on(proxy: FaultProxy, bucket: S3Store) -> None:
    hanging = S3Store(bucket.bucket, bucket.prefix, patience=0.0, read_timeout=0.3)
    proxy.inject(hang, times=None)
    with pytest.raises(StoreUnreachable, match=f"{proxy.address} didn't answer in time"):
        hanging.probe()


def test_a_request_that_hangs_once_is_made_again(proxy: FaultProxy, bucket: S3Store) -> None:
    patient = S3Store(bucket.bucket, bucket.prefix, read_timeout=3.0)  # long for an answer, also on a busy machine
    proxy.inject(hang, method="PUT", times=1)
    assert not patient.put_once(PATH, b"picture").adopted


@pytest.mark.parametrize(
    ("status", "code", "kind", "says"),
    [
        (403, "AccessDenied", StoreReadOnly, "allow s3:PutObject"),
        (403, "InvalidAccessKeyId", StoreError, "doesn't accept our credentials"),
        (400, "ExpiredToken", StoreError, "doesn't accept our credentials"),
        (403, "RequestTimeTooSkewed", StoreError, "clock is wrong"),
        (404, "NoSuchBucket", StoreError, "There is no bucket"),
        (301, "PermanentRedirect", StoreError, "AWS_REGION"),
        (403, "QuotaExceeded", StoreError, "has no room"),
        (507, "XMinioStorageFull", StoreError, "has no room"),
        (501, "NotImplemented", StoreError, "doesn't know conditional writes"),
        (418, "Teapot", StoreError, r"refuses to write .* \(Teapot\)"),
    ],
)
def test_a_refusal_becomes_one_sentence_that_repeats_no_secret(
    proxy: FaultProxy, bucket: S3Store, status: int, code: str, kind: type[StoreError], says: str
) -> None:
    proxy.inject(answer(status, code), method="PUT", times=None)
    with pytest.raises(kind, match=says) as refused:
        bucket.probe()
    sentence = str(refused.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert "secret" not in sentence
    assert refused.value.__suppress_context__


def test_a_refusal_to_read_names_the_permissions_that_reading_needs(proxy: FaultProxy, bucket: S3Store) -> None:
    proxy.inject(answer(403, "AccessDenied"), method="GET", times=None)
    with pytest.raises(StoreError, match="s3:GetObject and s3:ListBucket"):
        bucket.probe()


def test_a_refusal_to_delete_is_found_by_the_probe(proxy: FaultProxy, bucket: S3Store) -> None:
    proxy.inject(answer(403, "AccessDenied"), method="DELETE", times=None)
    with pytest.raises(StoreReadOnly, match="allow s3:DeleteObject"):
        bucket.probe()


def test_a_missing_bucket_is_named(s3_environment: str) -> None:
    with pytest.raises(StoreError, match=f"no bucket for s3://no-such-bucket/.* at {s3_environment}"):
        open_store("s3://no-such-bucket").probe()


def test_missing_credentials_are_asked_for(s3_store_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StoreError, match=r"No credentials .* set AWS_ACCESS_KEY_ID"):
        open_store(s3_store_uri).probe()


def test_an_unknown_profile_is_named(s3_store_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "shop")
    with pytest.raises(StoreError, match=r"The config profile \(shop\) could not be found"):
        open_store(s3_store_uri).probe()


def test_an_endpoint_where_nobody_answers_is_named_without_its_password(
    s3_store_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # and doesn't listen
        port = unused.getsockname()[1]
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://user:hunter2@127.0.0.1:{port}")
        store = S3Store("bucket", patience=0.0)
        with pytest.raises(StoreUnreachable, match=f"http://127.0.0.1:{port} can't be reached") as refused:
            store.probe()
    assert "hunter2" not in str(refused.value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "store.example:9000")
    with pytest.raises(StoreError, match="AWS_ENDPOINT_URL isn't an address"):
        open_store(s3_store_uri).probe()


@pytest.mark.parametrize("header", ["If-None-Match", "If-Match"])
def test_a_store_that_ignores_conditions_is_found_by_the_probe(
    proxy: FaultProxy, bucket: S3Store, s3_server: str, header: str
) -> None:
    proxy.inject(without(header.lower()), method="PUT", times=None)
    with pytest.raises(StoreError, match=rf"ignores the condition of a write \({header.replace('-', '')}\)"):
        bucket.probe()
    assert names_in(bucket, s3_server) == []


@pytest.mark.parametrize(
    ("fault", "having"), [(without("if-none-match", "if-match"), ""), (answer(501, "NotImplemented"), "if-none-match")]
)
def test_a_store_without_conditions_can_be_allowed_as_unsafe(
    proxy: FaultProxy, bucket: S3Store, fault: Fault, having: str
) -> None:
    proxy.inject(fault, method="PUT", having=having, times=None)
    unsafe = open_store(bucket.uri, allow_unsafe=True)
    unsafe.probe()
    unsafe.put_once(PATH, b"first")
    with pytest.raises(Conflict):
        unsafe.put_once(PATH, b"second")
    unsafe.replace("catalog.parquet", b"one", expect=None)
    with pytest.raises(Changed):
        unsafe.replace("catalog.parquet", b"two", expect=None)


def test_a_store_that_refuses_the_checksum_header_is_written_without(proxy: FaultProxy, bucket: S3Store) -> None:
    refused = proxy.inject(answer(501, "NotImplemented"), having="x-amz-checksum-sha256", times=None)
    bucket.probe()
    bucket.put_once(PATH, b"picture")
    bucket.put_once("images/cd/cd34.png", b"picture")
    assert refused.met == 1  # the probe's one


def test_two_first_puts_at_once_learn_side_by_side_that_the_checksum_header_is_refused(
    proxy: FaultProxy, bucket: S3Store
) -> None:
    both = threading.Barrier(2)

    def refused(exchange: Exchange) -> None:
        both.wait(10)  # neither has learned it before the other one is on its way
        answer(501, "NotImplemented")(exchange)

    proxy.inject(refused, having="x-amz-checksum-sha256", times=None)
    with ThreadPoolExecutor(2) as threads:
        stored = list(threads.map(lambda n: bucket.put_once(f"images/{n}.png", b"picture"), range(2)))
    assert [one.adopted for one in stored] == [False, False]


def test_what_a_probe_learns_isnt_forgotten_by_a_write_that_learns_something_beside_it(
    proxy: FaultProxy, bucket: S3Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    replaced, probing = dataclasses.replace, threading.Thread(target=bucket.probe)

    def probed_meanwhile(dialect: Dialect, **changes: bool) -> Dialect:
        changed = replaced(dialect, **changes)
        probing.start()
        probing.join(0.5)  # to its end, unless it waits for this write's
        return changed

    proxy.inject(answer(501, "NotImplemented"), having="x-amz-checksum-sha256", times=None)
    monkeypatch.setattr("tasks.stores.s3_store.learn", lambda *_, **__: Dialect(quoted=False, checksum=False))
    with monkeypatch.context() as patch:
        patch.setattr(dataclasses, "replace", probed_meanwhile)
        bucket.overwrite(PATH, b"picture")
    probing.join()
    assert bucket.dialect == Dialect(quoted=False, checksum=False)


def always_changed(exchange: Exchange) -> None:
    """Say that somebody changed the object, whatever the version."""
    answer(412, "PreconditionFailed")(exchange)


def test_a_version_that_is_refused_though_nobody_changed_it_ends_in_a_sentence(
    proxy: FaultProxy, bucket: S3Store
) -> None:
    bucket.replace("catalog.parquet", b"one", expect=None)
    _, version = bucket.read("catalog.parquet") or pytest.fail("absent")
    bucket.probe()
    proxy.inject(always_changed, method="PUT", having="if-match", times=None)
    with pytest.raises(StoreError, match=r"catalog\.parquet can't be replaced, because .* and nobody has: use another"):
        bucket.replace("catalog.parquet", b"two", expect=version)
    proxy.inject(always_changed, method="PUT", having="if-none-match", times=None)
    with pytest.raises(StoreError, match="can't be replaced"):
        bucket.replace("absent", b"one", expect=None)


def test_a_store_that_refuses_every_version_is_found_by_the_probe(
    proxy: FaultProxy, bucket: S3Store, s3_server: str
) -> None:
    proxy.inject(always_changed, method="PUT", having="if-match", times=None)
    with pytest.raises(StoreError, match=r"refuses to replace an object even if nobody has changed it \(IfMatch\)"):
        bucket.probe()
    assert names_in(bucket, s3_server) == []


def test_a_replacement_in_a_store_that_nobody_probed_probes_it_first_and_once(
    proxy: FaultProxy, bucket: S3Store
) -> None:
    bucket.put_once("catalog.parquet", b"")
    assert not [path for _, path in proxy.seen if ".probe" in path]

    def sign(number: int) -> None:
        while True:
            content, version = bucket.read("catalog.parquet") or (b"", None)
            with contextlib.suppress(Changed):
                return bucket.replace("catalog.parquet", content + bytes([number]), expect=version)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(sign, range(4)))
    assert sorted(content_of(bucket, "catalog.parquet")) == [0, 1, 2, 3]
    assert len({path.split("/")[4] for _, path in proxy.seen if ".probe" in path}) == 1
    proxy.inject(without("if-match"), method="PUT", times=None)
    another = open_store(bucket.uri)
    _, version = another.read("catalog.parquet") or pytest.fail("absent")
    with pytest.raises(StoreError, match="ignores the condition"):
        another.replace("catalog.parquet", b"overwritten", expect=version)
    assert sorted(content_of(bucket, "catalog.parquet")) == [0, 1, 2, 3]


def test_an_object_of_another_tool_is_adopted_by_its_content(bucket: S3Store, s3_server: str) -> None:
    boto3.client("s3", endpoint_url=s3_server).put_object(Bucket=bucket.bucket, Key=f"catalogue/{PATH}", Body=b"theirs")
    assert bucket.put_once(PATH, b"theirs").adopted
    stored = bucket.adopt_or_put(PATH, b"our own")
    assert (stored.sha256, stored.size) == sha256_of(b"theirs")


def test_a_copy_moves_no_bytes(proxy: FaultProxy, bucket: S3Store) -> None:
    master = bucket.put_once("masters/a.png", b"picture")
    proxy.seen.clear()
    bucket.copy("masters/a.png", PATH, sha256=master.sha256, size=master.size)
    assert [method for method, _ in proxy.seen] in (["PUT"], ["PUT", "HEAD"])


def test_a_copy_of_another_tools_object_is_read_through(bucket: S3Store, s3_server: str) -> None:
    client = boto3.client("s3", endpoint_url=s3_server)
    for content, whole in ((b"picture", True), (b"another", False)):
        client.put_object(Bucket=bucket.bucket, Key="catalogue/masters/a.png", Body=content)
        with contextlib.nullcontext() if whole else pytest.raises(Damaged):
            bucket.copy("masters/a.png", PATH, sha256=sha256_of(b"picture")[0], size=7)
        assert bucket.exists(PATH) == whole


def test_what_is_noted_beside_other_content_isnt_believed(bucket: S3Store, s3_server: str) -> None:
    bucket.put_once("masters/a.png", b"picture")
    client = boto3.client("s3", endpoint_url=s3_server)
    where = {"Bucket": bucket.bucket, "Key": "catalogue/masters/a.png"}
    noted = client.head_object(**where)["Metadata"]
    client.put_object(**where, Body=b"another", Metadata=noted)
    with pytest.raises(Damaged):
        bucket.copy("masters/a.png", PATH, sha256=noted["sha256"], size=7)
    assert not bucket.exists(PATH)


@pytest.mark.parametrize("fault", [lost_reply, lost_request, answer(503, "SlowDown")])
def test_a_copy_is_tried_again(proxy: FaultProxy, bucket: S3Store, fault: Fault) -> None:
    master = bucket.put_once("masters/a.png", b"picture")
    met = proxy.inject(fault, method="PUT", times=3)
    bucket.copy("masters/a.png", PATH, sha256=master.sha256, size=master.size)
    assert met.met == 3
    assert content_of(bucket) == b"picture"


def test_a_copy_that_isnt_allowed_names_the_permissions(proxy: FaultProxy, bucket: S3Store) -> None:
    master = bucket.put_once("masters/a.png", b"picture")
    proxy.inject(answer(403, "AccessDenied"), method="PUT", times=None)
    with pytest.raises(StoreReadOnly, match="allow s3:GetObject and s3:PutObject"):
        bucket.copy("masters/a.png", PATH, sha256=master.sha256, size=master.size)


def test_a_listing_goes_on_from_page_to_page(
    proxy: FaultProxy, bucket: S3Store, s3_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = boto3.client("s3", endpoint_url=s3_server)
    client.put_object(Bucket=bucket.bucket, Key="catalogue/masters/", Body=b"")  # as a console marks a folder
    paths = [f"masters/{folder}{number}" for folder in ("", "ab/", "cd/") for number in range(3)]
    for path in paths:
        bucket.put_once(path, b"picture")
    connected = bucket._connection.client()
    few = functools.partial(connected.list_objects_v2, MaxKeys=2)
    monkeypatch.setattr(connected, "list_objects_v2", few)
    proxy.inject(lost_reply, method="GET", times=4)
    assert sorted(one.path for one in bucket.listing("masters")) == paths


def test_listing_gives_paths_within_the_prefix_or_a_sentence(
    proxy: FaultProxy, bucket: S3Store, s3_server: str
) -> None:
    boto3.client("s3", endpoint_url=s3_server).put_object(Bucket=bucket.bucket, Key="catalogue2/elsewhere", Body=b"")
    for path in ("b/2.parquet", "a.parquet"):
        bucket.put_once(path, b"manifest")
    assert sorted(one.path for one in bucket.listing("")) == ["a.parquet", "b/2.parquet"]
    proxy.inject(answer(403, "AccessDenied"), method="GET", times=None)
    with pytest.raises(StoreError, match=f"No permission to read {bucket.uri} "):
        list(bucket.listing(""))


def test_a_store_travels_to_another_process_with_what_was_learned_of_it(proxy: FaultProxy, bucket: S3Store) -> None:
    refused = proxy.inject(answer(501, "NotImplemented"), having="x-amz-checksum-sha256", times=None)
    bucket.probe()
    bucket.put_once(PATH, b"picture")
    assert bucket.dialect is not None
    as_json = Dialect(**json.loads(json.dumps(dataclasses.asdict(bucket.dialect))))
    for again in (pickle.loads(pickle.dumps(bucket)), open_store(bucket.uri, dialect=as_json)):
        assert content_of(again) == b"picture"
        assert again.dialect == bucket.dialect
        again.overwrite("report.html", b"page")
    assert refused.met == 1


# The writer


def killed_while_writing(uri: str, data: Path, is_halfway: Callable[[], bool]) -> None:
    """Kill a process that writes `data` at the moment when it `is_halfway`."""
    code = (
        "import sys; from pathlib import Path; from tasks.stores.opening import open_store\n"
        "open_store(sys.argv[1]).put_once(sys.argv[2], Path(sys.argv[3]))"
    )
    writer = subprocess.Popen([sys.executable, "-c", code, uri, PATH, str(data)], cwd=ROOT)
    try:
        deadline = time.monotonic() + 200
        while not is_halfway():
            assert time.monotonic() < deadline
            assert writer.poll() is None
            time.sleep(0.01)
    finally:
        writer.send_signal(signal.SIGKILL)
        writer.wait()


def test_a_writer_killed_in_the_middle_leaves_nothing_readable_in_a_bucket(
    proxy: FaultProxy, bucket: S3Store, tmp_path: Path, s3_server: str
) -> None:
    big = tmp_path / "big"
    big.write_bytes(bytes(8 << 20))
    proxy.inject(taken_in_part, method="PUT")
    killed_while_writing(bucket.uri, big, proxy.halfway.is_set)
    assert names_in(bucket, s3_server) == []
    assert not bucket.put_once(PATH, b"whole").adopted
    assert content_of(bucket) == b"whole"


def test_a_writer_killed_in_the_middle_leaves_nothing_readable_in_a_folder(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "store")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)  # content that never ends
    end = os.open(pipe, os.O_RDWR)
    os.set_blocking(end, False)

    def is_halfway() -> bool:
        with contextlib.suppress(BlockingIOError):
            os.write(end, bytes(1 << 16))
        return sum(file.stat().st_size for file in store.root.glob(".incoming/*")) > 1 << 20

    try:
        killed_while_writing(str(store.root), pipe, is_halfway)
    finally:
        os.close(end)
    assert not store.exists(PATH)
    assert not store.put_once(PATH, b"whole").adopted
    assert content_of(store) == b"whole"


# The folder


def test_a_lock_that_keeps_nobody_out_is_found_by_the_probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fcntl.flock", lambda *_: None)
    with pytest.raises(StoreError, match="lets a second writer win"):
        FolderStore(tmp_path / "store").probe()
    assert list(tmp_path.iterdir()) == []


def test_what_killed_writers_left_is_swept_when_it_is_an_hour_old(tmp_path: Path) -> None:
    incoming = tmp_path / ".incoming"
    incoming.mkdir()
    old = time.time() - 3700
    for name, seen in (("leftover", old), ("lock", old), ("being-written", time.time())):
        (incoming / name).touch()
        os.utime(incoming / name, (seen, seen))
    FolderStore(tmp_path).put_once(PATH, b"picture")
    assert sorted(file.name for file in incoming.iterdir()) == ["being-written", "lock"]


def test_what_another_user_left_and_nobody_else_may_remove_stays_and_stops_no_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs, unlink = tmp_path / ".incoming" / "theirs", Path.unlink
    theirs.parent.mkdir()
    theirs.touch()
    os.utime(theirs, (time.time() - 3700,) * 2)

    def refused(file: Path, **options: bool) -> None:  # in a folder with the sticky bit
        if file == theirs:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), str(file))
        unlink(file, **options)

    monkeypatch.setattr(Path, "unlink", refused)
    FolderStore(tmp_path).put_once(PATH, b"picture")
    assert theirs.exists()


def test_without_hard_links_the_first_writer_still_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hardlink_to(self: Path, target: Path) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM), str(self), None, str(target))

    monkeypatch.setattr(Path, "hardlink_to", hardlink_to)
    FolderStore(tmp_path).probe()
    assert list(tmp_path.iterdir()) == []

    def write(content: bytes) -> bool:
        return not FolderStore(tmp_path).adopt_or_put(PATH, content).adopted

    with ThreadPoolExecutor(8) as threads:
        contents = [bytes([letter]) * 50_000 for letter in b"abcdefgh"]
        wins = list(threads.map(write, contents))
    assert wins.count(True) == 1
    assert content_of(FolderStore(tmp_path)) == contents[wins.index(True)]


def test_a_folder_that_somebody_makes_and_tidies_away_at_the_same_moment_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Path] = []
    mkdir = Path.mkdir

    def first_made_elsewhere(folder: Path, **options: bool) -> None:
        made.append(folder)
        if len(made) == 1:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(folder))
        mkdir(folder, **options)

    monkeypatch.setattr(Path, "mkdir", first_made_elsewhere)
    FolderStore(tmp_path / "store").put_once("a", b"content")
    assert (tmp_path / "store" / "a").read_bytes() == b"content"
    assert made.count(tmp_path / "store") == 2


def test_a_folder_that_is_tidied_away_between_two_looks_at_it_is_no_file_in_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, making, looked, looks = tmp_path / "store", Path.mkdir, Path.is_dir, iter([False])

    def made_elsewhere(place: Path) -> None:
        making(place)
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(place))

    def tidied_away(place: Path) -> bool:
        if place == folder and next(looks, True):
            folder.rmdir()
        return looked(place)

    monkeypatch.setattr(Path, "mkdir", made_elsewhere)
    monkeypatch.setattr(Path, "is_dir", tidied_away)
    make(folder)


def test_two_probes_of_a_new_folder_at_once_dont_disturb_each_other(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        for turn in range(20):
            root = tmp_path / str(turn) / "store"
            list(threads.map(lambda _, root=root: FolderStore(root).probe(), range(8)))
    assert list(tmp_path.glob("*/store/.incoming/*")) == []


def test_a_folder_that_another_probe_tidies_away_as_it_is_made_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vanishing = iter([True, True])

    def make(folder: Path) -> None:
        if next(vanishing, False):
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(folder))
        folder.mkdir(parents=True, exist_ok=True)

    monkeypatch.setattr("tasks.stores.folder_store.make", make)

    FolderStore(tmp_path / "store").probe()

    assert next(vanishing, None) is None


def test_a_folder_above_the_store_that_another_probe_tidies_away_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    above, vanishing = tmp_path / "above", iter([True, True])
    sync = tasks.stores.folder_store.sync

    def tidied_away(folder: Path) -> None:
        if folder == above and next(vanishing, False):
            (above / "store").rmdir()
            above.rmdir()
        sync(folder)

    monkeypatch.setattr(tasks.stores.folder_store, "sync", tidied_away)

    FolderStore(above / "store").put_once(PATH, b"picture")

    assert next(vanishing, None) is None
    assert content_of(FolderStore(above / "store")) == b"picture"


Use = Callable[[FolderStore, Path], object]


@pytest.mark.parametrize(
    "use",
    [
        lambda store, _: store.put_once(PATH, b"picture"),
        lambda store, _: store.adopt_or_put(PATH, b"picture"),
        lambda store, _: store.replace(PATH, b"new", expect=sha256_of(b"picture")[0]),
        lambda store, _: store.replace(PATH, b"new", expect=None),
        lambda store, _: store.overwrite(PATH, b"new"),
        lambda store, _: store.copy(PATH, "images/b", sha256=sha256_of(b"picture")[0], size=7),
        lambda store, _: store.read(PATH),
        lambda store, to: store.download(PATH, to),
        lambda store, _: store.exists(PATH),
        lambda store, _: store.delete(PATH),
        lambda store, _: list(store.listing("")),
    ],
)
def test_an_object_that_goes_between_a_look_and_the_act_is_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, use: Use
) -> None:
    store = FolderStore(tmp_path / "store")
    store.put_once(PATH, b"picture")
    object_ = tmp_path / "store" / PATH
    looks = {name: getattr(Path, name) for name in ("exists", "is_file", "stat")}
    opened = tasks.stores.folder_store.sha256_of

    def gone_after(look: Callable[..., object]) -> Callable[..., object]:
        def looking(self: Path, *args: object, **options: object) -> object:
            try:
                return look(self, *args, **options)
            finally:
                if self == object_:
                    self.unlink(missing_ok=True)

        return looking

    def gone_before(file: Path | bytes) -> tuple[str, int]:
        if file == object_:
            file.unlink(missing_ok=True)
        return opened(file)

    with monkeypatch.context() as patch:
        for name, look in looks.items():
            patch.setattr(Path, name, gone_after(look))
        patch.setattr(tasks.stores.folder_store, "sha256_of", gone_before)
        with contextlib.suppress(Changed, Missing):  # what a replacement and a copy say of an absent object
            use(store, tmp_path / "copy")


@pytest.mark.parametrize(
    "use",
    [
        lambda store, _: store.put_once(PATH, b"picture"),
        lambda store, _: store.replace(PATH, b"picture", expect=None),
        lambda store, _: store.overwrite(PATH, b"picture"),
        lambda store, _: store.copy("master", PATH, sha256=sha256_of(b"picture")[0], size=7),
    ],
)
def test_a_folder_that_goes_between_its_making_and_its_use_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, use: Use
) -> None:
    store = FolderStore(tmp_path)
    store.put_once("master", b"picture")
    left = iter(range(3))
    make = tasks.stores.folder_store.make

    def made_in_vain(folder: Path) -> None:
        make(folder)
        if folder == (tmp_path / PATH).parent and next(left, None) is not None:
            folder.rmdir()

    monkeypatch.setattr(tasks.stores.folder_store, "make", made_in_vain)
    use(store, tmp_path / "copy")
    assert content_of(store) == b"picture"
    assert next(left, None) is None


def test_a_file_that_another_machine_replaced_while_it_was_read_is_read_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FolderStore(tmp_path / "store")
    store.put_once(PATH, b"picture")
    stale = iter(range(3))
    usual = Path.open

    def opened(self: Path, *args: Any, **options: Any) -> Any:
        if self == store.root / PATH and next(stale, None) is not None:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(self))
        return usual(self, *args, **options)

    monkeypatch.setattr(Path, "open", opened)
    assert content_of(store) == b"picture"
    stale = iter(range(3))
    assert store.download(PATH, tmp_path / "copy") == sha256_of(b"picture")[0]
    assert (tmp_path / "copy").read_bytes() == b"picture"
    stale = iter(range(3))
    assert store.put_once(PATH, b"picture").adopted


@pytest.mark.parametrize(
    ("where", "name", "use", "found"),
    [
        (Path, "stat", lambda store: store.exists(PATH), True),
        (Path, "unlink", lambda store: store.delete(PATH), None),
        (os, "scandir", lambda store: [one.path for one in store.listing("images")], [PATH]),
    ],
)
def test_what_another_machine_replaced_is_looked_at_again(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    where: Any,
    name: str,
    use: Callable[[FolderStore], object],
    found: object,
) -> None:
    store, usual, stale = FolderStore(tmp_path / "store"), getattr(where, name), iter(range(3))
    store.put_once(PATH, b"picture")

    def looked(place: Path, *args: Any, **options: Any) -> Any:
        if Path(place).is_relative_to(store.root / "images") and next(stale, None) is not None:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(place))
        return usual(place, *args, **options)

    monkeypatch.setattr(where, name, looked)
    assert use(store) == found
    assert next(stale, None) is None


def test_who_writes_reads_copies_lists_and_deletes_one_object_at_once_is_never_disturbed(tmp_path: Path) -> None:
    sha256, size = sha256_of(b"picture")
    end = time.monotonic() + 1.5

    def tidy(store: FolderStore, _: Path) -> None:
        with contextlib.suppress(OSError):  # it isn't empty
            (store.root / PATH).parent.rmdir()

    uses: list[Use] = [
        lambda store, _: store.put_once(PATH, b"picture"),
        lambda store, _: store.replace(PATH, b"picture", expect=sha256),
        lambda store, _: store.delete(PATH),
        lambda store, to: store.download(PATH, to),
        lambda store, _: store.copy(PATH, "copies/1", sha256=sha256, size=size),
        lambda store, _: store.delete("copies/1"),
        lambda store, _: list(store.listing("")),
        tidy,
    ]

    def repeat(number: int) -> None:
        store = FolderStore(tmp_path / "store")
        while time.monotonic() < end:
            with contextlib.suppress(Missing, Changed):
                uses[number](store, tmp_path / str(number))

    with ThreadPoolExecutor(len(uses)) as threads:
        list(threads.map(repeat, range(len(uses))))


def test_a_clock_that_is_ahead_of_the_file_systems_sweeps_nobodys_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    incoming = tmp_path / ".incoming"
    incoming.mkdir()
    (incoming / "being-written").touch()
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 10_000)
    FolderStore(tmp_path).put_once(PATH, b"picture")
    assert (incoming / "being-written").exists()


def test_a_folder_without_permission_to_write_can_be_read(nobodys: Path) -> None:
    store = FolderStore(nobodys)
    assert content_of(store) == b"picture"
    for write in (store.probe, lambda: store.overwrite(PATH, b""), lambda: store.delete(PATH)):
        with pytest.raises(StoreReadOnly, match=f"No permission to (write|delete) {nobodys}"):
            write()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (errno.EACCES, "No permission to write {above}"),
        (errno.EROFS, "{above} is on a read-only file system"),
        (errno.ENOSPC, r"{store} is full"),
        (errno.EIO, r"{above} can't be reached to write it \(Input/output error\)"),
    ],
)
def test_a_folder_above_the_store_that_cant_be_made_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int, said: str
) -> None:
    above, mkdir = tmp_path / "above", Path.mkdir

    def refused(folder: Path, **options: bool) -> None:
        if folder == above:
            raise OSError(error, os.strerror(error), str(folder))
        mkdir(folder, **options)

    monkeypatch.setattr(Path, "mkdir", refused)
    with pytest.raises(StoreError, match=said.format(above=above, store=above / "store")):
        FolderStore(above / "store").probe()


def test_a_disk_without_room_is_named_and_keeps_no_part(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(StoreError, match=f"{tmp_path} is full"):
            store.put_once(PATH, bytes(200_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == []


def test_a_file_where_a_folder_is_needed_is_named(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a note")
    with pytest.raises(StoreError, match=f"{tmp_path}/store.* is a file"):
        open_store(str(tmp_path / "store")).probe()
    with pytest.raises(StoreError, match=f"{tmp_path}/store is a file"):
        open_store(str(tmp_path / "store" / "of" / "a shop")).probe()
    (tmp_path / "images").write_text("a note")
    with pytest.raises(StoreError, match=f"{tmp_path}/images.* is a file"):
        open_store(str(tmp_path)).put_once(PATH, b"picture")


def test_a_folder_in_an_objects_place_is_named(tmp_path: Path) -> None:
    (tmp_path / PATH).mkdir(parents=True)
    with pytest.raises(StoreError, match=f"{tmp_path / PATH} is a folder"):
        open_store(str(tmp_path)).put_once(PATH, b"picture")
    with pytest.raises(StoreError, match=f"{tmp_path / PATH} is a folder"):
        open_store(str(tmp_path)).read(PATH)


def test_an_object_may_be_read_by_whom_the_umask_allows(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        FolderStore(tmp_path).put_once(PATH, b"picture")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / PATH).stat().st_mode) == 0o644


def test_a_hard_link_is_of_a_file_that_nobody_may_write(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    master = store.put_once("masters/a.png", b"picture")
    store.copy("masters/a.png", PATH, sha256=master.sha256, size=master.size)
    linked = (tmp_path / PATH).stat()
    if linked.st_ino == (tmp_path / "masters/a.png").stat().st_ino:  # else its file system has reflinks
        assert not linked.st_mode & 0o222
    store.delete("masters/a.png")
    store.delete(PATH)
    assert not store.exists(PATH)


@pytest.mark.parametrize("number", [errno.EPERM, errno.EMLINK, errno.ENOTSUP])
def test_where_nothing_can_be_linked_a_copy_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def hardlink_to(self: Path, target: Path) -> None:
        raise OSError(number, os.strerror(number), str(self), None, str(target))

    store = FolderStore(tmp_path)
    master = store.put_once("masters/a.png", b"picture")
    with monkeypatch.context() as patch:
        if number == errno.EMLINK:  # the master has no room for another name; a new file has
            patch.setattr(FolderStore, "_hard_link", lambda *_: False)
        else:
            patch.setattr(Path, "hardlink_to", hardlink_to)
        store.copy("masters/a.png", PATH, sha256=master.sha256, size=master.size)
    assert content_of(store) == b"picture"
    assert (tmp_path / PATH).stat().st_ino != (tmp_path / "masters/a.png").stat().st_ino


def test_a_damaged_copy_from_before_is_made_again(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    master = store.put_once("masters/a.png", b"picture")
    store.put_once(PATH, b"half")
    store.copy("masters/a.png", PATH, sha256=master.sha256, size=master.size)
    assert content_of(store) == b"picture"


def test_a_listing_leaves_out_what_is_being_written(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    store.put_once(PATH, b"picture")
    (tmp_path / ".incoming" / "unfinished").write_bytes(b"pict")
    assert [one.path for one in store.listing("")] == [PATH]


def test_content_that_is_absent_is_not_the_stores_fault(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no-such-picture"):
        FolderStore(tmp_path / "store").put_once(PATH, tmp_path / "no-such-picture")


def test_an_address_where_nobody_has_answered_is_given_up_soon_and_one_that_has_is_waited_for(
    proxy: FaultProxy, bucket: S3Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.stores.s3_bucket.FIRST_PATIENCE", 0.0)
    monkeypatch.setattr("tasks.stores.s3_connection.FIRST_READ_TIMEOUT", 0.3)
    met = proxy.inject(hang, times=1)
    with pytest.raises(StoreUnreachable, match="didn't answer in time"):
        S3Store(bucket.bucket, bucket.prefix).read(PATH)  # with two minutes of patience, and one for each byte
    assert met.met == 1
    bucket.put_once(PATH, b"picture")
    met = proxy.inject(lost_request, times=4)  # more than boto3 itself would try again
    assert content_of(bucket) == b"picture"
    assert met.met == 4


def test_the_first_answer_of_a_busy_store_is_waited_on_as_any_other(
    proxy: FaultProxy, bucket: S3Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.stores.s3_bucket.FIRST_PATIENCE", 0.0)
    met = proxy.inject(answer(503, "SlowDown"), times=5)
    assert bucket.read(PATH) is None
    assert met.met == 5


def test_credentials_that_cant_be_read_are_named(
    s3_store_uri: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/shop")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "gone"))
    with pytest.raises(StoreError, match=r"AWS's settings name .*/gone, which can't be read \(No such file"):
        open_store(s3_store_uri).probe()
    monkeypatch.delenv("AWS_WEB_IDENTITY_TOKEN_FILE")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    (tmp_path / "config").write_text("[default\nregion")
    with pytest.raises(StoreError, match="AWS isn't set up rightly"):
        open_store(s3_store_uri).probe()
    (tmp_path / "config").write_text("[default]\ncredential_process = echo nonsense\n")
    with pytest.raises(StoreError, match=r"gives none that can be used \(JSONDecodeError\): mend the profile"):
        open_store(s3_store_uri).probe()


@pytest.fixture
def renewed_every_time(monkeypatch: pytest.MonkeyPatch, s3_store_uri: str) -> str:
    """Has credentials that expire be renewed with every request, and gives a store that has others no more."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for window in ("_advisory_refresh_timeout", "_mandatory_refresh_timeout"):
        monkeypatch.setattr(botocore.credentials.RefreshableCredentials, window, 10**11)
    monkeypatch.setattr(botocore.credentials.CachedCredentialFetcher, "_is_expired", lambda *_: True)
    return s3_store_uri


def test_a_token_that_vanishes_during_a_run_is_named(
    renewed_every_time: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("a token of this machine's")
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/shop")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(token))
    bucket = open_store(renewed_every_time)
    bucket.overwrite(PATH, b"picture")
    token.unlink()
    with pytest.raises(StoreError, match=r"AWS's settings name .*/token, which can't be read \(No such file"):
        bucket.read(PATH)
    token.write_text("a token of this machine's")
    assert bucket.read(PATH)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("nonsense", r"gives none that can be used \(JSONDecodeError\)"),
        ("[]", "gives none that can be used"),
        ('{"Version": 1}', "credentials to read .* can't be had"),
        (
            '{"Version": 1, "AccessKeyId": "a", "SecretAccessKey": "b", "Expiration": "2020-01-01T00:00:00Z"}',
            "gives expired ones: renew them",
        ),
    ],
)
def test_credentials_that_cant_be_renewed_during_a_run_are_a_sentence_and_nothing_else(
    renewed_every_time: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    given: str,
    sentence: str,
) -> None:
    file, config = tmp_path / "credentials", tmp_path / "config"
    file.write_text('{"Version": 1, "AccessKeyId": "a", "SecretAccessKey": "b", "Expiration": "2999-01-01T00:00:00Z"}')
    config.write_text(f"[default]\ncredential_process = cat {file}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    bucket = open_store(renewed_every_time)
    bucket.overwrite(PATH, b"picture")
    file.write_text(given)
    with pytest.raises(StoreError, match=sentence):
        bucket.read(PATH)
    assert caplog.records == []


def test_a_server_that_gives_no_credentials_any_more_is_a_sentence(
    renewed_every_time: str, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("a token of this machine's")
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/shop")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", proxy.address)
    bucket = open_store(renewed_every_time)
    bucket.overwrite(PATH, b"picture")
    said = b"<ErrorResponse><Error><Code>ExpiredTokenException</Code></Error></ErrorResponse>"
    proxy.inject(lambda exchange: exchange.reply(Answer(400, {}, said)), method="POST")
    with pytest.raises(StoreError, match=r"AWS gives us no credentials \(ExpiredTokenException\)"):
        bucket.read(PATH)


def test_a_server_of_credentials_that_is_away_is_blamed_itself(
    renewed_every_time: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("a token of this machine's")
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/shop")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    bucket = S3Store(*renewed_every_time.removeprefix("s3://").split("/"), patience=0.0)
    with pytest.raises(StoreUnreachable, match=r"^http://127\.0\.0\.1:9 can't be reached to read s3://"):
        bucket.read(PATH)


@pytest.mark.parametrize(
    ("proxy_address", "sentence"),
    [
        ("http://127.0.0.1:9", r"The proxy on the way to http://127\.0\.0\.1:\d+ can't be reached to write"),
        ("socks5://127.0.0.1:9", "The proxy on the way to"),
        ("http://a b", r"because no proxy has such an address: mend HTTP_PROXY and HTTPS_PROXY"),
        ("http://[bad", "because no proxy has such an address"),
        ("http://127.0.0.1:port", "because no proxy has such an address"),
        ("::::", "because no proxy has such an address"),
        ("http://user:hünter2@127.0.0.1:9", "because no proxy has such an address"),
    ],
)
def test_a_proxy_that_leads_nowhere_is_named_as_the_trouble(
    s3_store_uri: str, monkeypatch: pytest.MonkeyPatch, proxy_address: str, sentence: str
) -> None:
    monkeypatch.delenv("NO_PROXY")
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, proxy_address)
    bucket = S3Store(*s3_store_uri.removeprefix("s3://").split("/"), patience=0.0)
    with pytest.raises(StoreError, match=sentence) as refused:
        bucket.overwrite(PATH, b"picture")
    assert "hünter2" not in str(refused.value)


def test_a_proxy_for_everything_is_none_that_a_store_needs(s3_store_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "socks5://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY")
    bucket = open_store(s3_store_uri)
    bucket.overwrite(PATH, b"picture")
    assert bucket.read(PATH)
