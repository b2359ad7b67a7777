"""A user's phones become devices of the user's object at the PBX, whatever comes between."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from chalicelib.core import user_objects
from chalicelib.core.codes import Lifetime
from chalicelib.core.devices import Device, PbxState
from chalicelib.core.errors import PbxUnavailableError, StoreUnavailableError
from chalicelib.core.user_objects import FindBy, Hindrance, Trouble, UserObject
from chalicelib.roles import assignments, handovers, issuing, pbx_turns, pbxes, users
from chalicelib.storage import audit, connection, devices, holdings, leases, lists, redemptions
from chalicelib.storage import domains as domain_table
from chalicelib.storage import handovers as table
from chalicelib.storage import users as user_table
from chalicelib.storage.notifications import KEEP_SECONDS, Kind, NotificationItem
from tests import faults, world
from tests.conftest import NOW
from tests.played_pbx import PlayedPbx
from tests.processes import Clock, Died, process

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("table_names")]

DOMAIN = world.DOMAIN
PASSWORD = "of the app object"
SETTINGS = {
    "address": "wss://pbx.example.com",
    "app_object": "dialtone",
    "password": PASSWORD,
    "flags": ["reverse_proxy", "tls_only"],
}
_numbers = count(1)


@pytest.fixture
def clock() -> Clock:
    """Let a clock stand still."""
    return Clock()


@pytest.fixture
def pbx(table_names: dict[str, str]) -> PlayedPbx:
    """Write the demo data, and give its domain a PBX that knows two of its people."""
    assert table_names
    world.seed()
    pbxes.put(world.admin(), DOMAIN, SETTINGS)
    return PlayedPbx("user1", "user2")


def come(sip: str = "user1", now: datetime = NOW) -> str:
    """Let a phone come to a user; tells its hw_id."""
    hw_id = f"00903302{next(_numbers):04x}"
    order = issuing.Order(
        Lifetime.ROLLOUT,
        devices_url=world.UPDATE_URL,
        domain=DOMAIN,
        category="Office",
        app="phone",
        owner=sip,
    )
    issued = issuing.issue(order, now, lambda *_: None)
    world.redeem(issued.digits, hw_id, now=now)
    return hw_id


def seen(hw_id: str) -> tuple[PbxState | None, str]:
    """Tell what a phone shows of the PBX."""
    device = found(hw_id)
    return device.pbx, device.pbx_reason


def found(hw_id: str) -> Device:
    """Read a phone."""
    device = devices.find(hw_id)
    assert device is not None
    return device


def deliver(pbx: PlayedPbx, clock: Clock, *newcomers: str) -> bool:
    """Tell the PBX what is due."""
    return handovers.deliver(DOMAIN, pbx.connect, clock, newcomers)


def waiting() -> list[table.Handover]:
    """Tell what the PBX must still hear."""
    return table.list_waiting(DOMAIN, 1_000)


def rows(kind: Kind) -> list[dict[str, Any]]:
    """Read rows of a kind."""
    return lists.query(NotificationItem, DOMAIN, lists.Span(f"{kind}#", 1_000)).items


def test_a_phone_becomes_a_device_of_its_user(pbx: PlayedPbx, clock: Clock) -> None:
    """Once, with what its domain gives every device, and it shows that."""
    hw_id = come()
    assert seen(hw_id) == (None, "")
    assert deliver(pbx, clock)
    assert pbx.devices["user1"] == [
        {"hw": hw_id, "text": "IP232", "app": "phone", "trusted": True, "tls": True}
    ]
    assert (seen(hw_id), waiting()) == ((PbxState.DONE, ""), [])
    (access,) = pbx.accesses
    assert (access.url, access.app, access.password) == (SETTINGS["address"], "dialtone", PASSWORD)
    assert PASSWORD not in repr(access)


def test_what_is_right_already_is_left_as_it_is(pbx: PlayedPbx, clock: Clock) -> None:
    """However it is spelt there, and whatever else the user has."""
    hw_id = come()
    spelt = "-".join(hw_id[at : at + 2].upper() for at in range(0, 12, 2))
    pbx.devices["user1"] = [{"hw": "softphone"}, {"hw": spelt, "text": "Desk"}, {"text": "none"}]
    before = list(pbx.devices["user1"])
    assert deliver(pbx, clock)
    assert (pbx.devices["user1"], pbx.written) == (before, [])
    assert seen(hw_id) == (PbxState.DONE, "")


def test_a_phone_without_an_app_gets_none(pbx: PlayedPbx, clock: Clock) -> None:
    """What its domain gives to no device is not there either."""
    pbxes.put(world.admin(), DOMAIN, {**SETTINGS, "flags": []})
    hw_id = come()
    device = assignments.change(world.admin(), DOMAIN, hw_id, "Desk", None)
    devices.report(replace(device, app=""), device)
    assert deliver(pbx, clock)
    assert pbx.devices["user1"] == [{"hw": hw_id, "text": "Desk"}]


def test_a_phone_that_is_given_up_goes_there_too(pbx: PlayedPbx, clock: Clock) -> None:
    """Others stay; a user who is gone there has none."""
    first, second = come(), come()
    deliver(pbx, clock)
    users.release_phone(world.asking(now=clock()), first)
    assert pbx.hw_ids("user1") == [first, second]
    assert deliver(pbx, clock)
    assert pbx.hw_ids("user1") == [second]
    users.release_phone(world.asking(now=clock()), second)
    del pbx.devices["user1"]
    assert deliver(pbx, clock)
    assert waiting() == []


def test_a_phone_that_changes_hands_changes_them_there(pbx: PlayedPbx, clock: Clock) -> None:
    """Its former user loses it first."""
    old = come("user2")
    deliver(pbx, clock)
    assignments.put_in_place(world.admin(), DOMAIN, old, "0090330000ff")
    issued = world.issue("user1")
    world.redeem(issued.digits, old)
    pbx.written.clear()
    assert deliver(pbx, clock)
    assert (pbx.hw_ids("user2"), pbx.hw_ids("user1")) == ([], [old])
    assert pbx.written == ["user2", "user1"]


def test_a_phone_that_came_and_went_meanwhile_is_never_there(pbx: PlayedPbx, clock: Clock) -> None:
    """What is wanted is read when it is told."""
    pbx.trouble = Trouble.NO_CONNECTION
    hw_id = come()
    deliver(pbx, clock)
    users.release_phone(world.asking(now=clock()), hw_id)
    pbx.trouble = None
    clock.advance(60)
    assert deliver(pbx, clock)
    assert (pbx.devices["user1"], pbx.written, waiting()) == ([], [], [])


@pytest.mark.parametrize("trouble", Trouble)
def test_no_way_to_the_pbx_is_shown_and_gets_through_later(
    pbx: PlayedPbx, clock: Clock, trouble: Trouble
) -> None:
    """In the order in which phones came; who comes meanwhile shows why it waits, too."""
    pbx.trouble = trouble
    first = come()
    assert deliver(pbx, clock, first)
    assert seen(first) == (PbxState.PENDING, trouble)
    standing = table.find_standing(DOMAIN)
    assert standing is not None
    assert (standing.reason, standing.since, standing.attempts) == (trouble, NOW, 1)
    clock.advance(1)
    second = come(now=clock())
    assert deliver(pbx, clock, second)
    assert (seen(second), len(pbx.accesses)) == ((PbxState.PENDING, trouble), 1)
    pbx.trouble = None
    clock.advance(10)
    assert deliver(pbx, clock)
    assert pbx.hw_ids("user1") == [first, second]
    assert {seen(first), seen(second)} == {(PbxState.DONE, "")}
    assert (table.find_standing(DOMAIN), waiting()) == (None, [])


def test_pauses_grow_and_differ(pbx: PlayedPbx, clock: Clock) -> None:
    """Up to ten minutes, so that a PBX that comes back is not run over; since when is kept."""
    pbx.trouble = Trouble.NO_CONNECTION
    come()
    pauses: list[float] = []
    for attempts in range(1, 11):
        deliver(pbx, clock)
        standing = table.find_standing(DOMAIN)
        assert standing is not None
        assert (standing.attempts, standing.since) == (attempts, NOW)
        pauses.append((standing.retry_at - clock()).total_seconds())
        clock.advance(pauses[-1])
    plain = [user_objects.pause_seconds(attempts, 600) for attempts in range(1, 11)]
    assert plain == [5, 10, 20, 40, 80, 160, 320, 600, 600, 600]
    for pause, expected in zip(pauses, plain, strict=True):
        assert 0.75 * expected <= pause <= 1.25 * expected
    assert pauses != plain


def test_a_user_whom_the_pbx_does_not_know_holds_nobody_up(pbx: PlayedPbx, clock: Clock) -> None:
    """The phone shows it, and is handed over when the user is there."""
    stranger, known = come("user3"), come()
    assert deliver(pbx, clock)
    assert seen(stranger) == (PbxState.FAILED, Hindrance.NO_USER)
    assert seen(known) == (PbxState.DONE, "")
    (row,) = waiting()
    assert (row.hw_id, row.attempts, row.reason) == (stranger, 1, Hindrance.NO_USER)
    pbx.hire("user3")
    deliver(pbx, clock)
    assert pbx.hw_ids("user3") == []
    clock.advance(10)
    deliver(pbx, clock)
    assert (pbx.hw_ids("user3"), seen(stranger)) == ([stranger], (PbxState.DONE, ""))


def test_what_the_pbx_says_is_shown(pbx: PlayedPbx, clock: Clock) -> None:
    """In one short line, and each attempt waits longer."""
    pbx.refuses["user1"] = user_objects.refused("object\n is   locked " + "x" * 300)
    hw_id = come()
    for attempts in range(1, 4):
        deliver(pbx, clock)
        (row,) = waiting()
        assert row.attempts == attempts
        clock.advance(100)
    state, reason = seen(hw_id)
    assert (state, len(reason)) == (PbxState.FAILED, user_objects.MAX_REASON_LENGTH)
    assert reason.startswith("refused: object is locked x")
    assert user_objects.refused(" ") == "refused"


def test_what_others_write_meanwhile_is_kept(pbx: PlayedPbx, clock: Clock) -> None:
    """An administrator at the PBX adds one and removes one between our read and our write."""
    pbx.devices["user1"] = [{"hw": "a"}, {"hw": "b"}]
    acts: list[Callable[[], object]] = [
        lambda: pbx.devices.update(user1=[{"hw": "b"}, {"hw": "c"}]),
        lambda: pbx.devices["user1"].append({"hw": "d"}),
    ]
    pbx.before_write = lambda: acts.pop(0)() if acts else None
    hw_id = come()
    assert deliver(pbx, clock)
    assert pbx.hw_ids("user1") == ["b", hw_id, "c", "d"]
    assert seen(hw_id) == (PbxState.DONE, "")


def test_an_object_that_others_change_all_the_time_is_left_for_later(
    pbx: PlayedPbx, clock: Clock
) -> None:
    """It is tried a few times and no more."""
    numbers = count()
    pbx.before_write = lambda: pbx.devices["user1"].append({"hw": f"x{next(numbers)}"})
    hw_id = come()
    assert deliver(pbx, clock)
    assert seen(hw_id) == (PbxState.FAILED, Hindrance.CHANGING)


def test_a_user_who_goes_while_we_write_is_not_there(pbx: PlayedPbx, clock: Clock) -> None:
    """As one who was not there before."""
    pbx.before_write = lambda: pbx.devices.pop("user1", None)
    hw_id = come()
    assert deliver(pbx, clock)
    assert seen(hw_id) == (PbxState.FAILED, Hindrance.NO_USER)


def test_a_user_can_be_found_by_name(pbx: PlayedPbx, clock: Clock) -> None:
    """As users are called here; one without a name cannot be found."""
    pbxes.put(world.admin(), DOMAIN, {**SETTINGS, "find_by": FindBy.NAME})
    pbx.hire("User 1")
    first, nameless = come(), come("stranger")
    assert deliver(pbx, clock)
    assert pbx.hw_ids("User 1") == [first]
    assert seen(nameless) == (PbxState.FAILED, Hindrance.NO_USER)


def test_fifty_phones_of_one_user_are_all_there(pbx: PlayedPbx, clock: Clock) -> None:
    """In the order in which they came, however many are at work at once."""
    hw_ids = [come(now=NOW + timedelta(milliseconds=number)) for number in range(50)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: deliver(pbx, clock), range(4)))
    assert pbx.hw_ids("user1") == hw_ids
    assert {seen(hw_id) for hw_id in hw_ids} == {(PbxState.DONE, "")}
    assert waiting() == []


def test_two_phones_at_the_same_moment_are_both_there(pbx: PlayedPbx, clock: Clock) -> None:
    """Each redeemed and delivered by a process of its own."""
    start = threading.Barrier(2)

    def arrive(_: int) -> str:
        hw_id = come()
        start.wait()
        deliver(pbx, clock)
        return hw_id

    with ThreadPoolExecutor(2) as pool:
        hw_ids = list(pool.map(arrive, range(2)))
    deliver(pbx, clock)
    assert sorted(pbx.hw_ids("user1")) == sorted(hw_ids)


def test_a_process_that_dies_between_any_two_calls_loses_nothing(
    pbx: PlayedPbx, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing is there twice, wherever it died."""
    expected = {"user1": [], "user2": []}  # type: dict[str, list[str]]
    for dies_after in count(1):
        hw_ids = {sip: come(sip, clock()) for sip in expected}
        with process(monkeypatch) as watched:
            pbx.calling = watched.call

            def die(number: int, _: str, last: int = dies_after) -> None:
                if number == last:
                    raise Died

            watched.after = die
            try:
                deliver(pbx, clock)
                is_over = True
            except Died:
                is_over = False
        pbx.calling = lambda _, made: made()
        for sip, hw_id in hw_ids.items():
            expected[sip].append(hw_id)
        clock.advance(handovers.PATIENCE_SECONDS)
        assert deliver(pbx, clock)
        assert {sip: pbx.hw_ids(sip) for sip in expected} == expected
        assert {seen(hw_id) for hw_id in hw_ids.values()} == {(PbxState.DONE, "")}
        assert waiting() == []
        if is_over:
            break
    assert dies_after > 10


def test_whoever_lost_the_lease_writes_nothing_more(pbx: PlayedPbx, clock: Clock) -> None:
    """The one who has it does the rest."""
    come()

    def overtaken() -> None:
        clock.advance(pbx_turns.LEASE_SECONDS + 1)
        now = clock()
        assert leases.acquire(DOMAIN, leases.PBX, "another", now, now + timedelta(seconds=6))

    real = pbx.find

    def find(*arguments: Any) -> Any:  # noqa: ANN401 - as it is
        user = real(*arguments)
        overtaken()
        return user

    pbx.find = find  # type: ignore[assignment, method-assign]
    assert deliver(pbx, clock)
    assert (pbx.written, len(waiting())) == ([], 1)


def test_a_long_turn_keeps_its_lease(pbx: PlayedPbx, clock: Clock) -> None:
    """As long as its time lasts."""
    hw_ids = [come(sip) for sip in ("user1", "user2")]
    pbx.before_write = lambda: clock.advance(pbx_turns.LEASE_SECONDS - 1)
    assert deliver(pbx, clock)
    assert [seen(hw_id)[0] for hw_id in hw_ids] == [PbxState.DONE] * 2


def test_a_turn_that_lasts_too_long_lets_another_go_on(pbx: PlayedPbx, clock: Clock) -> None:
    """Woken by a row of its own."""
    for sip in ("user1", "user2"):
        come(sip)
    pbx.before_write = lambda: clock.advance(pbx_turns.BUDGET_SECONDS)
    assert deliver(pbx, clock)
    assert (len(waiting()), len(rows(Kind.PBX_WAKE))) == (1, 1)
    pbx.before_write = lambda: None
    assert deliver(pbx, clock)
    assert waiting() == []


def test_a_domain_without_a_pbx_keeps_its_lists_alone(pbx: PlayedPbx, clock: Clock) -> None:
    """Nothing is asked for, and its phones show nothing; neither for a domain that is not there."""
    pbxes.delete(world.admin(), DOMAIN)
    hw_id = come()
    assert deliver(pbx, clock, hw_id)
    assert handovers.deliver("nowhere.example", pbx.connect, clock)
    assert (pbx.accesses, seen(hw_id)) == ([], (None, ""))
    handovers.redrive("nowhere.example", None, clock)


def test_a_pbx_that_is_taken_away_is_shown_no_more(pbx: PlayedPbx, clock: Clock) -> None:
    """By any phone, whatever it showed."""
    first = come()
    deliver(pbx, clock)
    pbx.trouble = Trouble.NO_CONNECTION
    second = come()
    deliver(pbx, clock, second)
    pbxes.delete(world.admin(), DOMAIN)
    handovers.redrive(DOMAIN, None, clock)
    assert {seen(first), seen(second)} == {(None, "")}
    assert len(waiting()) == 1


def test_a_phone_that_is_never_taken_is_forgotten(pbx: PlayedPbx, clock: Clock) -> None:
    """After as long as anything else that waits; each try is further from the last."""
    come("stranger")
    kept: list[int] = []
    for _ in range(12):
        deliver(pbx, clock)
        (row,) = rows(Kind.RETRY)
        kept.append(int(row["purge_at"]["N"]))
        clock.advance(pbx_turns.MAX_REFUSAL_SECONDS * 1.25)
    assert set(kept) == {int(NOW.timestamp()) + KEEP_SECONDS}


def test_the_schedule_comes_back_to_what_is_left(pbx: PlayedPbx, clock: Clock) -> None:
    """To domains with a PBX, and again to one where somebody has died."""
    hw_id = come()
    now = clock()
    assert leases.acquire(DOMAIN, leases.PBX, "dead", now, now + timedelta(seconds=6))
    assert not deliver(pbx, clock)
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        clock.advance(seconds)

    handovers.remind(pbx.connect, clock, pause, soon(clock))
    assert (pauses, seen(hw_id)) == ([handovers.PATIENCE_SECONDS], (PbxState.DONE, ""))
    handovers.remind(pbx.connect, clock, pause, soon(clock))
    assert len(pauses) == 1


def soon(clock: Clock) -> datetime:
    """Tell when a function that begins now must have ended."""
    return clock() + timedelta(seconds=55)


def test_a_run_ends_before_its_minute_does(pbx: PlayedPbx, clock: Clock) -> None:
    """What it does not come to is for the next one: neither another domain nor one that is held."""
    pbxes.put(world.platform(), "other.example", SETTINGS)
    come()
    assert domain_table.list_with_pbx() == [DOMAIN, "other.example"]
    late = clock() + timedelta(seconds=19)
    handovers.remind(pbx.connect, clock, clock.advance, late)
    assert len(waiting()) == 1
    now = clock()
    assert leases.acquire(DOMAIN, leases.PBX, "dead", now, now + timedelta(seconds=6))
    ends = clock() + timedelta(seconds=25)
    handovers.follow({DOMAIN: []}, pbx.connect, clock, clock.advance, ends)
    assert (len(waiting()), clock() - now) == (1, timedelta(seconds=handovers.PATIENCE_SECONDS))


def test_who_follows_waits_for_whoever_may_have_died(pbx: PlayedPbx, clock: Clock) -> None:
    """So that a phone is not held up until the next minute."""
    hw_id = come()
    now = clock()
    ends = now + timedelta(seconds=pbx_turns.LEASE_SECONDS)
    assert leases.acquire(DOMAIN, leases.PBX, "dead", now, ends)
    newcomers = {DOMAIN: [hw_id], "other.example": []}
    handovers.follow(newcomers, pbx.connect, clock, clock.advance, soon(clock))
    assert seen(hw_id) == (PbxState.DONE, "")


def test_what_was_written_without_the_lease_is_looked_at_again(
    pbx: PlayedPbx, clock: Clock
) -> None:
    """The PBX took its time, and whoever came meanwhile did not find there what came later."""
    hw_id = come()
    acts: list[Callable[[], object]] = [
        lambda: clock.advance(pbx_turns.LEASE_SECONDS + 1),
        lambda: users.release_phone(world.asking(now=clock()), hw_id),
        lambda: deliver(pbx, clock),
    ]

    def meanwhile() -> None:
        while acts:
            acts.pop(0)()

    pbx.before_write = meanwhile
    assert deliver(pbx, clock)
    assert (pbx.hw_ids("user1"), len(waiting())) == ([hw_id], 1)
    assert deliver(pbx, clock)
    assert (pbx.hw_ids("user1"), waiting()) == ([], [])


def test_a_pbx_that_is_another_by_now_hears_what_was_meant_for_it(
    pbx: PlayedPbx, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The former one is told no more of it."""
    monkeypatch.setattr(pbx_turns, "BATCH", 1)
    hw_ids = [come(now=NOW + timedelta(milliseconds=number)) for number in range(3)]
    new = {**SETTINGS, "address": "wss://new.example.com"}
    acts: list[Callable[[], object]] = [lambda: pbxes.put(world.admin(), DOMAIN, new)]
    pbx.before_write = lambda: acts.pop()() if acts else None
    assert deliver(pbx, clock)
    assert pbx.hw_ids("user1") == hw_ids[:1]
    assert (len(waiting()), len(rows(Kind.PBX_WAKE))) == (2, 1)
    assert deliver(pbx, clock)
    assert [access.url for access in pbx.accesses] == [SETTINGS["address"], new["address"]]
    assert pbx.hw_ids("user1") == hw_ids


def test_an_object_that_cannot_be_read_keeps_nobody_else_waiting(
    pbx: PlayedPbx, clock: Clock
) -> None:
    """It is trouble with the PBX at first, and then the others have their turn."""
    bad, good = come("user1"), come("user2")
    real = pbx.find

    def find(by: FindBy, name: str) -> UserObject | None:
        if name == "user1":
            raise PbxUnavailableError(Trouble.UNREADABLE)
        return real(by, name)

    pbx.find = find  # type: ignore[method-assign]
    for _ in range(3):
        deliver(pbx, clock)
        clock.advance(10)
    assert pbx.hw_ids("user2") == [good]
    assert (seen(good), seen(bad)) == (
        (PbxState.DONE, ""),
        (PbxState.PENDING, Trouble.UNREADABLE),
    )


def test_a_turn_that_is_over_begins_nothing(pbx: PlayedPbx, clock: Clock) -> None:
    """However often its lease is wanted meanwhile."""
    for sip in ("user1", "user2"):
        come(sip)

    def drag() -> None:
        clock.advance(pbx_turns.BUDGET_SECONDS)
        leases.want(DOMAIN, leases.PBX)

    pbx.before_write = drag
    assert deliver(pbx, clock)
    assert (len(pbx.accesses), len(waiting())) == (1, 1)


def test_a_defect_of_one_domain_is_written_down(
    pbx: PlayedPbx, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    """And the next domain has its turn."""
    come()

    def broken(*_: object) -> None:
        raise ValueError("broken")

    pbx.find = broken  # type: ignore[assignment, method-assign]
    assert handovers.try_to_deliver(DOMAIN, pbx.connect, clock)
    assert "defect" in capsys.readouterr().out


def test_one_row_says_all_of_a_phone_that_waits(pbx: PlayedPbx, clock: Clock) -> None:
    """However often it is to be handed over."""
    come("stranger")
    for _ in range(2):
        handovers.redrive(DOMAIN, None, clock)
    assert (len(rows(Kind.HANDOVER)), len(waiting())) == (3, 1)
    deliver(pbx, clock)
    assert (len(rows(Kind.HANDOVER)), len(rows(Kind.RETRY))) == (0, 1)
    (row,) = waiting()
    assert (row.attempts, row.reason) == (1, Hindrance.NO_USER)


def test_who_lost_a_phone_must_be_found_by_the_name_of_then(pbx: PlayedPbx, clock: Clock) -> None:
    """By another name nobody is found, and the phone may still be there."""
    pbxes.put(world.admin(), DOMAIN, {**SETTINGS, "find_by": FindBy.NAME})
    pbx.hire("User 1")
    hw_id = come()
    deliver(pbx, clock)
    renamed = user_table.User(DOMAIN, "user1", name="Another Name")
    user_table.put_all([renamed])
    users.release_phone(world.asking(now=clock()), hw_id)
    deliver(pbx, clock)
    (row,) = waiting()
    assert row.reason == Hindrance.NO_USER
    user_table.put_all([replace(renamed, name="User 1")])
    clock.advance(10)
    deliver(pbx, clock)
    assert pbx.hw_ids("User 1") == []


def test_a_store_that_fails_is_no_end(
    pbx: PlayedPbx, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is done later."""
    hw_id = come()
    error = faults.client_error("ThrottlingException", "BatchGetItem")
    with faults.failing(monkeypatch, "BatchGetItem", error):
        assert handovers.try_to_deliver(DOMAIN, pbx.connect, clock)
    with (
        faults.failing(monkeypatch, "BatchGetItem", error),
        pytest.raises(StoreUnavailableError),
    ):
        deliver(pbx, clock)
    assert handovers.try_to_deliver(DOMAIN, pbx.connect, clock)
    assert seen(hw_id) == (PbxState.DONE, "")


def test_all_phones_can_be_handed_over_once_more(
    pbx: PlayedPbx, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page at a time; what the PBX did not take is tried at once, and trouble is forgotten."""
    monkeypatch.setattr(handovers, "REDRIVE_BATCH", 2)
    monkeypatch.setattr(handovers, "BATCH", 2)
    hw_ids = [come() for _ in range(4)]
    strangers = [come("user3") for _ in range(3)]
    nobodys = replace(found(hw_ids[0]), hw_id="0090330000fd", user="")
    redemptions.admit(nobodys, None, audit.Entry(DOMAIN, NOW, "device admitted", "-", "-", "-"))
    deliver(pbx, clock)
    pbx.devices["user1"] = []
    pbx.hire("user3")
    pbx.trouble = Trouble.PASSWORD
    come("user2")
    deliver(pbx, clock)
    pbx.trouble = None
    done: set[str] = set()
    pbxes.redrive(world.admin(now=clock()), DOMAIN)
    while True:
        left = [row for row in rows(Kind.REDRIVE) if row["notification_id"]["S"] not in done]
        if not left:
            break
        for row in left:
            done.add(row["notification_id"]["S"])
            handovers.redrive(DOMAIN, row.get("after", {}).get("S"), clock)
    assert deliver(pbx, clock)
    assert sorted(pbx.hw_ids("user1")) == hw_ids
    assert sorted(pbx.hw_ids("user3")) == strangers
    assert (waiting(), table.find_standing(DOMAIN)) == ([], None)


def test_who_is_beaten_to_a_row_leaves_it(
    pbx: PlayedPbx, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was settled meanwhile, by one whose lease was thought to have ended."""
    come("user3")
    (row,) = waiting()
    table.settle([row])
    table.put_off([row], "late", NOW)
    assert waiting() == []
    come("user3")
    deliver(pbx, clock)
    (late,) = waiting()
    with faults.meanwhile(monkeypatch, "TransactWriteItems", lambda: table.settle([late])):
        assert not table.hurry(DOMAIN, 10, NOW)
    assert waiting() == []


def test_a_phone_that_is_only_expected_is_not_told_of(pbx: PlayedPbx, clock: Clock) -> None:
    """It is handed over when it comes."""
    old = come()
    deliver(pbx, clock)
    made = assignments.put_in_place(world.admin(), DOMAIN, old, "0090330000fe")
    deliver(pbx, clock)
    assert pbx.devices["user1"] == []
    assert made.issued is not None
    world.redeem(made.issued.digits, "0090330000fe")
    deliver(pbx, clock)
    assert pbx.hw_ids("user1") == ["0090330000fe"]


def test_what_is_shown_reaches_whoever_looks(pbx: PlayedPbx, clock: Clock) -> None:
    """A change of it is a fact, and no change is none."""
    come()
    before = len(rows(Kind.FACT))
    deliver(pbx, clock)
    assert len(rows(Kind.FACT)) == before + 1
    transaction = connection.Transaction()
    table.put_new(transaction, table.Handover(DOMAIN, "", "user1", "no such phone"), clock())
    transaction.commit()
    deliver(pbx, clock)
    assert len(rows(Kind.FACT)) == before + 1


def at_pbx(pbx: PlayedPbx, sip: str, *hw_ids: str) -> None:
    """Let the PBX have phones at somebody, and that have been read."""
    pbx.devices[sip] = [{"hw": hw_id} for hw_id in hw_ids]
    holdings.put_at_pbx(DOMAIN, dict.fromkeys(hw_ids, sip), NOW)


def test_a_phone_of_another_user_there_is_not_taken(pbx: PlayedPbx, clock: Clock) -> None:
    """It says whose it is, its user's others go on, and it comes when it is free."""
    first, held, last = come(), come(), come()
    at_pbx(pbx, "user2", held)
    assert deliver(pbx, clock)
    assert (pbx.hw_ids("user1"), pbx.hw_ids("user2")) == ([first, last], [held])
    assert seen(held) == (PbxState.FAILED, "phone of another user: user2")
    assert {seen(first), seen(last)} == {(PbxState.DONE, "")}
    (row,) = waiting()
    assert (row.hw_id, row.attempts) == (held, 1)
    clock.advance(10)
    assert deliver(pbx, clock)
    assert [row.attempts for row in waiting()] == [2]
    pbx.devices["user2"] = []
    clock.advance(20)
    assert deliver(pbx, clock)
    assert pbx.hw_ids("user1") == [first, last, held]
    assert (seen(held), waiting()) == ((PbxState.DONE, ""), [])


def test_others_that_fail_say_why_themselves(pbx: PlayedPbx, clock: Clock) -> None:
    """And not what is wrong with one phone among them."""
    held, refused = come(), come()
    at_pbx(pbx, "user2", held)
    pbx.refuses["user1"] = "refused: locked"
    assert deliver(pbx, clock)
    assert seen(held) == (PbxState.FAILED, "phone of another user: user2")
    assert seen(refused) == (PbxState.FAILED, "refused: locked")


def test_a_phone_that_the_user_has_there_is_right_whoever_has_it_too(
    pbx: PlayedPbx, clock: Clock
) -> None:
    """Nothing is taken from anybody, so nobody is asked."""
    hw_id = come()
    at_pbx(pbx, "user2", hw_id)
    pbx.devices["user1"] = [{"hw": hw_id}]
    with world.calls() as made:
        assert deliver(pbx, clock)
    assert (seen(hw_id), pbx.written) == ((PbxState.DONE, ""), [])
    come("user1")
    with world.calls() as more:
        assert deliver(pbx, clock)
    assert more.count("BatchGetItem") == made.count("BatchGetItem") + 1


@pytest.mark.parametrize("becomes", ["given up", "gone"])
def test_what_was_read_is_not_believed(pbx: PlayedPbx, clock: Clock, becomes: str) -> None:
    """Where it is no longer so at the PBX, the phone is its user's."""
    hw_id = come()
    at_pbx(pbx, "user2", hw_id)
    pbx.devices["user2"] = []
    if becomes == "gone":
        del pbx.devices["user2"]
    assert deliver(pbx, clock)
    assert (pbx.hw_ids("user1"), seen(hw_id)) == ([hw_id], (PbxState.DONE, ""))


def test_somebody_of_another_sip_there_may_be_the_same_user(pbx: PlayedPbx, clock: Clock) -> None:
    """Where users are found by name, the object counts and not what it is called."""
    pbxes.put(world.admin(), DOMAIN, {**SETTINGS, "find_by": FindBy.NAME})
    hw_id = come()
    pbx.hire("User 1")
    pbx.guids["u.one"] = pbx.guids["User 1"]
    at_pbx(pbx, "u.one", hw_id)
    assert deliver(pbx, clock)
    assert (pbx.hw_ids("User 1"), seen(hw_id)) == ([hw_id], (PbxState.DONE, ""))


def test_a_phone_that_moves_here_moves_there_although_it_was_read(
    pbx: PlayedPbx, clock: Clock
) -> None:
    """Its former user gives it up first."""
    hw_id = come("user2")
    deliver(pbx, clock)
    holdings.put_at_pbx(DOMAIN, {hw_id: "user2"}, NOW)
    users.release_phone(world.asking("user2", now=clock()), hw_id)
    world.redeem(world.issue("user1").digits, hw_id)
    assert deliver(pbx, clock)
    assert (pbx.hw_ids("user2"), pbx.hw_ids("user1"), waiting()) == ([], [hw_id], [])


def test_a_domain_that_cannot_be_gone_through_now_is_begun_anew_unless_it_is_our_defect(
    pbx: PlayedPbx, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which would be one the next time, too, and must not hold up what is behind it."""
    hw_id = come()
    assert deliver(pbx, clock)
    error = faults.client_error("ThrottlingException", "DeleteItem")
    with faults.failing(monkeypatch, "DeleteItem", error):
        assert not handovers.try_to_redrive(DOMAIN, None, clock)
    assert handovers.try_to_redrive(DOMAIN, None, clock)
    assert [row.hw_id for row in waiting()] == [hw_id]
    monkeypatch.delattr(handovers, "redrive")
    assert handovers.try_to_redrive(DOMAIN, None, clock)
