"""What an error of S3 or of the way to it means: worth another try, or which sentence for a person.

Only codes are repeated in the sentences, never S3's own messages: those can quote requests and keys.
"""

from urllib.parse import urlsplit

from botocore import exceptions
from botocore.exceptions import BotoCoreError, ClientError

from tasks.stores.store import StoreError, StoreReadOnly, StoreUnreachable

# https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html, read 2026-11
ABSENT = ("NoSuchKey", "404")
CONDITION_FAILED = ("PreconditionFailed", "412")
PASSING_STATUS = (409, 429, 500, 502, 503, 504)  # 409: two conditional writes of one object at the same moment
PASSING_CODE = ("RequestTimeout", "IncompleteBody", "BadDigest", "XAmzContentSHA256Mismatch")
BUSY = ("SlowDown", "ServiceUnavailable", "RequestLimitExceeded", "TooManyRequestsException")
NO_PERMISSION = ("AccessDenied", "AllAccessDisabled", "AccountProblem", "403")
BAD_CREDENTIALS = (
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "InvalidToken",
    "TokenRefreshRequired",
)
ELSEWHERE = ("PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "301", "400")
PROXIES = "HTTP_PROXY and HTTPS_PROXY"
FULL = ("QuotaExceeded", "EntityTooLarge", "XMinioStorageFull", "InsufficientCapacity", "507")


class Garbled(Exception):  # noqa: N818
    """The content that arrived isn't the content that was written."""


class NoConditions(StoreError):  # noqa: N818
    """The store doesn't heed the conditions of writes, or not in any dialect that we speak."""


class Unreplaceable(StoreError):  # noqa: N818
    """The store says that somebody changed an object, which is as it was."""


def code_of(error: ClientError) -> str:
    """Give S3's word for an error, or the HTTP status as text where there is no body to hold a word."""
    return str(error.response.get("Error", {}).get("Code", ""))


def status_of(error: ClientError) -> int:
    """Give the HTTP status of an error."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def refuses_header(error: ClientError) -> bool:
    """Say whether a store may have refused a request for a header that it doesn't know."""
    known = {*PASSING_CODE, *BAD_CREDENTIALS, *FULL, *ELSEWHERE} - {"400"}
    return status_of(error) in (400, 501) and code_of(error) not in known


def passes(error: Exception) -> bool:
    """Say whether the same request may succeed a moment later."""
    match error:
        case ClientError():
            return status_of(error) in PASSING_STATUS or code_of(error) in PASSING_CODE
        case exceptions.SSLError():
            return False
        case exceptions.HTTPClientError() if _is_of_addresses(error):
            return False
        case exceptions.ConnectionError() | exceptions.HTTPClientError() | exceptions.IncompleteReadError():
            return True
        case _:
            return isinstance(error, Garbled)


def is_busy(error: Exception) -> bool:
    """Say whether a store has more to do than it can, and asks for less."""
    return isinstance(error, ClientError) and (status_of(error) == 429 or code_of(error) in BUSY)


def sentence(error: Exception, *, doing: str, where: str, endpoint: str) -> StoreError:
    """Say what went wrong while `doing` something to the object at `where`, and what to do about it.

    `doing` is one of "read", "write", "copy" and "delete".
    """
    match error:
        case Garbled():
            return StoreError(f"{where} doesn't match the SHA-256 it was written with", "restore it, or remove it.")
        case ClientError():
            return _answer(code_of(error), error, doing, where, endpoint)
        case exceptions.NoCredentialsError() | exceptions.PartialCredentialsError():
            return StoreError(
                f"No credentials to {doing} {where}", "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE."
            )
        case exceptions.CredentialRetrievalError() | exceptions.TokenRetrievalError() | exceptions.SSOError():
            return StoreError(f"The credentials to {doing} {where} can't be had ({_name(error)})", "sign in again.")
        case exceptions.ProfileNotFound() | exceptions.ConfigParseError() | exceptions.InvalidConfigError():
            return StoreError(f"AWS isn't set up rightly to {doing} {where}", f"{' '.join(str(error).split())}.")
        case exceptions.SSLError():
            return StoreUnreachable(
                f"{_asked(error, endpoint)} has no certificate we trust", "set AWS_CA_BUNDLE to the one that signed it."
            )
        case exceptions.ProxyConnectionError():
            return StoreUnreachable(
                f"The proxy on the way to {endpoint} can't be reached to {doing} {where}",
                "is it up, and its address "
                f"right in {PROXIES}? Where none is needed, name the store's host in NO_PROXY.",
            )
        case exceptions.InvalidProxiesConfigError() | exceptions.HTTPClientError() if _is_of_addresses(error):
            return StoreError(
                f"{endpoint} can't be reached to {doing} {where}, because no proxy has such an address",
                f"mend {PROXIES}.",
            )
        case exceptions.ReadTimeoutError() | exceptions.ConnectTimeoutError():
            return StoreUnreachable(
                f"{_asked(error, endpoint)} didn't answer in time to {doing} {where}", "is it up, and not blocked?"
            )
        case BotoCoreError() if passes(error):
            return StoreUnreachable(
                f"{_asked(error, endpoint)} can't be reached to {doing} {where} ({_name(error)})",
                "is its address right?",
            )
        case _:
            return StoreError(f"S3 at {endpoint} can't {doing} {where} ({_name(error)})", "check how AWS is set up.")


def knows_no_conditions(error: ClientError, endpoint: str) -> NoConditions:
    """Say what it means that a store refuses the header of a condition."""
    return NoConditions(
        f"{endpoint} doesn't know conditional writes ({code_of(error)}), so runs could overwrite each other",
        "use another store.",
    )


def _answer(code: str, error: ClientError, doing: str, where: str, endpoint: str) -> StoreError:
    if code in NO_PERMISSION:
        if doing == "read":
            return StoreError(
                f"No permission to read {where} ({code})",
                "allow s3:GetObject and s3:ListBucket (without the latter, absent objects look forbidden).",
            )
        action = {"write": "s3:PutObject", "copy": "s3:GetObject and s3:PutObject", "delete": "s3:DeleteObject"}[doing]
        return StoreReadOnly(f"No permission to {doing} {where} ({code})", f"allow {action}, or use another store.")
    if code == "NoSuchBucket":
        return StoreError(f"There is no bucket for {where} at {endpoint}", "make it, or mend the address.")
    if code in BAD_CREDENTIALS:
        return StoreError(f"{endpoint} doesn't accept our credentials ({code})", "renew or mend them.")
    if code == "RequestTimeTooSkewed":
        return StoreError(f"{endpoint} refuses us because this machine's clock is wrong", "set it.")
    if code in FULL:
        return StoreError(f"{endpoint} has no room for {where} ({code})", "free some space or raise the quota.")
    if passes(error):
        return StoreUnreachable(
            f"{endpoint} kept refusing to {doing} {where} ({code})", "try again when it has recovered."
        )
    if code in ELSEWHERE:
        return StoreError(f"{endpoint} doesn't serve {where} ({code})", "set AWS_REGION to the bucket's region.")
    return StoreError(f"{endpoint} refuses to {doing} {where} ({code})", "check the bucket's policy.")


def _asked(error: BotoCoreError, endpoint: str) -> str:
    """Return the server that was asked: the store's, or one that gives the credentials for it."""
    address = urlsplit(str(error.kwargs.get("endpoint_url", "")))
    return f"{address.scheme}://{address.netloc.rpartition('@')[2]}" if address.netloc else endpoint


def _is_of_addresses(error: Exception) -> bool:
    """Say whether an address can't be read: that of the store was before, so that it is a proxy's (botocore 1.44)."""
    return isinstance(error, exceptions.InvalidProxiesConfigError) or (
        isinstance(error, exceptions.HTTPClientError) and isinstance(error.kwargs.get("error"), ValueError)
    )


def _name(error: Exception) -> str:
    return type(error).__name__
