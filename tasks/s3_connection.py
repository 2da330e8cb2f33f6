"""The connection to S3, as every AWS tool makes it: its settings come from AWS_ACCESS_KEY_ID, AWS_PROFILE,
AWS_ENDPOINT_URL_S3 and so on.
"""

import functools
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import boto3.session
import botocore.session
from botocore.config import Config
from botocore.loaders import Loader

from tasks.store import StoreError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CONNECTIONS = 32  # at once, for the upload threads of one process
CONNECT_TIMEOUT = 10.0  # seconds


def connect(read_timeout: float) -> "S3Client":
    """Give a client that waits `read_timeout` seconds for a byte. No request is made yet.

    Raises:
        StoreError: the endpoint is no address.
        BotoCoreError: another setting is wrong.
    """
    config = Config(
        signature_version="s3v4",
        retries={"mode": "standard", "total_max_attempts": 3},
        connect_timeout=CONNECT_TIMEOUT,
        read_timeout=read_timeout,
        max_pool_connections=CONNECTIONS,
        tcp_keepalive=True,
        # boto3's own checksum trailers get 411 from Ceph over https; we send our own, and sign the content.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"payload_signing_enabled": True},
    )
    session = botocore.session.Session()
    session.register_component("data_loader", loader())
    try:
        client: S3Client = boto3.session.Session(botocore_session=session).client("s3", config=config)
    except ValueError:
        raise StoreError("AWS_ENDPOINT_URL isn't an address: write it as https://host:port.") from None
    return client


@functools.cache
def loader() -> Loader:
    """Give what reads the description of S3, once a process: that takes ten times as long as all else in connecting."""
    return botocore.session.Session().get_component("data_loader")


def endpoint_of(client: "S3Client") -> str:
    """Give the server's address without credentials."""
    address = urlsplit(client.meta.endpoint_url)
    return f"{address.scheme}://{address.netloc.rpartition('@')[2]}"
