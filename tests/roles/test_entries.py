import itertools
from collections.abc import Callable
from datetime import timedelta

import pytest

from chalicelib.core.codes import State
from chalicelib.core.errors import (
    CodeNotRedeemableError,
    ConflictError,
    DeviceElsewhereError,
    InvalidRequestError,
    NotAllowedError,
    Refusal,
    StoreUnavailableError,
)
from chalicelib.core.rollouts import (
    LASTS_DAYS,
)
from chalicelib.roles import domains, entries, handouts, rollouts, users
from chalicelib.roles.asking import Asking
from chalicelib.roles.rollouts import Added, Changed, Selection
from chalicelib.storage import audit, codes, connection, vault
from chalicelib.storage import domains as domain_table
from chalicelib.storage import users as user_table
from tests import faults, world
from tests.conftest import NOW
from tests.roles.rolling_out import (
    CALLS,
    EXPIRED,
    OFFICE,
    PENDING,
    REGISTERED,
    REVOKED,
    TABLET,
    WEEK,
    close,
    counts,
    is_redeemed,
    reason,
    registered_elsewhere,
    rotate,
    shown,
    states,
)

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("table_names")]


@pytest.fixture(autouse=True)
def seeded(table_names: dict[str, str]) -> None:
    """Write the demo data."""
    assert table_names
    world.seed()


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


def test_promise_11_changing_sixty_costs_two_transactions(many: int) -> None:
    """And a few reads before them."""
    rollout = world.make_rollout(world.staff(many))
    for change in (rollouts.extend, rollouts.reissue, rollouts.revoke):
        with world.calls() as made:
            change(OFFICE, rollout.rollout_id, Selection())
        assert made.count("TransactWriteItems") == 2
        assert len(made) <= 6
        assert set(made) <= {"BatchGetItem", "Query", "TransactWriteItems"}


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
