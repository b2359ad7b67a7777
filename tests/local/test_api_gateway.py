import asyncio
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from chalice.app import Chalice

from local.api_gateway import MIN_COMPRESSED_BYTES, ApiGateway


def views_of(*routes: str) -> Chalice:
    """Make an app whose views answer with their own route."""
    app = Chalice("routes", configure_logs=False)
    for number, route in enumerate(routes):

        def told(route: str = route, **_: str) -> dict[str, str]:
            return {"route": route}

        app.route(route, name=f"view{number}")(told)
    return app


def ask(gateway: ApiGateway, path: str) -> Any:  # noqa: ANN401 - any JSON
    """Make one call."""
    return json.loads(call(gateway, path)[1]["body"])


def call(gateway: ApiGateway, path: str, *headers: tuple[bytes, bytes]) -> list[Any]:
    """Make one call; tells what was sent."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:  # noqa: ANN401 - ASGI's own
        sent.append(message)

    scope = {"method": "GET", "path": path, "query_string": b"", "client": ("x", 1)}
    asyncio.run(gateway({**scope, "headers": headers}, receive, send))
    return sent


@pytest.mark.parametrize("is_reversed", [False, True])
def test_a_fixed_segment_wins_over_a_parameter_in_its_place(is_reversed: bool) -> None:
    """As API Gateway decides it, from the left, whatever the order of registration."""
    routes = ["/a/{one}/jobs/{two}", "/a/{one}/jobs/config", "/a/b/{three}/config", "/a/{one}"]
    gateway = ApiGateway(views_of(*(reversed(routes) if is_reversed else routes)), "d.example")
    asked = ("/a/x/jobs/1", "/a/x/jobs/config", "/a/b/jobs/config", "/a/x")
    assert [ask(gateway, path)["route"] for path in asked] == routes
    gateway.close()


def test_what_is_long_is_compressed_for_whoever_takes_it() -> None:
    """As API Gateway does it from the same size on."""
    app = Chalice("sizes", configure_logs=False)
    app.route("/{size}", name="size")(lambda size: "x" * int(size))
    gateway = ApiGateway(app, "d.example")
    takes = (b"accept-encoding", b"gzip, br")
    for size, headers, is_compressed in (
        (MIN_COMPRESSED_BYTES, [takes], True),
        (MIN_COMPRESSED_BYTES, [], False),
        (MIN_COMPRESSED_BYTES - 1, [takes], False),
    ):
        start, body = call(gateway, f"/{size}", *headers)
        told = dict(start["headers"])
        assert (told.get(b"content-encoding") == b"gzip") is is_compressed
        content = gzip.decompress(body["body"]) if is_compressed else body["body"]
        assert content == b"x" * size
        assert told[b"content-length"] == str(len(body["body"])).encode()
    gateway.close()
    root = Path(__file__).parent.parent.parent
    deployed = json.loads((root / ".chalice" / "config.json").read_text())
    assert deployed["minimum_compression_size"] == MIN_COMPRESSED_BYTES
