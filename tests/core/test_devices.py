from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.core.devices import (
    Device,
    Facts,
    State,
    parse_hw_id,
    parse_query_facts,
    refusal_to_assign,
)
from chalicelib.core.errors import Refusal

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
OWNED = Device(
    "009033000001",
    State.CURRENT,
    domain="example.com",
    user="user1",
    registered_at=NOW - timedelta(days=30),
    token_used_at=NOW - timedelta(days=30),
)
NEVER_BACK = Device(
    "009033000001",
    State.REGISTERED,
    domain="example.com",
    user="user1",
    registered_at=NOW - timedelta(days=1),
)
JUST_REGISTERED = Device(
    "009033000001",
    State.REGISTERED,
    domain="example.com",
    user="user1",
    registered_at=NOW - timedelta(days=1) + timedelta(seconds=1),
)


@pytest.mark.parametrize(
    "text", ["00-90-33-3d-12-34", "00:90:33:3D:12:34", "0090333D1234", " 0090.333d.1234 "]
)
def test_a_hardware_id_is_read_as_people_write_it(text: str) -> None:
    """Separators and case do not matter."""
    assert parse_hw_id(text) == "0090333d1234"


@pytest.mark.parametrize(
    "text", [None, "", "009033", "0090333d12345", "0090333d123g", "0" * 12, "ff-ff-ff-ff-ff-ff"]
)
def test_what_is_no_hardware_id_is_none(text: str | None) -> None:
    """Too short, too long, not hex, nobody's and everybody's address are none."""
    assert parse_hw_id(text) is None


@given(st.text(max_size=30))
def test_any_text_gives_twelve_hex_digits_or_none(text: str) -> None:
    """Whatever comes in, what goes on is a key we can use."""
    hw_id = parse_hw_id(text)
    assert hw_id is None or (len(hw_id) == 12 and set(hw_id) <= set("0123456789abcdef"))


def test_facts_are_read_from_what_an_update_client_appends() -> None:
    """Product from type or hardware version, builds as they are, addresses by both names."""
    query = {"hwid": "IP232-30-00-af", "ver": "13r1", "prot": "134250", "check": "7"}
    query["localip"] = "10.0.0.7"
    assert parse_query_facts(query) == Facts(
        product="IP232", version="13r1", prot="134250", check="7", local_ip="10.0.0.7"
    )
    assert parse_query_facts({"type": "IP112", "hwid": "x-1", "ip": "::1"}).product == "IP112"


@given(st.dictionaries(st.sampled_from(["type", "ver", "prot", "boot", "check", "ip"]), st.text()))
def test_facts_are_short_and_printable(query: dict[str, str]) -> None:
    """No control character and no novel gets into an item."""
    facts = parse_query_facts(query)
    for value in (
        facts.product,
        facts.version,
        facts.prot,
        facts.boot,
        facts.check,
        facts.local_ip,
    ):
        assert value.isprintable()
        assert len(value) <= 200


@pytest.mark.parametrize(
    ("device", "domain", "user", "is_for_anyone", "refusal"),
    [
        (None, "example.com", "user1", False, None),
        (OWNED, "example.com", "user1", False, None),
        (OWNED, "example.com", "user2", False, Refusal.DEVICE_OF_ANOTHER_USER),
        (OWNED, "example.com", "user2", True, None),
        (OWNED, "other.example", "user1", False, Refusal.DEVICE_OF_ANOTHER_DOMAIN),
        (OWNED, "other.example", "user1", True, Refusal.DEVICE_OF_ANOTHER_DOMAIN),
        (NEVER_BACK, "other.example", "user9", False, None),
        (JUST_REGISTERED, "other.example", "user9", False, Refusal.DEVICE_OF_ANOTHER_DOMAIN),
        (Device("0" * 12, State.RELEASED), "other.example", "user9", False, None),
    ],
)
def test_who_may_take_a_device_over(
    device: Device | None,
    domain: str,
    user: str,
    is_for_anyone: bool,
    refusal: Refusal | None,
) -> None:
    """Its user, an administrator of its domain, or anybody once it is free."""
    why = refusal_to_assign(device, domain, user, is_for_anyone=is_for_anyone, now=NOW)
    assert why is refusal
