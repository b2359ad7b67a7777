"""The adapter against an HTTP endpoint that plays EventBridge."""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import pytest

from chalicelib import event_bus, settings
from chalicelib.event_bus import BEHIND, Event
from local import dynamodb
from tests.bus import EventBridge, event_bridge
from tests.conftest import NOW

THROTTLED = (400, {"__type": "ThrottlingException", "message": "slow down"})


@pytest.fixture
def bridge(monkeypatch: pytest.MonkeyPatch) -> Iterator[EventBridge]:
    """Serve EventBridge, and let the service find it."""
    dynamodb.use_local_credentials()
    used = replace(settings.Settings(), event_bus="phones")
    monkeypatch.setattr(settings, "current", cache(lambda: used))
    with event_bridge() as server:
        lead_to(server.url, monkeypatch)
        yield server
    event_bus.forget()


def lead_to(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let botocore look for EventBridge there."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_EVENTBRIDGE", url)
    event_bus.forget()


def events(count: int, size: int = 0) -> list[Event]:
    """Make events; details are their numbers, and longer if wanted."""
    return [Event("PhoneProvisioned", f"{number}".ljust(size), NOW) for number in range(count)]


def test_an_event_is_put_as_it_is(bridge: EventBridge) -> None:
    """On the bus of the settings, with its source and its own time."""
    assert event_bus.put([Event("PhoneRemoved", '{"name": "ü"}', NOW)]) == {}
    ((entry,),) = bridge.calls
    assert entry == {
        "EventBusName": "phones",
        "Source": "dialtone",
        "DetailType": "PhoneRemoved",
        "Detail": '{"name": "ü"}',
        "Time": NOW.timestamp(),
    }


def test_no_events_are_no_call(bridge: EventBridge) -> None:
    """EventBridge wants one at least."""
    assert event_bus.put([]) == {}
    assert bridge.calls == []


def test_ten_events_are_a_call(bridge: EventBridge) -> None:
    """In their order."""
    assert event_bus.put(events(23)) == {}
    assert [len(call) for call in bridge.calls] == [10, 10, 3]
    details = [entry["Detail"] for call in bridge.calls for entry in call]
    assert details == [str(number) for number in range(23)]


def test_a_call_is_not_too_large(bridge: EventBridge) -> None:
    """By bytes, as EventBridge counts them; one that is too large goes alone and is refused."""
    fitting = events(4, event_bus.MAX_BYTES // 2 - 14 - len("dialtone" + "PhoneProvisioned"))
    assert sum(one.size for one in fitting[:2]) == event_bus.MAX_BYTES
    assert event_bus.put(fitting) == {}
    assert [len(call) for call in bridge.calls] == [2, 2]
    large = Event("PhoneProvisioned", "ü" * event_bus.MAX_BYTES, NOW)
    assert event_bus.put([*events(1), large, *events(1)]) == {}
    assert [len(call) for call in bridge.calls[2:]] == [1, 1, 1]


def test_what_was_not_taken_is_told_by_its_position(bridge: EventBridge) -> None:
    """With EventBridge's code; the rest of its call was taken, what is behind was not tried."""
    bridge.codes = {"3": "InternalFailure", "7": "MalformedDetail"}
    assert event_bus.put(events(12)) == {
        3: "InternalFailure",
        7: "MalformedDetail",
        10: BEHIND,
        11: BEHIND,
    }
    assert len(bridge.calls) == 1


def test_what_will_never_be_taken_holds_up_nothing(bridge: EventBridge) -> None:
    """The calls behind it are made."""
    bridge.codes = {"3": "MalformedDetail", "4": "InvalidArgument"}
    assert set(event_bus.put(events(12))) == {3, 4}
    assert len(bridge.calls) == 2


@pytest.mark.parametrize(
    ("status", "answer", "why"),
    [
        (*THROTTLED, "ThrottlingException"),
        (400, {"__type": "AccessDeniedException", "message": "no"}, "AccessDeniedException"),
        (500, {"__type": "InternalException"}, "InternalException"),
        (503, b"", "503"),
        (500, b"<html>no JSON</html>", "500"),
    ],
)
def test_trouble_is_that_of_all_events_of_a_call(
    bridge: EventBridge, status: int, answer: object, why: str
) -> None:
    """It is tried once more, and then not at all; what was put before is put."""
    bridge.answers = [(200, {"FailedEntryCount": 0, "Entries": [{"EventId": "x"}] * 10})]
    bridge.answers += [(status, answer)] * 2
    missed = event_bus.put(events(21))
    assert missed == {**dict.fromkeys(range(10, 20), why), 20: BEHIND}
    assert len(bridge.calls) <= 3


def test_a_throttle_that_passes_is_no_trouble(bridge: EventBridge) -> None:
    """One more try is enough then."""
    bridge.answers = [THROTTLED]
    assert event_bus.put(events(1)) == {}
    assert len(bridge.calls) == 2


def test_silence_is_not_waited_for(bridge: EventBridge, monkeypatch: pytest.MonkeyPatch) -> None:
    """The function has other things to do."""
    monkeypatch.setattr(event_bus, "TIMEOUT_SECONDS", 0.1)
    event_bus.forget()
    bridge.hangs.clear()
    assert event_bus.put(events(1)) == {0: "ReadTimeoutError"}


@pytest.mark.parametrize(
    ("url", "why"), [("http://127.0.0.1:1", "EndpointConnectionError"), ("none", "ValueError")]
)
def test_an_endpoint_that_is_none_takes_nothing(
    bridge: EventBridge, monkeypatch: pytest.MonkeyPatch, url: str, why: str
) -> None:
    """A refused connection, and an address that is none."""
    lead_to(url, monkeypatch)
    assert event_bus.put(events(2)) == dict.fromkeys(range(2), why)
    assert bridge.calls == []


def test_there_is_a_bus_only_if_one_is_named(
    bridge: EventBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty name is none, and so it is by default."""
    assert event_bus.is_wanted() is True
    monkeypatch.setattr(settings, "current", cache(lambda: settings.read({"EVENT_BUS": ""})))
    assert event_bus.is_wanted() is False
    assert settings.read({"EVENT_BUS": "default"}).event_bus == "default"
