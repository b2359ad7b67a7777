"""Rollouts in races: whatever happens at once or ends in the middle, each entry has one code.

No engine here cancels transactions that meet, as AWS does; `faults.conflicts` does.
"""

import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
from pynamodb.attributes import UTCDateTimeAttribute

from chalicelib.core import codes as code_rules
from chalicelib.core.devices import Device
from chalicelib.core.errors import CodeNotRedeemableError, Refusal, StoreUnavailableError
from chalicelib.core.rollouts import Rollout, State
from chalicelib.roles import entries, issuing, rollouts, users
from chalicelib.roles.rollouts import Added, Changed, Selection
from chalicelib.storage import connection, registrations, vault
from tests import faults, world
from tests.conftest import NOW

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("table_names")]

_T = TypeVar("_T")

OFFICE = world.users_admin()


_MAX_REPEATS = 20
"""More than enough: each try waits for another's end, and nobody writes more than twice."""


class Died(BaseException):
    """The process is no more; nothing of ours may catch it."""


@dataclass
class Store:
    """What is in the tables, past the service."""

    client: "DynamoDBClient"
    table: str

    def codes_of(self, rollout: Rollout) -> dict[str, list[dict[str, Any]]]:
        """Read all codes of a rollout, whatever their state: sip → items."""
        found: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for page in self.client.get_paginator("scan").paginate(TableName=self.table):
            for item in page["Items"]:
                if item.get("rollout_id", {}).get("S") == rollout.rollout_id:
                    found[item["owner"]["S"]].append(item)
        return found

    def assert_whole(self, rollout: Rollout, sips: Sequence[str]) -> dict[str, State]:
        """Expect an entry of each user, with exactly one code that is alive or has been redeemed.

        Returns:
            The state of each entry.
        """
        found = registrations.list_all(rollout.rollout_id, 1_000, None).items
        assert [entry.sip for entry in found] == sorted(sips)
        known = self.codes_of(rollout)
        for entry in found:
            alive = [
                (code["code_id"]["S"], code["state"]["S"], code.get("hw_id", {}).get("S", ""))
                for code in known[entry.sip]
                if code["state"]["S"] != code_rules.State.REVOKED
            ]
            expected = {State.PENDING: "pending", State.REGISTERED: "redeemed"}
            if entry.state is State.REVOKED:
                assert alive == []
            else:
                assert alive == [(entry.code_id, expected[entry.state], entry.hw_id)]
            assert bool(entry.hw_id) is (entry.state is State.REGISTERED)
        return {entry.sip: entry.state for entry in found}


@pytest.fixture
def store(client: "DynamoDBClient", table_names: dict[str, str]) -> Store:
    """Write the demo data, and look at what becomes of it."""
    world.seed()
    return Store(client, table_names["codes"])


@pytest.fixture
def many(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Say how many users there are, enough for three transactions.

    moto is slower: there, all is smaller.
    """
    if request.config.getoption("--engine"):
        return 120
    monkeypatch.setattr(entries, "MAX_TRANSACTION_ITEMS", 14)
    return 16


@pytest.fixture
def phones(request: pytest.FixtureRequest) -> int:
    """Say how many phones there are."""
    return 200 if request.config.getoption("--engine") else 12


def at_once(*acts: Callable[[], _T]) -> list[_T]:
    """Do all of it at the same moment, each in a thread of its own."""
    gate = threading.Barrier(len(acts))

    def begin(act: Callable[[], _T]) -> _T:
        gate.wait()
        return act()

    with ThreadPoolExecutor(len(acts)) as pool:
        return list(pool.map(begin, acts))


def written(moment: datetime) -> str:
    """Write a time as the table of codes holds it."""
    return str(UTCDateTimeAttribute().serialize(moment))  # type: ignore[no-untyped-call]  # PynamoDB's


def phone(n: int) -> str:
    """Tell the hardware id of a phone."""
    return f"00903304{n:04x}"


def patiently(act: Callable[[], _T]) -> _T:
    """Come back when the store was in trouble, as phones and browsers do."""
    for _ in range(_MAX_REPEATS):
        try:
            return act()
        except StoreUnavailableError:
            continue
    return act()


def attempt(digits: str, n: int, now: datetime = NOW) -> Device | Refusal:
    """Let a phone try a code, from a source of its own."""
    source = f"198.51.{n // 250}.{n % 250}"
    try:
        return patiently(lambda: world.redeem(digits, phone(n), source, now)).device
    except CodeNotRedeemableError as error:
        return error.refusal


def attempts(told: dict[str, str]) -> list[Callable[[], Any]]:
    """Let each user's phone try the user's code, in the order of the sips."""
    return [partial(attempt, told[sip], n) for n, sip in enumerate(sorted(told))]


def test_all_phones_of_a_rollout_register_at_once(
    store: Store, phones: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each gets its own user, none is in another's way, and the list says so."""
    sips = world.staff(phones)
    rollout = world.make_rollout(sips)
    told = world.told(rollout)
    with faults.conflicts(monkeypatch) as met:
        outcomes = at_once(*attempts(told))
    assert met == []
    assert [outcome.user for outcome in outcomes] == sips
    assert set(store.assert_whole(rollout, sips).values()) == {State.REGISTERED}
    shown = rollouts.show(OFFICE, rollout.rollout_id, State.REGISTERED, 1_000, None)
    assert shown.counts == {
        State.REGISTERED: phones,
        State.PENDING: 0,
        State.EXPIRED: 0,
        State.REVOKED: 0,
    }
    listed = {
        entry.registration.sip: entry.device.hw_id for entry in shown.entries.items if entry.device
    }
    assert listed == {sip: phone(n) for n, sip in enumerate(sips)}
    for n in (0, phones // 2, phones - 1):
        own, _ = users.list_phones(world.person(sips[n]), 10, None)
        assert [one.hw_id for one in own] == [phone(n)]


def test_conflicts_are_tried_again_by_each_phone(
    store: Store, phones: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every phone's transaction is cancelled twice, and every phone registers."""
    sips = world.staff(phones // 4)
    rollout = world.make_rollout(sips)
    told = world.told(rollout)
    reasons = ["None", "TransactionConflict"]

    def conflicting(act: Callable[[], _T]) -> Callable[[], _T]:
        cancelled = [
            faults.client_error("TransactionCanceledException", "TransactWriteItems", reasons)
            for _ in range(2)
        ]

        def act_in_conflict() -> _T:
            pending.errors = cancelled
            return act()

        return act_in_conflict

    pending = threading.local()
    client = connection.shared().client
    real = client._make_api_call  # noqa: SLF001 - as in tests/faults.py

    def call(name: str, arguments: dict[str, Any]) -> Any:  # noqa: ANN401 - botocore's answer
        if name == "TransactWriteItems" and pending.errors:
            raise pending.errors.pop()
        return real(name, arguments)

    with monkeypatch.context() as patch:
        patch.setattr(client, "_make_api_call", call)
        outcomes = at_once(*[conflicting(act) for act in attempts(told)])
    assert [outcome.user for outcome in outcomes] == sips
    assert set(store.assert_whole(rollout, sips).values()) == {State.REGISTERED}


def test_one_code_of_a_rollout_registers_one_of_many_phones(
    store: Store, phones: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others are refused as by any code, and the entry names the winner."""
    rollout = world.make_rollout(["user1"])
    digits = world.told(rollout)["user1"]
    with faults.conflicts(monkeypatch):
        outcomes = at_once(*[partial(attempt, digits, n) for n in range(phones // 4)])
    winners = [outcome for outcome in outcomes if isinstance(outcome, Device)]
    assert len(winners) == 1
    assert outcomes.count(Refusal.ALREADY_USED) == phones // 4 - 1
    assert store.assert_whole(rollout, ["user1"]) == {"user1": State.REGISTERED}
    assert world.entry(rollout, "user1").hw_id == winners[0].hw_id


@pytest.mark.parametrize("error", [faults.timeout(), Died()], ids=["fault", "death"])
@pytest.mark.parametrize("after_commit", [False, True])
@pytest.mark.parametrize("spare", [0, 1, 2])
def test_an_upload_that_ends_in_the_middle_is_finished_by_the_same_again(
    store: Store,
    many: int,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    spare: int,
    *,
    after_commit: bool,
) -> None:
    """After any of its transactions, written or not: nobody has two codes, and nobody none."""
    sips = world.staff(many)
    rollout = world.make_rollout(sips[:3])
    with (
        faults.failing(
            monkeypatch, "TransactWriteItems", error, after_commit=after_commit, spare=spare
        ) as left,
        pytest.raises((StoreUnavailableError, Died)),
    ):
        rollouts.add(OFFICE, rollout.rollout_id, sips)
    assert left == []
    there = registrations.count(rollout.rollout_id)
    store.assert_whole(rollout, sorted(store.codes_of(rollout)))
    assert there < many or after_commit
    again = rollouts.add(OFFICE, rollout.rollout_id, [*sips, sips[5]])
    assert again == Added(many - there, there + 1)
    assert set(store.assert_whole(rollout, sips).values()) == {State.PENDING}
    assert len(set(world.told(rollout).values())) == many
    assert rollouts.add(OFFICE, rollout.rollout_id, sips) == Added(0, many)


@pytest.mark.parametrize("after_commit", [False, True])
@pytest.mark.parametrize("change", [rollouts.extend, rollouts.reissue, rollouts.revoke])
def test_a_change_that_ends_in_the_middle_leaves_whole_entries(
    store: Store,
    many: int,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[..., Changed],
    *,
    after_commit: bool,
) -> None:
    """And the same again changes all that are left."""
    sips = world.staff(many)
    rollout = world.make_rollout(sips)
    with (
        faults.failing(
            monkeypatch, "TransactWriteItems", faults.timeout(), after_commit=after_commit, spare=1
        ),
        pytest.raises(StoreUnavailableError),
    ):
        change(OFFICE, rollout.rollout_id, Selection())
    before = store.assert_whole(rollout, sips)
    again = change(OFFICE, rollout.rollout_id, Selection())
    assert again.changed == list(before.values()).count(State.PENDING)
    assert again.missed == []
    store.assert_whole(rollout, sips)


def test_two_uploads_of_the_same_users_give_each_one_code(
    store: Store, many: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, in opposite orders, and both read that nobody was there."""
    sips = world.staff(many)
    rollout = world.make_rollout([])
    with both_read_first(monkeypatch, registrations, "count"):
        one, other = at_once(
            lambda: rollouts.add(OFFICE, rollout.rollout_id, sips),
            lambda: rollouts.add(OFFICE, rollout.rollout_id, [*reversed(sips), sips[0]]),
        )
    assert one.added + other.added == many
    assert (one.already, other.already) == (many - one.added, many + 1 - other.added)
    assert set(store.assert_whole(rollout, sips).values()) == {State.PENDING}


@contextmanager
def both_read_first(
    monkeypatch: pytest.MonkeyPatch, module: object, name: str
) -> Iterator[list[str]]:
    """Let two threads that read with a function go on when both have read; and conflicts count."""
    real, gate = getattr(module, name), threading.Barrier(2)

    def read(*arguments: Any) -> Any:  # noqa: ANN401 - whatever it reads
        found = real(*arguments)
        gate.wait()
        return found

    with monkeypatch.context() as patch, faults.conflicts(monkeypatch) as met:
        patch.setattr(module, name, read)
        yield met


def test_codes_are_reissued_while_phones_redeem_them(
    store: Store, phones: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each entry has the phone of its old code, or one new code: never both, and never none."""
    sips = world.staff(phones // 4)
    rollout = world.make_rollout(sips)
    old = world.told(rollout)
    tries: list[None] = []

    def reissue() -> Changed:
        tries.append(None)
        return rollouts.reissue(OFFICE, rollout.rollout_id, Selection())

    with faults.conflicts(monkeypatch):
        changed, *outcomes = at_once(lambda: patiently(reissue), *attempts(old))
    states = store.assert_whole(rollout, sips)
    registered = [sip for sip in sips if states[sip] is State.REGISTERED]
    reissued = [sip for sip in sips if states[sip] is State.PENDING]
    assert len(registered) + len(reissued) == len(sips)
    assert changed.changed == len(reissued) or len(tries) > 1
    assert set(changed.missed) <= set(registered)
    new = world.told(rollout)
    assert sorted(new) == reissued
    for n, (sip, outcome) in enumerate(zip(sips, outcomes, strict=True)):
        if sip in registered:
            assert isinstance(outcome, Device)
            assert world.entry(rollout, sip).hw_id == phone(n) == outcome.hw_id
            continue
        assert outcome is Refusal.REVOKED
        assert attempt(old[sip], n) is Refusal.REVOKED
        assert isinstance(attempt(new[sip], n), Device)


@pytest.mark.parametrize("change", [rollouts.extend, rollouts.revoke])
def test_codes_are_changed_while_phones_redeem_them(
    store: Store,
    phones: int,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[..., Changed],
) -> None:
    """Every phone is in time or too late, and its entry says which."""
    sips = world.staff(phones // 4)
    rollout = world.make_rollout(sips)
    told = world.told(rollout)
    with faults.conflicts(monkeypatch):
        changed, *outcomes = at_once(
            lambda: patiently(lambda: change(OFFICE, rollout.rollout_id, Selection())),
            *attempts(told),
        )
    states = store.assert_whole(rollout, sips)
    for sip, outcome in zip(sips, outcomes, strict=True):
        assert isinstance(outcome, Device) is (states[sip] is State.REGISTERED)
        assert isinstance(outcome, Device) or outcome is Refusal.REVOKED
    assert set(changed.missed) <= {sip for sip in sips if states[sip] is State.REGISTERED}
    if change is rollouts.extend:
        assert set(states.values()) == {State.REGISTERED}


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("expired", [False, True])
def test_two_administrators_reissue_the_same_codes(
    store: Store, many: int, monkeypatch: pytest.MonkeyPatch, *, named: bool, expired: bool
) -> None:
    """Each is reissued by one of them, also if it has ended, and the other learns whose it was."""
    asking = world.users_admin(NOW + timedelta(days=7 if expired else 0))
    sips = world.staff(many)
    rollout = world.make_rollout(sips)
    old = world.told(rollout)
    selection = Selection(sips) if named else Selection()

    def reissue() -> Changed:
        return rollouts.reissue(asking, rollout.rollout_id, selection)

    with both_read_first(monkeypatch, registrations, "find_all" if named else "list_all"):
        one, other = at_once(reissue, reissue)
    assert one.changed + other.changed == many
    assert (len(one.missed), len(other.missed)) == (other.changed, one.changed)
    assert not set(one.missed) & set(other.missed)
    assert sorted([*one.missed, *other.missed]) == sips
    new = world.told(rollout, asking.now)
    assert sorted(new) == sips
    for codes in store.codes_of(rollout).values():
        assert [code["expires_at"]["S"] > written(asking.now) for code in codes].count(True) == (
            1 if expired else 2
        )
    if not expired:
        store.assert_whole(rollout, sips)
    assert not set(new.values()) & set(old.values())
    refused = attempt(old[sips[0]], 0, asking.now)
    assert refused is (Refusal.EXPIRED if expired else Refusal.REVOKED)
    assert isinstance(attempt(new[sips[0]], 0, asking.now), Device)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (rollouts.extend, rollouts.reissue),
        (rollouts.extend, rollouts.revoke),
        (rollouts.reissue, rollouts.revoke),
        (rollouts.extend, rollouts.extend),
        (rollouts.revoke, rollouts.revoke),
    ],
)
def test_two_administrators_change_the_same_codes_differently(
    store: Store,
    many: int,
    monkeypatch: pytest.MonkeyPatch,
    one: Callable[..., Changed],
    other: Callable[..., Changed],
) -> None:
    """Each entry is whole in the end, and has as its end what its code has."""
    sips = world.staff(many)
    rollout = world.make_rollout(sips)
    later = world.users_admin(NOW + timedelta(minutes=1))
    with both_read_first(monkeypatch, registrations, "list_all"):
        first, second = at_once(
            lambda: one(later, rollout.rollout_id, Selection()),
            lambda: other(later, rollout.rollout_id, Selection()),
        )
    states = store.assert_whole(rollout, sips)
    assert first.changed + second.changed == many
    assert len(first.missed) + first.changed == len(second.missed) + second.changed == many
    if rollouts.revoke in {one, other}:
        revoker = first if one is rollouts.revoke else second
        if one is not other:
            assert list(states.values()).count(State.REVOKED) == revoker.changed
    known = {
        item["code_id"]["S"]: item["expires_at"]["S"]
        for items in store.codes_of(rollout).values()
        for item in items
    }
    for entry in registrations.list_all(rollout.rollout_id, 1_000, None).items:
        ends = written(entry.expires_at)
        assert known[entry.code_id] == ends


def test_a_code_at_its_end_is_extended_reissued_and_redeemed_at_once(store: Store) -> None:
    """Clocks differ by a second: however it turns out, one code is alive at most."""
    end = NOW + timedelta(days=7)
    before, after = world.users_admin(end - timedelta(seconds=1)), world.users_admin(end)
    for n in range(10):
        sip = f"user{n + 1}"
        rollout = world.make_rollout([sip])
        old = world.told(rollout)[sip]
        acts: list[Callable[[], object]] = [
            partial(rollouts.extend, before, rollout.rollout_id, Selection()),
            partial(rollouts.reissue, after, rollout.rollout_id, Selection()),
            partial(attempt, old, n, before.now),
        ]
        at_once(*acts)
        entry = world.entry(rollout, sip)
        alive = [
            item["code_id"]["S"]
            for item in store.codes_of(rollout)[sip]
            if item["state"]["S"] != code_rules.State.REVOKED
            and item["expires_at"]["S"] > written(end)
        ]
        assert alive in ([], [entry.code_id])


def test_two_rollouts_draw_the_same_codes(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, each transaction with other digits, the same in both: nobody shares a code."""
    sips = world.staff(20)
    one, other = world.make_rollout([]), world.make_rollout([])
    drawn = threading.local()
    real = vault.new_code

    def draw(order: issuing.Order, now: datetime) -> issuing.Drawn:
        drawn.owner = order.owner
        return real_draw(order, now)

    def new_code() -> str:
        number = int(drawn.owner.removeprefix("clerk"))
        with lock:
            drawn_by[drawn.owner] += 1
            is_first = drawn_by[drawn.owner] <= 2
        return f"{number:012}" if is_first else real()

    lock, drawn_by, real_draw = threading.Lock(), Counter[str](), issuing.draw
    monkeypatch.setattr(issuing, "draw", draw)
    monkeypatch.setattr(vault, "new_code", new_code)
    with faults.conflicts(monkeypatch):
        added = at_once(
            lambda: rollouts.add(OFFICE, one.rollout_id, sips),
            lambda: rollouts.add(OFFICE, other.rollout_id, sips),
        )
    assert added == [Added(20, 0), Added(20, 0)]
    for rollout in (one, other):
        assert set(store.assert_whole(rollout, sips).values()) == {State.PENDING}
    told = [*world.told(one).values(), *world.told(other).values()]
    assert len(set(told)) == 40
    assert {f"{number:012}" for number in range(20)} <= set(told)
