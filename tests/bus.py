"""EventBridge without AWS: takes events, or not, and what docs/events.md says of them."""

import json
import re
from dataclasses import replace
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema_rs
import pytest
from botocore.exceptions import EndpointConnectionError

from chalicelib import event_bus, settings

if TYPE_CHECKING:
    from collections.abc import Callable

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
