"""Connections that are opened through the edge, and past it."""

from dataclasses import replace
from hashlib import sha256

import pytest

import app
from chalicelib import settings
from chalicelib.storage import connections
from tests import wires, world
from tests.conftest import use

SECRET = "s" * 43
HASHES = (sha256(SECRET.encode()).hexdigest(),)
TOLD = {"X-Dialtone-Edge": SECRET, "CloudFront-Viewer-Address": "198.51.100.7:46532"}


def opened(headers: dict[str, str] | None) -> int:
    """Open a connection with these headers; returns the status."""
    event = {**wires.event("c", "CONNECT"), "headers": headers}
    return int(app.websocket_connect(event, None)["statusCode"])


@pytest.mark.parametrize(
    ("headers", "is_edge_only", "status", "source"),
    [
        (TOLD, True, 200, "198.51.100.7"),
        (TOLD, False, 200, "198.51.100.7"),
        ({**TOLD, "X-Dialtone-Edge": "guessed"}, True, 403, None),
        ({**TOLD, "X-Dialtone-Edge": "guessed"}, False, 200, world.HOME),
        ({}, True, 403, None),
        (None, True, 403, None),
        (None, False, 200, world.HOME),
    ],
)
def test_a_connection_has_the_source_that_the_edge_tells(
    service: wires.Wires,
    monkeypatch: pytest.MonkeyPatch,
    headers: dict[str, str] | None,
    is_edge_only: bool,
    status: int,
    source: str | None,
) -> None:
    """And past the edge it is refused, or has its own."""
    assert service
    used = replace(settings.current(), edge_hashes=HASHES, is_edge_only=is_edge_only)
    use(used, monkeypatch)
    assert opened(headers) == status
    known = connections.find("c")
    assert (known.source if known else None) == source


def test_without_an_edge_nobody_chooses_their_source(service: wires.Wires) -> None:
    """Whatever a request says."""
    assert service
    assert opened(TOLD) == 200
    known = connections.find("c")
    assert known is not None
    assert known.source == world.HOME
