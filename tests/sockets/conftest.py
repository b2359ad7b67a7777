"""Connections to the service, with demo data behind it and a clock that stands still."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache

import pytest

from chalicelib import identity, observability, settings
from chalicelib.sockets import connections, push
from local.identity import AUDIENCE, Issuer
from tests import world
from tests.conftest import NOW
from tests.http.service import ISSUER_URL, new_issuer
from tests.wires import Wires


class Clock:
    """The server's clock, as far as connections see it."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        """Tell the time."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Stop the clock."""
    made = Clock()
    monkeypatch.setattr(connections, "now", made)
    monkeypatch.setattr(push, "now", made)
    return made


@pytest.fixture
def service(wires: Wires, clock: Clock) -> Wires:
    """Let connections open, with demo data behind them."""
    world.seed(clock.now)
    return wires


@pytest.fixture
def issuer(service: Wires, monkeypatch: pytest.MonkeyPatch) -> Issuer:
    """Let people sign in; the issuer's documents are served without a network."""
    assert service
    made = new_issuer()
    used = replace(settings.current(), issuer=ISSUER_URL, audience=AUDIENCE)
    monkeypatch.setattr(settings, "current", cache(lambda: used))
    documents = {f"{ISSUER_URL}{path}": body for path, body in made.documents().items()}
    monkeypatch.setattr(identity, "_get_json", documents.__getitem__)
    identity.forget()
    return made


@pytest.fixture
def defects(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Hold that no message runs into a defect."""
    counted: list[str] = []
    real = observability.count

    def count(metric: str, times: int = 1, /, **dimensions: str) -> None:
        counted.append(metric)
        real(metric, times, **dimensions)

    monkeypatch.setattr(observability, "count", count)
    yield counted
    assert "MessageFailed" not in counted
