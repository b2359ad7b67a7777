"""User objects at a PBX: which devices a user has there, and what stands in the way.

A user object has a list of devices, which is read and written as a whole. It must not know how a
PBX is spoken to, nor who waits for it.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from chalicelib.core.devices import Device, parse_any_hw_id, parse_hw_id

PATH = "/PBX0/APPS/websocket"
"""Where a PBX takes app objects, unless an address says otherwise."""

MAX_REASON_LENGTH = 200
_FIRST_PAUSE_SECONDS = 5
_MAX_DOUBLINGS = 20

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
    NO_TABLE = "no PbxTableUsers"
    TOO_LONG = "table too long"
    NO_ANSWER = "no answer"
    UNREADABLE = "unreadable answer"
    CONNECTION_LOST = "connection lost"


class Step(StrEnum):
    """What must go well, one after the other, before a PBX can be told anything."""

    NAME = "name"
    CONNECTION = "connection"
    CERTIFICATE = "certificate"
    WEBSOCKET = "websocket"
    PASSWORD = "password"  # noqa: S105 - a step
    ADMIN_API = "PbxAdminApi"
    USERS_API = "PbxTableUsers"


_STEP_OF = {
    Trouble.UNKNOWN_NAME: Step.NAME,
    Trouble.NO_CONNECTION: Step.CONNECTION,
    Trouble.CERTIFICATE: Step.CERTIFICATE,
    Trouble.NO_WEBSOCKET: Step.WEBSOCKET,
    Trouble.PASSWORD: Step.PASSWORD,
    Trouble.NO_RIGHTS: Step.ADMIN_API,
    Trouble.NO_TABLE: Step.USERS_API,
    Trouble.TOO_LONG: Step.USERS_API,
    Trouble.NO_ANSWER: Step.ADMIN_API,
    Trouble.UNREADABLE: Step.ADMIN_API,
    Trouble.CONNECTION_LOST: Step.ADMIN_API,
}


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


@dataclass(frozen=True)
class Row:
    """A row of a PBX's table of users.

    Args:
        sip: its SIP name, empty for none.
        values: what it tells of name, number and email.
        devices: as the PBX told them.
        is_user: False for what only stands among them: apps, trunks, …
    """

    sip: str
    values: Mapping[str, str] = field(default_factory=dict)
    devices: Sequence[Entry] = ()
    is_user: bool = True

    def hw_ids(self) -> set[str]:
        """Tell the hardware ids of its devices; softphones and the like have none."""
        told = (parse_any_hw_id(_hw_id(entry)) for entry in self.devices)
        return {hw_id for hw_id in told if hw_id}


def missing(devices: Sequence[Entry], wanted: Iterable[Device]) -> list[Device]:
    """Tell which phones are not among a user's devices."""
    there = {_hw_id(entry) for entry in devices}
    return [device for device in wanted if device.hw_id not in there]


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
    return [*kept, *(_entry(device, flags) for device in missing(kept, come))]


def with_others(
    written: Sequence[Entry], seen: Sequence[Entry], before: Sequence[Entry]
) -> list[Entry]:
    """Tell what should have been written, had we seen what somebody else wrote just before.

    Args:
        written: what we wrote over it.
        seen: what we thought was there.
        before: what was there.
    """
    removed = [entry for entry in seen if entry not in before]
    added = [entry for entry in before if entry not in seen]
    return [*(entry for entry in written if entry not in removed), *added]


def pause_seconds(attempts: int, most: int) -> int:
    """Tell how long to wait after so many attempts (1, 2, …): 5, 10, 20, … seconds.

    Args:
        most: seconds that are never exceeded.
    """
    doublings = min(attempts - 1, _MAX_DOUBLINGS)
    return min(_FIRST_PAUSE_SECONDS << doublings, most)


def steps_until(trouble: Trouble, url: str) -> dict[Step, bool | None]:
    """Tell which steps went well before there was trouble: later ones were not reached."""
    failed = list(Step).index(_STEP_OF[trouble])
    went = {step: at < failed if at <= failed else None for at, step in enumerate(Step)}
    return _as_possible(went, url)


def steps_of(url: str, apis: Collection[str] | None) -> dict[Step, bool | None]:
    """Tell which steps went well when there was no trouble.

    Args:
        apis: what the PBX says that it grants, None if it has said nothing.
    """
    went: dict[Step, bool | None] = dict.fromkeys(Step, True)
    went[Step.USERS_API] = None if apis is None else Step.USERS_API in apis
    return _as_possible(went, url)


def _as_possible(went: dict[Step, bool | None], url: str) -> dict[Step, bool | None]:
    # without TLS there is no certificate
    return went if url.startswith("wss:") else went | {Step.CERTIFICATE: None}


def refused(told: str) -> str:
    """Write as a reason what a PBX says when it refuses a change, in one short line."""
    return _reason(Hindrance.REFUSED, told)


def of_another_user(sip: str) -> str:
    """Write as a reason that the PBX has a phone at another user, in one short line."""
    return _reason(Hindrance.ANOTHER_USER, sip)


def for_its_user(reason: str) -> str:
    """Write a reason for the user of the phone, who need not know what others have."""
    return Hindrance.ANOTHER_USER if reason.startswith(Hindrance.ANOTHER_USER) else reason


def _reason(hindrance: Hindrance, told: str) -> str:
    words = " ".join(told.split())
    return f"{hindrance}: {words}"[:MAX_REASON_LENGTH] if words else hindrance


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
