"""EventBridge without AWS: takes events, or not, and what docs/events.md says of them."""

import json
import re
import sys
import threading
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema_rs
import pytest
from botocore.exceptions import EndpointConnectionError

from chalicelib import event_bus, settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PAGE = (Path(__file__).parent.parent / "docs" / "events.md").read_text()
NAME = "phones"
Entry = dict[str, Any]


class Bus:
    """A bus, as botocore's client has it.

    Args:
        away: how many calls are not answered.
        refuse: tells by which code an event is refused, empty for none.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.away = 0
        self.refuse: Callable[[Entry], str] = lambda _: ""
        self.calls: list[list[Entry]] = []
        self.taken: list[Entry] = []
        used = replace(settings.current(), event_bus=NAME)
        monkeypatch.setattr(settings, "current", cache(lambda: used))
        monkeypatch.setattr(event_bus, "_client", lambda: self)

    def put_events(self, *, Entries: list[Entry]) -> dict[str, Any]:  # noqa: N803 - botocore's name
        """Take events, or some of them."""
        self.calls.append(Entries)
        if self.away:
            self.away -= 1
            raise EndpointConnectionError(endpoint_url="https://events.example")
        codes = [self.refuse(entry) for entry in Entries]
        self.taken += [entry for entry, code in zip(Entries, codes, strict=True) if not code]
        answers = [{"ErrorCode": code} if code else {"EventId": "x"} for code in codes]
        return {"FailedEntryCount": len(codes) - codes.count(""), "Entries": answers}

    def refuse_all(self, code: str) -> None:
        """Refuse every event, by this code; none, if it is empty."""
        self.refuse = lambda _: code

    @property
    def details(self) -> list[dict[str, Any]]:
        """What was told, in order."""
        return [json.loads(entry["Detail"]) for entry in self.taken]

    @property
    def ids(self) -> list[str]:
        """The ids of what was told, in order."""
        return [detail["id"] for detail in self.details]

    def told(self, detail_type: str) -> list[dict[str, Any]]:
        """List what was told under a name."""
        return [
            detail
            for entry, detail in zip(self.taken, self.details, strict=True)
            if entry["DetailType"] == detail_type
        ]


class EventBridge(ThreadingHTTPServer):
    """Takes events, and answers as a test wants it.

    Args:
        answers: of the next calls, status and body; then all is taken.
        codes: detail → the code by which it is refused.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Call)
        self.calls: list[list[Entry]] = []
        self.answers: list[tuple[int, object]] = []
        self.codes: dict[str, str] = {}
        self.hangs = threading.Event()
        self.hangs.set()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of a caller that did not wait."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type] # socketserver's own


class Call(BaseHTTPRequestHandler):
    """One call."""

    server: EventBridge
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Answer `PutEvents`."""
        self.server.hangs.wait(5)
        told = json.loads(self.rfile.read(int(self.headers["content-length"])))
        assert self.headers["x-amz-target"] == "AWSEvents.PutEvents"
        self.server.calls.append(told["Entries"])
        codes = [self.server.codes.get(entry["Detail"], "") for entry in told["Entries"]]
        entries = [{"ErrorCode": code} if code else {"EventId": "x"} for code in codes]
        taken = {"FailedEntryCount": len(codes) - codes.count(""), "Entries": entries}
        status, answer = self.server.answers.pop(0) if self.server.answers else (200, taken)
        body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-type", "application/x-amz-json-1.1")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        """Be silent."""


@contextmanager
def event_bridge() -> "Iterator[EventBridge]":
    """Serve EventBridge on a free port."""
    with EventBridge() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.hangs.set()
        server.shutdown()
        thread.join()


def blocks(kind: str) -> list[Any]:
    """Read the JSON of a kind that docs/events.md shows."""
    return [json.loads(one) for one in re.findall(rf"```json {kind}\n(.*?)```", PAGE, re.DOTALL)]


def faults(detail_type: str, detail: object) -> list[str]:
    """Tell what is not as the page has it, a member that it does not name included."""
    (schema,) = blocks("schema")
    for one in schema["$defs"].values():
        _close(one)
    known = {**schema, "$ref": f"#/$defs/{detail_type}"}
    return [str(error) for error in jsonschema_rs.validator_for(known).iter_errors(detail)]


def _close(schema: Any) -> None:  # noqa: ANN401 - any part of a schema
    if isinstance(schema, dict):
        if "properties" in schema:
            schema["additionalProperties"] = False
            assert set(schema["required"]) <= set(schema["properties"])
        for inner in schema.values():
            _close(inner)


def hold(entry: Entry) -> None:
    """Hold an event against the page."""
    assert faults(entry["DetailType"], json.loads(entry["Detail"])) == []
    assert entry["EventBusName"] == NAME
    assert entry["Source"] == "dialtone"
    detail = json.loads(entry["Detail"])
    assert datetime.fromisoformat(detail["at"]) == entry["Time"]
