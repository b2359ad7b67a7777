import re
import string
from dataclasses import FrozenInstanceError, dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from chalicelib.core.codes import (
    KEEP_REDEEMED_SECONDS,
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

NOW = datetime(2036, 11, 24, 12, tzinfo=UTC)
DIGITS = st.text("0123456789", min_size=12, max_size=12)
DECORATION = st.text(" -\u2013\u2212\u3000\u00a0\t", max_size=3)
SPACES = " \t\u00a0\u2009\u3000"
DASHES = "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\uff0d-"
TYPED_CODE = re.compile(
    f"[{SPACES}{DASHES}]*(?:[0-9\uff10-\uff19][{SPACES}{DASHES}]*){{12}}[#\uff03]?[{SPACES}]*"
)
"""A typed code as the design describes it, written independently of the code under test."""

FIGURES = "0123456789" + "".join(chr(0xFF10 + digit) for digit in range(10))
KEYS = {
    "digit": st.sampled_from("0123456789"),
    "full-width digit": st.sampled_from(FIGURES[10:]),
    "decoration": st.sampled_from(SPACES + DASHES),
    "hash": st.sampled_from("#\uff03"),
    "anything": st.characters().filter(lambda char: not char.isspace() or char in SPACES),
}


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


@st.composite
def entries(draw: st.DrawFn) -> str:
    """Type about twelve digits, with decoration anywhere and a slip of the finger now and then."""
    kinds = ["digit", "full-width digit"] * draw(st.sampled_from([6, 6, 6, 0, 5, 7]))
    for slip in draw(st.lists(st.sampled_from(["decoration", "decoration", "hash", "anything"]))):
        kinds.insert(draw(st.integers(0, len(kinds))), slip)
    typed = "".join(draw(KEYS[kind]) for kind in kinds)
    return typed + draw(st.sampled_from(["", "", "#", "\uff03", "##", "# ", "-", "#-"]))


@given(entries())
def test_what_does_not_look_like_a_code_is_a_wrong_code(typed: str) -> None:
    """Twelve digits in any decoration, at most one hash at the end; everything else is wrong."""
    if typed.strip():
        code_like = TYPED_CODE.fullmatch(typed.strip())
        digits = "".join(str(int(char)) for char in typed if char in FIGURES)
        assert read_entry(typed) == Entry(digits if code_like else None)


def test_a_code_ends_with_one_hash_at_most() -> None:
    """Two hashes are a wrong code, whatever their widths and order."""
    ends = ["##", "#\uff03", "\uff03\uff03", "\uff03#"]
    assert [read_entry(f"123456789012{end}") for end in ends] == [Entry(None)] * 4


@given(DIGITS, st.integers(0, 12), st.characters())
def test_one_wrong_character_makes_a_wrong_code(digits: str, place: int, slip: str) -> None:
    """Wherever it stands, and whatever alphabet it comes from."""
    typed = digits[:place] + slip + digits[place:]
    is_harmless = slip.isspace() or slip in DASHES or (slip in "#\uff03" and place == 12)
    assert read_entry(typed) == Entry(digits if is_harmless else None)


@pytest.mark.parametrize("slip", sorted(set(string.printable) - set(string.whitespace + "-")))
def test_every_other_key_of_a_keyboard_makes_a_wrong_code(slip: str) -> None:
    """No letter and no other sign counts as decoration."""
    assert read_entry(f"123456{slip}789012") == Entry(None)


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
        "1234567890\uff1a",
        "1234567890\uff0f",
        "12345678901\uff1a",
        "12345678901\uff0f",
    ],
)
def test_anything_else_is_a_wrong_code(typed: str) -> None:
    """Too few, too many, letters, and what only looks or sorts like a digit are a wrong code."""
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


def test_a_code_does_not_show_what_it_seals() -> None:
    """Not even its sealed digits get into a log by its repr."""
    assert "sealed digits" not in repr(code(sealed_code="sealed digits"))


def test_a_code_cannot_be_changed_in_place() -> None:
    """What a rule has looked at is what is written."""
    with pytest.raises(FrozenInstanceError):
        code().state = State.REDEEMED  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        Entry("123456789012").digits = None  # type: ignore[misc]


def test_states_and_lifetimes_are_the_words_of_the_interface() -> None:
    """They stand in items, answers and metrics."""
    assert list(State) == ["pending", "redeemed", "revoked", "expired"]
    assert [(kind, kind.seconds) for kind in Lifetime] == [("user", 600), ("rollout", 604_800)]


def test_a_redeemed_code_stays_readable_for_thirty_days() -> None:
    """So that its owner can see what became of it."""
    assert timedelta(seconds=KEEP_REDEEMED_SECONDS) == timedelta(days=30)


def test_a_code_stands_for_nothing_that_was_not_said() -> None:
    """No app, owner or rollout unless named; no phone and no reason while it is pending."""
    made = replace(code(), owner="")
    bare = Code(
        fingerprint=made.fingerprint,
        code_id=made.code_id,
        state=made.state,
        domain=made.domain,
        category=made.category,
        lifetime=made.lifetime,
        devices_url=made.devices_url,
        issued_at=made.issued_at,
        expires_at=made.expires_at,
        purge_at=made.purge_at,
    )
    optional = (bare.app, bare.owner, bare.rollout_id, bare.redeemed_from, bare.hw_id, bare.reason)
    assert optional == ("",) * 6


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
DEVICE = Device(
    "a" * 12,
    DeviceState.REGISTERED,
    code_id="01CODE",
    registered_at=NOW,
    registered_from="192.0.2.1",
)
USED = replace(DEVICE, token_used_at=NOW)
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


@given(
    is_same_phone=st.booleans(),
    is_same_source=st.booleans(),
    has_used_token=st.booleans(),
    registration=st.sampled_from(["01CODE", "01OTHER", "", None]),
    milliseconds=st.one_of(
        st.integers(0, 7_200_000), st.sampled_from([3_599_999, 3_600_000, 3_600_001])
    ),
)
def test_a_repeat_needs_everything_at_once(
    *,
    is_same_phone: bool,
    is_same_source: bool,
    has_used_token: bool,
    registration: str | None,
    milliseconds: int,
) -> None:
    """Phone, source, registration, unused token and the hour; only another source is told."""
    now = NOW + timedelta(milliseconds=milliseconds)
    device = None
    if registration is not None:
        used_at = NOW if has_used_token else None
        device = replace(DEVICE, code_id=registration, token_used_at=used_at)
    hw_id = "a" * 12 if is_same_phone else "b" * 12
    source = "192.0.2.1" if is_same_source else "2001:db8:0:100::/56"
    why = refusal_to_repeat(REDEEMED, device, hw_id, source, now)
    is_its_phone = is_same_phone and registration == "01CODE"
    in_time = milliseconds < 3_600_000
    may = is_its_phone and is_same_source and in_time and not has_used_token
    assert (why is None) == may
    assert (why is Refusal.REPEATED_ELSEWHERE) == (is_its_phone and not is_same_source)


def test_a_device_without_a_time_of_registration_never_repeats() -> None:
    """What is not known to be in time is late."""
    unknown = replace(DEVICE, registered_at=None)
    why = refusal_to_repeat(REDEEMED, unknown, "a" * 12, "192.0.2.1", NOW)
    assert why is Refusal.ALREADY_USED


@dataclass
class Fate:
    """All that a code's life depends on: when it began, how long it lasts, how it was ended."""

    issued_at: datetime
    seconds: int
    end: State | None = None

    def at(self, now: datetime) -> State:
        """Tell the state that the design promises."""
        over = (now - self.issued_at).total_seconds() >= self.seconds
        return self.end or (State.EXPIRED if over else State.PENDING)


WAITS = st.one_of(
    st.integers(0, 1_000), st.sampled_from([1, 599, 600, 601, 604_799, 604_800, 604_801])
)
REASONS = {
    State.PENDING: None,
    State.EXPIRED: Refusal.EXPIRED,
    State.REVOKED: Refusal.REVOKED,
    State.REDEEMED: Refusal.ALREADY_USED,
}


class CodeLife(RuleBasedStateMachine):
    """The life of codes: whatever happens in whatever order, each ends once and stays ended."""

    issued: Bundle[int] = Bundle("issued")

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.codes: list[Code] = []
        self.fates: list[Fate] = []
        self.seen: list[set[State]] = []

    @rule(target=issued, lifetime=st.sampled_from(Lifetime))
    def issue(self, lifetime: Lifetime) -> int:
        expires_at = self.now + timedelta(seconds=lifetime.seconds)
        self.codes.append(code(lifetime, issued_at=self.now, expires_at=expires_at))
        self.fates.append(Fate(self.now, {"user": 600, "rollout": 604_800}[lifetime]))
        self.seen.append(set())
        return len(self.codes) - 1

    @rule(seconds=WAITS)
    def wait(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @rule(number=issued)
    def redeem(self, number: int) -> None:
        self._end(number, State.REDEEMED)

    @rule(number=issued)
    def revoke(self, number: int) -> None:
        self._end(number, State.REVOKED)

    def _end(self, number: int, end: State) -> None:
        """End a code in the only case in which the rule allows it."""
        why = refusal_of(self.codes[number], self.now)
        assert why is REASONS[self.fates[number].at(self.now)]
        if why is None:
            self.codes[number] = replace(self.codes[number], state=end)
            self.fates[number].end = end

    @invariant()
    def is_as_the_model_says(self) -> None:
        states = [known.state_at(self.now) for known in self.codes]
        assert states == [fate.at(self.now) for fate in self.fates]

    @invariant()
    def ends_once(self) -> None:
        for known, seen in zip(self.codes, self.seen, strict=True):
            seen.add(known.state_at(self.now))
            assert len(seen - {State.PENDING}) <= 1

    @invariant()
    def is_never_redeemable_in_the_end(self) -> None:
        late = [known for known in self.codes if known.expires_at <= self.now]
        assert None not in [refusal_of(known, self.now) for known in late]


TestCodeLife = CodeLife.TestCase
