from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from chalicelib.core.codes import (
    Code,
    Entry,
    Lifetime,
    State,
    grouped,
    read_entry,
    refusal_of,
    refusal_to_repeat,
)
from chalicelib.core.devices import Device
from chalicelib.core.devices import State as DeviceState
from chalicelib.core.errors import Refusal

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
DIGITS = st.text("0123456789", min_size=12, max_size=12)
DECORATION = st.text(" -\u2013\u2212\u3000\u00a0\t", max_size=3)


def code(lifetime: Lifetime = Lifetime.USER, **changes: object) -> Code:
    """Make a pending code, issued now."""
    expires_at = NOW + timedelta(seconds=lifetime.seconds)
    facts: dict[str, object] = {
        "fingerprint": "f" * 64,
        "code_id": "01CODE",
        "state": State.PENDING,
        "domain": "example.com",
        "category": "Office",
        "lifetime": lifetime,
        "owner": "user1",
        "devices_url": "https://dialtone.example/api/devices/update",
        "issued_at": NOW,
        "expires_at": expires_at,
        "purge_at": expires_at,
    }
    return Code(**(facts | changes))  # type: ignore[arg-type]


@given(DIGITS, st.lists(DECORATION, min_size=13, max_size=13), st.sampled_from(["", "#", "\uff03"]))
def test_a_code_is_read_through_any_decoration(digits: str, between: list[str], end: str) -> None:
    """Spaces and dashes anywhere and one final hash leave the twelve digits."""
    typed = "".join(space + digit for space, digit in zip(between, digits, strict=False))
    assert read_entry(typed + between[-1].strip("-\u2013\u2212") + end) == Entry(digits)


@given(DIGITS)
def test_full_width_digits_are_digits(digits: str) -> None:
    """A Japanese keyboard's digits count."""
    assert read_entry("".join(chr(0xFF10 + int(digit)) for digit in digits)) == Entry(digits)


@pytest.mark.parametrize("typed", [None, "", "   ", "prompt", "PROMPT", " prompt "])
def test_nothing_typed_is_no_code(typed: str | None) -> None:
    """Absent, empty and the phone's own word for it mean that there is no code."""
    assert read_entry(typed) is None


@pytest.mark.parametrize(
    "typed",
    [
        "12345678901",
        "1234567890123",
        "12345678901a",
        "#",
        "123456789012##",
        "\u00b2" * 12,
        "\u0663" * 12,
    ],
)
def test_anything_else_is_a_wrong_code(typed: str) -> None:
    """Too few, too many, letters, superscripts and other scripts' digits are a wrong code."""
    assert read_entry(typed) == Entry(None)


@given(st.text(max_size=40))
def test_any_text_is_read_without_error(typed: str) -> None:
    """Whatever is typed is no code, a wrong code, or twelve ASCII digits."""
    entry = read_entry(typed)
    if entry is not None and entry.digits is not None:
        assert len(entry.digits) == 12
        assert set(entry.digits) <= set("0123456789")


@given(DIGITS)
def test_a_grouped_code_reads_as_itself(digits: str) -> None:
    """What we show can be typed."""
    assert read_entry(grouped(digits)) == Entry(digits)
    assert len(grouped(digits)) == 14


def test_an_entry_does_not_show_its_digits() -> None:
    """A code does not get into a log by its repr."""
    assert "123456789012" not in repr(Entry("123456789012"))


@pytest.mark.parametrize(
    ("lifetime", "seconds", "state"),
    [
        (Lifetime.USER, 599, State.PENDING),
        (Lifetime.USER, 600, State.EXPIRED),
        (Lifetime.USER, 601, State.EXPIRED),
        (Lifetime.ROLLOUT, 604_799, State.PENDING),
        (Lifetime.ROLLOUT, 604_800, State.EXPIRED),
        (Lifetime.ROLLOUT, 604_801, State.EXPIRED),
    ],
)
def test_a_code_ends_at_the_second(lifetime: Lifetime, seconds: int, state: State) -> None:
    """Ten minutes and seven days, less a second."""
    assert code(lifetime).state_at(NOW + timedelta(seconds=seconds)) is state


@pytest.mark.parametrize(
    ("known", "refusal"),
    [
        (None, Refusal.UNKNOWN),
        (code(), None),
        (code(state=State.REVOKED), Refusal.REVOKED),
        (code(state=State.REDEEMED), Refusal.ALREADY_USED),
        (code(expires_at=NOW), Refusal.EXPIRED),
    ],
)
def test_each_code_that_cannot_be_redeemed_has_its_reason(
    known: Code | None, refusal: Refusal | None
) -> None:
    """The reason is precise, for those who may know it."""
    assert refusal_of(known, NOW) is refusal


REDEEMED = code(state=State.REDEEMED, hw_id="a" * 12, redeemed_at=NOW, redeemed_from="192.0.2.1")
DEVICE = Device("a" * 12, DeviceState.REGISTERED, code_id="01CODE", registered_at=NOW)
USED = Device("a" * 12, DeviceState.CURRENT, code_id="01CODE", token_used_at=NOW)
MOVED = Device("a" * 12, DeviceState.CURRENT, code_id="01OTHER")


@pytest.mark.parametrize(
    ("device", "hw_id", "source", "seconds", "refusal"),
    [
        (DEVICE, "a" * 12, "192.0.2.1", 0, None),
        (DEVICE, "a" * 12, "192.0.2.1", 3599, None),
        (DEVICE, "a" * 12, "192.0.2.1", 3600, Refusal.ALREADY_USED),
        (DEVICE, "a" * 12, "192.0.2.2", 0, Refusal.REPEATED_ELSEWHERE),
        (DEVICE, "b" * 12, "192.0.2.1", 0, Refusal.ALREADY_USED),
        (USED, "a" * 12, "192.0.2.1", 0, Refusal.ALREADY_USED),
        (MOVED, "a" * 12, "192.0.2.1", 0, Refusal.ALREADY_USED),
        (None, "a" * 12, "192.0.2.1", 0, Refusal.ALREADY_USED),
    ],
)
def test_only_the_phone_itself_repeats_its_code(
    device: Device | None, hw_id: str, source: str, seconds: int, refusal: Refusal | None
) -> None:
    """Same phone, same source, within the hour, before its token was used."""
    now = NOW + timedelta(seconds=seconds)
    assert refusal_to_repeat(REDEEMED, device, hw_id, source, now) is refusal


class CodeLife(RuleBasedStateMachine):
    """The life of a code: whatever happens in whatever order, it ends once and stays ended."""

    def __init__(self) -> None:
        super().__init__()
        self.code = code()
        self.now = NOW
        self.ends: list[State] = []

    @rule(seconds=st.integers(0, 400))
    def wait(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @precondition(lambda self: refusal_of(self.code, self.now) is None)
    @rule()
    def redeem(self) -> None:
        assert self.now < NOW + timedelta(seconds=600)
        self.code = code(state=State.REDEEMED)
        self.ends.append(State.REDEEMED)

    @precondition(lambda self: refusal_of(self.code, self.now) is None)
    @rule()
    def revoke(self) -> None:
        self.code = code(state=State.REVOKED)
        self.ends.append(State.REVOKED)

    @invariant()
    def ends_once(self) -> None:
        assert len(self.ends) <= 1
        state = self.code.state_at(self.now)
        if self.ends:
            assert state is self.ends[0]
        else:
            over = self.now >= NOW + timedelta(seconds=600)
            assert state is (State.EXPIRED if over else State.PENDING)


TestCodeLife = CodeLife.TestCase
