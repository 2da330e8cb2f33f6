from pathlib import Path

import pytest

from safety.policy.policy import Policy

PUBLIC = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.fixture(scope="session")
def public_data() -> Path:
    """Public test sets, beside the repository because their texts aren't ours to ship."""
    if not PUBLIC.is_dir():
        pytest.skip(f"the public test data isn't in {Path('..') / 'shared' / 'data'}")
    return PUBLIC


@pytest.fixture(scope="session")
def policy() -> Policy:
    return Policy.load("default")
