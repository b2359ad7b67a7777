"""Devices: hardware ids, what a phone tells of itself, who may take a phone over.

It must not know how a device is stored or which jobs it gets (core/jobs.py).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Literal

from chalicelib.core.errors import Refusal

DeviceType = Literal["VA", "GW", "PHONE", "DECT", "APP_PLATFORM"]
"""The vendor's kinds of devices."""

UNUSED_TOKEN_SECONDS = 24 * 3600
"""A device that has not used its token after this counts as released."""

MAX_FACT_LENGTH = 200
MAX_PAUSE_MINUTES = 24 * 60

_SEPARATORS = re.compile(r"[-:.\s]")
_HW_ID = re.compile(r"[0-9a-f]{12}")
_NOBODY = frozenset({"0" * 12, "f" * 12})
_BUILD = re.compile(r"[0-9A-Za-z._-]{1,32}")
_INTERFACE = re.compile(r"[0-9A-Za-z]{1,16}")
_AT = "-"
"""Between a gateway and the interface of an analogue phone, in the phone's hardware id."""


class State(StrEnum):
    """Where a device stands, by what it reports and not by what was sent."""

    REGISTERED = "registered"
    UPDATING = "updating"
    CURRENT = "current"
    RELEASED = "released"


@dataclass(frozen=True)
class Facts:
    """What a phone tells of itself; empty where it did not say.

    Args:
        product: `IP232`.
        version: the version line as sent.
        prot, boot: build digits of the running firmware and boot code.
        check: serial of the last script it finished.
        local_ip: its address in its own network.
    """

    product: str = ""
    version: str = ""
    prot: str = ""
    boot: str = ""
    check: str = ""
    local_ip: str = ""
    name: str = ""
    device_type: str = "PHONE"


class PbxState(StrEnum):
    """Whether a user's phone is a device of the user's object at the domain's PBX."""

    PENDING = "pending"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True)
class Failure:
    """A job that a device could not do.

    Args:
        count: how often, 1 or more.
        at: the last time.
        reason: what it said then.
    """

    count: int
    at: datetime
    reason: str

    @property
    def retry_at(self) -> datetime:
        """When the job is offered again: after 1, 5, 25, … minutes, at last once a day."""
        minutes = min(5 ** min(self.count - 1, 5), MAX_PAUSE_MINUTES)
        return self.at + timedelta(minutes=minutes)


@dataclass(frozen=True)
class Device:
    """A device as Devices keeps it.

    Args:
        hw_id: 12 lower-case hex digits; of an analogue phone those of its gateway, a dash and the
            interface (`009033460af2-TEL1`).
        domain, category, app, user: its assignment; empty once released.
        code_id, code_fingerprint: the code that registered it.
        rollout_id: the rollout of that code, empty for none.
        registration_id: ULID of this assignment; the token is derived from it. Empty for a phone
            that is expected and has not come yet.
        registered_from: the source that redeemed, in the form of rate_limits.source_of.
        token_hash: SHA-256 of its token, empty once released, and for an analogue phone, which has
            none.
        token_used_at: when it first came back with its token.
        confirmed: job type → id of the last job of that type it confirmed.
        failures: job_id → how often and why it could not do that job.
        offered_at: since when an unconfirmed script has been out.
        stuck_at: when that script will have been out for more than three polls.
        connection: who holds its websocket, and under which number, `10.0.3.7:8080#c4f1…`; empty
            for a device that has none open.
        disconnected_at: when its last websocket ended, None while it has one or if it never had.
        pbx: how far its domain's PBX is with it, None before that is known, and without a PBX.
        pbx_reason: why it is no further, empty if it is done.
    """

    hw_id: str
    state: State
    domain: str = ""
    category: str = ""
    app: str = ""
    user: str = ""
    name: str = ""
    product: str = ""
    version: str = ""
    device_type: str = "PHONE"
    prot: str = ""
    boot: str = ""
    local_ip: str = ""
    code_id: str = ""
    code_fingerprint: str = ""
    rollout_id: str = ""
    registration_id: str = ""
    registered_at: datetime | None = None
    registered_from: str = ""
    token_hash: str = ""
    token_version: int = 0
    token_used_at: datetime | None = None
    last_seen_at: datetime | None = None
    offered_at: datetime | None = None
    stuck_at: datetime | None = None
    confirmed: Mapping[str, str] = field(default_factory=dict)
    failures: Mapping[str, Failure] = field(default_factory=dict)
    connection: str = ""
    disconnected_at: datetime | None = None
    pbx: PbxState | None = None
    pbx_reason: str = ""

    @property
    def gateway(self) -> str:
        """Hardware id of the gateway that an analogue phone is at, empty for any other device."""
        gateway, at, _ = self.hw_id.partition(_AT)
        return gateway if at else ""

    @property
    def interface(self) -> str:
        """The gateway's interface that an analogue phone is at, empty for any other device."""
        return self.hw_id.partition(_AT)[2]

    def is_free(self, now: datetime) -> bool:
        """Tell whether any good code may have it: released, or its token unused for a day."""
        if self.state is State.RELEASED or self.registered_at is None:
            return True
        if self.gateway:
            # it has no token that could stay unused
            return False
        unused_too_long = now >= self.registered_at + timedelta(seconds=UNUSED_TOKEN_SECONDS)
        return self.token_used_at is None and unused_too_long

    def stuck_since(self, now: datetime) -> datetime | None:
        """Tell since when it has been stuck, also if it never came back; None if it is not."""
        is_stuck = self.stuck_at is not None and now > self.stuck_at
        return self.stuck_at if is_stuck else None

    @property
    def facts(self) -> Facts:
        """What it told of itself the last time."""
        return Facts(
            product=self.product,
            version=self.version,
            prot=self.prot,
            boot=self.boot,
            local_ip=self.local_ip,
            name=self.name,
            device_type=self.device_type,
        )


def parse_hw_id(text: str | None) -> str | None:
    """Read a hardware id as phones and people write it.

    Args:
        text: `00-90-33-3d-12-34`, `00:90:33:3D:12:34`, `0090333d1234`.

    Returns:
        12 lower-case hex digits, or None when it is no hardware id (all zeros and all ones are
        none either).

    Source: docs/update-client.md, placeholder `#m`.
    """
    hw_id = _SEPARATORS.sub("", text or "").lower()
    return hw_id if _HW_ID.fullmatch(hw_id) and hw_id not in _NOBODY else None


def is_interface(text: str) -> bool:
    """Tell whether this can be the interface of an analogue phone: one short word, `TEL1`."""
    return _INTERFACE.fullmatch(text) is not None


def hw_id_at(gateway: str, interface: str) -> str:
    """Make the hardware id of the analogue phone at an interface.

    Args:
        gateway: its hardware id, 12 lower-case hex digits.
        interface: as the gateway spells it.
    """
    return f"{gateway}{_AT}{interface}"


def parse_any_hw_id(text: str | None) -> str | None:
    """Read the hardware id of any device, an analogue phone's too.

    Args:
        text: as for `parse_hw_id`; `009033460af2-TEL1`, `00-90-33-46-0a-f2-TEL1`.

    Returns:
        The hardware id as `Device` has it, or None when it is none.
    """
    hw_id = parse_hw_id(text)
    if hw_id is not None:
        return hw_id
    said, _, interface = (text or "").rpartition(_AT)
    gateway = parse_hw_id(said)
    return hw_id_at(gateway, interface) if gateway and is_interface(interface) else None


def parse_query_facts(query: Mapping[str, str]) -> Facts:
    """Read the facts that an update client appends to its URL.

    Args:
        query: parameter names in lower case → value.

    Source: docs/update-client.md, placeholders `#t`, `#h` (`IP232-30-00-af`), `#i`, and the
    parameters that the phone appends by itself.
    """
    product = query.get("type") or query.get("hwid", "").split("-")[0]
    return Facts(
        product=_fact(product),
        version=_fact(query.get("ver", "")),
        prot=_build(query.get("prot", "")),
        boot=_build(query.get("boot", "")),
        check=_build(query.get("check", "")),
        local_ip=_fact(query.get("ip") or query.get("localip", "")),
    )


def refusal_to_admit(device: Device | None, now: datetime) -> Refusal | None:
    """Tell why a domain's security token may not bring this device in, or None if it may.

    Whoever is there already needs its own token or a code, for the domain's token is known to many.

    Args:
        device: as it is now, None if it was never seen.
    """
    is_open = device is None or device.is_free(now)
    return None if is_open else Refusal.DEVICE_THERE_ALREADY


def refusal_to_assign(
    device: Device | None, domain: str, user: str, *, is_for_anyone: bool, now: datetime
) -> Refusal | None:
    """Tell why a good code may not take this device, or None if it may.

    A known device changes hands only by a code of the same user, by an administrator's or rollout
    code, or after release. An analogue phone is where its gateway is, which takes codes of its own
    domain alone: no other domain has a hold on it.

    Args:
        device: as it is now, None if it was never seen.
        domain, user: what the code stands for; nobody is no user, and so not the same one.
        is_for_anyone: the code is an administrator's or a rollout's.
    """
    if device is None or device.is_free(now):
        return None
    if device.domain != domain:
        return None if device.gateway else Refusal.DEVICE_OF_ANOTHER_DOMAIN
    if is_for_anyone or (user and device.user == user):
        return None
    return Refusal.DEVICE_OF_ANOTHER_USER


def _fact(text: str) -> str:
    return "".join(char for char in text[:MAX_FACT_LENGTH] if char.isprintable()).strip()


def is_build(text: str) -> bool:
    """Tell whether this can be a build or a serial: one short word."""
    return _BUILD.fullmatch(text) is not None


def _build(text: str) -> str:
    return text if is_build(text) else ""
