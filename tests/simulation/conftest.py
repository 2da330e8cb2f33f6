"""What every simulation needs: tables that pass as they are."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .tables import passing_as_they_are


@pytest.fixture(autouse=True)
def tables() -> Iterator[None]:
    with passing_as_they_are():
        yield
