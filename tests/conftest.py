"""What tests of every room share: a Prefect server, S3 servers over HTTP, a fresh bucket in them, and a hub.

Each server is one for all tests of a process, Prefect's for those of all processes that run side by side; the first
test that needs it brings it up.
"""

import atexit
import functools
import gc
import os
import shutil
import signal
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import botocore.session
import pytest
from botocore.hooks import EventAliaser
from hypothesis import HealthCheck, settings

from tests.hub_server import HubServer
from tests.radosgw import PACKAGES, Radosgw, lacking
from tests.trusted import first_certificate

pytest_plugins = ["tests.slow", "tests.workers", "tests.rewriting"]

gc.disable()  # until everything is imported: see `pytest_collection_finish`

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts what it leaves in the background so, and what these processes start would be deaf to Ctrl-C, too.
    signal.signal(signal.SIGINT, signal.default_int_handler)

if "PYTEST_XDIST_WORKER" in os.environ:
    # There are as many of these processes as the machine can bear: neither they nor their children need more threads.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# Hypothesis's bounds are in seconds that pass, of which a busy machine takes more for the same work.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None)
settings.load_profile("busy")

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "NO_PROXY": "127.0.0.1,localhost",
}
STRAYS = ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_ENDPOINT_URL_S3", "AWS_CA_BUNDLE", "AWS_MAX_ATTEMPTS")


def pytest_collection_finish() -> None:
    """Spare the garbage collector all that the imports made, which stays: it took a quarter of the tests' time.

    What tests make is collected less often than usual, which takes another thirtieth of it.
    """
    gc.freeze()
    gc.set_threshold(100_000, 50, 1000)
    gc.enable()
    atexit.register(gc.unfreeze)  # or libraries complain of what is left then; pytest looks for garbage before, often


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the tests out of the user's folders for what is cached and for what went wrong."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        environment.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _nothing_waits_for_the_disk() -> Iterator[None]:
    """Write without bringing it down to the disk: no test cuts the power. Commands in their own processes do that."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture(scope="session")
def prefect_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the tests' Prefect server, with its database; one for all processes that run side by side."""
    own = tmp_path_factory.getbasetemp()
    return (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "prefect-server"


@pytest.fixture(scope="session")
def another_clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A CLIP that isn't the miniature's and sees all as that does: another one scales its logits, which nobody asks."""
    import numpy as np
    from safetensors.numpy import load_file, save_file

    from models.checkpoints.identity import CLIP_FOLDER

    folder = tmp_path_factory.mktemp("clip") / "another"
    shutil.copytree(CLIP_FOLDER, folder)
    weights = load_file(folder / "open_clip_model.safetensors")
    save_file(
        {**weights, "logit_scale": np.asarray(weights["logit_scale"] + 1)}, folder / "open_clip_model.safetensors"
    )
    return str(folder)


@pytest.fixture(scope="session")
def prefect_address(prefect_home: Path) -> Iterator[str]:
    """Address of a Prefect server that lives as long as the tests; whoever is to use it has to be told of it."""
    from prefect.logging.handlers import APILogHandler

    from tests.shared_prefect import shared_prefect

    with shared_prefect(prefect_home) as address:
        yield address
        APILogHandler().flush()  # or what was logged last is sent to a server that has gone


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """Address of an S3 server on this machine; it lives as long as the tests."""
    from tests.moto_server import moto_server

    names = functools.cache(functools.partial(EventAliaser._alias_event_name, EventAliaser(None)))
    with moto_server() as address, pytest.MonkeyPatch.context() as patch:
        # Each client of boto3 would find out anew what its 140 events are called: half of what it takes to make one.
        patch.setattr(EventAliaser, "_alias_event_name", lambda _, name: names(name))
        yield address


@pytest.fixture(scope="session")
def radosgw(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Radosgw]:
    """A real S3 server, Ceph's, on this machine; it is started for the first test that wants it."""
    if missing := lacking():
        pytest.skip(f"{', '.join(missing)} aren't installed: apt-get install {PACKAGES}")
    with Radosgw(tmp_path_factory.mktemp("radosgw")) as server:
        yield server


@pytest.fixture
def _clients_are_closed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Close the connections that clients of S3 leave open: they are in cycles, which are seldom looked for here."""
    clients = []
    create = botocore.session.Session.create_client

    def created(self: botocore.session.Session, *what: Any, **options: Any) -> Any:
        clients.append(create(self, *what, **options))
        return clients[-1]

    monkeypatch.setattr(botocore.session.Session, "create_client", created)
    yield
    for client in clients:
        client.close()


@pytest.fixture
def s3_environment(
    s3_server: str,
    _clients_are_closed: None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> str:
    """Point boto3, here and in every process started from here, to the S3 server; give its address."""
    for name in STRAYS:
        monkeypatch.delenv(name, raising=False)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "absent"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    # The credentials that boto3 found for its first client are those of every later one of the same session.
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    return s3_server


@pytest.fixture
def s3_store_uri(s3_environment: str) -> str:
    """Address of an empty store in a bucket of its own."""
    bucket = f"packshot-{uuid.uuid4().hex}"
    request = urllib.request.Request(f"{s3_environment}/{bucket}", method="PUT")
    with urllib.request.urlopen(request):
        pass
    return f"s3://{bucket}/catalogue"


@pytest.fixture
def radosgw_store_uri(s3_environment: str, radosgw: Radosgw, monkeypatch: pytest.MonkeyPatch) -> str:
    """Address of an empty store in a bucket of the real S3 server, to which boto3 is pointed."""

    del s3_environment  # the same but for its address
    monkeypatch.setenv("AWS_ENDPOINT_URL", radosgw.address)
    bucket = f"packshot-{uuid.uuid4().hex}"
    boto3.client("s3").create_bucket(Bucket=bucket)
    return f"s3://{bucket}/catalogue"


@pytest.fixture
def hub_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    """A hub on this machine, to which huggingface_hub is pointed, with an empty cache."""
    import huggingface_hub
    from huggingface_hub.utils import close_session

    constants = huggingface_hub.constants
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    (trusted := tmp_path / "certificate.pem").write_text(first_certificate())
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    with HubServer() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.address)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.address + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
        yield server
        close_session()
