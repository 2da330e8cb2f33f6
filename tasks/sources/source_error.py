"""Why a row's source picture can't be used."""

from __future__ import annotations

from typing import Literal

Reason = Literal[
    "bad_value",
    "source_not_allowed",
    "source_not_found",
    "source_unreachable",
    "source_changed",
    "source_too_large",
    "source_corrupt",
    "source_unsupported",
]


class SourceError(Exception):
    """One row has no source picture. The message is a sentence for a person, without queries and credentials."""

    def __init__(self, reason: Reason, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.retryable = retryable  # whether the same address or picture may do another time

    @property
    def is_passing(self) -> bool:
        """Whether it says nothing of the picture but that it can't be read now."""
        return self.retryable or self.reason == "source_unreachable"

    def of(self, column: str) -> SourceError:
        """Return the same error, which names the column of the picture."""
        return SourceError(self.reason, f"{column}: {self.message}", retryable=self.retryable)


def too_large(what: str, limit: int) -> SourceError:
    """Return the error for more bytes than `limit`; `what` begins the sentence."""
    return SourceError("source_too_large", f"{what} is over {limit / (1 << 20):.4g} MiB, the most that is read.")
