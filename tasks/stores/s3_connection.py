"""The connection to S3, as every AWS tool makes it: its settings come from AWS_ACCESS_KEY_ID, AWS_PROFILE,
AWS_ENDPOINT_URL_S3 and so on.
"""

import contextlib
import functools
import logging
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import boto3.session
import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.loaders import Loader

from tasks.stores.s3_error import code_of, passes
from tasks.stores.store import StoreError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# It logs what goes wrong with a traceback, and raises it, too (botocore 1.44).
logging.getLogger("botocore.credentials").setLevel(logging.CRITICAL)

CONNECTIONS = 32  # at once, for the upload threads of one process
CONNECT_TIMEOUT = 10.0  # seconds
FIRST_CONNECT_TIMEOUT, FIRST_READ_TIMEOUT = 5.0, 10.0  # where nobody has answered yet


class S3Connection:
    """The way to S3 of those who wait equally long for a byte; safe to use from many threads."""

    def __init__(self, read_timeout: float, *, has_answered: bool) -> None:
        """Make no request yet. With `has_answered`, somebody has answered at that address before."""
        self.read_timeout, self.has_answered = read_timeout, has_answered
        self.endpoint = "S3"  # until a client knows its address, without credentials
        self._clients: dict[bool, S3Client] = {}  # one for an address where nobody has answered yet, and one for others
        self._session: boto3.session.Session | None = None
        self._connecting = threading.Lock()

    def client(self) -> "S3Client":
        """Return a client; where nobody has answered yet, its requests are tried once, and it waits but briefly.

        Raises:
            StoreError: the endpoint is no address, or a file can't be read that the settings name.
            BotoCoreError: another setting is wrong, or the credentials can't be had.
            ClientError: the server of the credentials is too busy to give them.
        """
        with self._connecting:
            is_first = not self.has_answered
            if is_first not in self._clients:
                self._session = self._session or _session()
                self._clients[is_first] = _client(self._session, self.read_timeout, is_first)
                address = urlsplit(self._clients[is_first].meta.endpoint_url)
                self.endpoint = f"{address.scheme}://{address.netloc.rpartition('@')[2]}"
            return self._clients[is_first]


def _session() -> boto3.session.Session:
    """Read AWS's settings, and see that the credentials can be had."""
    session = botocore.session.Session()
    session.register_component("data_loader", loader())
    session.register_component("credential_provider", _Provider(session.get_component("credential_provider")))
    if (credentials := session.get_credentials()) is not None:
        credentials.get_frozen_credentials()  # which botocore leaves to the first request
    return boto3.session.Session(botocore_session=session)


def _client(session: boto3.session.Session, read_timeout: float, is_first: bool) -> "S3Client":
    config = Config(
        signature_version="s3v4",
        # Adaptive: told to slow down, a client asks for less, and for more again as it is served, as each lane's does.
        retries={"mode": "adaptive", "total_max_attempts": 1 if is_first else 3},
        connect_timeout=FIRST_CONNECT_TIMEOUT if is_first else CONNECT_TIMEOUT,
        read_timeout=min(read_timeout, FIRST_READ_TIMEOUT) if is_first else read_timeout,
        max_pool_connections=CONNECTIONS,
        tcp_keepalive=True,
        # boto3's own checksum trailers get 411 from Ceph over https; we send our own, and sign the content.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"payload_signing_enabled": True},
    )
    try:
        client: S3Client = session.client("s3", config=config)
    except ValueError:
        raise StoreError("AWS_ENDPOINT_URL isn't an address", "write it as https://host:port.") from None
    return client


class _Provider:
    """Where a session's credentials come from."""

    def __init__(self, own: Any) -> None:
        """`own` is botocore's."""
        self.own = own

    def load_credentials(self) -> Any:
        with _credentials_in_sentences():
            found = self.own.load_credentials()
        return found and _Credentials(found)


class _Credentials:
    """Credentials as botocore knows them, which it renews, where they expire, with the request that needs it."""

    def __init__(self, own: Any) -> None:
        self._own = own

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)

    def get_frozen_credentials(self) -> Any:
        with _credentials_in_sentences():
            return self._own.get_frozen_credentials()


@contextlib.contextmanager
def _credentials_in_sentences() -> Iterator[None]:
    """Say what is wrong with credentials where botocore (1.44) raises what a file, a process or a server led to.

    Raises:
        StoreError: if a person has to mend that.
        BotoCoreError: as botocore says it.
        ClientError: of the server that gives them, if it may give them a moment later.
    """
    try:
        yield
    except (BotoCoreError, StoreError, MemoryError):
        raise
    except ClientError as error:
        if passes(error):
            raise
        raise StoreError(
            f"AWS gives us no credentials ({code_of(error)})",
            "look at what its settings name to get them from, such as "
            "AWS_ROLE_ARN and AWS_WEB_IDENTITY_TOKEN_FILE, and whether that has expired.",
        ) from None
    except OSError as error:
        raise StoreError(
            f"AWS's settings name {error.filename}, which can't be read ({error.strerror})",
            "mend them, such as AWS_WEB_IDENTITY_TOKEN_FILE or the profile's credential_process.",
        ) from None
    except RuntimeError:  # "the refreshed credentials are still expired"
        raise StoreError(
            "What AWS's settings name to get credentials from gives expired ones",
            "renew them, or set this machine's clock.",
        ) from None
    except Exception as error:  # noqa: BLE001  a process says what it likes, and a file holds anything
        raise StoreError(
            f"What AWS's settings name to get credentials from gives none that can be used ({type(error).__name__})",
            "mend the profile.",
        ) from None


@functools.cache
def loader() -> Loader:
    """Give what reads the description of S3, once a process: that takes ten times as long as all else in connecting."""
    return botocore.session.Session().get_component("data_loader")
