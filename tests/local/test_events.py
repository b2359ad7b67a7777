"""Events from the served system, put where EventBridge is said to be."""

import json
from collections.abc import Iterator

import pytest

from tests.bus import EventBridge, event_bridge, faults
from tests.local.conftest import running
from tests.local.served import Served
from tests.local.websockets_served import eventually

HW_ID = "009033460af2"


@pytest.fixture(scope="module")
def bridge() -> Iterator[EventBridge]:
    """Serve an EventBridge that is away at first."""
    with event_bridge() as made:
        made.answers = [(500, {"__type": "InternalException"})] * 4
        yield made


@pytest.fixture(scope="module")
def served(bridge: EventBridge) -> Iterator[Served]:
    """Serve what `make run` starts, with a bus."""
    with running({"EVENT_BUS": "phones", "AWS_ENDPOINT_URL_EVENTBRIDGE": bridge.url}) as made:
        yield made


def test_a_phone_that_a_person_adds_is_told(served: Served, bridge: EventBridge) -> None:
    """Once EventBridge is back, by the way of the stream, and as docs/events.md has it."""
    served.redeem(served.code(served.token("user1")), HW_ID, "127.0.0.9")
    eventually(lambda: len(bridge.calls) > 4)
    *_, (entry,) = bridge.calls
    assert (entry["EventBusName"], entry["DetailType"]) == ("phones", "PhoneProvisioned")
    detail = json.loads(entry["Detail"])
    assert faults(entry["DetailType"], detail) == []
    assert (detail["phone"]["hw_id"], detail["phone"]["user"]) == (HW_ID, "user1")
