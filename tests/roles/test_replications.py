"""The users of a domain's PBX are read once an hour, with the phones that each has there."""

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from chalicelib.core.errors import NotAllowedError, StoreUnavailableError
from chalicelib.core.user_objects import FindBy, Row, Trouble
from chalicelib.roles import pbxes, replications
from chalicelib.storage import audit, connection, holdings, leases
from chalicelib.storage import domains as domain_table
from chalicelib.storage import replications as table
from chalicelib.storage import users as user_table
from chalicelib.storage.replications import Replication
from chalicelib.storage.users import User
from tests import faults, world
from tests.conftest import NOW
from tests.played_pbx import PlayedPbx
from tests.processes import Clock, Died

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("table_names")]

DOMAIN = world.DOMAIN
SETTINGS: dict[str, Any] = {
    "address": "wss://pbx.example.com",
    "app_object": "dialtone",
    "password": "of the app object",
}
HOUR = timedelta(seconds=replications.EVERY_SECONDS)
PHONE = "009033000001"


@pytest.fixture
def clock() -> Clock:
    """Let a clock stand still."""
    return Clock()


@pytest.fixture
def pbx(table_names: dict[str, str]) -> PlayedPbx:
    """Write the demo data, and give its domain a PBX that knows two of its people."""
    assert table_names
    world.seed()
    put()
    return PlayedPbx("user1", "user2")


def put(domain: str = DOMAIN, **changes: Any) -> None:  # noqa: ANN401 - settings
    """Set a domain's PBX."""
    pbxes.put(world.platform(), domain, {**SETTINGS, **changes})


def replicate(pbx: PlayedPbx, clock: Callable[[], datetime]) -> Replication:
    """Replicate; tells what came of it."""
    assert replications.replicate(DOMAIN, pbx.connect, clock)
    return found()


def found(domain: str = DOMAIN) -> Replication:
    """Read what came of the last one."""
    made = table.find(domain)
    assert made is not None
    return made


def known(*sips: str) -> dict[str, User]:
    """Read users."""
    return {user.sip: user for user in user_table.find_all(DOMAIN, sips)}


def imports() -> list[audit.Entry]:
    """List what is in the trail of imports."""
    trail = audit.list_month(DOMAIN, f"{NOW:%Y-%m}", 100, None).items
    return [entry for entry in trail if entry.action == "users imported"]


def test_phones_are_kept_with_their_users(pbx: PlayedPbx, clock: Clock) -> None:
    """Of what is no user nothing; and the users here stay as they are."""
    pbx.devices["user2"] = [{"hw": "00-90-33-00-00-01"}, {"hw": "softphone"}]
    pbx.devices["trunk"] = [{"hw": "009033000002"}]
    pbx.rows["trunk"] = Row("trunk", is_user=False)
    for number, sip in enumerate(("", "\ud800"), 3):
        pbx.devices[f"odd{number}"] = [{"hw": f"00903300000{number}"}]
        pbx.rows[f"odd{number}"] = Row(sip)
    pbx.rows["user1"] = Row("user1", {"name": "Other"})
    before = known("user1")
    made = replicate(pbx, clock)
    hw_ids = [f"00903300000{number}" for number in range(1, 5)]
    assert holdings.find_at_pbx(DOMAIN, hw_ids) == {PHONE: "user2"}
    assert made == Replication(DOMAIN, NOW + HOUR, NOW, counts={"read": 4})
    assert (known("user1"), imports()) == (before, [])
    (access,) = pbx.accesses
    assert access.password == SETTINGS["password"]
    assert pbx.reads == [(20_000, replications.READ_SECONDS)]


def test_users_are_imported_where_the_domain_wants_it(pbx: PlayedPbx, clock: Clock) -> None:
    """As a file of them would: nobody goes, and what is not told of somebody stays."""
    put(imports_users=True)
    there = [User(DOMAIN, "user1", "User 1", "101", "one@example.com", may_add_phones=False)]
    user_table.put_all(there)
    pbx.rows["user1"] = Row("user1", {"name": "Anne", "number": "77"})
    pbx.rows["user2"] = Row("user2", {"name": known("user2")["user2"].name})
    pbx.rows["new"] = Row("new", {"name": "New", "number": "9", "email": "new@example.com"})
    pbx.rows["a#b"] = Row("a#b", {"name": "No SIP name"})
    pbx.rows["odd"] = Row("odd", {"number": "nine"})
    pbx.rows["app"] = Row("app", {"name": "App"}, is_user=False)
    for name in ("new", "a#b", "odd", "app"):
        pbx.hire(name)
    here = len(user_table.list_all(DOMAIN, 1_000, None).items)
    made = replicate(pbx, clock)
    counts = {"read": 5, "added": 1, "changed": 1, "unchanged": 1, "invalid": 2}
    assert made.counts == counts | {"gone": here - 2}
    assert known("user1")["user1"] == replace(there[0], name="Anne", number="77")
    assert known("new")["new"] == User(DOMAIN, "new", "New", "9", "new@example.com")
    assert known("a#b", "odd", "app") == {}
    (entry,) = imports()
    assert (entry.actor, entry.subject, entry.source) == ("PBX", "2 users", "pbx.example.com")
    clock.advance(replications.EVERY_SECONDS)
    assert replicate(pbx, clock).counts == counts | {
        "added": 0,
        "changed": 0,
        "unchanged": 3,
        "gone": here - 2,
    }
    assert len(imports()) == 1


def test_many_users_are_compared_page_by_page(
    pbx: PlayedPbx, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is on the last one is known, too."""
    monkeypatch.setattr(replications, "_PAGE", 3)
    put(imports_users=True)
    for user in user_table.list_all(DOMAIN, 1_000, None).items:
        pbx.hire(user.sip)
    made = replicate(pbx, clock)
    assert made.counts["unchanged"] == made.counts["read"] > 10
    assert (made.counts["added"], made.counts["gone"]) == (0, 0)


@pytest.mark.parametrize("trouble", [Trouble.CONNECTION_LOST, Trouble.TOO_LONG])
def test_what_was_read_before_trouble_counts(
    pbx: PlayedPbx, clock: Clock, trouble: Trouble
) -> None:
    """And nobody is thought to be gone; a table that is too long is so in a minute, too."""
    put(imports_users=True)
    pbx.devices["user1"] = [{"hw": PHONE}]
    pbx.rows["user1"] = Row("user1", {"name": "Anne"})
    pbx.table_trouble = (trouble, 1)
    made = replicate(pbx, clock)
    assert (made.reason, made.counts["read"], made.counts["changed"]) == (trouble, 1, 1)
    assert "gone" not in made.counts
    assert holdings.find_at_pbx(DOMAIN, [PHONE]) == {PHONE: "user1"}
    is_long = trouble is Trouble.TOO_LONG
    assert made.attempts == (0 if is_long else 1)
    assert made.retry_at == NOW + (HOUR if is_long else timedelta(minutes=1))


def test_pauses_after_trouble_grow(pbx: PlayedPbx, clock: Clock) -> None:
    """From a minute to ten, and an hour once it is over."""
    pbx.trouble = Trouble.NO_CONNECTION
    pauses = []
    for attempts in range(1, 10):
        made = replicate(pbx, clock)
        assert (made.attempts, made.reason) == (attempts, Trouble.NO_CONNECTION)
        pauses.append((made.retry_at - clock()).total_seconds())
        clock.advance(pauses[-1])
    assert pauses == [60, 60, 60, 60, 80, 160, 320, 600, 600]
    pbx.trouble = None
    made = replicate(pbx, clock)
    assert (made.attempts, made.reason, made.retry_at) == (0, "", clock() + HOUR)


def test_the_hour_is_kept(pbx: PlayedPbx, clock: Clock) -> None:
    """Unless it is asked for."""
    replicate(pbx, clock)
    clock.advance(60)
    replicate(pbx, clock)
    assert len(pbx.reads) == 1
    pbxes.replicate(world.users_admin(now=clock()), DOMAIN)
    replicate(pbx, clock)
    assert (len(pbx.reads), found().retry_at) == (2, clock() + HOUR)
    put(find_by=FindBy.NAME)
    assert len(pbx.reads) == 2
    replicate(pbx, clock)
    assert len(pbx.reads) == 3


@pytest.mark.usefixtures("pbx")
def test_users_admins_and_devices_admins_ask_for_it() -> None:
    """Of this domain, and no others; which is written down."""
    pbxes.replicate(world.users_admin(), DOMAIN)
    pbxes.replicate(world.admin(), DOMAIN)
    for who in (world.asking(), world.users_admin(domain="other.example")):
        with pytest.raises(NotAllowedError):
            pbxes.replicate(who, DOMAIN)
    trail = audit.list_month(DOMAIN, f"{NOW:%Y-%m}", 100, None).items
    asked = [entry.actor for entry in trail if entry.action == "users requested"]
    assert sorted(asked) == ["admin", "office"]


def test_one_at_a_time_reads_it(pbx: PlayedPbx, clock: Clock) -> None:
    """Whoever comes meanwhile need not, for it is no longer due then."""
    reading, going_on = threading.Event(), threading.Event()
    real = pbx.users

    def users(max_rows: int, seconds: float) -> Any:  # noqa: ANN401 - as it is
        reading.set()
        assert going_on.wait(10)
        return real(max_rows, seconds)

    pbx.users = users  # type: ignore[method-assign]
    first = threading.Thread(target=replicate, args=(pbx, clock))
    first.start()
    assert reading.wait(10)
    assert not replications.replicate(DOMAIN, pbx.connect, clock)
    going_on.set()
    first.join()
    assert len(pbx.reads) == 1


def test_who_dies_is_followed(pbx: PlayedPbx, clock: Clock) -> None:
    """As soon as the lease has ended, for it is still due."""
    now = clock()
    until = now + timedelta(seconds=replications.LEASE_SECONDS)
    assert leases.acquire(DOMAIN, leases.PBX_USERS, "dead", now, until)
    assert not replications.replicate(DOMAIN, pbx.connect, clock)
    clock.advance(replications.LEASE_SECONDS + 1)
    assert replicate(pbx, clock).counts == {"read": 2}


def test_a_domain_without_a_pbx_has_nothing_to_read(pbx: PlayedPbx, clock: Clock) -> None:
    """Nor one that is not there; and what was known of the one that is gone is forgotten."""
    replicate(pbx, clock)
    pbxes.delete(world.admin(), DOMAIN)
    assert table.find(DOMAIN) is None
    clock.advance(replications.EVERY_SECONDS)
    for domain in (DOMAIN, "nowhere.example"):
        assert replications.replicate(domain, pbx.connect, clock)
    assert len(pbx.reads) == 1


def run(pbx: PlayedPbx, clock: Callable[[], datetime], seconds: float = 120) -> None:
    """Let the schedule come, with so much time."""
    replications.run_due(pbx.connect, clock, NOW + timedelta(seconds=seconds))


def test_a_defect_of_one_domain_is_written_down(
    pbx: PlayedPbx,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """And the others are read."""
    put("other.example")
    real = domain_table.find

    def find(domain: str) -> domain_table.Domain | None:
        if not tried:
            tried.append(domain)
            raise ValueError(domain)
        return real(domain)

    tried: list[str] = []
    monkeypatch.setattr(domain_table, "find", find)
    run(pbx, clock)
    assert "defect" in capsys.readouterr().out
    (other,) = {DOMAIN, "other.example"} - set(tried)
    assert (len(pbx.reads), found(other).counts) == (1, {"read": 2})


def test_the_schedule_reads_what_is_due(pbx: PlayedPbx, clock: Clock) -> None:
    """Of every domain that has a PBX, also one whose first time has not been asked for."""
    put("other.example")
    transaction = connection.Transaction()
    table.add_forget(transaction, "other.example")
    transaction.commit()
    run(pbx, clock)
    assert (len(pbx.reads), found("other.example").counts) == (2, {"read": 2})
    run(pbx, clock)
    assert len(pbx.reads) == 2


@pytest.mark.parametrize(("left", "reads"), [(34, 0), (35, 1), (70, 1), (75, 2)])
def test_the_schedule_begins_what_it_can_end(
    pbx: PlayedPbx, clock: Clock, left: float, reads: int
) -> None:
    """The rest is for the next minute."""
    put("other.example")
    real = pbx.users

    def users(max_rows: int, seconds: float) -> Any:  # noqa: ANN401 - as it is
        clock.advance(40)
        return real(max_rows, seconds)

    pbx.users = users  # type: ignore[method-assign]
    run(pbx, clock, left)
    assert len(pbx.reads) == reads


def test_a_store_that_fails_is_no_end(
    pbx: PlayedPbx, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is done later, and other domains' go on."""
    put("other.example")
    error = faults.client_error("ThrottlingException", "UpdateItem")
    with faults.failing(monkeypatch, "UpdateItem", error):
        run(pbx, clock)
    assert len(pbx.reads) == 1
    run(pbx, clock)
    assert len(pbx.reads) == 2
    clock.advance(replications.EVERY_SECONDS)
    with faults.failing(monkeypatch, "UpdateItem", error), pytest.raises(StoreUnavailableError):
        replications.replicate(DOMAIN, pbx.connect, clock)


def test_who_has_more_phones_than_anybody_is_read_in_part(
    pbx: PlayedPbx, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A PBX that says so fills neither our memory nor our tables."""
    put()
    pbx.devices["user1"] = [{"hw": f"0090330a{number:04x}"} for number in range(150)]
    replicate(pbx, clock)
    hw_ids = [f"0090330a{number:04x}" for number in range(150)]
    assert len(holdings.find_at_pbx(DOMAIN, hw_ids)) == 100
    monkeypatch.setattr(replications, "MAX_PHONES", 7)
    pbxes.put(world.platform(), "other.example", SETTINGS)
    replications.replicate("other.example", pbx.connect, clock)
    assert len(holdings.find_at_pbx("other.example", hw_ids)) == 7


def test_a_reading_that_dies_is_not_due_again_at_once(pbx: PlayedPbx, clock: Clock) -> None:
    """It would die each minute, and keep others from their turn."""
    put()

    def die(*_: object) -> None:
        raise Died

    pbx.users = die  # type: ignore[assignment, method-assign]
    with pytest.raises(Died):
        replicate(pbx, clock)
    seen = table.find(DOMAIN)
    assert seen is not None
    assert seen.retry_at == clock() + timedelta(seconds=replications.MIN_PAUSE_SECONDS)


def test_calls_are_few(pbx: PlayedPbx, clock: Clock) -> None:
    """As docs/data-model.md tells: without anything new, it writes what came of it alone."""
    put(imports_users=True)
    for user in user_table.list_all(DOMAIN, 1_000, None).items:
        pbx.hire(user.sip)
    pbx.devices["user1"] = [{"hw": PHONE}]
    replicate(pbx, clock)
    clock.advance(replications.EVERY_SECONDS)
    with world.calls() as made:
        replicate(pbx, clock)
    assert len(made) - 1 == 8  # one is the test's own
    with world.calls() as idle:
        run(pbx, clock, 10_000)
    assert idle == ["Query", "BatchGetItem"]
