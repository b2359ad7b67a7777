import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.core.rate_limits import Limit, LimitName, decide, source_of

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
