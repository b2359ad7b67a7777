from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.core.rate_limits import Limit, LimitName, decide, guess_risk, source_of

LIMIT = Limit(LimitName.GUESSES, burst=10, interval_ms=60_000)
LIMITS = st.builds(
    Limit, st.just(LimitName.GUESSES), burst=st.integers(1, 20), interval_ms=st.integers(1, 10_000)
)
PAUSES = st.lists(st.integers(0, 20_000), max_size=60)


def test_ten_at_once_then_one_a_minute() -> None:
    """The burst goes through, the eleventh waits exactly a minute."""
    now, stored = 1_000_000, None
    for _ in range(10):
        decision = decide(now, LIMIT, stored)
        assert decision.is_allowed
        stored = decision.stored_ms
    refused = decide(now, LIMIT, stored)
    assert (refused.is_allowed, refused.retry_after_ms) == (False, 60_000)
    assert refused.stored_ms == stored
    assert not decide(now + 59_999, LIMIT, stored).is_allowed
    assert decide(now + 60_000, LIMIT, stored).is_allowed


@given(LIMITS, PAUSES)
def test_no_window_lets_more_through_than_it_should(limit: Limit, pauses: list[int]) -> None:
    """In any span at most the burst and what came back in it."""
    now, stored, allowed = 0, None, []
    for pause in pauses:
        now += pause
        decision = decide(now, limit, stored)
        if decision.is_allowed:
            stored = decision.stored_ms
            allowed.append(now)
        else:
            after = now + decision.retry_after_ms
            assert not decide(after - 1, limit, stored).is_allowed
            assert decide(after, limit, stored).is_allowed
    for first, start in enumerate(allowed):
        for last in range(first, len(allowed)):
            span = allowed[last] - start
            assert last - first + 1 <= limit.burst + span // limit.interval_ms


@given(LIMITS, st.integers(1, 30), st.integers(0, 29))
def test_a_refund_forgives_one_attempt_and_no_more(limit: Limit, tries: int, refund: int) -> None:
    """A success in between never resets the failures around it."""
    now, stored, failures = 0, None, 0
    for attempt in range(tries):
        decision = decide(now, limit, stored)
        if not decision.is_allowed:
            break
        stored = decision.stored_ms
        if attempt == refund:
            stored -= limit.interval_ms
        else:
            failures += 1
    assert failures <= limit.burst
    if failures == limit.burst:
        assert not decide(now, limit, stored).is_allowed


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:0:1ff:abcd::1", "2001:db8:0:100::/56"),
        ("2001:db8:0:100::7", "2001:db8:0:100::/56"),
        ("2001:db8:0:200::7", "2001:db8:0:200::/56"),
        ("nonsense", "unknown"),
        ("", "unknown"),
    ],
)
def test_a_source_is_what_one_customer_holds(address: str, source: str) -> None:
    """One IPv4 address, or one IPv6 site."""
    assert source_of(address) == source


@given(LIMITS, st.lists(st.tuples(st.integers(0, 20_000), st.booleans()), max_size=60))
def test_a_success_leaves_a_bucket_as_if_it_had_not_been_tried(
    limit: Limit, attempts: list[tuple[int, bool]]
) -> None:
    """Reserved and refunded, it neither costs the source anything nor forgives it anything."""
    now, stored, failures_alone = 0, None, None
    for pause, succeeds in attempts:
        now += pause
        decision = decide(now, limit, stored)
        without = decide(now, limit, failures_alone)
        assert decision.is_allowed == without.is_allowed
        assert decision.retry_after_ms == without.retry_after_ms
        if decision.is_allowed and succeeds:
            stored = decision.stored_ms - limit.interval_ms
        elif decision.is_allowed:
            stored, failures_alone = decision.stored_ms, without.stored_ms


@given(LIMITS, st.one_of(st.none(), st.integers(0, 2_000_000)), st.integers(0, 1_000_000))
def test_an_attempt_costs_one_interval_or_nothing(
    limit: Limit, stored: int | None, now: int
) -> None:
    """Allowed, it moves the later of then and now on by one; refused, it moves nothing."""
    decision = decide(now, limit, stored)
    later = now if stored is None else max(now, stored)
    is_allowed = later - now <= (limit.burst - 1) * limit.interval_ms
    assert decision.is_allowed == is_allowed
    assert decision.stored_ms == (later + limit.interval_ms if is_allowed else stored)
    assert (decision.retry_after_ms == 0) == is_allowed
    if not is_allowed:
        ready = now + decision.retry_after_ms
        assert decide(ready, limit, stored).is_allowed
        assert not decide(ready - 1, limit, stored).is_allowed


@given(LIMITS, st.integers(0, 1_000_000), st.integers(0, 1_000_000))
def test_a_rested_bucket_gives_its_burst_and_no_more(limit: Limit, start: int, rest: int) -> None:
    """However long nobody came, at most the burst is saved up."""
    now, stored = start, start
    if rest:
        now, stored = start + rest, decide(start, limit, None).stored_ms
    given_at_once = 0
    while (decision := decide(now, limit, stored)).is_allowed:
        stored = decision.stored_ms
        given_at_once += 1
    is_rested = rest == 0 or rest >= limit.interval_ms
    assert given_at_once == (limit.burst if is_rested else limit.burst - 1)


@given(st.integers(1, 2**56 - 1), st.integers(0, 2**72 - 1), st.integers(0, 2**72 - 1))
def test_one_ipv6_site_is_one_source(site: int, some: int, other: int) -> None:
    """Whatever the last 72 bits are; one bit more to the left is another source."""
    source = source_of(str(IPv6Address((site << 72) | some)))
    assert source == source_of(str(IPv6Address((site << 72) | other)))
    assert source != source_of(str(IPv6Address(((site ^ 1) << 72) | some)))
    assert source == f"{IPv6Address(site << 72)}/56"


@given(st.ip_addresses(v=4), st.ip_addresses(v=4))
def test_one_ipv4_address_is_one_source(address: IPv4Address, other: IPv4Address) -> None:
    """Written as itself or mapped into IPv6; another address is another source."""
    assert source_of(str(address)) == source_of(f"::ffff:{address}") == str(address)
    assert (source_of(str(address)) == source_of(str(other))) == (address == other)


@given(st.text(max_size=50))
def test_any_text_has_a_source(text: str) -> None:
    """What is no address shares one bucket, and nothing raises."""
    source = source_of(text)
    assert source == "unknown" or source == source_of(source.removesuffix("/56"))


def test_the_names_of_limits_are_the_keys_of_their_buckets() -> None:
    """They stand in items, settings and metrics."""
    assert list(LimitName) == [
        "guesses",
        "issues",
        "sightings",
        "tokens",
        "same_token",
        "foreign_codes",
        "logins",
        "domain_logins",
        "messages",
        "pbx_requests",
    ]


def test_the_risk_of_guessing_is_that_of_all_attempts_together() -> None:
    """One address makes 10 + 1440 attempts a day, each at as many of 10^12 as are open."""
    assert guess_risk(0, 10, LIMIT) == 0
    assert guess_risk(20_000, 1, LIMIT) == pytest.approx(1450 * 20_000 / 1e12, rel=1e-4)
    assert guess_risk(10**9, 10_000, LIMIT) == pytest.approx(1, abs=1e-6)


@given(st.integers(0, 10**9), st.integers(1, 10_000), LIMITS)
def test_the_risk_grows_with_what_is_open_and_with_who_guesses(
    count: int, sources: int, limit: Limit
) -> None:
    """And is a chance at any time."""
    risk = guess_risk(count, sources, limit)
    assert 0 <= risk <= guess_risk(count + 1, sources, limit) <= 1
    assert risk <= guess_risk(count, sources + 1, limit)
