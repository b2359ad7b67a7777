"""The service as its callers see it: API Gateway's events, into the app that Lambda runs."""

import asyncio
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from local import demo
from local.api_gateway import ApiGateway
from local.identity import Issuer

ISSUER_URL = "http://127.0.0.1/issuer"


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()

    @property
    def json(self) -> Any:  # noqa: ANN401 - any JSON
        """The body as JSON."""
        return json.loads(self.body)


class Caller:
    """Calls the app through the local API Gateway, without a network."""

    def __init__(self, issuer: Issuer) -> None:
        from app import app

        self.issuer = issuer
        self._gateway = ApiGateway(app, "dialtone.example")

    def call(
        self,
        method: str,
        path: str,
        *,
        user: str = "",
        token: str = "",
        query: dict[str, str] | None = None,
        body: object = None,
        headers: dict[str, str] | None = None,
        source: str = "192.0.2.1",
    ) -> Answer:
        """Make one call.

        Args:
            user: signs in as this demo person.
            body: bytes as they are, anything else as JSON.
        """
        given = {"content-type": "application/json"} if body is not None else {}
        given |= headers or {}
        if user:
            token = self.sign_in(user)
        if token:
            given["authorization"] = f"Bearer {token}"
        raw = (
            body
            if isinstance(body, bytes)
            else json.dumps(body).encode()
            if body is not None
            else b""
        )
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": urlencode(query or {}).encode(),
            "headers": [(name.encode(), value.encode()) for name, value in given.items()],
            "client": (source, 40000),
            "scheme": "https",
        }
        return asyncio.run(self._ask(scope, raw))

    def sign_in(self, user: str, **claims: object) -> str:
        """Get an ID token for a demo person, with other claims than theirs if need be."""
        return self.issuer.token(user, datetime.now(UTC), **claims)

    async def _ask(self, scope: dict[str, Any], body: bytes) -> Answer:
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:  # noqa: ANN401 - ASGI's own
            sent.append(message)

        await self._gateway(scope, receive, send)
        headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return Answer(sent[0]["status"], headers, sent[1]["body"])

    def close(self) -> None:
        """End the workers."""
        self._gateway.close()


def new_issuer() -> Issuer:
    """Make the issuer of these tests."""
    return Issuer(ISSUER_URL, demo.PEOPLE)
