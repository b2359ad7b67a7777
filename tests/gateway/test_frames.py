import json
import traceback
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chalicelib.core import sysclient_login
from chalicelib.core.errors import Fault, InvalidRequestError, MalformedFrameError
from gateway import frames
from gateway.frames import Event, Message

VECTORS = json.loads((Path(__file__).parents[1] / "vectors.json").read_text())
(PHONE,) = VECTORS["sysclient_digest"]
SECRET = "7iICN04agQq38j!hmbN7P5LLI1YePz1w"
GET = b"GET /!config%20write HTTP/1.1\r\nHost: phone\r\n\r\n"

EXAMPLE = rb"""{
  "id": "009033460af2", "product": "IP222", "version": "13r2 dvl [13.4250\/131286\/1300]",
  "fwBuild": "134250", "bcBuild": "131286", "major": "13r2", "fw": "ip222.bin",
  "bc": "boot222.bin", "mini": false, "platform": {"type": "PHONE", "colour": "black"},
  "digest": "f3d37205d8eb93a4ccdd236b5a957c98d629d925aa58fe03b770035853c12984",
  "ethIfs": [{"if": "ETH0", "ipv4": "172.16.4.141", "ipv6": "2002:91fd:9d07:0:290:33ff:fe46:af2",
    "mtu": 1500}], "uptime": {"days": 3}, "name": null
}"""
"""The vendor's example, with members that nobody knows and one that is nothing."""

KNOWN: list[tuple[frames.Frame, bytes]] = [
    (
        frames.Identify(
            "009033460af2", "IP222", "13r2", frames.Platform("PHONE"), provisioning_code="1" * 12
        ),
        b'\x01\x00\x00{"id":"009033460af2","product":"IP222","version":"13r2",'
        b'"platform":{"type":"PHONE"},"provisioningCode":"111111111111"}',
    ),
    (
        frames.Identify(
            *("f1-90-33-48-0a-f9", "x", "", frames.Platform("GW", fxs=True), "n", "1", "2", "13r2"),
            *("f", "b", "p", "d", True, True, True, (frames.EthIf("ETH0", "1", "::1"),)),
        ),
        b'\x01\x00\x00{"id":"f1-90-33-48-0a-f9","product":"x","version":"",'
        b'"platform":{"type":"GW","fxs":true},"name":"n","fwBuild":"1","bcBuild":"2",'
        b'"major":"13r2","fw":"f","bc":"b","provisioningCode":"p","digest":"d","mini":true,'
        b'"pbxActive":true,"other":true,"ethIfs":[{"if":"ETH0","ipv4":"1","ipv6":"::1"}]}',
    ),
    (frames.SysclientPassword("pwd_!"), b'\x01\x00\x01{"password":"pwd_!"}'),
    (frames.Challenge("1446931255"), b'\x01\x00\x02{"challenge":"1446931255"}'),
    (frames.AdminPassword("seed", "22f91ebb"), b'\x01\x00\x03{"seed":"seed","pwd":"22f91ebb"}'),
    (frames.Provision("TEL1", "1" * 12), b'\x01\x00\x04{"id":"TEL1","code":"111111111111"}'),
    (frames.ProvisionResult(), b"\x01\x00\x05{}"),
    (frames.ProvisionResult("größer"), b'\x01\x00\x05{"error":"gr\xc3\xb6\xc3\x9fer"}'),
    (frames.Configuration({"a": [1, None]}), b'\x01\x00\x06{"a":[1,null]}'),
    (frames.Configuration({}, last=True), b'\x01\x00\x06{"last":true}'),
    (frames.Send(13, GET), bytes.fromhex("02 0000000d 00000000") + GET),
    (frames.Recv(13), bytes.fromhex("02 0000000d 00000001 00000000")),
    (frames.Recv(2**32 - 1, 8_000), bytes.fromhex("02 ffffffff 00000001 00001f40")),
    (frames.RecvResult(13, b"HTTP/1.1"), bytes.fromhex("02 0000000d 00000002") + b"HTTP/1.1"),
    (frames.RecvResult(13, b""), bytes.fromhex("02 0000000d 00000002")),
    (frames.SendResult(13), bytes.fromhex("02 0000000d 00000003")),
    (frames.Shutdown(0), bytes.fromhex("02 00000000 00000004")),
]
"""Those of session 13 were seen on a real wire, the other bytes follow the vendor's tables."""

CHARACTERS = st.characters(exclude_categories=["Cs"])
TEXTS = st.text(CHARACTERS, max_size=20) | st.sampled_from(["größe", '"', "\\/", "\0", "☎" * 200])
WORDS = TEXTS.filter(bool)
FLAGS = st.booleans()
BUILDS = st.from_regex(r"[0-9A-Za-z._-]{0,32}", fullmatch=True)
MACS = st.builds(
    lambda number, separator, has_capitals: separator.join(
        f"{byte:02X}" if has_capitals else f"{byte:02x}" for byte in number.to_bytes(6, "big")
    ),
    st.integers(1, 2**48 - 2),
    st.sampled_from(["", "-", ":"]),
    FLAGS,
)
VALUES = st.recursive(
    st.none() | FLAGS | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
ITEMS = st.dictionaries(TEXTS.filter(lambda name: name != "last"), VALUES, max_size=4)
PLATFORMS = st.builds(
    frames.Platform, st.sampled_from(["VA", "GW", "PHONE", "DECT", "APP_PLATFORM"]), FLAGS
)
INTERFACES = st.lists(st.builds(frames.EthIf, WORDS, TEXTS, TEXTS), max_size=3).map(tuple)
SESSIONS = st.integers(0, 2**32 - 1)
KINDS: dict[type[frames.Frame], st.SearchStrategy[frames.Frame]] = {
    frames.Identify: st.builds(
        frames.Identify,
        *(MACS, TEXTS, TEXTS, PLATFORMS, TEXTS, BUILDS, BUILDS, TEXTS, TEXTS, TEXTS, TEXTS),
        *(TEXTS, FLAGS, FLAGS, FLAGS, INTERFACES),
    ),
    frames.SysclientPassword: st.builds(frames.SysclientPassword, WORDS),
    frames.Challenge: st.builds(frames.Challenge, WORDS),
    frames.AdminPassword: st.builds(
        frames.AdminPassword, WORDS, st.binary(max_size=40).map(bytes.hex)
    ),
    frames.Provision: st.builds(frames.Provision, WORDS, WORDS),
    frames.ProvisionResult: st.builds(frames.ProvisionResult, TEXTS),
    frames.Configuration: st.builds(frames.Configuration, ITEMS, FLAGS),
    frames.Send: st.builds(frames.Send, SESSIONS, st.binary()),
    frames.Recv: st.builds(frames.Recv, SESSIONS, SESSIONS),
    frames.RecvResult: st.builds(frames.RecvResult, SESSIONS, st.binary()),
    frames.SendResult: st.builds(frames.SendResult, SESSIONS),
    frames.Shutdown: st.builds(frames.Shutdown, SESSIONS),
}
ANY_FRAME = st.one_of(*KINDS.values())


def admin(message: int, payload: bytes | str | dict[str, Any]) -> bytes:
    """Put JSON behind the header of an admin frame."""
    text = json.dumps(payload) if isinstance(payload, dict) else payload
    own = text.encode() if isinstance(text, str) else text
    return b"\x01" + message.to_bytes(2, "big") + own


def tunnel(event: int, data: bytes = b"") -> bytes:
    """Put data behind the header of a tunnel frame."""
    return b"\x02\x00\x00\x00\x0d" + event.to_bytes(4, "big") + data


def identify(**members: object) -> bytes:
    """Write an identify message, with members of one's own; None takes one away."""
    usual = {"id": "009033460af2", "product": "IP222", "version": "13r2"}
    every = {**usual, "platform": {"type": "PHONE"}, **members}
    told = {name: value for name, value in every.items() if value is not None}
    return admin(Message.IDENTIFY, told)


def refused(received: bytes) -> list[tuple[str, str]]:
    """Tell where and why something is no frame."""
    with pytest.raises(MalformedFrameError) as caught:
        frames.parse(received)
    assert all(fault.field and fault.message for fault in caught.value.faults)
    return [(fault.field, fault.message) for fault in caught.value.faults]


@pytest.mark.parametrize(("frame", "wire"), KNOWN, ids=lambda value: type(value).__name__)
def test_frames_are_the_vendors_byte_by_byte(frame: frames.Frame, wire: bytes) -> None:
    """Written and read."""
    assert bytes(frame) == wire
    assert frames.parse(wire) == frame


def test_every_message_and_every_event_is_there() -> None:
    """With its number, a known example, and its own place among the round trips."""
    kinds = list(KINDS)
    of_admin = [kind for kind in kinds if issubclass(kind, frames.AdminFrame)]
    of_tunnel = [kind for kind in kinds if issubclass(kind, frames.TunnelFrame)]
    assert [kind.message for kind in of_admin] == list(Message) == list(range(7))
    assert [kind.event for kind in of_tunnel] == list(Event) == list(range(5))
    assert {type(frame) for frame, _ in KNOWN} == set(kinds)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@given(st.data())
def test_a_frame_comes_back_as_it_was_sent(kind: type[frames.Frame], data: st.DataObject) -> None:
    """Each kind, whatever is in it, and so do its bytes."""
    frame = data.draw(KINDS[kind])
    assert type(frame) is kind
    again = frames.parse(bytes(frame))
    assert again == frame
    assert bytes(again) == bytes(frame)


def test_the_vendors_example_of_an_identify_message_is_read() -> None:
    """Members that nobody knows are ignored, and null says nothing."""
    read = frames.parse(admin(Message.IDENTIFY, EXAMPLE))
    assert read == frames.Identify(
        id="009033460af2",
        product="IP222",
        version="13r2 dvl [13.4250/131286/1300]",
        platform=frames.Platform("PHONE"),
        fw_build="134250",
        bc_build="131286",
        major="13r2",
        fw="ip222.bin",
        bc="boot222.bin",
        digest="f3d37205d8eb93a4ccdd236b5a957c98d629d925aa58fe03b770035853c12984",
        eth_ifs=(frames.EthIf("ETH0", "172.16.4.141", "2002:91fd:9d07:0:290:33ff:fe46:af2"),),
    )


def test_a_phones_digest_covers_what_its_frame_says() -> None:
    """Not how JSON escapes it: a phone writes the slashes of its version with backslashes."""
    told = {name: PHONE[name] for name in ("id", "product", "version", "digest")}
    text = json.dumps({**told, "platform": {"type": "PHONE"}}).replace("/", "\\/")
    read = frames.parse(admin(Message.IDENTIFY, text))
    assert isinstance(read, frames.Identify)
    challenge, password = PHONE["challenge"], PHONE["password"]
    expected = sysclient_login.digest(read.id, read.product, read.version, challenge, password)
    assert expected == read.digest == PHONE["digest"]


def test_what_is_empty_says_nothing() -> None:
    """As if it were not there."""
    empty = {"name": "", "fwBuild": "", "bcBuild": "", "digest": "", "mini": False, "ethIfs": []}
    assert frames.parse(identify(**empty)) == frames.parse(identify())


@given(MACS)
def test_a_hardware_id_is_one_however_it_is_spelt(mac: str) -> None:
    """The frame keeps the spelling, which a digest covers."""
    read = frames.parse(identify(id=mac))
    assert isinstance(read, frames.Identify)
    assert read.id == mac
    assert read.hw_id == mac.lower().replace("-", "").replace(":", "")


@given(st.binary())
@example(b"")
@example(b"\x00")
@example(b"\x01\x00\x00" + b"[" * 30_000)
@example(b'\x01\x00\x06{"a":' + b"[" * 30_000)
@example(b'\x01\x00\x06{"a":' + b"9" * 30_000 + b"}")
def test_any_bytes_are_a_frame_or_none(received: bytes) -> None:
    """One error and no other, also behind each of the headers that are known."""
    starts = [b"", *(admin(message, b"") for message in Message), *map(tunnel, Event)]
    for start in starts:
        try:
            frame = frames.parse(start + received)
        except MalformedFrameError:
            continue
        assert frames.parse(bytes(frame)) == frame


@given(ANY_FRAME, st.data())
def test_a_damaged_frame_is_a_frame_or_none(frame: frames.Frame, data: st.DataObject) -> None:
    """Cut off, or with a byte lost, changed or added anywhere."""
    wire = bytes(frame)
    at = data.draw(st.integers(0, len(wire) - 1))
    byte = data.draw(st.binary(min_size=1, max_size=1))
    for damaged in (
        wire[:at],
        wire[:at] + wire[at + 1 :],
        wire[:at] + byte + wire[at + 1 :],
        wire[:at] + byte + wire[at:],
    ):
        try:
            again = frames.parse(damaged)
        except MalformedFrameError:
            continue
        assert frames.parse(bytes(again)) == again


@pytest.mark.parametrize(
    ("received", "where", "why"),
    [
        (b"", "frame", "neither an admin nor a tunnel frame"),
        (b"\x00" + GET, "frame", "neither an admin nor a tunnel frame"),
        (b'{"mt":"AppChallenge"}', "frame", "neither an admin nor a tunnel frame"),
        (b"\x01", "message", "cut off"),
        (b"\x01\x00", "message", "cut off"),
        (admin(7, "{}"), "message", "unknown"),
        (admin(0x0100, "{}"), "message", "unknown"),
        (admin(0xFFFF, "{}"), "message", "unknown"),
        (b"\x02", "session", "cut off"),
        (b"\x02\x00\x00\x00", "session", "cut off"),
        (b"\x02\x00\x00\x00\x0d", "event", "cut off"),
        (b"\x02\x00\x00\x00\x0d\x00\x00\x00", "event", "cut off"),
        (tunnel(5), "event", "unknown"),
        (tunnel(0x01000000), "event", "unknown"),
        (tunnel(Event.RECV), "recv.length", "cut off"),
        (tunnel(Event.RECV, b"\x00\x00\x00"), "recv.length", "cut off"),
        (admin(Message.IDENTIFY, ""), "identify", "no JSON"),
        (admin(Message.IDENTIFY, "{}\0"), "identify", "no JSON"),
        (admin(Message.CHALLENGE, "{'challenge':'1'}"), "challenge", "no JSON"),
        (admin(Message.CONFIGURATION, '{"a":NaN}'), "configuration", "no JSON"),
        (admin(Message.CONFIGURATION, '{"a":1e999}'), "configuration", "no JSON"),
        (admin(Message.CONFIGURATION, "[" * 30_000), "configuration", "no JSON"),
        (admin(Message.PROVISION_RESULT, "[]"), "provision_result", "no JSON object"),
        (admin(Message.PROVISION_RESULT, "null"), "provision_result", "no JSON object"),
        (admin(Message.PROVISION_RESULT, b'{"error":"\xff"}'), "provision_result", "not UTF-8"),
        (admin(Message.PROVISION_RESULT, b"\xff\xfe{\0}\0"), "provision_result", "not UTF-8"),
        (
            admin(Message.PROVISION_RESULT, r'{"error":"\ud800"}'),
            "provision_result",
            "not UTF-8",
        ),
        (admin(Message.PROVISION_RESULT, {"error": 5}), "provision_result.error", "a text"),
        (
            admin(Message.PROVISION_RESULT, {"error": "x" * 1_001}),
            "provision_result.error",
            "at most 1000 characters",
        ),
        (
            admin(Message.ADMIN_PASSWORD, {"seed": "s", "pwd": "22f"}),
            "admin_password.pwd",
            "hex digits, two for each byte",
        ),
        (admin(Message.PROVISION, {"id": "", "code": "1"}), "provision.id", "empty"),
        (admin(Message.CONFIGURATION, {"last": 1}), "configuration.last", "true or false"),
        (identify(id="IP222-00-00-af"), "identify.id", "12 hex digits"),
        (identify(id="000000000000"), "identify.id", "12 hex digits"),
        (identify(id=""), "identify.id", "12 hex digits"),
        (identify(id=9033), "identify.id", "a text"),
        (identify(product=None), "identify.product", "missing"),
        (identify(product="x" * 201), "identify.product", "at most 200 characters"),
        (identify(platform="PHONE"), "identify.platform", "an object"),
        (
            identify(platform={"type": []}),
            "identify.platform.type",
            "one of VA, GW, PHONE, DECT, APP_PLATFORM",
        ),
        (
            identify(platform={"type": "PHONE", "fxs": "yes"}),
            "identify.platform.fxs",
            "true or false",
        ),
        (identify(fwBuild="134250 x"), "identify.fwBuild", "a build: one short word"),
        (identify(mini=0), "identify.mini", "true or false"),
        (identify(ethIfs={}), "identify.ethIfs", "a list of at most 16"),
        (identify(ethIfs=[{"if": "x"}] * 17), "identify.ethIfs", "a list of at most 16"),
        (identify(ethIfs=[{"if": "x"}, {}]), "identify.ethIfs.1.if", "missing"),
    ],
    ids=lambda value: value[:30].decode("ascii", "replace") if isinstance(value, bytes) else None,
)
def test_what_is_no_frame_says_where_and_why(received: bytes, where: str, why: str) -> None:
    """By the part of the header, or by the member as the phone spelt it."""
    assert refused(received) == [(where, why)]


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (Message.IDENTIFY, '{"id":"009033460af2","id":"009033460af3"}'),
        (Message.IDENTIFY, '{"id":"009033460af2","\\u0069d":"009033460af2"}'),
        (Message.IDENTIFY, '{"platform":{"type":"PHONE","type":"VA"}}'),
        (Message.PROVISION_RESULT, '{"unknown":[{"a":1,"b":2,"a":1}]}'),
        (Message.CONFIGURATION, '{"last":false,"last":true}'),
    ],
)
def test_a_member_that_stands_twice_is_refused(message: Message, text: str) -> None:
    """At any depth, known or not: two readers of it could understand two things."""
    assert refused(admin(message, text)) == [(message.name.lower(), "a member stands twice")]


def test_every_fault_of_a_frame_is_told_at_once() -> None:
    """In the order of the members."""
    received = identify(id="x", version=None, platform={"fxs": 1}, mini="no")
    assert [where for where, _ in refused(received)] == [
        "identify.id",
        "identify.version",
        "identify.platform.type",
        "identify.platform.fxs",
        "identify.mini",
    ]
    with pytest.raises(InvalidRequestError, match=r"identify\.id: 12 hex digits; identify\.ver"):
        frames.parse(received)


@pytest.mark.parametrize("start", [b"\x01\x00\x00", b"\x01\x00\x06{", b"\x02\x00", b"\x00"])
def test_ten_megabytes_are_no_frame(start: bytes) -> None:
    """Whatever they begin with."""
    received = start.ljust(10_000_000, b" ")
    assert refused(received) == [("frame", f"at most {frames.MAX_FRAME_BYTES} bytes")]


def test_the_largest_frames_are_read() -> None:
    """And those with a byte more are not."""
    send = tunnel(Event.SEND, bytes(frames.MAX_FRAME_BYTES - 9))
    assert bytes(frames.parse(send)) == send
    assert refused(send + b"\0") == [("frame", f"at most {frames.MAX_FRAME_BYTES} bytes")]
    result = admin(Message.PROVISION_RESULT, "{}".ljust(frames.MAX_PAYLOAD_BYTES))
    assert frames.parse(result) == frames.ProvisionResult()
    fault = ("provision_result", f"at most {frames.MAX_PAYLOAD_BYTES} bytes")
    assert refused(result + b" ") == [fault]


def test_a_frame_that_could_not_be_written_again_is_none() -> None:
    """Some numbers are shorter as they came than as they are written."""
    numbers = ",".join(["1e15"] * 6_000)
    fault = ("configuration", f"at most {frames.MAX_PAYLOAD_BYTES} bytes once written")
    assert refused(admin(Message.CONFIGURATION, f'{{"a":[{numbers}]}}')) == [fault]


@given(st.binary(min_size=1, max_size=20))
def test_what_stands_behind_a_tunnel_frame_without_data_is_ignored(more: bytes) -> None:
    """As members of JSON are that nobody knows."""
    assert frames.parse(tunnel(Event.RECV, b"\x00\x00\x00\x09" + more)) == frames.Recv(13, 9)
    assert frames.parse(tunnel(Event.SEND_RESULT, more)) == frames.SendResult(13)
    assert frames.parse(tunnel(Event.SHUTDOWN, more)) == frames.Shutdown(13)


@pytest.mark.parametrize(
    "received",
    [
        identify(id=SECRET, digest=SECRET, provisioningCode=SECRET),
        identify(digest=[SECRET]),
        identify(provisioningCode=SECRET * 10),
        identify(platform={"type": SECRET}),
        admin(Message.SYSCLIENT_PASSWORD, f'{{"password":"{SECRET}"'),
        admin(Message.SYSCLIENT_PASSWORD, f'{{"{SECRET}":1,"{SECRET}":2}}'),
        admin(Message.ADMIN_PASSWORD, {"seed": SECRET, "pwd": SECRET}),
        admin(Message.PROVISION, {"code": {"code": SECRET}}),
        admin(Message.PROVISION, SECRET.encode() + b"\xff"),
        tunnel(9, SECRET.encode()),
        SECRET.encode(),
    ],
)
def test_a_refusal_repeats_nothing_of_the_frame(received: bytes) -> None:
    """Neither its text nor what a log would write of it."""
    with pytest.raises(MalformedFrameError) as caught:
        frames.parse(received)
    error = caught.value
    told = "".join(traceback.format_exception(None, error, None))
    assert SECRET not in f"{told}{error}{error!r}{error.args}{error.faults}"
    assert all(isinstance(fault, Fault) for fault in error.faults)


@pytest.mark.parametrize(
    "frame",
    [
        frames.Identify(
            "009033460af2",
            *("IP222", "13r2", frames.Platform("PHONE")),
            provisioning_code=SECRET,
            digest=SECRET,
        ),
        frames.SysclientPassword(SECRET),
        frames.AdminPassword(SECRET, SECRET),
        frames.Provision("TEL1", SECRET),
        frames.Configuration({"password": SECRET}),
        frames.Send(1, SECRET.encode()),
        frames.RecvResult(1, SECRET.encode()),
    ],
)
def test_a_frame_does_not_show_its_secrets(frame: frames.Frame) -> None:
    """To whoever prints it; its bytes hold them."""
    assert SECRET not in repr(frame)
    assert SECRET.encode() in bytes(frame)
