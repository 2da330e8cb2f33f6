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
FIRST_CONNECT_TIMEOUT, FIRST_READ_TIMEOUT = 5.0, 10.0  # where nobody has answered yet


def connect(read_timeout: float, *, is_first: bool = False) -> "S3Client":
    """Give a client that waits `read_timeout` seconds for a byte. No request is made to S3 yet.

    With `is_first`, its requests are tried once, and it waits but briefly: nobody has answered at that address before.

    Raises:
        StoreError: the endpoint is no address, or a file can't be read that the settings name.
        BotoCoreError: another setting is wrong, or the credentials can't be had.
    """
    config = Config(
        signature_version="s3v4",
        retries={"mode": "standard", "total_max_attempts": 1 if is_first else 3},
        connect_timeout=FIRST_CONNECT_TIMEOUT if is_first else CONNECT_TIMEOUT,
        read_timeout=min(read_timeout, FIRST_READ_TIMEOUT) if is_first else read_timeout,
        max_pool_connections=CONNECTIONS,
        tcp_keepalive=True,
        # boto3's own checksum trailers get 411 from Ceph over https; we send our own, and sign the content.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"payload_signing_enabled": True},
    )
    session = botocore.session.Session()
    session.register_component("data_loader", loader())
    _have_credentials(session)
    try:
        client: S3Client = boto3.session.Session(botocore_session=session).client("s3", config=config)
    except ValueError:
        raise StoreError("AWS_ENDPOINT_URL isn't an address: write it as https://host:port.") from None
    return client


def _have_credentials(session: botocore.session.Session) -> None:
    """Get the credentials now: botocore (1.44) leaves it to the first request, which it ends with bare errors."""
    try:
        if (credentials := session.get_credentials()) is not None:
            credentials.get_frozen_credentials()
    except OSError as error:
        raise StoreError(
            f"AWS's settings name {error.filename}, which can't be read ({error.strerror}): mend them, such as "
            "AWS_WEB_IDENTITY_TOKEN_FILE or the profile's credential_process."
        ) from None
    except (ValueError, KeyError):
        raise StoreError(
            "What AWS's settings name to get credentials from gives none that can be read: mend the profile."
        ) from None


@functools.cache
def loader() -> Loader:
    """Give what reads the description of S3, once a process: that takes ten times as long as all else in connecting."""
    return botocore.session.Session().get_component("data_loader")


def endpoint_of(client: "S3Client") -> str:
    """Give the server's address without credentials."""
    address = urlsplit(client.meta.endpoint_url)
    return f"{address.scheme}://{address.netloc.rpartition('@')[2]}"
