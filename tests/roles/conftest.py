"""What the tests of roles share."""

import pytest

from chalicelib.roles import entries


@pytest.fixture
def many(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Say how many users there are, more than a transaction holds.

    moto is slower: there, all is smaller.
    """
    if request.config.getoption("--engine"):
        return 60
    monkeypatch.setattr(entries, "MAX_TRANSACTION_ITEMS", 20)
    return 12
