import asyncio
import json
from typing import Any

import pytest
from chalice.app import Chalice

from local.api_gateway import ApiGateway


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
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:  # noqa: ANN401 - ASGI's own
        sent.append(message)

    scope = {"method": "GET", "path": path, "query_string": b"", "headers": [], "client": ("x", 1)}
    asyncio.run(gateway(scope, receive, send))
    return json.loads(sent[1]["body"])


@pytest.mark.parametrize("is_reversed", [False, True])
def test_a_fixed_segment_wins_over_a_parameter_in_its_place(is_reversed: bool) -> None:
    """As API Gateway decides it, from the left, whatever the order of registration."""
    routes = ["/a/{one}/jobs/{two}", "/a/{one}/jobs/config", "/a/b/{three}/config", "/a/{one}"]
    gateway = ApiGateway(views_of(*(reversed(routes) if is_reversed else routes)), "d.example")
    asked = ("/a/x/jobs/1", "/a/x/jobs/config", "/a/b/jobs/config", "/a/x")
    assert [ask(gateway, path)["route"] for path in asked] == routes
    gateway.close()
