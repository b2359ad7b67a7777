import hashlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from chalicelib.core.codes import Lifetime, State, grouped
from chalicelib.core.errors import (
    CodeNotRedeemableError,
    ConflictError,
    DeviceElsewhereError,
    InvalidRequestError,
    NotAllowedError,
    NotFoundError,
    Refusal,
    StoreUnavailableError,
)
from chalicelib.core.rollouts import (
    LASTS_DAYS,
    NOT_CONFIRMED,
    RELEASED,
    Registration,
    Rollout,
    reason_of,
)
from chalicelib.core.rollouts import State as EntryState
from chalicelib.roles import devices, domains, entries, handouts, rollouts, users
from chalicelib.roles.asking import Asking
from chalicelib.roles.rollouts import Added, Changed, Selection
from chalicelib.storage import audit, codes, connection, registrations, vault
from chalicelib.storage import domains as domain_table
from chalicelib.storage import users as user_table
from local import demo
from tests import faults, world
from tests.conftest import NOW

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("table_names")]

OFFICE = world.users_admin()
WEEK = Lifetime.ROLLOUT.seconds
PENDING, REGISTERED = EntryState.PENDING, EntryState.REGISTERED
EXPIRED, REVOKED = EntryState.EXPIRED, EntryState.REVOKED
TABLET = "0090330000b1"
ELSEWHERE = "198.51.100.9"
NOWHERE = "0" * 26


@pytest.fixture(autouse=True)
def seeded(table_names: dict[str, str]) -> None:
    """Write the demo data."""
    assert table_names
    world.seed()


@pytest.fixture
def many(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Say how many users there are, more than a transaction holds.

    moto copies its tables with every transaction: there, all is smaller.
    """
    if request.config.getoption("--engine"):
        return 60
    monkeypatch.setattr(entries, "MAX_TRANSACTION_ITEMS", 20)
    return 12


def states(rollout: Rollout, seconds: int = 0) -> dict[str, EntryState]:
    """Tell the state of each entry."""
    now = NOW + timedelta(seconds=seconds)
    found = registrations.list_all(rollout.rollout_id, 1_000, None).items
    return {entry.sip: entry.state_at(now) for entry in found}


def counts(rollout: Rollout, seconds: int = 0) -> dict[EntryState, int]:
    """Count the entries of each state that has any, as an administrator sees it."""
    asking = world.users_admin(NOW + timedelta(seconds=seconds))
    shown = rollouts.show(asking, rollout.rollout_id, None, 1, None)
    assert shown.counts is not None
    return {state: count for state, count in shown.counts.items() if count}


def shown(rollout: Rollout, state: EntryState | None = None, seconds: int = 0) -> list[str]:
    """List whose entries an administrator sees, page by page of two."""
    asking = world.users_admin(NOW + timedelta(seconds=seconds))
    sips: list[str] = []
    after: str | None = None
    while True:
        page = rollouts.show(asking, rollout.rollout_id, state, 2, after).entries
        sips += [entry.registration.sip for entry in page.items]
        after = page.next_after
        if after is None:
            return sips


def reason(rollout: Rollout, sip: str, seconds: int = 0) -> str:
    """Tell what an administrator should look after."""
    (entry,) = rollouts.with_phones(rollout.domain, [world.entry(rollout, sip)])
    return reason_of(entry.registration, entry.device, NOW + timedelta(seconds=seconds))


def is_redeemed(digits: str, hw_id: str = TABLET, seconds: int = 0) -> bool:
    """Let a phone try a code."""
    try:
        world.redeem(digits, hw_id, ELSEWHERE, NOW + timedelta(seconds=seconds))
    except CodeNotRedeemableError:
        return False
    return True


def trail() -> list[audit.Entry]:
    """List what happened, oldest first, without what phones did."""
    found: list[audit.Entry] = []
    for month in ("2036-12", "2036-11"):
        found += audit.list_month(world.DOMAIN, month, 1_000, None).items
    return [entry for entry in reversed(found) if entry.actor == "office"]


def close(name: str = "Office") -> None:
    """Let a category take no phones any more."""
    domains.put_category(world.admin(), world.DOMAIN, name, provisioning=False, device_types=[])


def rotate(monkeypatch: pytest.MonkeyPatch, versions: int) -> None:
    """Rotate the code key until it has so many versions."""
    keys = {str(n): f"code key {n}" for n in range(2, versions + 1)}
    rotated = {"current": str(versions), "1": "code key of the tests", **keys}
    real = vault._keys  # noqa: SLF001 - the rotation, as the secret would bring it
    monkeypatch.setattr(vault, "_keys", lambda name: rotated if name == "code" else real(name))


def test_options_are_what_the_domain_has_for_phones() -> None:
    """Provisioning categories for phones, and its phone apps."""
    told = rollouts.options(OFFICE)
    assert (told.categories, told.phone_apps) == (["Office", "Reception"], ["phone"])


def test_a_rollout_gives_each_user_a_code_of_seven_days() -> None:
    """Whoever is named twice gets one; the app is the domain's first."""
    rollout, added = rollouts.create(
        OFFICE,
        name="Autumn",
        category="Office",
        app="",
        note="Second floor",
        sips=["user1", "user2", "user1"],
    )
    assert added == Added(added=2, already=1)
    assert rollouts.find(OFFICE, rollout.rollout_id) == rollout
    assert (rollout.app, rollout.note, rollout.created_by) == ("phone", "Second floor", "office")
    assert (rollout.created_at, rollout.domain) == (NOW, world.DOMAIN)
    told = world.told(rollout)
    assert sorted(told) == ["user1", "user2"]
    entry = world.entry(rollout, "user1")
    (code,) = codes.find_all([entry.fingerprint])
    assert (code.code_id, code.owner, code.rollout_id) == (
        entry.code_id,
        "user1",
        rollout.rollout_id,
    )
    assert (code.category, code.app, code.lifetime) == ("Office", "phone", Lifetime.ROLLOUT)
    assert code.devices_url == world.UPDATE_URL
    assert code.expires_at == entry.expires_at == NOW + timedelta(seconds=WEEK)
    assert (entry.name, entry.state, entry.since) == ("User 1", PENDING, NOW)
    device = world.redeem(told["user1"]).device
    assert (device.user, device.category, device.rollout_id) == (
        "user1",
        "Office",
        rollout.rollout_id,
    )


def test_a_rollout_can_begin_without_anybody_and_without_apps() -> None:
    """A domain need have no phone app."""
    asking = world.users_admin(domain="other.example")
    rollout = world.make_rollout([], domain="other.example", category="Sales")
    assert rollout.app == ""
    assert rollouts.show(asking, rollout.rollout_id, None, 10, None).entries.items == []
    assert rollouts.list_all(asking, 10, None).items == [rollout]


def test_phones_of_a_rollout_go_where_the_domain_says() -> None:
    """Its own Devices, if it names one; the app that was chosen."""
    domains.change(
        world.admin(),
        world.DOMAIN,
        {"devices_url": "https://devices.example.com/update", "phone_apps": ["phone", "softphone"]},
    )
    rollout, _ = rollouts.create(
        OFFICE, name="Autumn", category="Office", app="softphone", note="", sips=["user1"]
    )
    rollouts.add(OFFICE, rollout.rollout_id, ["user2"])
    for sip in ("user1", "user2"):
        (code,) = codes.find_all([world.entry(rollout, sip).fingerprint])
        assert (code.app, code.devices_url) == ("softphone", "https://devices.example.com/update")


def test_everything_that_is_wrong_with_a_new_rollout_is_told_at_once() -> None:
    """Each unknown user by place, the category, the app; and nothing is written."""
    with pytest.raises(InvalidRequestError) as refused:
        rollouts.create(
            OFFICE,
            name="Autumn",
            category="Gateways",
            app="pager",
            note="",
            sips=["user1", "nobody", "user2", "vera"],
        )
    assert [fault.field for fault in refused.value.faults] == [
        "users.1",
        "users.3",
        "category",
        "app",
    ]
    for category in ("nonsense", "Sales"):
        with pytest.raises(InvalidRequestError) as refused:
            world.make_rollout(["user1"], category=category)
        assert [fault.field for fault in refused.value.faults] == ["category"]
    assert rollouts.list_all(OFFICE, 10, None).items == []
    assert trail() == []


def test_unknown_users_are_named_all_at_once_and_nobody_is_added() -> None:
    """By their places in the list."""
    rollout = world.make_rollout(["user1"])
    with pytest.raises(InvalidRequestError) as refused:
        rollouts.add(OFFICE, rollout.rollout_id, ["nobody", "user2", "", "x" * 2_000])
    assert [fault.field for fault in refused.value.faults] == ["users.0", "users.2", "users.3"]
    assert list(states(rollout)) == ["user1"]


def test_users_are_added_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is there already keeps the code; more than one transaction holds is no trouble."""
    monkeypatch.setattr(entries, "MAX_TRANSACTION_ITEMS", 10)
    sips = world.staff(11)
    rollout = world.make_rollout(sips[:3])
    before = world.told(rollout)
    assert rollouts.add(OFFICE, rollout.rollout_id, [*sips, sips[0], sips[10]]) == Added(8, 5)
    after = world.told(rollout)
    assert sorted(after) == sips
    assert len(set(after.values())) == 11
    assert before.items() <= after.items()
    assert rollouts.add(OFFICE, rollout.rollout_id, sips) == Added(0, 11)
    assert world.told(rollout) == after


def test_a_rollout_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to it, and not beyond; those who are there already do not count twice."""
    monkeypatch.setattr(rollouts, "MAX_ENTRIES", 3)
    rollout = world.make_rollout(["user1", "user2"])
    with pytest.raises(ConflictError):
        rollouts.add(OFFICE, rollout.rollout_id, ["user3", "user4"])
    assert rollouts.add(OFFICE, rollout.rollout_id, ["user1", "user2", "user3"]) == Added(1, 2)
    with pytest.raises(ConflictError):
        rollouts.add(OFFICE, rollout.rollout_id, ["user4"])
    assert rollouts.add(OFFICE, rollout.rollout_id, ["user3"]) == Added(0, 1)


def test_rollouts_are_listed_newest_first() -> None:
    """Page by page, of this domain alone."""
    made = [world.make_rollout([], NOW + timedelta(seconds=n)) for n in range(3)]
    world.make_rollout([], domain="other.example", category="Sales")
    first = rollouts.list_all(OFFICE, 2, None)
    second = rollouts.list_all(OFFICE, 2, first.next_after)
    assert [*first.items, *second.items] == made[::-1]


CALLS: dict[str, Callable[[Asking, str], object]] = {
    "options": lambda who, _: rollouts.options(who),
    "list_all": lambda who, _: rollouts.list_all(who, 10, None),
    "create": lambda who, _: rollouts.create(
        who, name="Autumn", category="Office", app="", note="", sips=[]
    ),
    "find": rollouts.find,
    "add": lambda who, at: rollouts.add(who, at, ["user2"]),
    "show": lambda who, at: rollouts.show(who, at, None, 10, None),
    "extend": lambda who, at: rollouts.extend(who, at, Selection()),
    "reissue": lambda who, at: rollouts.reissue(who, at, Selection()),
    "revoke": lambda who, at: rollouts.revoke(who, at, Selection()),
    "export": lambda who, at: handouts.export(who, at, None),
    "view": lambda who, at: handouts.view(who, at, 10, None),
}
NAMELESS = ["options", "list_all", "create"]


@pytest.mark.parametrize("name", CALLS)
def test_only_those_who_administer_users_roll_out(name: str) -> None:
    """Whatever else somebody may do; and it leaves everything as it was."""
    rollout = world.make_rollout(["user1"])
    before = world.entry(rollout, "user1"), trail()
    for who in (world.asking(), world.admin(), world.platform()):
        with pytest.raises(NotAllowedError):
            CALLS[name](who, rollout.rollout_id)
    assert (world.entry(rollout, "user1"), trail()) == before


@pytest.mark.parametrize("name", [name for name in CALLS if name not in NAMELESS])
def test_a_rollout_of_another_domain_is_not_there(name: str) -> None:
    """Nor is one that never was, or whose id can be none."""
    rollout = world.make_rollout(["user1"])
    before = world.entry(rollout, "user1")
    other = world.users_admin(domain="other.example")
    for who, rollout_id in (
        (other, rollout.rollout_id),
        (OFFICE, NOWHERE),
        (OFFICE, ""),
        (OFFICE, rollout.rollout_id + "0"),
    ):
        with pytest.raises(NotFoundError):
            CALLS[name](who, rollout_id)
    assert world.entry(rollout, "user1") == before


@pytest.mark.parametrize("name", ["options", "create"])
def test_a_domain_that_is_not_served_here_rolls_nothing_out(name: str) -> None:
    """Whatever its users-admin's token says."""
    with pytest.raises(NotAllowedError):
        CALLS[name](world.users_admin(domain="foreign.example"), NOWHERE)


@pytest.mark.parametrize("name", ["add", "extend", "reissue"])
def test_a_rollout_that_has_ended_issues_nothing(name: str) -> None:
    """After 90 days; on the last second it still does. To revoke is always possible."""
    rollout = world.make_rollout(["user1"])
    end = NOW + timedelta(days=LASTS_DAYS)
    CALLS[name](world.users_admin(end - timedelta(seconds=1)), rollout.rollout_id)
    before = world.entry(rollout, "user1")
    with pytest.raises(ConflictError):
        CALLS[name](world.users_admin(end), rollout.rollout_id)
    assert world.entry(rollout, "user1") == before
    assert rollouts.revoke(world.users_admin(end), rollout.rollout_id, Selection()).missed == []


@pytest.mark.parametrize("name", ["add", "extend", "reissue"])
@pytest.mark.parametrize("is_deleted", [False, True])
def test_a_category_that_takes_no_phones_issues_nothing(name: str, *, is_deleted: bool) -> None:
    """Nor one that was deleted; its open codes still register, and can be revoked."""
    rollout = world.make_rollout(["user1", "user2"], category="Reception")
    told = world.told(rollout)
    if is_deleted:
        domains.delete_category(world.admin(), world.DOMAIN, "Reception")
    else:
        close("Reception")
    with pytest.raises(ConflictError):
        CALLS[name](OFFICE, rollout.rollout_id)
    assert world.redeem(told["user1"]).device.category == "Reception"
    assert rollouts.revoke(OFFICE, rollout.rollout_id, Selection()) == Changed(1, [], None)
    assert states(rollout) == {"user1": REGISTERED, "user2": REVOKED}


@pytest.mark.parametrize("name", ["add", "extend", "reissue"])
def test_a_domain_that_is_gone_issues_nothing(name: str) -> None:
    """Its rollouts are still there, and stay as they are."""
    rollout = world.make_rollout(["user1"])
    found = domain_table.find(world.DOMAIN)
    assert found is not None
    transaction = connection.Transaction()
    domain_table.delete(transaction, found)
    transaction.commit()
    with pytest.raises(NotAllowedError):
        CALLS[name](OFFICE, rollout.rollout_id)


@pytest.mark.parametrize("seconds", [WEEK - 1, WEEK, WEEK + 1])
def test_a_code_that_is_not_extended_ends_after_seven_days(seconds: int) -> None:
    """The entry says so at the same second as the phone's answer, everywhere."""
    rollout = world.make_rollout(["user1"])
    digits = world.told(rollout)["user1"]
    is_open = seconds < WEEK
    state = PENDING if is_open else EXPIRED
    assert states(rollout, seconds) == {"user1": state}
    assert counts(rollout, seconds) == {state: 1}
    assert shown(rollout, state, seconds) == ["user1"]
    assert shown(rollout, EXPIRED if is_open else PENDING, seconds) == []
    later = world.users_admin(NOW + timedelta(seconds=seconds))
    _, page = handouts.view(later, rollout.rollout_id, 10, None)
    assert [one.digits for one in page.items] == ([digits] if is_open else [])
    _, (exported,) = handouts.export(later, rollout.rollout_id, None)
    assert exported.digits == (digits if is_open else "")
    assert is_redeemed(digits, seconds=seconds) is is_open


@pytest.mark.parametrize("seconds", [WEEK - 1, WEEK, WEEK + 1])
def test_an_extended_code_lives_seven_days_from_then(seconds: int) -> None:
    """And not a second longer; from the moment of the extension, not from the old end."""
    rollout = world.make_rollout(["user1"])
    digits = world.told(rollout)["user1"]
    hour = 3_600
    later = world.users_admin(NOW + timedelta(seconds=hour))
    assert rollouts.extend(later, rollout.rollout_id, Selection()) == Changed(1, [], None)
    entry = world.entry(rollout, "user1")
    (code,) = codes.find_all([entry.fingerprint])
    assert code.expires_at == entry.expires_at == later.now + timedelta(seconds=WEEK)
    assert code.purge_at == code.expires_at
    assert (entry.since, entry.changed_at) == (later.now, later.now)
    is_open = seconds < WEEK
    assert states(rollout, hour + seconds) == {"user1": PENDING if is_open else EXPIRED}
    assert is_redeemed(digits, seconds=hour + seconds) is is_open


@pytest.mark.parametrize("seconds", [WEEK - 1, WEEK, WEEK + 1])
def test_what_has_expired_is_not_extended(seconds: int) -> None:
    """A code that has ended stays so, named or not."""
    rollout = world.make_rollout(["user1"])
    before = world.entry(rollout, "user1")
    later = world.users_admin(NOW + timedelta(seconds=seconds))
    for selection in (Selection(["user1"]), Selection()):
        changed = rollouts.extend(later, rollout.rollout_id, selection)
        assert changed == Changed(int(seconds < WEEK), [], None)
    assert (world.entry(rollout, "user1") == before) is (seconds >= WEEK)


def test_a_code_that_ends_while_it_is_extended_stays_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The code's own end counts, not what the entry said of it when it was read."""
    rollout = world.make_rollout(["user1"])
    entry = world.entry(rollout, "user1")
    with faults.meanwhile(
        monkeypatch,
        "TransactWriteItems",
        lambda: codes.CodeItem(entry.fingerprint).update([codes.CodeItem.expires_at.set(NOW)]),
    ):
        changed = rollouts.extend(OFFICE, rollout.rollout_id, Selection())
    assert changed == Changed(0, ["user1"], None)
    assert world.entry(rollout, "user1") == entry


def test_reissued_codes_take_the_place_of_the_old_ones() -> None:
    """The old one redeems nothing, the new one does, and lives for seven days from now."""
    rollout = world.make_rollout(["user1", "user2"])
    old, before = world.told(rollout), world.entry(rollout, "user1")
    later = world.users_admin(NOW + timedelta(hours=1))
    changed = rollouts.reissue(later, rollout.rollout_id, Selection(["user1", "user1"]))
    assert changed == Changed(1, [], None)
    new = world.told(rollout)
    assert new["user1"] != old["user1"]
    assert new["user2"] == old["user2"]
    (dead,) = codes.find_all([before.fingerprint])
    assert (dead.state, dead.sealed_code) == (State.REVOKED, None)
    assert not is_redeemed(old["user1"], seconds=3_600)
    assert is_redeemed(new["user1"], seconds=3_600 + WEEK - 1)
    entry = world.entry(rollout, "user1")
    assert entry.expires_at == later.now + timedelta(seconds=WEEK)


def test_an_attempt_with_a_code_that_was_replaced_is_written_down() -> None:
    """In the audit trail and at the old code; the new entry does not suffer."""
    rollout = world.make_rollout(["user1"])
    old, before = world.told(rollout)["user1"], world.entry(rollout, "user1")
    rollouts.reissue(OFFICE, rollout.rollout_id, Selection())
    assert not is_redeemed(old)
    refused = [
        (entry.actor, entry.subject, entry.detail)
        for entry in audit.list_month(world.DOMAIN, "2036-11", 100, None).items
        if entry.action == "code refused"
    ]
    assert refused == [(TABLET, before.code_id, Refusal.REVOKED)]
    assert codes.find_all([before.fingerprint])[0].reason == Refusal.REVOKED
    assert world.entry(rollout, "user1").reason == ""


@pytest.mark.parametrize("is_purged", [False, True])
def test_expired_codes_are_reissued(*, is_purged: bool) -> None:
    """Whether or not TTL has deleted the old one already."""
    rollout = world.make_rollout(["user1"])
    old, entry = world.told(rollout)["user1"], world.entry(rollout, "user1")
    if is_purged:
        codes.CodeItem(entry.fingerprint).delete()
    later = world.users_admin(NOW + timedelta(seconds=WEEK))
    assert rollouts.reissue(later, rollout.rollout_id, Selection()) == Changed(1, [], None)
    new = world.told(rollout, later.now)["user1"]
    assert not is_redeemed(old, seconds=WEEK)
    assert is_redeemed(new, seconds=WEEK + WEEK - 1)


def test_a_code_that_is_extended_in_its_last_moment_is_not_reissued_as_expired(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever reissues read that it had expired; there are never two that are alive."""
    rollout = world.make_rollout(["user1"])
    digits = world.told(rollout)["user1"]
    earlier = world.users_admin(NOW + timedelta(seconds=WEEK - 1))
    later = world.users_admin(NOW + timedelta(seconds=WEEK))
    with faults.meanwhile(
        monkeypatch,
        "TransactWriteItems",
        lambda: rollouts.extend(earlier, rollout.rollout_id, Selection()),
    ):
        changed = rollouts.reissue(later, rollout.rollout_id, Selection())
    assert changed == Changed(0, ["user1"], None)
    assert world.told(rollout, later.now) == {"user1": digits}
    assert is_redeemed(digits, seconds=WEEK)


def test_a_code_that_was_reissued_by_a_clock_ahead_is_no_good_by_another() -> None:
    """It had ended by one clock, and not yet by the one of the phone that presents it."""
    rollout = world.make_rollout(["user1"])
    digits = world.told(rollout)["user1"]
    later = world.users_admin(NOW + timedelta(seconds=WEEK))
    assert rollouts.reissue(later, rollout.rollout_id, Selection()) == Changed(1, [], None)
    before = world.entry(rollout, "user1")
    with pytest.raises(CodeNotRedeemableError) as refused:
        world.redeem(digits, TABLET, now=NOW + timedelta(seconds=WEEK - 1))
    assert refused.value.refusal is Refusal.REVOKED
    assert world.entry(rollout, "user1") == before
    assert is_redeemed(world.told(rollout, later.now)["user1"], seconds=WEEK)


def test_a_refusal_while_a_code_is_extended_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the administrator should know is not lost to what was read before it."""
    rollout = world.make_rollout(["user1"])
    digits = world.told(rollout)["user1"]
    registered_elsewhere()
    with faults.meanwhile(
        monkeypatch, "TransactWriteItems", lambda: try_elsewhere(digits, world.HW_ID)
    ):
        changed = rollouts.extend(OFFICE, rollout.rollout_id, Selection())
    assert changed == Changed(0, ["user1"], None)
    assert reason(rollout, "user1") == Refusal.DEVICE_OF_ANOTHER_DOMAIN
    assert rollouts.extend(OFFICE, rollout.rollout_id, Selection()) == Changed(1, [], None)
    assert reason(rollout, "user1") == Refusal.DEVICE_OF_ANOTHER_DOMAIN


def registered_elsewhere() -> None:
    """Let the phone belong to another domain, which uses it."""
    other = world.issue_rollout(owner="vera", domain="other.example", category="Sales")
    token = world.redeem(other.digits).token
    devices.update_script(world.visit(None, token=token), NOW)


def try_elsewhere(digits: str, hw_id: str) -> None:
    """Let a phone try a code that is good, but not for it."""
    with pytest.raises(DeviceElsewhereError):
        world.redeem(digits, hw_id)


def test_revoked_codes_are_reissued_by_name_alone() -> None:
    """Nobody revokes a code to find it back in the post."""
    rollout = world.make_rollout(["user1", "user2"])
    assert rollouts.revoke(OFFICE, rollout.rollout_id, Selection(["user1"])).changed == 1
    assert rollouts.reissue(OFFICE, rollout.rollout_id, Selection()).changed == 1
    assert states(rollout) == {"user1": REVOKED, "user2": PENDING}
    assert rollouts.reissue(OFFICE, rollout.rollout_id, Selection(["user1"])).changed == 1
    assert states(rollout) == {"user1": PENDING, "user2": PENDING}
    assert is_redeemed(world.told(rollout)["user1"])


def test_revoked_codes_redeem_nothing() -> None:
    """Only pending ones are revoked: those that ended stay expired, a revoked one is no longer."""
    rollout = world.make_rollout(["user1", "user2"])
    told = world.told(rollout)
    assert rollouts.revoke(OFFICE, rollout.rollout_id, Selection(["user1"])) == Changed(1, [], None)
    assert rollouts.revoke(OFFICE, rollout.rollout_id, Selection(["user1"])) == Changed(0, [], None)
    assert rollouts.extend(OFFICE, rollout.rollout_id, Selection(["user1"])).changed == 0
    entry = world.entry(rollout, "user1")
    assert (entry.since, codes.find_all([entry.fingerprint])[0].sealed_code) == (NOW, None)
    assert not is_redeemed(told["user1"])
    assert reason(rollout, "user1") == Refusal.REVOKED
    later = world.users_admin(NOW + timedelta(seconds=WEEK))
    assert rollouts.revoke(later, rollout.rollout_id, Selection()).changed == 0
    assert states(rollout, WEEK) == {"user1": REVOKED, "user2": EXPIRED}


def test_who_is_registered_is_never_touched() -> None:
    """Neither by name nor with all the others, not even after the code's end."""
    rollout = world.make_rollout(["user1"])
    world.redeem(world.told(rollout)["user1"])
    before = world.entry(rollout, "user1")
    for seconds, selection in itertools.product((0, WEEK), (Selection(["user1"]), Selection())):
        asking = world.users_admin(NOW + timedelta(seconds=seconds))
        for change in (rollouts.extend, rollouts.reissue, rollouts.revoke):
            assert change(asking, rollout.rollout_id, selection) == Changed(0, [], None)
    assert rollouts.add(OFFICE, rollout.rollout_id, ["user1"]) == Added(0, 1)
    assert world.entry(rollout, "user1") == before
    assert [phone.hw_id for phone in users.list_phones(world.person(), 10, None)[0]] == [
        world.HW_ID
    ]


@pytest.mark.parametrize("change", [rollouts.extend, rollouts.reissue, rollouts.revoke])
def test_a_phone_that_is_faster_keeps_what_it_has(
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Asking, str, Selection], Changed],
) -> None:
    """It registers between reading and writing: it is missed, and the others are changed."""
    rollout = world.make_rollout(["user1", "user2", "user3"])
    told = world.told(rollout)
    with faults.meanwhile(
        monkeypatch, "TransactWriteItems", lambda: world.redeem(told["user2"], TABLET)
    ):
        changed = change(OFFICE, rollout.rollout_id, Selection())
    assert changed == Changed(2, ["user2"], None)
    assert world.entry(rollout, "user2").hw_id == TABLET
    assert states(rollout)["user2"] is REGISTERED


def test_who_is_not_in_the_rollout_cannot_be_changed() -> None:
    """All of them are named by place, and nobody is changed."""
    rollout = world.make_rollout(["user1"])
    before = world.entry(rollout, "user1")
    for change in (rollouts.extend, rollouts.reissue, rollouts.revoke):
        with pytest.raises(InvalidRequestError) as refused:
            change(OFFICE, rollout.rollout_id, Selection(["user2", "user1", "nobody"]))
        assert [fault.field for fault in refused.value.faults] == ["users.0", "users.2"]
    assert world.entry(rollout, "user1") == before


@pytest.mark.parametrize("change", [rollouts.extend, rollouts.reissue, rollouts.revoke])
def test_every_entry_is_reached_once(
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Asking, str, Selection], Changed],
) -> None:
    """Call by call with the cursor, though phones come and users are added meanwhile."""
    monkeypatch.setattr(rollouts, "MAX_USERS", 3)
    sips = world.staff(8)
    rollout = world.make_rollout(sips)
    told = world.told(rollout)
    after: str | None = None
    reached, calls = 0, 0
    while calls == 0 or after is not None:
        changed = change(OFFICE, rollout.rollout_id, Selection(after=after))
        assert changed.missed == []
        reached, calls, after = reached + changed.changed, calls + 1, changed.next_after
        if calls == 1:
            world.redeem(told[sips[7]])
            rollouts.add(OFFICE, rollout.rollout_id, ["user1"])
    assert reached == 8
    assert calls >= 3
    assert rollouts.show(OFFICE, rollout.rollout_id, REGISTERED, 9, None).entries.items[0]


def test_a_page_without_anything_to_change_is_not_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its cursor goes on."""
    monkeypatch.setattr(rollouts, "MAX_USERS", 2)
    rollout = world.make_rollout(["user1", "user2", "user3"])
    rollouts.revoke(OFFICE, rollout.rollout_id, Selection(["user1", "user2"]))
    first = rollouts.reissue(OFFICE, rollout.rollout_id, Selection())
    assert (first.changed, first.next_after) == (0, "user2")
    second = rollouts.reissue(OFFICE, rollout.rollout_id, Selection(after=first.next_after))
    assert (second.changed, second.next_after) == (1, None)


def draws(monkeypatch: pytest.MonkeyPatch, *first: str) -> list[str]:
    """Let these codes be drawn first; what is drawn after them is collected."""
    wanted, later, real = list(first), [], vault.new_code

    def draw() -> str:
        if wanted:
            return wanted.pop(0)
        later.append(real())
        return later[-1]

    monkeypatch.setattr(vault, "new_code", draw)
    return later


@pytest.mark.parametrize("versions", [1, 3])
@pytest.mark.parametrize("reissues", [False, True])
def test_only_who_drew_an_open_code_draws_again(
    monkeypatch: pytest.MonkeyPatch, versions: int, *, reissues: bool
) -> None:
    """Also one that was issued under an older key; the others keep what they drew."""
    taken = world.issue("user9")
    rotate(monkeypatch, versions)
    rollout = world.make_rollout(["user1", "user2", "user3"] if reissues else [])
    later = draws(monkeypatch, "100000000001", taken.digits, "100000000003")
    if reissues:
        assert rollouts.reissue(OFFICE, rollout.rollout_id, Selection()) == Changed(3, [], None)
    else:
        added = rollouts.add(OFFICE, rollout.rollout_id, ["user1", "user2", "user3"])
        assert added == Added(3, 0)
    drawn = ["100000000001", "100000000003", *later]
    assert len(later) == 1
    assert sorted(world.told(rollout).values()) == sorted(drawn)
    assert world.stored(taken.code).owner == "user9"
    assert world.redeem(taken.digits).device.user == "user9"
    for n, digits in enumerate(drawn):
        assert is_redeemed(digits, f"0090330000d{n}")


@pytest.mark.parametrize(("versions", "transactions"), [(1, 2), (3, 3)])
def test_a_transaction_has_room_for_every_version_of_the_key(
    monkeypatch: pytest.MonkeyPatch, many: int, versions: int, transactions: int
) -> None:
    """At most 100 items, whatever each entry takes."""
    rotate(monkeypatch, versions)
    sips = world.staff(many)
    rollout = world.make_rollout([])
    sizes: list[int] = []
    real = connection.Transaction.commit

    def commit(transaction: connection.Transaction) -> None:
        sizes.append(sum(len(names) for names in transaction._names.values()))  # noqa: SLF001 - what is counted
        real(transaction)

    monkeypatch.setattr(connection.Transaction, "commit", commit)
    assert rollouts.add(OFFICE, rollout.rollout_id, sips) == Added(many, 0)
    assert max(sizes) <= connection.MAX_TRANSACTION_ITEMS
    assert len(sizes) == transactions
    sizes.clear()
    assert rollouts.reissue(OFFICE, rollout.rollout_id, Selection()).changed == many
    assert max(sizes) <= connection.MAX_TRANSACTION_ITEMS


def test_somebody_who_never_draws_a_free_code_is_told_to_come_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It ends; nothing is left half."""
    taken = world.issue("user9")
    rollout = world.make_rollout(["user1"])
    monkeypatch.setattr(vault, "new_code", lambda: taken.digits)
    with pytest.raises(StoreUnavailableError):
        rollouts.add(OFFICE, rollout.rollout_id, ["user2"])
    assert list(states(rollout)) == ["user1"]
    assert world.stored(taken.code).owner == "user9"


def test_what_is_shown_of_each_state() -> None:
    """Newest change first, with its phone; of one state alone; counted."""
    rollout = world.make_rollout(["user1", "user2", "user3", "user4"])
    told = world.told(rollout)
    world.redeem(told["user3"], now=NOW + timedelta(minutes=1))
    at, second = rollout.rollout_id, NOW + timedelta(minutes=2)
    rollouts.revoke(world.users_admin(second), at, Selection(["user1"]))
    third = NOW + timedelta(minutes=3)
    rollouts.extend(world.users_admin(third), at, Selection(["user4"]))
    assert shown(rollout) == ["user4", "user1", "user3", "user2"]
    assert counts(rollout, 300) == {PENDING: 2, REGISTERED: 1, REVOKED: 1}
    assert shown(rollout, PENDING) == ["user4", "user2"]
    assert shown(rollout, REGISTERED) == ["user3"]
    assert shown(rollout, REVOKED) == ["user1"]
    assert counts(rollout, WEEK) == {PENDING: 1, EXPIRED: 1, REGISTERED: 1, REVOKED: 1}
    assert shown(rollout, EXPIRED, WEEK) == ["user2"]
    assert counts(rollout, WEEK + 180) == {EXPIRED: 2, REGISTERED: 1, REVOKED: 1}
    assert shown(rollout, EXPIRED, WEEK + 180) == ["user4", "user2"]
    (entry,) = rollouts.show(OFFICE, rollout.rollout_id, REGISTERED, 10, None).entries.items
    assert entry.device is not None
    assert (entry.device.hw_id, entry.registration.since) == (
        world.HW_ID,
        NOW + timedelta(minutes=1),
    )
    late = NOW + timedelta(seconds=2 * WEEK)
    since = {sip: world.entry(rollout, sip).since_at(late) for sip in told}
    assert since == {
        "user1": NOW + timedelta(minutes=2),
        "user2": NOW + timedelta(seconds=WEEK),
        "user3": NOW + timedelta(minutes=1),
        "user4": NOW + timedelta(minutes=3, seconds=WEEK),
    }


def test_a_list_that_lags_shows_nothing_twice_and_nothing_wrong(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An entry that has changed since the index saw it, or is gone, is left out of its state."""
    rollout = world.make_rollout(["user1", "user2", "user3"])
    told = world.told(rollout)

    def act() -> None:
        world.redeem(told["user1"])
        registrations.RegistrationItem(rollout.rollout_id, "user2").delete()

    real = registrations.find_all

    def lagging(rollout_id: str, sips: list[str]) -> list[Registration]:
        act()
        return real(rollout_id, sips)

    monkeypatch.setattr(registrations, "find_all", lagging)
    page = rollouts.show(OFFICE, rollout.rollout_id, PENDING, 10, None).entries
    assert [entry.registration.sip for entry in page.items] == ["user3"]


def test_a_phone_of_another_domain_is_shown_at_its_entry() -> None:
    """As the reason why nothing happens; it moves up in the list, and stays pending."""
    rollout = world.make_rollout(["user1", "user2"])
    digits = world.told(rollout)["user1"]
    registered_elsewhere()
    assert shown(rollout) == ["user2", "user1"]
    with pytest.raises(DeviceElsewhereError):
        world.redeem(digits, now=NOW + timedelta(minutes=1))
    assert reason(rollout, "user1") == Refusal.DEVICE_OF_ANOTHER_DOMAIN
    assert shown(rollout) == ["user1", "user2"]
    assert states(rollout) == {"user1": PENDING, "user2": PENDING}
    entry = world.entry(rollout, "user1")
    assert (entry.since, entry.changed_at) == (NOW, NOW + timedelta(minutes=1))
    world.redeem(digits, TABLET)
    assert reason(rollout, "user1") == ""


def test_a_harmless_refusal_does_not_hide_a_serious_one() -> None:
    """That somebody elsewhere repeated a code stays to be seen."""
    rollout = world.make_rollout(["user1"])
    digits = world.told(rollout)["user1"]
    world.redeem(digits)
    for hw_id, source in ((world.HW_ID, ELSEWHERE), (TABLET, ELSEWHERE)):
        with pytest.raises(CodeNotRedeemableError):
            world.redeem(digits, hw_id, source)
        assert reason(rollout, "user1") == Refusal.REPEATED_ELSEWHERE
    assert states(rollout) == {"user1": REGISTERED}


def test_an_attempt_after_the_end_is_shown() -> None:
    """The user tried too late, and the administrator sees it."""
    rollout = world.make_rollout(["user1"])
    assert not is_redeemed(world.told(rollout)["user1"], seconds=WEEK)
    assert reason(rollout, "user1", WEEK) == Refusal.EXPIRED
    later = world.users_admin(NOW + timedelta(seconds=WEEK))
    rollouts.reissue(later, rollout.rollout_id, Selection())
    assert reason(rollout, "user1", WEEK) == ""


def test_a_phone_that_does_not_finish_is_shown() -> None:
    """Its script was not confirmed within three polls; it is registered all the same."""
    rollout = world.make_rollout(["user1"])
    world.redeem(world.told(rollout)["user1"])
    assert reason(rollout, "user1") == ""
    assert reason(rollout, "user1", 86_400) == NOT_CONFIRMED
    assert states(rollout, 86_400) == {"user1": REGISTERED}


def test_a_phone_that_was_given_up_is_shown() -> None:
    """Or that is another user's now."""
    rollout = world.make_rollout(["user1", "user2"])
    told = world.told(rollout)
    world.redeem(told["user1"])
    users.release_phone(world.asking(), world.HW_ID)
    assert reason(rollout, "user1") == RELEASED
    world.redeem(told["user2"])
    assert (reason(rollout, "user1"), reason(rollout, "user2")) == (RELEASED, "")
    page = rollouts.show(OFFICE, rollout.rollout_id, REGISTERED, 10, None).entries
    phones = {entry.registration.sip: entry.device for entry in page.items}
    assert phones["user1"] is None
    assert phones["user2"] is not None


def test_a_rollouts_code_moves_a_phone_from_another_user_of_the_domain() -> None:
    """And whoever had it in the rollout before is shown without it."""
    rollout = world.make_rollout(["user1", "user2"])
    told = world.told(rollout)
    world.redeem(told["user1"])
    assert world.redeem(told["user2"], source=ELSEWHERE).device.user == "user2"
    assert (reason(rollout, "user1"), reason(rollout, "user2")) == (RELEASED, "")


def test_codes_are_exported_with_what_the_user_is_now() -> None:
    """By sip; only pending ones are told; somebody who is no user any more is still there."""
    rollout = world.make_rollout(["user1", "user2", "user3"])
    told = world.told(rollout)
    world.redeem(told["user2"])
    user_table.UserItem(world.DOMAIN, "user3").delete()
    exported, found = handouts.export(OFFICE, rollout.rollout_id, None)
    assert exported == rollout
    assert [
        (one.registration.sip, one.user.name, one.user.number, one.digits) for one in found
    ] == [
        ("user1", "User 1", "101", told["user1"]),
        ("user2", "User 2", "102", ""),
        ("user3", "User 3", "", told["user3"]),
    ]
    assert told["user1"] not in repr(found)


def test_a_code_whose_phone_comes_while_it_is_told_is_not_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is worth nothing any more."""
    rollout = world.make_rollout(["user1", "user2"])
    told = world.told(rollout)
    with faults.meanwhile(monkeypatch, "PutItem", lambda: world.redeem(told["user1"])):
        _, found = handouts.export(OFFICE, rollout.rollout_id, None)
    assert [one.digits for one in found] == ["", told["user2"]]


def test_what_has_changed_since_is_exported_alone() -> None:
    """New codes and new phones; what is as it was then is left out."""
    rollout = world.make_rollout(["user1", "user2", "user3"])
    told = world.told(rollout)
    minute = NOW + timedelta(minutes=1)
    rollouts.reissue(world.users_admin(minute), rollout.rollout_id, Selection(["user1"]))
    world.redeem(told["user2"], now=minute)
    _, found = handouts.export(OFFICE, rollout.rollout_id, minute)
    assert [one.registration.sip for one in found] == ["user1", "user2"]
    _, found = handouts.export(OFFICE, rollout.rollout_id, minute + timedelta(seconds=1))
    assert found == []
    _, found = handouts.export(OFFICE, rollout.rollout_id, NOW)
    assert len(found) == 3


def test_a_whole_rollout_is_exported(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many pages it has, each once."""
    monkeypatch.setattr(handouts, "MAX_ENTRIES", 7)
    sips = world.staff(16)
    rollout = world.make_rollout(sips)
    _, found = handouts.export(OFFICE, rollout.rollout_id, None)
    assert [one.registration.sip for one in found] == sips
    assert len({one.digits for one in found}) == 16


def test_slips_are_viewed_page_by_page() -> None:
    """Of those that are pending, as many as were asked for, wherever they stand."""
    rollout = world.make_rollout(["user1", "user2", "user3", "user4"])
    told = world.told(rollout)
    world.redeem(told["user1"])
    viewed, first = handouts.view(OFFICE, rollout.rollout_id, 2, None)
    assert viewed == rollout
    assert [one.digits for one in first.items] == [told["user2"], told["user3"]]
    _, second = handouts.view(OFFICE, rollout.rollout_id, 2, first.next_after)
    assert [one.digits for one in second.items] == [told["user4"]]
    assert second.next_after is None


def test_slips_of_a_long_rollout_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are looked through without a slip do not end it."""
    monkeypatch.setattr(handouts, "MAX_USERS", 2)
    rollout = world.make_rollout(["user1", "user2", "user3"])
    told = world.told(rollout)
    world.redeem(told["user1"])
    world.redeem(told["user2"], "009033000002")
    _, first = handouts.view(OFFICE, rollout.rollout_id, 2, None)
    assert first.items == []
    _, second = handouts.view(OFFICE, rollout.rollout_id, 2, first.next_after)
    assert [one.digits for one in second.items] == [told["user3"]]


@pytest.mark.parametrize("is_lost", [False, True])
@pytest.mark.parametrize(
    "tell",
    [
        lambda at: handouts.export(OFFICE, at, None),
        lambda at: handouts.view(OFFICE, at, 10, None),
    ],
)
def test_nothing_is_told_that_cannot_be_written_down(
    monkeypatch: pytest.MonkeyPatch, tell: Callable[[str], object], *, is_lost: bool
) -> None:
    """No code is read before the audit trail has it."""
    rollout = world.make_rollout(["user1"])
    with (
        faults.failing(monkeypatch, "PutItem", faults.timeout(), after_commit=is_lost),
        world.calls() as made,
        pytest.raises(StoreUnavailableError),
    ):
        tell(rollout.rollout_id)
    assert made.count("BatchGetItem") == 1  # the rollout


def test_the_audit_trail_says_who_did_what_to_whom() -> None:
    """Each change, each export and each look, with everybody whom it concerned."""
    rollout = world.make_rollout(["user1", "user2"])
    rollout_id = rollout.rollout_id
    acts: list[Callable[[Asking], object]] = [
        lambda who: rollouts.add(who, rollout_id, ["user3"]),
        lambda who: rollouts.extend(who, rollout_id, Selection(["user1"])),
        lambda who: rollouts.reissue(who, rollout_id, Selection(["user2"])),
        lambda who: rollouts.revoke(who, rollout_id, Selection(["user3"])),
        lambda who: handouts.export(who, rollout_id, None),
        lambda who: handouts.export(who, rollout_id, NOW),
        lambda who: handouts.view(who, rollout_id, 10, None),
        lambda who: rollouts.revoke(who, rollout_id, Selection(["user3"])),
    ]
    for minute, act in enumerate(acts, 1):
        act(world.users_admin(NOW + timedelta(minutes=minute)))
    told = [(entry.action, ", ".join(sorted(entry.detail.split(", ")))) for entry in trail()]
    assert told == [
        ("rollout made", ""),
        ("codes issued", "user1, user2"),
        ("codes issued", "user3"),
        ("codes extended", "user1"),
        ("codes reissued", "user2"),
        ("codes revoked", "user3"),
        ("codes exported", "3 entries"),
        ("codes exported", "3 entries changed since 2036-11-24T12:00:00+00:00"),
        ("codes viewed", "user1, user2"),
    ]
    for entry in trail():
        assert (entry.actor, entry.subject, entry.source) == ("office", rollout_id, world.HOME)
    assert [entry.at for entry in trail()[2:]] == [
        NOW + timedelta(minutes=minute) for minute in range(1, 8)
    ]


def test_a_redemption_is_in_the_audit_trail_and_names_its_code() -> None:
    """By its handle; the rollout is found by it."""
    rollout = world.make_rollout(["user1"])
    world.redeem(world.told(rollout)["user1"])
    (entry, *_) = audit.list_month(world.DOMAIN, "2036-11", 10, None).items
    assert (entry.action, entry.actor, entry.subject) == (
        "code redeemed",
        world.HW_ID,
        world.entry(rollout, "user1").code_id,
    )


def test_a_rollouts_code_is_none_of_the_users_own() -> None:
    """Profile shows the phone, and not a code that they did not ask for."""
    rollout = world.make_rollout(["user1"])
    world.redeem(world.told(rollout)["user1"])
    assert users.list_codes(world.person(), 10, None) == ([], None)
    with pytest.raises(NotFoundError):
        users.find_code(world.person(), world.entry(rollout, "user1").code_id)
    assert [phone.hw_id for phone in users.list_phones(world.person(), 10, None)[0]] == [
        world.HW_ID
    ]


def test_promise_11_a_rollouts_code_costs_a_phone_six_calls() -> None:
    """As any code does, however many others there are."""
    rollout = world.make_rollout(world.staff(8))
    told = world.told(rollout)
    with world.calls() as made:
        script = devices.update_script(world.visit(told["clerk007"]), NOW)
    assert demo.EXPERT_LINES[0] in script
    assert len(made) <= 6
    assert "Scan" not in made


@pytest.mark.parametrize(("part", "most"), [(6, 7), (1, 8)])
def test_promise_11_adding_costs_a_transaction_for_fifty(many: int, part: int, most: int) -> None:
    """Nothing is read user by user."""
    sips = world.staff(many // part)
    rollout = world.make_rollout([])
    with world.calls() as made:
        rollouts.add(OFFICE, rollout.rollout_id, sips)
    assert len(made) <= most
    assert set(made) <= {"BatchGetItem", "Query", "TransactWriteItems"}


@pytest.mark.parametrize("state", [None, *EntryState])
def test_promise_11_a_list_costs_the_same_whatever_is_in_it(state: EntryState | None) -> None:
    """The rollout, a page, its phones, and a count of each state."""
    rollout = world.make_rollout(world.staff(15))
    told = world.told(rollout)
    for n in range(5):
        world.redeem(told[f"clerk{n:03}"], f"0090330000a{n}")
    with world.calls() as made:
        rollouts.show(OFFICE, rollout.rollout_id, state, 10, None)
    assert len(made) <= 8
    assert set(made) <= {"BatchGetItem", "Query"}


def test_promise_11_changing_sixty_costs_two_transactions(many: int) -> None:
    """And a few reads before them."""
    rollout = world.make_rollout(world.staff(many))
    for change in (rollouts.extend, rollouts.reissue, rollouts.revoke):
        with world.calls() as made:
            change(OFFICE, rollout.rollout_id, Selection())
        assert made.count("TransactWriteItems") == 2
        assert len(made) <= 6
        assert set(made) <= {"BatchGetItem", "Query", "TransactWriteItems"}


def _strings(value: object) -> Iterator[str]:
    """Find every text in an item as DynamoDB writes it."""
    if isinstance(value, dict):
        for one in value.values():
            yield from _strings(one)
    elif isinstance(value, list):
        for one in value:
            yield from _strings(one)
    elif isinstance(value, str):
        yield value


def test_promise_12_a_dump_after_a_whole_rollout_redeems_nothing(
    client: "DynamoDBClient", table_names: dict[str, str]
) -> None:
    """No code in any spelling and no token; nothing that stands in it registers a phone."""
    rollout = world.make_rollout(["user1", "user2", "user3", "user4"])
    seen = set(world.told(rollout).values())
    rollouts.reissue(OFFICE, rollout.rollout_id, Selection(["user1"]))
    rollouts.extend(OFFICE, rollout.rollout_id, Selection(["user2"]))
    rollouts.revoke(OFFICE, rollout.rollout_id, Selection(["user4"]))
    told = world.told(rollout)
    seen |= set(told.values())
    token = world.redeem(told["user3"], TABLET).token
    assert not is_redeemed(told["user3"], "0090330000ff")
    handouts.view(OFFICE, rollout.rollout_id, 10, None)
    dump = world.dump(client, table_names)
    assert len(seen) == 5
    for digits in seen:
        spellings = {digits, grouped(digits), grouped(digits).replace(" ", "-"), digits[::-1]}
        assert not [spelling for spelling in spellings if spelling in dump]
        assert hashlib.sha256(digits.encode()).hexdigest() not in dump
    assert token not in dump
    texts = {
        text
        for name in table_names.values()
        for item in client.scan(TableName=name)["Items"]
        for text in _strings(item)
        if text
    }
    assert len(texts) > 100
    for n, text in enumerate(sorted(texts)):
        visit = world.visit(text, "0090330000ee", f"source {n}", token=text)
        assert demo.EXPERT_LINES[0] not in devices.update_script(visit, NOW)
    assert is_redeemed(told["user1"], "0090330000ef")


def test_names_in_a_transaction_cannot_be_taken_for_each_other() -> None:
    """Though a user is called as a part of it is."""
    sips = world.hire("code user1", "old code user1", "registration user1")
    rollout = world.make_rollout([*sips, "user1"])
    told = world.told(rollout)
    world.redeem(told["code user1"])
    assert rollouts.reissue(OFFICE, rollout.rollout_id, Selection()) == Changed(3, [], None)
    assert states(rollout) == {
        "code user1": REGISTERED,
        "old code user1": PENDING,
        "registration user1": PENDING,
        "user1": PENDING,
    }


def test_an_entry_knows_no_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is drawn is not in what a log might show of it."""
    drawn = draws(monkeypatch)
    adding = entries.Adding(OFFICE, world.make_rollout([]), world.UPDATE_URL)
    (user,) = user_table.find_all(world.DOMAIN, ["user1"])
    assert adding.step(user).drawn is not None
    assert drawn[0] not in repr(adding.step(user))


def test_rollouts_and_entries_end_when_they_say() -> None:
    """Ninety days to issue in, ninety more to look at it."""
    rollout = world.make_rollout(["user1"])
    assert rollout.ends_at == NOW + timedelta(days=90)
    assert rollout.purge_at == world.entry(rollout, "user1").purge_at == NOW + timedelta(days=180)
    assert replace(rollout, created_at=NOW + timedelta(days=1)).ends_at > rollout.ends_at
