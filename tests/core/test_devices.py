from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.core.devices import (
    Device,
    Facts,
    Failure,
    State,
    hw_id_at,
    is_interface,
    parse_any_hw_id,
    parse_hw_id,
    parse_query_facts,
    refusal_to_admit,
    refusal_to_assign,
)
from chalicelib.core.errors import Refusal

NOW = datetime(2036, 11, 24, 12, tzinfo=UTC)
OWNED = Device(
    "009033000001",
    State.CURRENT,
    domain="example.com",
    user="user1",
    registered_at=NOW - timedelta(days=30),
    token_used_at=NOW - timedelta(days=30),
)
NEVER_BACK = replace(
    OWNED, state=State.REGISTERED, registered_at=NOW - timedelta(days=1), token_used_at=None
)
ANALOGUE = replace(NEVER_BACK, hw_id="009033000001-TEL1", state=State.CURRENT)
JUST_REGISTERED = replace(NEVER_BACK, registered_at=NOW - timedelta(days=1, seconds=-1))


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


@given(st.text("0123456789abcdef", min_size=12, max_size=12), st.sampled_from("-:. "))
def test_a_hardware_id_survives_every_way_to_write_it(hw_id: str, separator: str) -> None:
    """In pairs, in capitals, with any separator."""
    pairs = [hw_id[start : start + 2] for start in range(0, 12, 2)]
    expected = None if set(hw_id) in ({"0"}, {"f"}) else hw_id
    assert parse_hw_id(separator.join(pairs).upper()) == expected
    assert parse_hw_id(hw_id) == expected


@pytest.mark.parametrize(
    ("text", "hw_id"),
    [
        ("0090333d1234-TEL1", "0090333d1234-TEL1"),
        ("00-90-33-3D-12-34-TEL1", "0090333d1234-TEL1"),
        ("00:90:33:3d:12:34-tel12", "0090333d1234-tel12"),
        ("00-90-33-3d-12-34-12", "0090333d1234-12"),
        ("00-90-33-3d-12-34", "0090333d1234"),
        ("0090333d12-34", "0090333d1234"),
        ("0090333d1234-", "0090333d1234"),
        ("0090333d1234-TEL 1", None),
        ("0090333d1234-TEL#1", None),
        ("0090333d1234-TÉL1", None),
        ("0090333d1234-" + "T" * 17, None),
        ("000000000000-TEL1", None),
        ("TEL1", None),
        ("-TEL1", None),
        ("", None),
        (None, None),
    ],
)
def test_the_hardware_id_of_any_device_is_read(text: str | None, hw_id: str | None) -> None:
    """An analogue phone's is its gateway's and its interface, which is spelt as it is."""
    assert parse_any_hw_id(text) == hw_id


@given(st.text(max_size=40))
def test_any_text_gives_a_hardware_id_that_is_read_as_itself_or_none(text: str) -> None:
    """Whatever comes in, what goes on is a key we can use."""
    hw_id = parse_any_hw_id(text)
    assert hw_id is None or (parse_any_hw_id(hw_id) == hw_id and len(hw_id) <= 29)


@given(st.from_regex(r"[0-9A-Za-z]{1,16}", fullmatch=True))
def test_an_analogue_phone_knows_where_it_is(interface: str) -> None:
    """Its gateway and its interface; it is nobody's own hardware id."""
    assert is_interface(interface)
    phone = replace(OWNED, hw_id=hw_id_at(OWNED.hw_id, interface))
    assert (phone.gateway, phone.interface) == (OWNED.hw_id, interface)
    assert (OWNED.gateway, OWNED.interface) == ("", "")
    assert parse_any_hw_id(phone.hw_id) == phone.hw_id
    assert parse_hw_id(phone.hw_id) is None


def test_facts_are_read_from_what_an_update_client_appends() -> None:
    """Product from type or hardware version, builds as they are, addresses by both names."""
    query = {"hwid": "IP232-30-00-af", "ver": "13r1", "prot": "134250", "check": "7"}
    query["localip"] = "10.0.0.7"
    assert parse_query_facts(query) == Facts(
        product="IP232", version="13r1", prot="134250", check="7", local_ip="10.0.0.7"
    )
    both = {"type": "IP112", "hwid": "x-1", "ip": "::1", "localip": "10.0.0.7", "boot": "131286"}
    assert parse_query_facts(both) == Facts(product="IP112", boot="131286", local_ip="::1")


def test_what_a_phone_did_not_say_is_empty() -> None:
    """And what did not say otherwise is a phone."""
    facts = parse_query_facts({})
    assert facts == Facts()
    said = {member.name: getattr(facts, member.name) for member in fields(facts)}
    assert said.pop("device_type") == "PHONE"
    assert set(said.values()) == {""}


def test_a_new_device_has_no_assignment_and_no_past() -> None:
    """Nothing is known but its hardware id and its state."""
    device = Device("009033000001", State.RELEASED)
    known = {member.name: getattr(device, member.name) for member in fields(device)}
    del known["hw_id"], known["state"]
    assert known.pop("device_type") == "PHONE"
    assert [name for name, value in known.items() if value] == []


def test_states_are_the_words_of_the_interface() -> None:
    """They stand in items and answers."""
    assert list(State) == ["registered", "updating", "current", "released"]


def test_a_fact_keeps_its_first_200_characters() -> None:
    """No more, and no fewer."""
    assert parse_query_facts({"ver": "v" * 250}).version == "v" * 200


@pytest.mark.parametrize("build", ["134250\r\nreset", "13 42", "1" * 33, "\u0661", "a/b"])
def test_what_is_no_build_is_unknown(build: str) -> None:
    """A build or serial is compared and written back, so it is one plain word."""
    facts = parse_query_facts({"prot": build, "boot": build, "check": build})
    assert (facts.prot, facts.boot, facts.check) == ("", "", "")


@given(st.dictionaries(st.sampled_from(["type", "hwid", "ver", "ip", "localip"]), st.text()))
def test_facts_stay_as_they_were_read(query: dict[str, str]) -> None:
    """Reading what was read changes nothing: what is stored compares equal at the next visit."""
    facts = parse_query_facts(query)
    said = {"type": facts.product, "ver": facts.version, "ip": facts.local_ip}
    assert parse_query_facts(said) == facts


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
        (replace(OWNED, user=""), "example.com", "", False, Refusal.DEVICE_OF_ANOTHER_USER),
        (replace(OWNED, user=""), "example.com", "", True, None),
        (None, "example.com", "user1", False, None),
        (OWNED, "example.com", "user1", False, None),
        (OWNED, "example.com", "user2", False, Refusal.DEVICE_OF_ANOTHER_USER),
        (OWNED, "example.com", "user2", True, None),
        (OWNED, "other.example", "user1", False, Refusal.DEVICE_OF_ANOTHER_DOMAIN),
        (OWNED, "other.example", "user1", True, Refusal.DEVICE_OF_ANOTHER_DOMAIN),
        (NEVER_BACK, "other.example", "user9", False, None),
        (JUST_REGISTERED, "other.example", "user9", False, Refusal.DEVICE_OF_ANOTHER_DOMAIN),
        (Device("0" * 12, State.RELEASED), "other.example", "user9", False, None),
        (ANALOGUE, "example.com", "user1", False, None),
        (ANALOGUE, "example.com", "user2", False, Refusal.DEVICE_OF_ANOTHER_USER),
        (ANALOGUE, "example.com", "user2", True, None),
        (ANALOGUE, "other.example", "user9", False, None),
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


@given(
    st.sampled_from([State.REGISTERED, State.UPDATING, State.CURRENT]),
    st.integers(0, 2 * 86_400_000),
    st.booleans(),
    st.sampled_from(["example.com", "other.example"]),
    st.sampled_from(["user1", "user2"]),
    st.booleans(),
)
def test_a_device_in_use_changes_hands_only_within_its_rules(
    state: State,
    age_ms: int,
    has_used_token: bool,
    domain: str,
    user: str,
    is_for_anyone: bool,
) -> None:
    """Never out of its domain, to another user by an administrator alone, unless long unused."""
    registered_at = NOW - timedelta(milliseconds=age_ms)
    used_at = registered_at if has_used_token else None
    device = replace(OWNED, state=state, registered_at=registered_at, token_used_at=used_at)
    why = refusal_to_assign(device, domain, user, is_for_anyone=is_for_anyone, now=NOW)
    if not has_used_token and age_ms >= 86_400_000:
        assert why is None
    elif domain != "example.com":
        assert why is Refusal.DEVICE_OF_ANOTHER_DOMAIN
    elif user != "user1" and not is_for_anyone:
        assert why is Refusal.DEVICE_OF_ANOTHER_USER
    else:
        assert why is None


@pytest.mark.parametrize(
    ("age", "is_free"),
    [
        (timedelta(0), False),
        (timedelta(hours=24) - timedelta(milliseconds=1), False),
        (timedelta(hours=24), True),
        (timedelta(hours=24) + timedelta(milliseconds=1), True),
    ],
)
def test_an_unused_token_frees_its_device_after_a_day(age: timedelta, is_free: bool) -> None:
    """To the millisecond; one use at any time keeps it."""
    unused = replace(OWNED, registered_at=NOW - age, token_used_at=None)
    assert unused.is_free(NOW) is is_free
    assert not replace(unused, token_used_at=NOW - age).is_free(NOW)


def test_a_released_device_is_free_whatever_is_left_of_its_past() -> None:
    """Release counts at once, and so does never having been registered."""
    assert replace(OWNED, state=State.RELEASED).is_free(NOW)
    assert replace(OWNED, registered_at=None).is_free(NOW)
    assert not OWNED.is_free(NOW)


def test_an_analogue_phone_is_free_once_it_is_released_and_not_before() -> None:
    """It has no token that could stay unused."""
    assert not ANALOGUE.is_free(NOW + timedelta(days=365))
    assert replace(ANALOGUE, state=State.RELEASED).is_free(NOW)


@pytest.mark.parametrize(
    ("device", "refusal"),
    [
        (None, None),
        (Device("009033000001", State.RELEASED), None),
        (replace(OWNED, state=State.RELEASED), None),
        (NEVER_BACK, None),
        (JUST_REGISTERED, Refusal.DEVICE_THERE_ALREADY),
        (Device("009033000001", State.REGISTERED, domain="example.com", user="user1"), None),
        (OWNED, Refusal.DEVICE_THERE_ALREADY),
        (replace(OWNED, user=""), Refusal.DEVICE_THERE_ALREADY),
        (replace(OWNED, state=State.UPDATING), Refusal.DEVICE_THERE_ALREADY),
    ],
)
def test_a_domains_token_brings_in_only_who_is_not_there(
    device: Device | None, refusal: Refusal | None
) -> None:
    """Unknown, released, expected or never back; whoever is in use needs its own token or code."""
    assert refusal_to_admit(device, NOW) is refusal


@given(
    st.sampled_from(list(State)),
    st.one_of(st.none(), st.integers(0, 2 * 86_400_000)),
    st.booleans(),
)
def test_a_domains_token_takes_nothing_that_a_code_would_not(
    state: State, age_ms: int | None, has_used_token: bool
) -> None:
    """Where it may come in, any good code may; it never moves a device between domains."""
    registered_at = None if age_ms is None else NOW - timedelta(milliseconds=age_ms)
    used_at = NOW if has_used_token else None
    device = replace(OWNED, state=state, registered_at=registered_at, token_used_at=used_at)
    is_admitted = refusal_to_admit(device, NOW) is None
    assert is_admitted == device.is_free(NOW)
    why = refusal_to_assign(device, "other.example", "", is_for_anyone=False, now=NOW)
    assert is_admitted == (why is None)


@pytest.mark.parametrize(
    ("count", "minutes"),
    [(1, 1), (2, 5), (3, 25), (4, 125), (5, 625), (6, 1440), (7, 1440), (10**6, 1440)],
)
def test_a_failed_job_waits_longer_each_time(count: int, minutes: int) -> None:
    """Five times as long, and once a day in the end."""
    assert Failure(count, NOW, "no space").retry_at == NOW + timedelta(minutes=minutes)


@given(st.integers(1, 10**6), st.datetimes(datetime(2020, 1, 1), datetime(2100, 1, 1)))  # noqa: DTZ001 - made aware below
def test_a_pause_never_shrinks_and_always_ends(count: int, at: datetime) -> None:
    """Between a minute and a day after the last failure."""
    failure = Failure(count, at.replace(tzinfo=UTC), "")
    pause = failure.retry_at - failure.at
    assert timedelta(minutes=1) <= pause <= timedelta(days=1)
    assert replace(failure, count=count + 1).retry_at >= failure.retry_at


@pytest.mark.parametrize("state", list(State))
def test_a_device_is_stuck_once_its_time_has_passed(state: State) -> None:
    """It need not come back for that; to the microsecond, and since when it says."""
    device = replace(OWNED, state=state, stuck_at=NOW)
    assert device.stuck_since(NOW - timedelta(days=1)) is None
    assert device.stuck_since(NOW) is None
    assert device.stuck_since(NOW + timedelta(microseconds=1)) == NOW
    assert device.stuck_since(NOW + timedelta(days=365)) == NOW
    assert replace(device, stuck_at=None).stuck_since(NOW + timedelta(days=365)) is None


def test_a_device_tells_what_it_told_last() -> None:
    """All of it but the serial of a script, which is of its last request alone."""
    told: dict[str, Any] = {
        "product": "IP232",
        "version": "13r1",
        "prot": "134250",
        "boot": "131286",
        "local_ip": "10.0.0.7",
        "name": "desk",
        "device_type": "SOFTPHONE",
    }
    assert Device("009033000001", State.CURRENT, **told).facts == Facts(**told, check="")
    assert set(told) | {"check"} == {member.name for member in fields(Facts)}
