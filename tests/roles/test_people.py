from collections.abc import Callable, Mapping
from datetime import timedelta

import pytest

from chalicelib.core.errors import (
    Fault,
    InvalidRequestError,
    NotAllowedError,
    NotFoundError,
    StoreUnavailableError,
)
from chalicelib.core.roster import Line, Roster
from chalicelib.roles import domains, people, users
from chalicelib.roles.asking import Asking
from chalicelib.roles.people import Outcome, Report
from chalicelib.storage import audit
from chalicelib.storage import users as user_table
from chalicelib.storage.users import User
from tests import faults, world
from tests.conftest import NOW

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("table_names")]

OFFICE = world.users_admin()
OTHER = "other.example"
WRONG = Fault("number", "digits alone")


@pytest.fixture(autouse=True)
def seeded(table_names: dict[str, str]) -> None:
    """Write the demo data."""
    assert table_names
    world.seed()


def line(sip: str, *faults: Fault, **values: str | bool | None) -> Line:
    """Make a line of a file."""
    return Line(1, sip, values, faults)


def roster(*lines: Line, ignored: tuple[str, ...] = ()) -> Roster:
    """Make a file; the header is its line 1."""
    numbered = [Line(n, one.sip, one.values, one.faults) for n, one in enumerate(lines, 2)]
    return Roster(tuple(numbered), ignored)


def take_in(
    *lines: Line, asking: Asking = OFFICE, is_dry_run: bool = False, skips_wrong: bool = False
) -> Report:
    """Take a file in."""
    return people.take_in(
        asking, roster(*lines), "line", is_dry_run=is_dry_run, skips_wrong=skips_wrong
    )


def outcomes(report: Report) -> list[tuple[str, Outcome]]:
    """Tell what became of each line."""
    return [(one.sip, outcome) for one, outcome in report.lines]


def known(*sips: str) -> dict[str, User]:
    """Read users."""
    return {user.sip: user for user in user_table.find_all(world.DOMAIN, sips)}


def imports() -> list[audit.Entry]:
    """List what is in the trail of imports."""
    trail = audit.list_month(world.DOMAIN, "2036-11", 100, None).items
    return [entry for entry in trail if entry.action == "users imported"]


def test_users_are_added_and_changed_and_left_alone() -> None:
    """Each line says what became of it; nobody is removed."""
    report = take_in(
        line("zoe", name="Zoe Z.", number="77", email="zoe@example.com", may_add_phones=False),
        line("user1", name="Anne"),
        line("user2", name="User 2", number="102"),
        line("user3"),
        line("new"),
    )
    assert outcomes(report) == [
        ("zoe", Outcome.ADDED),
        ("user1", Outcome.CHANGED),
        ("user2", Outcome.UNCHANGED),
        ("user3", Outcome.UNCHANGED),
        ("new", Outcome.ADDED),
    ]
    assert {outcome: report.count(outcome) for outcome in Outcome} == {
        Outcome.ADDED: 2,
        Outcome.CHANGED: 1,
        Outcome.UNCHANGED: 2,
        Outcome.WRONG: 0,
    }
    found = known("zoe", "user1", "user2", "new", "user20")
    assert found["zoe"] == User(
        world.DOMAIN, "zoe", "Zoe Z.", "77", "zoe@example.com", may_add_phones=False
    )
    assert found["user1"] == User(world.DOMAIN, "user1", "Anne", "101", "user1@example.com")
    assert found["new"] == User(world.DOMAIN, "new")
    assert "user20" in found
    assert report.ignored == ()
    again = take_in(line("zoe", name="Zoe Z.", may_add_phones=False), line("user1", name="Anne"))
    assert again.count(Outcome.UNCHANGED) == 2


@pytest.mark.parametrize(
    ("values", "name", "number", "may"),
    [
        ({}, "Zoe", "77", False),
        ({"name": ""}, "", "77", False),
        ({"number": ""}, "Zoe", "", False),
        ({"may_add_phones": None}, "Zoe", "77", None),
        ({"may_add_phones": True, "name": "Z"}, "Z", "77", True),
    ],
)
def test_what_is_not_told_stays_and_what_is_empty_empties(
    values: Mapping[str, str | bool | None], name: str, number: str, may: bool | None
) -> None:
    """Also whether somebody may add phones, which is left to the domain then."""
    take_in(line("zoe", name="Zoe", number="77", may_add_phones=False))
    take_in(line("zoe", **values))
    zoe = known("zoe")["zoe"]
    assert (zoe.name, zoe.number, zoe.may_add_phones) == (name, number, may)


def test_a_dry_run_tells_the_same_and_writes_nothing() -> None:
    """Not even that it was."""
    lines = [line("zoe", name="Zoe"), line("user1", name="Anne"), line("bad", WRONG)]
    before = known("zoe", "user1")
    dry = take_in(*lines, is_dry_run=True)
    assert (known("zoe", "user1"), imports()) == (before, [])
    assert dry == take_in(*lines, skips_wrong=True)
    assert outcomes(dry)[-1] == ("bad", Outcome.WRONG)


def test_nothing_is_written_if_a_line_is_wrong() -> None:
    """Every fault is told by its line and its column."""
    with pytest.raises(InvalidRequestError) as refused:
        take_in(
            line("zoe", name="Zoe"),
            line("bad", WRONG, Fault("email", "no address")),
            line("", Fault("sip", "is missing")),
        )
    assert refused.value.faults == (
        Fault("line.3.number", "digits alone"),
        Fault("line.3.email", "no address"),
        Fault("line.4.sip", "is missing"),
    )
    assert (known("zoe"), imports()) == ({}, [])


def test_wrong_lines_are_left_out_if_they_shall_be() -> None:
    """The others are written, and also somebody of whom only the wrong line tells stays."""
    report = take_in(line("zoe", name="Zoe"), line("user1", WRONG, name="Bad"), skips_wrong=True)
    assert outcomes(report) == [("zoe", Outcome.ADDED), ("user1", Outcome.WRONG)]
    assert known("zoe", "user1")["user1"].name == "User 1"
    assert "zoe" in known("zoe")


def test_so_many_faults_are_told_and_the_others_are_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An answer has an end."""
    monkeypatch.setattr(people, "MAX_FAULTS", 2)
    bad = [line(f"bad{n}", WRONG) for n in range(3)]
    with pytest.raises(InvalidRequestError) as refused:
        take_in(*bad[:2])
    assert len(refused.value.faults) == 2
    with pytest.raises(InvalidRequestError) as refused:
        take_in(*bad)
    assert refused.value.faults[2:] == (Fault("", "and 1 more faults"),)


def test_a_large_file_costs_calls_by_the_hundred() -> None:
    """A read for a thousand users, a write for 25; and the second time, no write."""
    lines = [line(f"clerk{n:03}", name=f"Clerk {n}") for n in range(250)]
    with world.calls() as made:
        assert take_in(*lines).count(Outcome.ADDED) == 250
    assert made.count("BatchWriteItem") == 10
    made = [name for name in made if name != "BatchWriteItem"]
    assert made == ["BatchGetItem", "Query", "PutItem"]
    with world.calls() as made:
        assert take_in(*lines).count(Outcome.UNCHANGED) == 250
    assert made == ["BatchGetItem", "Query"]
    listed = people.list_all(OFFICE, 1_000, None).items
    assert len([user for user in listed if user.sip.startswith("clerk")]) == 250


def test_an_import_is_in_the_audit_trail_by_its_size() -> None:
    """Who, when, and how many; nobody's name."""
    later = world.users_admin(NOW + timedelta(hours=1))
    take_in(line("zoe", name="Zoe"), line("user1", name="Anne"), line("user2"), asking=later)
    (entry,) = imports()
    assert (entry.actor, entry.at, entry.subject, entry.source, entry.detail) == (
        "office",
        later.now,
        "2 users",
        world.HOME,
        "",
    )


def test_nothing_is_written_that_cannot_be_written_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """The trail comes first."""
    with (
        faults.failing(monkeypatch, "PutItem", faults.timeout()),
        pytest.raises(StoreUnavailableError),
    ):
        take_in(line("zoe", name="Zoe"))
    assert known("zoe") == {}


def test_an_import_that_ends_in_the_middle_is_finished_by_the_same_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What was written stays."""
    lines = [line(f"clerk{n:03}", name=f"Clerk {n}") for n in range(250)]
    with (
        faults.failing(monkeypatch, "BatchWriteItem", faults.timeout(), spare=3),
        pytest.raises(StoreUnavailableError),
    ):
        take_in(*lines)
    there = len(known(*[one.sip for one in lines]))
    assert 0 < there < 250
    report = take_in(*lines)
    assert (report.count(Outcome.UNCHANGED), report.count(Outcome.ADDED)) == (there, 250 - there)
    assert len(known(*[one.sip for one in lines])) == 250


def test_ignored_columns_are_told() -> None:
    """As the file named them."""
    given = roster(line("zoe"), ignored=("Abteilung",))
    report = people.take_in(OFFICE, given, "line", is_dry_run=True, skips_wrong=False)
    assert report.ignored == ("Abteilung",)


def test_users_are_listed_by_sip() -> None:
    """Page by page, of this domain alone."""
    world.hire("vera", domain=OTHER)
    first = people.list_all(OFFICE, 2, None)
    second = people.list_all(OFFICE, 100, first.next_after)
    sips = [user.sip for user in [*first.items, *second.items]]
    assert sips == sorted(sips)
    assert len(sips) == 21
    assert second.next_after is None
    assert [
        user.sip for user in people.list_all(world.users_admin(domain=OTHER), 9, None).items
    ] == ["vera"]


ACTS: dict[str, Callable[[Asking], object]] = {
    "list_all": lambda who: people.list_all(who, 10, None),
    "take_in": lambda who: take_in(line("zoe"), asking=who),
    "a dry run": lambda who: take_in(line("zoe"), asking=who, is_dry_run=True),
}


@pytest.mark.parametrize("name", ACTS)
def test_only_those_who_administer_users_may(name: str) -> None:
    """Nobody else, whatever they administer."""
    for who in (world.asking(), world.admin(), world.platform()):
        with pytest.raises(NotAllowedError):
            ACTS[name](who)
    assert known("zoe") == {}


def test_a_domain_that_is_not_served_here_takes_nobody_in() -> None:
    """Whatever its users-admin's token says."""
    foreign = world.users_admin(domain="foreign.example")
    with pytest.raises(NotAllowedError):
        take_in(line("zoe"), asking=foreign)
    assert user_table.find_all("foreign.example", ["zoe"]) == []


def test_an_import_stays_in_its_domain() -> None:
    """The same sip elsewhere is somebody else."""
    world.hire("vera", domain=OTHER)
    take_in(line("vera", name="Another"))
    assert user_table.find_all(OTHER, ["vera"])[0].name == "Vera"


def test_an_import_decides_who_may_add_phones() -> None:
    """For one user against the domain, or as the domain says again."""
    take_in(line("user1", may_add_phones=False))
    with pytest.raises(NotAllowedError):
        world.issue("user1")
    assert world.issue("user2")
    domains.change(OFFICE, world.DOMAIN, {"may_add_phones": False})
    take_in(line("user1", may_add_phones=True))
    assert world.issue("user1")
    with pytest.raises(NotAllowedError):
        world.issue("user2")
    take_in(line("user1", may_add_phones=None))
    with pytest.raises(NotAllowedError):
        world.issue("user1")
    assert not users.profile(world.asking("user1")).may_add_phones
    domains.change(OFFICE, world.DOMAIN, {"may_add_phones": True})
    assert world.issue("user1")


def test_a_users_admin_sees_and_sets_whether_a_domains_users_may_add_phones() -> None:
    """It is in the trail; and nothing changes what is not named."""
    assert domains.show(OFFICE, world.DOMAIN).may_add_phones
    before = domains.show(OFFICE, world.DOMAIN)
    changed = domains.change(OFFICE, world.DOMAIN, {"may_add_phones": False})
    assert changed == domains.show(OFFICE, world.DOMAIN)
    assert (changed.may_add_phones, changed.phone_apps) == (False, before.phone_apps)
    (entry, *_) = audit.list_month(world.DOMAIN, "2036-11", 10, None).items
    assert (entry.action, entry.actor, entry.detail) == (
        "domain changed",
        "office",
        "may_add_phones",
    )


@pytest.mark.parametrize(
    "wanted",
    [
        {"phone_apps": []},
        {"may_add_phones": False, "phone_apps": []},
        {"may_add_phones": False, "devices_url": ""},
        {"websocket_password": "x" * 20},
        {"granted_domains": [OTHER]},
        {"may_add_phones": False, "granted_domains": [OTHER]},
    ],
)
def test_a_users_admin_sets_nothing_else(wanted: dict[str, object]) -> None:
    """Not even beside what they may set."""
    before = domains.show(OFFICE, world.DOMAIN)
    with pytest.raises(NotAllowedError):
        domains.change(OFFICE, world.DOMAIN, wanted)
    assert domains.show(OFFICE, world.DOMAIN) == before


def test_a_users_admin_has_no_say_in_another_domain() -> None:
    """Whether it exists or not."""
    for domain in (OTHER, "nowhere.example"):
        for wanted in ({"may_add_phones": False}, {}):
            with pytest.raises(NotAllowedError):
                domains.change(OFFICE, domain, wanted)
        with pytest.raises(NotAllowedError):
            domains.show(OFFICE, domain)
    assert domains.show(world.admin(domain=OTHER), OTHER).may_add_phones


def test_a_users_admin_of_a_domain_that_is_not_served_finds_none() -> None:
    """There is nothing to set."""
    foreign = world.users_admin(domain="foreign.example")
    for wanted in ({"may_add_phones": False}, {}):
        with pytest.raises(NotFoundError):
            domains.change(foreign, "foreign.example", wanted)
