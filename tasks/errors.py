"""What a person can mend before any work starts."""

from __future__ import annotations

from models.mendable import Mendable


class RequestError(Mendable, ValueError):
    """The request itself is wrong: its message is one sentence that says what, where, and what to do about it."""
