"""Lists in pages: each item once, whatever the size of a page, and no list reads a table whole."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from chalicelib.core.devices import Device, Facts, State
from chalicelib.core.errors import StoreUnavailableError
from chalicelib.storage import audit, connection, devices, domains, installations, lists, sightings
from chalicelib.storage.lists import Page
from tests import world
from tests.conftest import NOW

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("table_names")]

ENTRY = audit.Entry("d.example", NOW, "did", "platform", "it", world.HOME)
List = Callable[[int, str | None], Page[Any]]


def walk(listing: List, limit: int) -> list[Any]:
    """Read a list to its end, page by page."""
    items: list[Any] = []
    after: str | None = None
    for _ in range(100):
        page = listing(limit, after)
        assert len(page.items) <= limit
        items += page.items
        after = page.next_after
        if after is None:
            return items
    pytest.fail("no end")


def put(device: Device) -> None:
    """Keep a new device."""
    transaction = connection.Transaction()
    devices.assign(transaction, device, None)
    transaction.commit()


def device(number: int, category: str = "Office", state: State = State.REGISTERED) -> Device:
    """Make a device of the domain."""
    return Device(
        f"0090330000{number:02x}", state, "example.com", category, registration_id=f"R{number}"
    )


@pytest.fixture
def four() -> list[Device]:
    """Keep four devices of a domain, and one of another."""
    made = [
        device(1),
        device(2, "Office", State.CURRENT),
        device(3, "Reception", State.CURRENT),
        device(4, "Reception"),
    ]
    for known in made:
        put(known)
    put(replace(device(5), domain="other.example"))
    return made


@pytest.mark.parametrize(
    ("category", "state", "expected"),
    [
        ("", None, [1, 2, 3, 4]),
        ("Office", None, [1, 2]),
        ("Reception", None, [3, 4]),
        ("Off", None, []),
        ("", State.CURRENT, [2, 3]),
        ("", State.REGISTERED, [1, 4]),
        ("", State.RELEASED, []),
        ("Reception", State.CURRENT, [3]),
        ("Office", State.UPDATING, []),
    ],
)
def test_devices_are_listed_by_category_and_state_each_once(
    four: list[Device], category: str, state: State | None, expected: list[int]
) -> None:
    """With pages of any size, and without those of another domain."""
    with world.calls() as made:
        for limit in (1, 2, 3, 10):
            found = walk(
                lambda size, after: devices.list_all("example.com", category, state, size, after),
                limit,
            )
            assert found == [four[number - 1] for number in expected]
    assert set(made) <= {"Query", "BatchGetItem"}
    if state is None:
        assert devices.count_in("example.com", category) == len(expected)


def test_a_list_that_lags_shows_devices_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has gone, moved or changed since the index was written is left out, not shown stale."""
    stays = device(1)
    for known in (
        stays,
        device(2, "Reception"),
        device(3, state=State.CURRENT),
        replace(device(4), domain="other.example"),
    ):
        put(known)
    keys: list[dict[str, Any]] = [{"hw_id": {"S": f"0090330000{n:02x}"}} for n in range(1, 6)]
    monkeypatch.setattr(lists, "query", lambda *_: Page(keys, "next"))
    listed = devices.list_all("example.com", "Office", State.REGISTERED, 10, None)
    assert (listed.items, listed.next_after) == ([stays], "next")


def test_a_device_is_listed_where_it_is_after_every_change() -> None:
    """Its places in the indexes follow category and state, and end with the assignment."""
    seen = device(1)
    put(seen)

    def places() -> list[tuple[str, State]]:
        return [
            (category, state)
            for category in ("Office", "Reception")
            for state in State
            if devices.list_all("example.com", category, state, 10, None).items
        ]

    current = replace(seen, state=State.CURRENT)
    assert devices.report(current, seen)
    assert places() == [("Office", State.CURRENT)]
    moved = replace(current, category="Reception", state=State.UPDATING)
    assert devices.report(moved, current)
    assert places() == [("Reception", State.UPDATING)]
    assert devices.count_in("example.com", "Office") == 0
    transaction = connection.Transaction()
    devices.release(transaction, moved)
    transaction.commit()
    assert (places(), devices.count_in("example.com")) == ([], 0)


def test_a_device_that_is_moved_while_it_reports_is_listed_where_it_is() -> None:
    """Neither write hides the other, in the item or in the places where lists find it."""
    seen = device(1)
    put(seen)
    assert devices.report(replace(seen, category="Reception", name="Desk"), seen)
    assert devices.report(replace(seen, state=State.UPDATING, prot="134250"), seen)
    found = devices.find(seen.hw_id)
    assert found == replace(
        seen, category="Reception", name="Desk", state=State.UPDATING, prot="134250"
    )
    assert devices.list_all("example.com", "Reception", State.UPDATING, 9, None).items == [found]
    assert devices.list_all("example.com", "Reception", None, 9, None).items == [found]
    assert devices.count_in("example.com", "Office") == 0


def test_a_device_that_others_move_all_the_time_is_asked_to_come_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After three lost races nothing is written, and the phone keeps its token."""
    seen = device(1)
    put(seen)
    stale = replace(seen, category="Reception")
    assert devices.report(replace(stale, name="Desk"), stale)
    with monkeypatch.context() as patch:
        patch.setattr(devices, "find_all", lambda _: [stale])
        with pytest.raises(StoreUnavailableError):
            devices.report(replace(stale, state=State.UPDATING), stale)
    assert devices.find(seen.hw_id) == replace(seen, name="Desk")


def test_domains_are_listed_by_name_from_the_directory() -> None:
    """Each once, with its settings; an entry whose domain has just gone is left out."""
    for number, name in enumerate(("b.example", "a.example", "c.example"), 1):
        transaction = connection.Transaction()
        domains.create(transaction, domains.Domain(name, number, phone_apps=["phone"]))
        transaction.commit()
    assert [found.domain for found in walk(domains.list_all, 2)] == [
        "a.example",
        "b.example",
        "c.example",
    ]
    assert {tuple(found.phone_apps) for found in walk(domains.list_all, 10)} == {("phone",)}
    domains.DomainItem(*domains.settings_key("b.example")).delete()
    assert [found.domain for found in walk(domains.list_all, 1)] == ["a.example", "c.example"]


def test_numbers_are_drawn_once_each() -> None:
    """Whoever draws at the same moment gets another."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        drawn = list(pool.map(lambda _: domains.new_number(), range(20)))
    assert sorted(drawn) == list(range(1, 21))


def test_a_months_events_are_listed_newest_first() -> None:
    """Those of a month and domain, each once; by whatever way they were written."""
    entries = [
        audit.Entry("example.com", NOW + timedelta(seconds=n), "a", f"sip{n}", "s", "x", f"d{n}")
        for n in range(4)
    ]
    for entry in entries[:2]:
        transaction = connection.Transaction()
        audit.add(transaction, entry)
        transaction.commit()
    for entry in entries[2:]:
        audit.note(entry)
    audit.note(replace(entries[0], domain="other.example"))
    audit.note(replace(entries[0], at=NOW + timedelta(days=30)))

    def november(limit: int, after: str | None) -> Page[audit.Entry]:
        return audit.list_month("example.com", "2036-11", limit, after)

    for limit in (1, 3, 10):
        assert walk(november, limit) == entries[::-1]
    assert audit.list_month("example.com", "2036-10", 10, None).items == []
    purged = audit.AuditItem.query("example.com#2036-11").next().purge_at
    assert purged == NOW + timedelta(days=365)


def test_the_phones_of_a_day_are_listed_by_hw_id() -> None:
    """Those that were last seen then, with all that they told."""
    facts = Facts("IP232", "13r1", "130100", "131000", "", "10.0.0.7")
    for number in (3, 1, 2):
        sightings.note(sightings.Sighting(f"{number:012x}", facts, "192.0.2.1"), NOW)
    tomorrow = NOW + timedelta(days=1)
    sightings.note(sightings.Sighting(f"{2:012x}", facts, "192.0.2.2", "f" * 64), tomorrow)

    def day(limit: int, after: str | None) -> Page[sightings.Seen]:
        return sightings.list_day("2036-11-24", limit, after)

    for limit in (1, 2, 10):
        assert [seen.hw_id[-1] for seen in walk(day, limit)] == ["1", "3"]
    (seen,) = sightings.list_day("2036-11-25", 10, None).items
    assert seen == sightings.Seen(
        hw_id=f"{2:012x}",
        first_seen_at=NOW,
        last_seen_at=tomorrow,
        source="192.0.2.2",
        product="IP232",
        version="13r1",
        prot="130100",
        boot="131000",
        local_ip="10.0.0.7",
        code_fingerprint="f" * 64,
    )


def test_installations_are_listed_newest_first() -> None:
    """Each once."""
    made = [
        installations.Installation(f"{n}" * 26, f"name {n}", f"hash {n}", "platform", NOW)
        for n in range(3)
    ]
    for installation in made:
        installations.put(installation, ENTRY)
    for limit in (1, 2, 10):
        assert walk(installations.list_all, limit) == made[::-1]
    assert installations.find("1" * 26) == made[1]
    assert installations.find("9" * 26) is None


def test_an_installation_is_deleted_once() -> None:
    """Whoever is second learns that it is gone, and is not in the trail."""
    made = installations.Installation("1" * 26, "name", "hash", "platform", NOW)
    installations.put(made, ENTRY)
    assert installations.delete(made.installation_id, ENTRY)
    assert not installations.delete(made.installation_id, ENTRY)
    assert len(audit.list_month("d.example", f"{NOW:%Y-%m}", 10, None).items) == 2


def test_what_is_counted_is_counted_to_its_end() -> None:
    """However many megabytes it is."""
    for number in range(5):
        audit.note(replace(ENTRY, detail=str(number) * 300_000))
    span = lists.Span("", 0)
    with world.calls() as made:
        counted = lists.count(audit.AuditItem, f"{ENTRY.domain}#{NOW:%Y-%m}", span)
    assert counted == 5
    assert len(made) > 1
