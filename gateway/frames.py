"""Frames: what a phone and Devices say to each other over the sysclient's binary websocket.

    admin   01 | message, 2 bytes | JSON
    tunnel  02 | session, 4 bytes | event, 4 bytes | data

Numbers are big-endian. Any bytes make a frame or a MalformedFrameError; a frame's own bytes are
`bytes(frame)`. Members of JSON that nobody knows are ignored, as is what stands behind an event
that has no data. It must not know who may send which frame and when, nor touch a socket.

Source: the vendor's sysclient description; docs/sysclient.md.
"""

import json
import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from enum import IntEnum
from typing import Any, ClassVar, Self, TypeVar, get_args

from chalicelib.core.devices import MAX_FACT_LENGTH, DeviceType, is_build, parse_hw_id
from chalicelib.core.errors import Fault, MalformedFrameError

MAX_FRAME_BYTES = 131_072
"""Sixteen times what phones are seen to send at once through a tunnel, 8,000 bytes."""

MAX_PAYLOAD_BYTES = 32_768
"""The JSON of an admin frame; an identify message has less than a thousand bytes."""

MAX_TEXT_LENGTH = 1_000
MAX_INTERFACES = 16

_ADMIN, _TUNNEL = 1, 2
_ADMIN_HEADER = struct.Struct(">BH")
_TUNNEL_HEADER = struct.Struct(">BII")
_LENGTH = struct.Struct(">I")
_SESSION_END = 5
_HEX = re.compile(r"(?:[0-9A-Fa-f]{2})*")
_Object = TypeVar("_Object")


class Message(IntEnum):
    """What an admin frame is about."""

    IDENTIFY = 0
    SYSCLIENT_PASSWORD = 1
    CHALLENGE = 2
    ADMIN_PASSWORD = 3
    PROVISION = 4
    PROVISION_RESULT = 5
    CONFIGURATION = 6


class Event(IntEnum):
    """What happens to the HTTP connection in a tunnel."""

    SEND = 0
    RECV = 1
    RECV_RESULT = 2
    SEND_RESULT = 3
    SHUTDOWN = 4


def _text(value: object, max_length: int = MAX_TEXT_LENGTH) -> str:
    if not isinstance(value, str):
        raise MalformedFrameError(Fault("", "a text"))
    if len(value) > max_length:
        raise MalformedFrameError(Fault("", f"at most {max_length} characters"))
    return value


def _fact(value: object) -> str:
    return _text(value, MAX_FACT_LENGTH)


def _word(value: object) -> str:
    text = _fact(value)
    if not text:
        raise MalformedFrameError(Fault("", "empty"))
    return text


def _mac(value: object) -> str:
    text = _fact(value)
    if parse_hw_id(text) is None:
        raise MalformedFrameError(Fault("", "12 hex digits"))
    return text


def _build(value: object) -> str:
    text = _text(value)
    if text and not is_build(text):
        raise MalformedFrameError(Fault("", "a build: one short word"))
    return text


def _device_type(value: object) -> str:
    if value not in get_args(DeviceType):
        raise MalformedFrameError(Fault("", f"one of {', '.join(get_args(DeviceType))}"))
    return str(value)


def _hex(value: object) -> str:
    text = _text(value)
    if not _HEX.fullmatch(text):
        raise MalformedFrameError(Fault("", "hex digits, two for each byte"))
    return text


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise MalformedFrameError(Fault("", "true or false"))
    return value


def _member(name: str, read: Callable[[object], object]) -> dict[str, object]:
    """Say how a field is named in JSON, and how its value is read from there."""
    return {"name": name, "read": read}


def _read(kind: type[_Object], value: object) -> _Object:
    """Read a JSON object, and gather everything that is wrong with it.

    Raises:
        MalformedFrameError: with every fault, by member.
    """
    if not isinstance(value, dict):
        raise MalformedFrameError(Fault("", "an object"))
    read: dict[str, object] = {}
    faults: list[Fault] = []
    for each in fields(kind):  # type: ignore[arg-type] # every kind is a dataclass
        name = each.metadata["name"]
        if value.get(name) is not None:
            try:
                read[each.name] = each.metadata["read"](value[name])
            except MalformedFrameError as error:
                faults += _within(name, error)
        elif each.default is MISSING:
            faults.append(Fault(name, "missing"))
    if faults:
        raise MalformedFrameError(*faults)
    return kind(**read)


def _within(name: str, error: MalformedFrameError) -> list[Fault]:
    """Say of faults that they are further in."""
    return [
        Fault(f"{name}.{fault.field}" if fault.field else name, fault.message)
        for fault in error.faults
    ]


def _members(said: object) -> dict[str, Any]:
    """Write the members of a JSON object, without those that would say nothing."""
    members: dict[str, Any] = {}
    for each in fields(said):  # type: ignore[arg-type] # everything that is said is a dataclass
        value = getattr(said, each.name)
        if value != each.default:
            members[each.metadata["name"]] = value
    return members


@dataclass(frozen=True)
class Platform:
    """What kind of device it is.

    Args:
        type: `VA`, `GW`, `PHONE`, `DECT` or `APP_PLATFORM`.
        fxs: it has interfaces for analogue phones.
    """

    type: str = field(metadata=_member("type", _device_type))
    fxs: bool = field(default=False, metadata=_member("fxs", _flag))


@dataclass(frozen=True)
class EthIf:
    """An Ethernet interface of a device, and its addresses; empty where it has none.

    Args:
        name: `ETH0`.
    """

    name: str = field(metadata=_member("if", _fact))
    ipv4: str = field(default="", metadata=_member("ipv4", _fact))
    ipv6: str = field(default="", metadata=_member("ipv6", _fact))


def _platform(value: object) -> Platform:
    return _read(Platform, value)


def _eth_ifs(value: object) -> tuple[EthIf, ...]:
    if not isinstance(value, list) or len(value) > MAX_INTERFACES:
        raise MalformedFrameError(Fault("", f"a list of at most {MAX_INTERFACES}"))
    read: list[EthIf] = []
    faults: list[Fault] = []
    for number, each in enumerate(value):
        try:
            read.append(_read(EthIf, each))
        except MalformedFrameError as error:
            faults += _within(str(number), error)
    if faults:
        raise MalformedFrameError(*faults)
    return tuple(read)


class AdminFrame:
    """What registers a phone, and keeps it registered; each kind has its members of JSON."""

    message: ClassVar[Message]

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Self:
        """Make it of its JSON.

        Raises:
            MalformedFrameError: with every fault, by member.
        """
        return _read(cls, told)

    def members(self) -> dict[str, Any]:
        """Tell its JSON, without the members that would say nothing."""
        return _members(self)

    def __bytes__(self) -> bytes:
        return _ADMIN_HEADER.pack(_ADMIN, self.message) + _written(self.members())


@dataclass(frozen=True)
class Identify(AdminFrame):
    """The phone says who it is: once it is connected, and again as the answer to a challenge.

    Args:
        id: its hardware id as it spells it, for the digest covers the spelling; see `hw_id`.
        product, version: `IP222`, `13r2 dvl [13.4250/131286/1300]`.
        name: as it is set on the phone itself.
        fw_build, bc_build: digits of the running firmware and boot code.
        major: its release, `13r2`.
        fw, bc: file names of firmware and boot code.
        provisioning_code: as it was typed.
        digest: 64 hex digits, core/sysclient_login.py.
        mini: it runs its emergency firmware.
        pbx_active: it is a PBX, too.
        other: it is of another vendor, has no pages of its own and gets configuration items.
    """

    message: ClassVar[Message] = Message.IDENTIFY

    id: str = field(metadata=_member("id", _mac))
    product: str = field(metadata=_member("product", _fact))
    version: str = field(metadata=_member("version", _fact))
    platform: Platform = field(metadata=_member("platform", _platform))
    name: str = field(default="", metadata=_member("name", _fact))
    fw_build: str = field(default="", metadata=_member("fwBuild", _build))
    bc_build: str = field(default="", metadata=_member("bcBuild", _build))
    major: str = field(default="", metadata=_member("major", _fact))
    fw: str = field(default="", metadata=_member("fw", _fact))
    bc: str = field(default="", metadata=_member("bc", _fact))
    provisioning_code: str = field(
        default="", repr=False, metadata=_member("provisioningCode", _fact)
    )
    digest: str = field(default="", repr=False, metadata=_member("digest", _fact))
    mini: bool = field(default=False, metadata=_member("mini", _flag))
    pbx_active: bool = field(default=False, metadata=_member("pbxActive", _flag))
    other: bool = field(default=False, metadata=_member("other", _flag))
    eth_ifs: tuple[EthIf, ...] = field(default=(), metadata=_member("ethIfs", _eth_ifs))

    @property
    def hw_id(self) -> str:
        """Its hardware id: 12 lower-case hex digits, however it spells it."""
        return parse_hw_id(self.id) or ""


@dataclass(frozen=True)
class SysclientPassword(AdminFrame):
    """Devices tells a phone that was added to a domain how to prove that it is there."""

    message: ClassVar[Message] = Message.SYSCLIENT_PASSWORD

    password: str = field(repr=False, metadata=_member("password", _word))


@dataclass(frozen=True)
class Challenge(AdminFrame):
    """Devices asks a phone that is in a domain to identify again, with a digest of this."""

    message: ClassVar[Message] = Message.CHALLENGE

    challenge: str = field(metadata=_member("challenge", _word))


@dataclass(frozen=True)
class AdminPassword(AdminFrame):
    """Devices sets the administrator's password of a phone, if its domain wants that.

    Args:
        seed, pwd: what it is encrypted with, and hex digits of it; core/sysclient_login.py.
    """

    message: ClassVar[Message] = Message.ADMIN_PASSWORD

    seed: str = field(repr=False, metadata=_member("seed", _word))
    pwd: str = field(repr=False, metadata=_member("pwd", _hex))


@dataclass(frozen=True)
class Provision(AdminFrame):
    """A gateway says that a code was typed on an analogue phone.

    Args:
        id: the interface that the phone is at, `TEL1`.
        code: as it was typed.
    """

    message: ClassVar[Message] = Message.PROVISION

    id: str = field(metadata=_member("id", _word))
    code: str = field(repr=False, metadata=_member("code", _word))


@dataclass(frozen=True)
class ProvisionResult(AdminFrame):
    """Devices answers: empty, or what was wrong."""

    message: ClassVar[Message] = Message.PROVISION_RESULT

    error: str = field(default="", metadata=_member("error", _text))


@dataclass(frozen=True)
class _Mark:
    last: bool = field(default=False, metadata=_member("last", _flag))


@dataclass(frozen=True)
class Configuration(AdminFrame):
    """Devices gives a device of another vendor an item of its configuration.

    Args:
        item: a JSON object without `last`; the vendor does not say what is in it.
        last: no more items are to come for now.
    """

    message: ClassVar[Message] = Message.CONFIGURATION

    item: Mapping[str, Any] = field(repr=False)
    last: bool = False

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Self:
        """Make it of its JSON, in which `last` stands among the members of the item.

        Raises:
            MalformedFrameError: `last` is neither true nor false.
        """
        item = {name: value for name, value in told.items() if name != "last"}
        return cls(item, _read(_Mark, told).last)

    def members(self) -> dict[str, Any]:
        """Tell its JSON."""
        return {**self.item, **_members(_Mark(self.last))}


@dataclass(frozen=True)
class TunnelFrame:
    """A piece of an HTTP connection to the phone's own web server.

    Args:
        session_id: which of the phone's connections, 32 bits; Devices chooses it.
    """

    event: ClassVar[Event]

    session_id: int

    def __bytes__(self) -> bytes:
        return _TUNNEL_HEADER.pack(_TUNNEL, self.session_id, self.event)


@dataclass(frozen=True)
class _Carrying(TunnelFrame):
    data: bytes = field(repr=False)

    def __bytes__(self) -> bytes:
        return super().__bytes__() + self.data


@dataclass(frozen=True)
class Send(_Carrying):
    """Devices sends a piece of a request; a session that is new begins with it."""

    event: ClassVar[Event] = Event.SEND


@dataclass(frozen=True)
class Recv(TunnelFrame):
    """Devices asks for a piece of the answer.

    Args:
        length: how many bytes at most; the vendor's own Devices says 0, and takes what comes.
    """

    event: ClassVar[Event] = Event.RECV

    length: int = 0

    def __bytes__(self) -> bytes:
        return super().__bytes__() + _LENGTH.pack(self.length)


@dataclass(frozen=True)
class RecvResult(_Carrying):
    """The phone brings a piece of the answer."""

    event: ClassVar[Event] = Event.RECV_RESULT


@dataclass(frozen=True)
class SendResult(TunnelFrame):
    """The phone has taken a piece of a request, and is ready for more."""

    event: ClassVar[Event] = Event.SEND_RESULT


@dataclass(frozen=True)
class Shutdown(TunnelFrame):
    """Devices has done with a session; and the phone, which says so with the same."""

    event: ClassVar[Event] = Event.SHUTDOWN


Frame = AdminFrame | TunnelFrame

_ADMIN_KINDS: Mapping[int, type[AdminFrame]] = {
    kind.message: kind
    for kind in (
        Identify,
        SysclientPassword,
        Challenge,
        AdminPassword,
        Provision,
        ProvisionResult,
        Configuration,
    )
}


def parse(received: bytes) -> Frame:
    """Read a binary message.

    Raises:
        MalformedFrameError: it is no frame, or too large; says what is wrong and where, and
            repeats nothing of it.
    """
    if len(received) > MAX_FRAME_BYTES:
        raise MalformedFrameError(Fault("frame", f"at most {MAX_FRAME_BYTES} bytes"))
    kind = received[0] if received else None
    if kind == _ADMIN:
        return _admin(received)
    if kind == _TUNNEL:
        return _tunnel(received)
    raise MalformedFrameError(Fault("frame", "neither an admin nor a tunnel frame"))


def _admin(received: bytes) -> AdminFrame:
    if len(received) < _ADMIN_HEADER.size:
        raise MalformedFrameError(Fault("message", "cut off"))
    _, message = _ADMIN_HEADER.unpack_from(received)
    if message not in _ADMIN_KINDS:
        raise MalformedFrameError(Fault("message", "unknown"))
    kind = _ADMIN_KINDS[message]
    try:
        return kind.of(_json(received[_ADMIN_HEADER.size :]))
    except MalformedFrameError as error:
        raise MalformedFrameError(*_within(kind.message.name.lower(), error)) from None


def _tunnel(received: bytes) -> TunnelFrame:
    if len(received) < _TUNNEL_HEADER.size:
        is_in_session = len(received) < _SESSION_END
        raise MalformedFrameError(Fault("session" if is_in_session else "event", "cut off"))
    _, session_id, event = _TUNNEL_HEADER.unpack_from(received)
    data = received[_TUNNEL_HEADER.size :]
    match event:
        case Event.SEND:
            return Send(session_id, data)
        case Event.RECV if len(data) < _LENGTH.size:
            raise MalformedFrameError(Fault("recv.length", "cut off"))
        case Event.RECV:
            return Recv(session_id, _LENGTH.unpack_from(data)[0])
        case Event.RECV_RESULT:
            return RecvResult(session_id, data)
        case Event.SEND_RESULT:
            return SendResult(session_id)
        case Event.SHUTDOWN:
            return Shutdown(session_id)
    raise MalformedFrameError(Fault("event", "unknown"))


def _json(payload: bytes) -> dict[str, Any]:
    """Read a JSON object, no name of which stands twice, and which can be written again.

    Raises:
        MalformedFrameError: it is none.
    """
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise MalformedFrameError(Fault("", f"at most {MAX_PAYLOAD_BYTES} bytes"))
    try:
        told = json.loads(payload.decode(), object_pairs_hook=_object)
        # fails for what Python reads and JSON has no word for: NaN, half a character
        is_too_long = len(_written(told)) > MAX_PAYLOAD_BYTES  # 1e15 is written with 18 digits
    except UnicodeError:
        raise MalformedFrameError(Fault("", "not UTF-8")) from None
    except (ValueError, RecursionError):
        raise MalformedFrameError(Fault("", "no JSON")) from None
    if not isinstance(told, dict):
        raise MalformedFrameError(Fault("", "no JSON object"))
    if is_too_long:
        raise MalformedFrameError(Fault("", f"at most {MAX_PAYLOAD_BYTES} bytes once written"))
    return told


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise MalformedFrameError(Fault("", "a member stands twice"))
    return members


def _written(value: object) -> bytes:
    text = json.dumps(
        value, ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=_members
    )
    return text.encode()
