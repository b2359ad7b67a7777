"""Websockets without sockets: API Gateway's management API, and events as it makes them."""

import hashlib
import json
from collections import defaultdict
from dataclasses import replace
from functools import cache
from itertools import count
from typing import Any

import pytest

import app
from chalicelib import sending, settings
from chalicelib.core.errors import NotDeliveredError
from local import demo
from tests import world


class Wires:
    """The management API: takes messages for connections that are open, and knows who is gone.

    Args:
        failing: connections that take nothing at this moment.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open: set[str] = set()
        self.failing: set[str] = set()
        self.sent: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.all_sent: list[tuple[str, dict[str, Any]]] = []
        monkeypatch.setattr(sending, "post", self.post)
        monkeypatch.setattr(sending, "close", self.close)
        used = replace(
            settings.current(), public_url=world.BASE_URL, instance_domain=demo.INSTANCE_DOMAIN
        )
        monkeypatch.setattr(settings, "current", cache(lambda: used))
        self._names = count(1)

    def post(self, connection_id: str, message: str) -> bool:
        """Take a message, as sending.post does."""
        if connection_id in self.failing:
            raise NotDeliveredError("LimitExceededException")
        if connection_id not in self.open:
            return False
        self.sent[connection_id].append(json.loads(message))
        self.all_sent.append((connection_id, json.loads(message)))
        return True

    def close(self, connection_id: str) -> bool:
        """Close a connection, as sending.close does, and tell the service as API Gateway does."""
        if connection_id not in self.open:
            return False
        self.open.remove(connection_id)
        app.websocket_disconnect(event(connection_id, "DISCONNECT"), None)
        return True

    def connect(self, source: str = world.HOME) -> "Wire":
        """Open a connection."""
        connection_id = f"connection-{next(self._names)}"
        self.open.add(connection_id)
        answer = app.websocket_connect(event(connection_id, "CONNECT", source=source), None)
        assert answer["statusCode"] == 200
        return Wire(self, connection_id, source)

    def instance(
        self, domain: str = world.DOMAIN, password: str = "dialtone", app_name: str = "users"
    ) -> "Wire":
        """Open a connection over which a Users instance has logged in."""
        wire = self.connect()
        assert wire.log_in(domain, password, app=app_name)["ok"] is True
        return wire


class Wire:
    """One connection, from its client's side."""

    def __init__(self, wires: Wires, connection_id: str, source: str) -> None:
        self.wires = wires
        self.connection_id = connection_id
        self.source = source

    @property
    def is_open(self) -> bool:
        """Tell whether it was not closed."""
        return self.connection_id in self.wires.open

    @property
    def received(self) -> list[dict[str, Any]]:
        """Everything that came."""
        return self.wires.sent[self.connection_id]

    def told(self, name: str) -> list[dict[str, Any]]:
        """List what came under a name."""
        return [message for message in self.received if message["mt"] == name]

    def send(self, text: str) -> list[dict[str, Any]]:
        """Send a text; returns what came back."""
        before = len(self.received)
        sent = event(self.connection_id, "MESSAGE", text, self.source)
        answer = app.websocket_message(sent, None)
        assert answer["statusCode"] == 200
        return self.received[before:]

    def ask(self, name: str, **members: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON
        """Send a message; returns the one answer."""
        (answer,) = self.send(json.dumps({"mt": name, **members}))
        return answer

    def log_in(
        self, domain: str, password: str, info: str | None = None, app: str = "users"
    ) -> dict[str, Any]:
        """Log in with a password, as a Users instance does; `info` is JSON text."""
        challenge = self.ask("AppChallenge")["challenge"]
        parts = [app, domain, "", "", "", *([] if info is None else [info]), challenge, password]
        digest = hashlib.sha256(":".join(parts).encode()).hexdigest()
        members = json.dumps({"mt": "AppLogin", "app": app, "domain": domain, "digest": digest})
        text = members if info is None else f'{members[:-1]}, "info": {info}}}'
        return self.send(text)[0]

    def disconnect(self) -> None:
        """Close it from the client's side."""
        self.wires.open.discard(self.connection_id)
        app.websocket_disconnect(event(self.connection_id, "DISCONNECT"), None)

    def vanish(self) -> None:
        """Go without a word: API Gateway notices when it sends."""
        self.wires.open.discard(self.connection_id)


def event(
    connection_id: str, kind: str, body: str | None = None, source: str = world.HOME
) -> dict[str, Any]:
    """Write an event as API Gateway does for a websocket."""
    keys = {"CONNECT": "$connect", "MESSAGE": "$default", "DISCONNECT": "$disconnect"}
    return {
        "requestContext": {
            "routeKey": keys[kind],
            "eventType": kind,
            "connectionId": connection_id,
            "requestId": f"request of {connection_id}",
            "apiId": "websocket",
            "domainName": "websocket.execute-api.example",
            "stage": "api",
            "identity": {"sourceIp": source},
        },
        "body": body,
        "isBase64Encoded": False,
    }


def stream_event(*images: dict[str, Any]) -> dict[str, Any]:
    """Write an event of a DynamoDB stream: items that were inserted, as DynamoDB writes them."""
    return {
        "Records": [
            {
                "eventID": str(number),
                "eventName": "INSERT",
                "eventSource": "aws:dynamodb",
                "eventSourceARN": "arn:aws:dynamodb:eu-central-1:000000000000:table/n/stream/1",
                "awsRegion": "eu-central-1",
                "dynamodb": {
                    "Keys": {name: image[name] for name in ("domain", "notification_id")},
                    "NewImage": image,
                    "SequenceNumber": str(number),
                },
            }
            for number, image in enumerate(images, start=1)
        ]
    }
