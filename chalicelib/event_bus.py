"""Puts events on EventBridge's bus, for whoever has subscribed there; settings name the bus.

It stands beside storage, as sending.py does, with a client and time-outs of its own. It must not
know what an event says, nor what becomes of one that was not taken.
"""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.session import Session

from chalicelib import settings

SOURCE = "dialtone"
MAX_ENTRIES = 10
MAX_BYTES = 256 * 1024
"""Of all entries of a call together. EventBridge takes 1 MB in most regions, but not in all."""

FINAL = frozenset({"InvalidArgument", "MalformedDetail"})
"""What EventBridge says of an event that it will never take, whoever puts it once more."""

TIMEOUT_SECONDS = 3
BEHIND = "behind another"
_TIME_BYTES = 14
_lock = threading.Lock()


@dataclass(frozen=True)
class Event:
    """An event as it is put.

    Args:
        detail_type: what happened, `PhoneProvisioned`.
        detail: a JSON object.
        at: when it happened.
    """

    detail_type: str
    detail: str
    at: datetime

    @property
    def size(self) -> int:
        """How many bytes EventBridge counts.

        Source: EventBridge User Guide, Calculating PutEvents event entry size.
        """
        told = (SOURCE, self.detail_type, self.detail)
        return _TIME_BYTES + sum(len(text.encode()) for text in told)


def is_wanted() -> bool:
    """Tell whether there is a bus at all."""
    return bool(settings.current().event_bus)


def put(events: Sequence[Event]) -> dict[int, str]:
    """Put events, in calls that are not too large, one after another.

    After a call of which something is to be put again no other is made: what is behind waits, so
    that order stays as far as it can, and a bus in trouble is left alone.

    Returns:
        Position → why, of those that were not taken: EventBridge's code (`FINAL`: never will be),
        what kept us from asking, or `BEHIND`.
    """
    missed: dict[int, str] = {}
    for positions in _calls(events):
        if set(missed.values()) - FINAL:
            missed |= dict.fromkeys(positions, BEHIND)
        else:
            codes = _put([events[position] for position in positions])
            missed |= {
                position: code for position, code in zip(positions, codes, strict=True) if code
            }
    return missed


def _calls(events: Sequence[Event]) -> Iterator[list[int]]:
    """Divide events into calls, as positions."""
    positions: list[int] = []
    size = 0
    for position, event in enumerate(events):
        if positions and (len(positions) == MAX_ENTRIES or size + event.size > MAX_BYTES):
            yield positions
            positions, size = [], 0
        positions.append(position)
        size += event.size
    if positions:
        yield positions


def _put(events: Sequence[Event]) -> list[str]:
    """Make one call → of each event why it was not taken, empty if it was."""
    name = settings.current().event_bus
    entries = [
        {
            "EventBusName": name,
            "Source": SOURCE,
            "DetailType": event.detail_type,
            "Detail": event.detail,
            "Time": event.at,
        }
        for event in events
    ]
    try:
        answered = _client().put_events(Entries=entries)["Entries"]
    except ClientError as error:
        return [error.response["Error"]["Code"]] * len(events)
    except (BotoCoreError, ValueError) as error:
        return [type(error).__name__] * len(events)
    return [entry.get("ErrorCode", "") for entry in answered]


def _client() -> Any:  # noqa: ANN401 - botocore makes its classes itself
    with _lock:
        return _made()


@cache
def _made() -> Any:  # noqa: ANN401 - as above
    # one more try is for a connection that was cut while the function slept; for anything else
    # the stream comes again
    return Session().create_client(
        "events",
        config=Config(
            connect_timeout=1,
            read_timeout=TIMEOUT_SECONDS,
            retries={"max_attempts": 1},
        ),
    )


def forget() -> None:
    """Drop the client, so that the next use reads the settings again; for tests and servers."""
    with _lock:
        _made.cache_clear()
