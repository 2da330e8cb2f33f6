"""What an error of the hub's client means, and what a person can do about it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from models.files.safetensors_files import CheckpointError, CheckpointUnreachable

if TYPE_CHECKING:
    from huggingface_hub.errors import HfHubHTTPError


@contextmanager
def in_sentences(what: str, repository: str, revision: str) -> Iterator[None]:
    """Say what an error of the hub's client means for `what`, and what to do about it.

    Raises:
        CheckpointError: if there is no such thing, or not for us.
        CheckpointUnreachable: if the hub doesn't answer, or the disk doesn't take it.
    """
    import httpx2
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    hub = constants.ENDPOINT
    try:
        yield
    except HFValidationError:
        raise CheckpointError(f"{repository} is no hub id such as Qwen/Qwen-Image", "check it.") from None
    except GatedRepoError:
        raise CheckpointError(
            f"{repository} is gated: accept its terms at {hub}/{repository}, and set HF_TOKEN to a token of yours."
        ) from None
    except RepositoryNotFoundError:
        raise CheckpointError(_no_repository(repository, hub)) from None
    except RevisionNotFoundError:
        raise CheckpointError(
            f"{repository} has no commit {revision} at {hub}", "give one of its history, 40 hex digits."
        ) from None
    except OfflineModeIsEnabled:
        raise CheckpointError(f"{what} can't be fetched while HF_HUB_OFFLINE is set", "unset it.") from None
    except LocalEntryNotFoundError as error:
        if isinstance(error.__cause__, HfHubHTTPError):
            raise CheckpointUnreachable(_answer(error.__cause__, what, hub)) from None
        raise CheckpointUnreachable(
            f"{hub} doesn't answer as a hub does when asked for {what}", "check HF_ENDPOINT, and any proxy on the way."
        ) from None
    except EntryNotFoundError:
        raise CheckpointError(
            f"There is no {what} at {revision} at {hub}", "check its name and the revision."
        ) from None
    except HfHubHTTPError as error:
        if error.response.status_code in (401, 403):
            raise CheckpointError(_no_repository(repository, hub)) from None
        raise CheckpointUnreachable(_answer(error, what, hub)) from None
    except (httpx2.TransportError, httpx2.TooManyRedirects) as error:
        raise CheckpointUnreachable(
            f"{what} stopped coming from {hub} ({_first_line(error)})", "the same command goes on from there."
        ) from None
    except OSError as error:
        reason = error.strerror or _first_line(error)
        raise CheckpointUnreachable(f"{what} at {revision} can't be fetched from the hub: {reason}.") from None


def _answer(error: "HfHubHTTPError", what: str, hub: str) -> str:
    return f"{hub} answers {error.response.status_code} for {what}; try again later, or check HF_ENDPOINT."


def _no_repository(repository: str, hub: str) -> str:
    return f"There is no {repository} at {hub}, or not for us: check its name, and set HF_TOKEN to a token for it."


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
