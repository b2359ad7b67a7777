"""User objects at a PBX: which devices a user has there, and what stands in the way.

A user object has a list of devices, which is read and written as a whole. It must not know how a
PBX is spoken to, nor who waits for it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from chalicelib.core.devices import Device, parse_hw_id

PATH = "/PBX0/APPS/websocket"
"""Where a PBX takes app objects, unless an address says otherwise."""

MAX_REASON_LENGTH = 200
MAX_PAUSE_SECONDS = 600
_FIRST_PAUSE_SECONDS = 5
_MAX_DOUBLINGS = 7

Entry = Mapping[str, Any]
"""A member of `devices`: hw, text, app, flags, and whatever else the PBX keeps there."""


class Flag(StrEnum):
    """What a domain may set for each device that is added; the value is the PBX's word."""

    REVERSE_PROXY = "trusted"
    TLS_ONLY = "tls"
    NO_MOBILITY = "no-mob"


class FindBy(StrEnum):
    """By what a user is found at the PBX."""

    SIP = "sip"
    NAME = "name"


class Trouble(StrEnum):
    """Why a PBX cannot be spoken to; nothing of its domain goes on until that has changed."""

    UNKNOWN_NAME = "unknown name"
    NO_CONNECTION = "no connection"
    CERTIFICATE = "certificate"
    NO_WEBSOCKET = "no AppWebsocket"
    PASSWORD = "password"  # noqa: S105 - a reason
    NO_RIGHTS = "no PbxAdminApi"
    NO_ANSWER = "no answer"
    UNREADABLE = "unreadable answer"
    CONNECTION_LOST = "connection lost"


class Hindrance(StrEnum):
    """Why one phone is not at its user there; others go on."""

    NO_USER = "no such user"
    ANOTHER_USER = "phone of another user"
    CHANGING = "changed by others"
    REFUSED = "refused"


@dataclass(frozen=True)
class Access:
    """How a domain's PBX is spoken to.

    Args:
        url: of its AppWebsocket, `wss://pbx.example.com/PBX0/APPS/websocket`.
        app: name of the app object.
    """

    url: str
    app: str
    password: str = field(repr=False)


@dataclass(frozen=True)
class UserObject:
    """A user at the PBX.

    Args:
        guid: by which it is changed.
        devices: as the PBX told them.
    """

    guid: str
    devices: Sequence[Entry] = ()


def merged(
    devices: Sequence[Entry],
    come: Iterable[Device],
    gone: Iterable[str],
    flags: Iterable[Flag],
) -> list[Entry]:
    """Tell which devices a user shall have: others stay as they are, and so do those there already.

    Args:
        devices: as the PBX told them.
        come: phones that must be there.
        gone: hw_ids that must not.
        flags: for those that are added.
    """
    unwanted = set(gone)
    kept = [entry for entry in devices if _hw_id(entry) not in unwanted]
    there = {_hw_id(entry) for entry in kept}
    new = [device for device in come if device.hw_id not in there]
    return [*kept, *(_entry(device, flags) for device in new)]


def is_so(devices: Sequence[Entry], come: Iterable[Device], gone: Iterable[str]) -> bool:
    """Tell whether a user has every phone that came and none that went."""
    there = {_hw_id(entry) for entry in devices}
    return all(device.hw_id in there for device in come) and there.isdisjoint(gone)


def has(devices: Sequence[Entry], hw_id: str) -> bool:
    """Tell whether a user has a phone there, however its hardware id is spelt."""
    return any(_hw_id(entry) == hw_id for entry in devices)


def pause_seconds(attempts: int) -> int:
    """Tell how long to wait after so many attempts (1, 2, …): 5, 10, 20, … at most 600 seconds."""
    doublings = min(attempts - 1, _MAX_DOUBLINGS)
    return min(_FIRST_PAUSE_SECONDS << doublings, MAX_PAUSE_SECONDS)


def refused(told: str) -> str:
    """Write as a reason what a PBX says when it refuses a change, in one short line."""
    words = " ".join(told.split())
    return f"{Hindrance.REFUSED}: {words}"[:MAX_REASON_LENGTH] if words else Hindrance.REFUSED


def _hw_id(entry: Entry) -> str:
    """Tell the hardware id of an entry as we spell it; what is none stays as it is."""
    told = entry.get("hw")
    spelt = told if isinstance(told, str) else ""
    return parse_hw_id(spelt) or spelt.strip()


def _entry(device: Device, flags: Iterable[Flag]) -> Entry:
    entry: dict[str, Any] = {"hw": device.hw_id, "text": device.name or device.product}
    if device.app:
        entry["app"] = device.app
    return entry | {flag.value: True for flag in flags}
