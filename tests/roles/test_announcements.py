"""What is announced of a fact, and what of it must be announced again."""

import json
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from chalicelib import observability
from chalicelib.roles import announcements
from chalicelib.roles.announcements import ENTRIES_AN_EVENT, Announcement, Kind
from chalicelib.storage.ids import new_id, time_of
from chalicelib.storage.notifications import Change, Fact
from tests import faults, world
from tests.bus import Bus, Entry
from tests.conftest import NOW

pytestmark = pytest.mark.usefixtures("table_names")


@pytest.fixture(autouse=True)
def counted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Keep what is counted."""
    found: list[tuple[str, int]] = []

    def count(metric: str, times: int = 1, /, **_: str) -> None:
        found.append((metric, times))

    monkeypatch.setattr(observability, "count", count)
    return found


def fact(**members: Any) -> Fact:  # noqa: ANN401 - a fact's own
    """Make a fact as the stream brings it."""
    return Fact(world.DOMAIN, notification_id=f"fact#{new_id(NOW)}", **members)


def phone(hw_id: str = world.HW_ID, change: Change = Change.PROVISIONED, **members: Any) -> Fact:  # noqa: ANN401 - as above
    """Make the fact that a phone came, or left."""
    return fact(owner="user1", hw_id=hw_id, change=change, **members)


def phones(count: int) -> list[Fact]:
    """Make the facts that as many phones came."""
    return [phone(f"{number:012x}") for number in range(count)]


def write(one: Announcement, at: datetime) -> str:
    """Write what tests look at."""
    sips = [entry.registration.sip for entry in one.entries]
    return json.dumps(
        {"id": one.announcement_id, "hw_id": one.fact.hw_id, "sips": sips, "at": str(at)}
    )


def announce(*facts: Fact) -> int:
    """Announce facts."""
    return announcements.announce(facts, write, lambda: NOW)


def test_a_phone_that_comes_or_goes_has_the_id_of_its_fact() -> None:
    """And its time, to the millisecond."""
    kinds = {Change.PROVISIONED: Kind.PHONE_PROVISIONED, Change.REMOVED: Kind.PHONE_REMOVED}
    for change, kind in kinds.items():
        made = phone(change=change)
        fact_id = made.notification_id.removeprefix("fact#")
        assert announcements.of_fact(made) == [Announcement(kind, fact_id, NOW, made)]
    assert time_of(new_id(NOW + timedelta(milliseconds=7, microseconds=9))) == (
        NOW + timedelta(milliseconds=7)
    )


def test_what_concerns_a_user_alone_is_no_event() -> None:
    """A code that was issued in Profile, a phone's new state."""
    assert announcements.of_fact(fact(owner="user1", fingerprint="f", hw_id=world.HW_ID)) == []


def test_many_entries_are_several_events_with_ids_that_stay() -> None:
    """They follow from the fact, whatever the entries are by then; the phone's is another."""
    sips = [f"u{number}" for number in range(2 * ENTRIES_AN_EVENT + 1)]
    made = fact(rollout_id="R", sips=sips)
    fact_id = made.notification_id.removeprefix("fact#")
    found = announcements.of_fact(made)
    assert [one.announcement_id for one in found] == [f"{fact_id}-{n}" for n in (1, 2, 3)]
    assert [sip for one in found for sip in one.sips] == sips
    came = announcements.of_fact(phone(rollout_id="R"))
    assert [one.kind for one in came] == [Kind.PHONE_PROVISIONED, Kind.REGISTRATION_CHANGED]
    assert came[1].sips == ["user1"]
    assert len({one.announcement_id for one in came}) == 2


def test_without_a_bus_nothing_is_read() -> None:
    """And everything is done."""
    with world.calls() as made:
        assert announce(phone(rollout_id="R"), phone()) == 2
    assert made == []


def test_facts_are_announced_in_their_order(bus: Bus, counted: list[tuple[str, int]]) -> None:
    """In as few calls as it takes."""
    facts = phones(12)
    assert announce(*facts) == 12
    assert [told["hw_id"] for told in bus.details] == [one.hw_id for one in facts]
    assert len(bus.calls) == 2
    assert counted == [("EventPut", 12)]


def test_what_is_not_taken_is_announced_again_and_so_is_what_is_behind(
    bus: Bus, counted: list[tuple[str, int]]
) -> None:
    """From the first on, with the same ids."""
    facts = phones(14)
    bus.refuse = lambda entry: "ThrottlingException" if f"{4:012x}" in entry["Detail"] else ""
    assert announce(*facts) == 4
    assert len(bus.calls) == 1
    assert counted.count(("EventNotTaken", 1)) == 1 + 4
    bus.refuse = lambda _: ""
    assert announce(*facts[4:]) == 10
    ids = [one.notification_id.removeprefix("fact#") for one in facts]
    assert set(bus.ids) == set(ids)
    assert bus.ids[-10:] == ids[4:]


def test_an_event_that_is_never_taken_is_lost_and_holds_up_nothing(
    bus: Bus, counted: list[tuple[str, int]], capsys: pytest.CaptureFixture[str]
) -> None:
    """It is counted, and its line says which it was."""
    facts = [phone(), replace(phone(), causes=("request 7",)), phone()]
    lost = facts[1].notification_id.removeprefix("fact#")

    def refuse(entry: Entry) -> str:
        return "MalformedDetail" if lost in entry["Detail"] else ""

    bus.refuse = refuse
    observability.forget()
    assert announce(*facts) == 3
    assert len(bus.taken) == 2
    assert counted == [("EventLost", 1), ("EventPut", 2)]
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (line,) = [line for line in lines if line["message"] == "event lost"]
    told = (line["event"], line["event_id"], line["why"], line["correlation_id"])
    assert told == ("PhoneProvisioned", lost, "MalformedDetail", "request 7")


def test_an_event_that_we_cannot_write_is_lost_and_holds_up_nothing(
    bus: Bus, counted: list[tuple[str, int]]
) -> None:
    """A defect of ours, which repeating does not heal."""

    def fail(one: Announcement, at: datetime) -> str:
        if one.fact.hw_id == world.HW_ID:
            raise KeyError(one.fact.hw_id)
        return write(one, at)

    facts = [phone("0090330000aa"), phone(), phone("0090330000ab")]
    assert announcements.announce(facts, fail, lambda: NOW) == 3
    assert [told["hw_id"] for told in bus.details] == ["0090330000aa", "0090330000ab"]
    assert counted == [("EventLost", 1), ("EventPut", 2)]


def test_entries_are_told_as_they_are_when_they_are_told(bus: Bus) -> None:
    """Also those of many facts of a rollout in two reads; who has none is left out."""
    world.seed()
    first, second = world.hire("clerk1", "clerk2")
    rollout = world.make_rollout([first, second])
    made = fact(rollout_id=rollout.rollout_id, sips=[second, "nobody", first])
    more = fact(rollout_id=rollout.rollout_id, owner=first)
    with world.calls() as calls:
        assert announce(made, more, phone()) == 3
    assert calls == ["BatchGetItem"]
    world.redeem(world.told(rollout)[first])
    with world.calls() as calls:
        assert announce(made, more) == 2
    assert calls == ["BatchGetItem", "BatchGetItem"]
    assert [told["sips"] for told in bus.details] == [
        [second, first],
        [first],
        [],
        [second, first],
        [first],
    ]


def test_a_rollout_that_has_gone_is_no_event(bus: Bus) -> None:
    """There is nothing to say of its entries."""
    assert announce(fact(rollout_id="gone", owner="user1"), phone(rollout_id="gone")) == 2
    assert [entry["DetailType"] for entry in bus.taken] == ["PhoneProvisioned"]


def test_a_store_that_is_away_is_waited_for(
    bus: Bus, counted: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the first fact on that needs it; what is before is announced."""
    facts = [phone(), phone(), fact(rollout_id="R", owner="user1"), phone()]
    with faults.failing(monkeypatch, "BatchGetItem", faults.timeout()):
        assert announce(*facts) == 2
    assert len(bus.taken) == 2
    assert counted == [("EventNotTaken", 1), ("EventPut", 2)]
