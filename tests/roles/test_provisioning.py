from datetime import timedelta
from functools import cache

import pytest

from chalicelib.core.codes import State, read_entry
from chalicelib.core.errors import LimitReachedError
from chalicelib.roles import provisioning
from chalicelib.storage import codes, sightings
from tests import world
from tests.conftest import NOW

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("table_names")]
FORM = "vars create UPDATE/PROVISIONING-CODE h prompt"


@pytest.fixture(autouse=True)
def seeded(table_names: dict[str, str]) -> None:
    world.seed()


def inquiry(
    typed: str | None, source: str = world.HOME, hw_id: str = world.HW_ID
) -> provisioning.Inquiry:
    """Make a phone that asks where it belongs."""
    return provisioning.Inquiry(hw_id, world.FACTS, read_entry(typed), source)


def test_a_phone_without_a_code_is_asked_and_seen() -> None:
    """What it told is kept for 30 days, the first time included."""
    assert FORM in provisioning.answer(inquiry(None), NOW)
    seen = sightings.SightingItem.get(world.HW_ID)
    assert (seen.product, seen.prot, seen.boot) == ("IP232", "130100", "130100")
    assert (seen.version, seen.local_ip, seen.first_seen_at) == ("13r1", "10.0.0.7", NOW)
    assert seen.purge_at == NOW + timedelta(days=30)
    later = NOW + timedelta(minutes=10)
    provisioning.answer(inquiry(None), later)
    seen = sightings.SightingItem.get(world.HW_ID)
    assert (seen.first_seen_at, seen.last_seen_at) == (NOW, later)


def test_the_lookup_here_consumes_nothing() -> None:
    """A code routes its phone as often as it asks, until it is redeemed elsewhere or expires."""
    issued = world.issue()
    for _ in range(12):
        assert "config add UP1 /url" in provisioning.answer(inquiry(issued.digits), NOW)
    (code,) = codes.find_all([issued.code.fingerprint])
    assert code.state is State.PENDING
    seen = sightings.SightingItem.get(world.HW_ID)
    assert seen.code_fingerprint == issued.code.fingerprint


def test_a_wrong_code_is_asked_for_again_and_limited() -> None:
    """Ten wrong codes, then none is looked up."""
    for _ in range(10):
        assert FORM in provisioning.answer(inquiry("000000000000"), NOW)
    with pytest.raises(LimitReachedError):
        provisioning.answer(inquiry("000000000000"), NOW)


def test_an_idle_phone_that_polls_with_prompt_for_an_hour_costs_its_site_nothing() -> None:
    """Sixty polls without a code leave all ten attempts for those who type."""
    for minute in range(60):
        provisioning.answer(inquiry("prompt"), NOW + timedelta(minutes=minute))
    now = NOW + timedelta(hours=1)
    for _ in range(10):
        assert FORM in provisioning.answer(inquiry("000000000000"), now)
    with pytest.raises(LimitReachedError):
        provisioning.answer(inquiry("000000000000"), now)


def test_a_phone_that_has_redeemed_and_forgotten_is_sent_on_again() -> None:
    """It rebooted before its configuration was written: the same code leads it back."""
    issued = world.issue()
    world.redeem(issued.digits)
    assert "config add UP1 /url" in provisioning.answer(inquiry(issued.digits), NOW)
    assert FORM in provisioning.answer(inquiry(issued.digits, "198.51.100.7"), NOW)


def test_new_phones_are_limited_per_source_and_known_ones_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A flood of invented hardware ids does not fill the table; who was there is still kept."""
    from dataclasses import replace

    from chalicelib import settings
    from chalicelib.core.rate_limits import Limit, LimitName

    few = Limit(LimitName.SIGHTINGS, burst=3, interval_ms=60_000)
    used = settings.current()
    narrow = replace(used, limits={**used.limits, LimitName.SIGHTINGS: few})
    monkeypatch.setattr(settings, "current", cache(lambda: narrow))
    for n in range(6):
        assert FORM in provisioning.answer(inquiry(None, hw_id=f"0090330003{n:02x}"), NOW)
    kept = [item for n in range(6) if (item := _sighting(f"0090330003{n:02x}"))]
    assert len(kept) == 3
    later = NOW + timedelta(seconds=601)
    provisioning.answer(inquiry(None, hw_id="009033000300"), later)
    known = _sighting("009033000300")
    assert known is not None
    assert known.last_seen_at == later


def _sighting(hw_id: str) -> sightings.SightingItem | None:
    try:
        return sightings.SightingItem.get(hw_id)
    except sightings.SightingItem.DoesNotExist:
        return None
