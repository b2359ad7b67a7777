"""Promise 4 of the design, broken on purpose: no redemption that is asked for stays untold."""

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
from chalice.app import DynamoDBEvent

from chalicelib import sending
from chalicelib.core.codes import Code, Lifetime, State, read_entry
from chalicelib.core.devices import Device
from chalicelib.core.devices import State as DeviceState
from chalicelib.core.errors import NotDeliveredError, StoreUnavailableError
from chalicelib.roles import domains, instances, notifications, users
from chalicelib.roles.instances import CodeOrder, Instance
from chalicelib.roles.notifications import BATCH, LEASE_SECONDS, Told
from chalicelib.sockets import connections as sockets
from chalicelib.sockets import push
from chalicelib.storage import connection, connections, leases, vault
from chalicelib.storage import domains as domain_table
from chalicelib.storage import notifications as table
from chalicelib.storage.lists import Page
from local import demo
from tests import faults, wires, world
from tests.conftest import NOW
from tests.processes import Clock, Died, process

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("table_names")]

DOMAIN = world.DOMAIN
OTHER = "other.example"
DAY = 86_400
MANY = 120


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Let the service have a clock that stands still."""
    made = Clock()
    monkeypatch.setattr(sockets, "now", made)
    monkeypatch.setattr(push, "now", made)
    return made


@pytest.fixture
def wired(
    table_names: dict[str, str], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> wires.Wires:
    """Write the demo data, and take messages for websockets."""
    assert table_names
    assert clock() == NOW
    world.seed()
    return wires.Wires(monkeypatch)


_numbers = count(1)


class Alone(connection.Transaction):
    """Writes each item at once, for a played engine copies its tables for each transaction."""

    def put(self, _: str, item: connection.Item, __: object = None) -> None:
        """Write a whole item."""
        item.save()


def add_pending(clock: Clock, phones: int, domain: str = DOMAIN, asker: str = DOMAIN) -> list[str]:
    """Write what a redemption writes for those who are to hear of it; tells the hw_ids."""
    hw_ids = []
    write = Alone()
    for _ in range(phones):
        clock.advance(0.001)
        hw_ids.append(f"00903301{next(_numbers):04x}")
        device = Device(hw_ids[-1], DeviceState.REGISTERED, domain=domain)
        code = replace(_A_CODE, domain=domain, asker=asker, asking_connection="connection-0")
        table.add_pending(write, code, "123456789012", device, clock())
    return hw_ids


_A_CODE = Code(
    fingerprint="a",
    code_id="a",
    state=State.PENDING,
    lifetime=Lifetime.USER,
    devices_url="https://devices.example",
    issued_at=NOW,
    expires_at=NOW,
    purge_at=NOW,
)


def ask_code(
    wire: wires.Wire, clock: Clock, domain: str = DOMAIN, category: str = "Office", sip: str = ""
) -> str:
    """Let a Users instance ask for a code."""
    known = connections.find(wire.connection_id)
    found = domain_table.find(domain)
    assert known is not None
    assert found is not None
    order = CodeOrder(found.number, category, sip, is_rollout=False)
    return instances.issue_code(Instance(known, "src", clock()), order).digits


def redeem(digits: str, clock: Clock, source: str = world.HOME) -> str:
    """Let a new phone redeem a code; tells its hw_id."""
    hw_id = f"00903302{next(_numbers):04x}"
    world.redeem(digits, hw_id, source, clock())
    return hw_id


def deliver(clock: Clock, domain: str = DOMAIN) -> bool:
    """Deliver as the stream does."""
    return notifications.deliver(domain, push.device_provisioned, clock)


def soon(clock: Clock) -> datetime:
    """Tell when a function that begins now must have ended."""
    return clock() + timedelta(seconds=55)


def remind(clock: Clock) -> None:
    """Remind as the schedule does."""
    notifications.remind(push.device_provisioned, clock, clock.advance, soon(clock))


def pending_of(domain: str = DOMAIN) -> list[table.Pending]:
    """List what is still to be told."""
    return table.list_pending(domain, 1_000, None).items


def heard(wired: wires.Wires) -> list[tuple[str, int]]:
    """List what all clients heard, in order: phone and sequence number."""
    return [
        (message["device"]["hwId"], message["sequence"])
        for _, message in wired.all_sent
        if message["mt"] == "DeviceProvisioned"
    ]


def phones_of(wire: wires.Wire) -> list[str]:
    """List the phones that one client heard of, in order."""
    return [message["device"]["hwId"] for message in wire.told("DeviceProvisioned")]


def assert_all_told(wired: wires.Wires, phones: list[str], domain: str = DOMAIN) -> None:
    """Expect each phone, in order, a repeated one under its first number, and nothing left."""
    assert_in_sequence(wired)
    first = dict(reversed(heard(wired)))
    assert all(first[phone] == sequence for phone, sequence in heard(wired))
    assert set(phones) <= set(first)
    assert sorted(phones, key=lambda phone: first[phone]) == phones
    assert pending_of(domain) == []


def assert_in_sequence(wired: wires.Wires) -> None:
    """Expect each number to be one more than the last, unless what was sent is repeated."""
    last = greatest = 0
    for _, sequence in heard(wired):
        assert sequence == last + 1 or 0 < sequence <= greatest
        last, greatest = sequence, max(sequence, greatest)


def wake_rows(client: "DynamoDBClient", name: str, domain: str = DOMAIN) -> list[dict[str, Any]]:
    """List the wake-ups of a domain, as the stream would bring them."""
    items = client.scan(TableName=name)["Items"]
    wanted = {"domain": {"S": domain}, "kind": {"S": table.Kind.WAKE.value}}
    return [item for item in items if wanted.items() <= item.items()]


def follow(*images: dict[str, Any]) -> None:
    """Bring inserted items to the stream's function."""
    answer = push.follow(DynamoDBEvent(wires.stream_event(*images), None))
    assert answer == {"batchItemFailures": []}


@pytest.mark.parametrize("is_after", [False, True], ids=["before", "after"])
def test_promise_4_a_sender_that_dies_at_any_call_is_made_good_by_one_reminder(
    wired: wires.Wires, clock: Clock, monkeypatch: pytest.MonkeyPatch, *, is_after: bool
) -> None:
    """Before or after whichever of its calls it dies, every phone is told, in order."""
    wired.instance()
    phones: list[str] = []
    deaths = 0
    for at in count(1):
        phones += add_pending(clock, 3)

        def die(made: int, _: str, at: int = at) -> None:
            if made == at:
                raise Died

        with process(monkeypatch) as watched:
            if is_after:
                watched.after = die
            else:
                watched.before = die
            try:
                deliver(clock)
            except Died:
                deaths += 1
        if watched.made < at:
            break
        clock.advance(LEASE_SECONDS + 0.001)
        remind(clock)
        assert_all_told(wired, phones)
    assert deaths == at - 1 == watched.made
    assert deaths >= 9
    assert_all_told(wired, phones)
    assert len(heard(wired)) > len(phones)


class Comer:
    """The only client of a domain, which connects and drops as its mood is."""

    def __init__(self, wired: wires.Wires, first: wires.Wire, clock: Clock) -> None:
        self._wired = wired
        self._clock = clock
        self._wire: wires.Wire | None = first
        self._moods = random.Random(5)
        self.turns = threading.Semaphore(0)
        self.is_over = threading.Event()

    def run(self) -> None:
        """Come or go, once in each turn."""
        while self.turns.acquire() and not self.is_over.is_set():
            if self._wire is None:
                with self._clock.stopped:  # for a login must not take a minute
                    self._wire = self._wired.instance()
            else:
                self._moods.choice([self._wire.vanish, self._wire.disconnect])()
                self._wire = None


def write_many(clock: Clock, digits: list[str], steps: threading.Semaphore) -> list[str]:
    """Redeem codes, and write as much for others; tells the phones."""
    written = []
    for number, code in enumerate(digits):
        written.append(redeem(code, clock, f"203.0.113.{number}"))
        steps.release()
    while len(written) < MANY:
        written += add_pending(clock, min(70, MANY - len(written)))
        steps.release()
    return written


def test_promise_4_of_many_redemptions_none_is_lost(
    wired: wires.Wires, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the only client comes and goes and senders die, each phone is told, in sequence."""
    chance = random.Random(4)
    asked = wired.instance()
    digits = [ask_code(asked, clock) for _ in range(12)]
    steps = threading.Semaphore(0)
    comer = Comer(wired, asked, clock)

    def die(_: int, __: str) -> None:
        if chance.random() < 0.01:
            raise Died

    deaths = 0
    with ThreadPoolExecutor(2) as pool, process(monkeypatch) as watched:
        watched.before = watched.after = die
        writer, client = pool.submit(write_many, clock, digits, steps), pool.submit(comer.run)
        writer.add_done_callback(lambda _: steps.release())
        while steps.acquire() and not writer.done():
            comer.turns.release()
            try:
                remind(clock)
            except Died:
                deaths += 1
            clock.advance(LEASE_SECONDS / 4)
        comer.is_over.set()
        comer.turns.release()
        client.result()
    assert deaths
    if not wired.open:
        wired.instance()
    clock.advance(LEASE_SECONDS + 1)
    remind(clock)
    assert_in_sequence(wired)
    assert len(set(writer.result())) == MANY
    assert {phone for phone, _ in heard(wired)} == set(writer.result())
    assert pending_of() == []


def test_promise_4_many_senders_at_once_tell_each_phone_once(
    wired: wires.Wires, clock: Clock
) -> None:
    """Of sixteen that are woken at the same moment one tells, in order."""
    wire = wired.instance()
    phones = add_pending(clock, 2 * BATCH + 3)
    with ThreadPoolExecutor(16) as pool:
        assert any(pool.map(lambda _: deliver(clock), range(16)))
    assert phones_of(wire) == phones
    assert heard(wired) == list(zip(phones, range(1, len(phones) + 1), strict=True))
    assert pending_of() == []


def test_promise_4_a_wake_up_that_finds_the_lease_held_is_not_lost(
    wired: wires.Wires, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever call the holder is at, it looks once more before it gives the lease back."""
    wire = wired.instance()
    phones: list[str] = []
    held = 0
    for at in count(1):
        phones.extend(add_pending(clock, 1))

        def redeem_more(made: int, _: str, at: int = at) -> None:
            nonlocal held
            if made == at:
                phones.extend(add_pending(clock, 1))
                held += not deliver(clock)

        with process(monkeypatch) as watched:
            watched.after = redeem_more
            deliver(clock)
        assert phones_of(wire) == phones
        assert pending_of() == []
        if watched.made < at:
            break
    assert held


def test_promise_4_a_login_at_any_moment_of_a_delivery_hears_of_the_phone(
    wired: wires.Wires,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    client: "DynamoDBClient",
    table_names: dict[str, str],
) -> None:
    """A login that the sender has just missed leads to a delivery of its own."""
    for at in count(1):
        (phone,) = add_pending(clock, 1)
        came: list[wires.Wire] = []

        def log_in(made: int, _: str, at: int = at, came: list[wires.Wire] = came) -> None:
            if made == at:
                came.append(wired.instance())

        with process(monkeypatch) as watched:
            watched.after = log_in
            deliver(clock)
        if not came:
            break
        clock.advance(1)
        row = max(
            wake_rows(client, table_names["notifications"]),
            key=lambda item: item["notification_id"]["S"],
        )
        follow(row)
        assert phone in phones_of(came[0])
        came[0].disconnect()
    assert at > 4
    wired.instance()
    remind(clock)
    assert pending_of() == []


def test_promise_4_a_push_that_fails_goes_to_another_instance(
    wired: wires.Wires, clock: Clock
) -> None:
    """The one that asked does not take it: another one of its domain hears."""
    first, second = wired.instance(), wired.instance()
    phone = redeem(ask_code(first, clock), clock)
    wired.failing.add(first.connection_id)
    assert deliver(clock)
    assert (phones_of(first), phones_of(second)) == ([], [phone])
    assert connections.find(first.connection_id) is not None


def test_promise_4_a_push_that_nobody_takes_stays_for_the_schedule(
    wired: wires.Wires, clock: Clock
) -> None:
    """Nothing that comes after it is told before it."""
    wire = wired.instance()
    phones = add_pending(clock, 3)
    wired.failing.add(wire.connection_id)
    assert deliver(clock)
    assert [pending.hw_id for pending in pending_of()] == phones
    wired.failing.clear()
    remind(clock)
    assert_all_told(wired, phones)


def test_promise_4_whoever_is_gone_is_forgotten_and_another_hears(
    wired: wires.Wires, clock: Clock
) -> None:
    """API Gateway says that the connection that asked is gone: another of the domain hears."""
    first, second = wired.instance(), wired.instance()
    phone = redeem(ask_code(first, clock), clock)
    first.vanish()
    assert deliver(clock)
    assert phones_of(second) == [phone]
    assert connections.find(first.connection_id) is None
    audience = connections.listening(connections.users_instances(DOMAIN), clock())
    assert [known.connection_id for known in audience] == [second.connection_id]


def test_promise_4_whoever_asked_hears_first(wired: wires.Wires, clock: Clock) -> None:
    """Of two instances of a domain the one that asked hears, though the other came later."""
    first, second = wired.instance(), wired.instance()
    phone = redeem(ask_code(first, clock), clock)
    assert deliver(clock)
    assert (phones_of(first), phones_of(second)) == ([phone], [])
    assert first.told("DeviceProvisioned")[0]["src"] == "src"


def test_promise_4_after_29_days_without_anybody_a_login_hears(
    wired: wires.Wires, clock: Clock, client: "DynamoDBClient", table_names: dict[str, str]
) -> None:
    """What was redeemed while nobody was connected is told at the next login."""
    wire = wired.instance()
    digits = ask_code(wire, clock)
    wire.disconnect()
    phone = redeem(digits, clock)
    assert deliver(clock)
    remind(clock)
    clock.advance(29 * DAY)
    items = client.scan(TableName=table_names["notifications"])["Items"]
    (kept,) = [item for item in items if item["kind"]["S"] == table.Kind.PENDING]
    assert int(kept["purge_at"]["N"]) > clock().timestamp()
    later = wired.instance()
    follow(*wake_rows(client, table_names["notifications"]))
    assert phones_of(later) == [phone]
    assert pending_of() == []


@pytest.mark.parametrize(
    ("domain", "password"), [(demo.INSTANCE_DOMAIN, "platform"), (DOMAIN, "dialtone")]
)
def test_promise_4_a_code_of_another_domain_is_told_to_either(
    wired: wires.Wires,
    clock: Clock,
    client: "DynamoDBClient",
    table_names: dict[str, str],
    domain: str,
    password: str,
) -> None:
    """The instance that asked for it has gone: a later one of its domain or the code's hears."""
    asked = wired.instance(demo.INSTANCE_DOMAIN, "platform")
    phone = redeem(ask_code(asked, clock), clock)
    asked.vanish()
    domains.change(world.platform(), OTHER, {"websocket_password": "third"})
    third = wired.instance(OTHER, "third")
    name = table_names["notifications"]
    follow(*wake_rows(client, name, OTHER), *wake_rows(client, name))
    remind(clock)
    assert phones_of(third) == []
    assert [pending.hw_id for pending in pending_of()] == [phone]
    clock.advance(60)
    later = wired.instance(domain, password)
    follow(*wake_rows(client, name))
    assert phones_of(later) == [phone]
    assert phones_of(third) == []
    assert pending_of() == []


def test_promise_4_what_nobody_waits_for_is_told_to_nobody(
    wired: wires.Wires, clock: Clock
) -> None:
    """A code from Profile leaves nothing to be told to a Users instance."""
    wire = wired.instance()
    redeem(world.issue().digits, clock)
    assert pending_of() == []
    assert deliver(clock)
    assert phones_of(wire) == []


def test_promise_4_a_code_that_was_asked_about_is_told(wired: wires.Wires, clock: Clock) -> None:
    """A Users instance that asks about an open code hears of its phone."""
    wire = wired.instance()
    digits = world.issue().digits
    known, entry = connections.find(wire.connection_id), read_entry(digits)
    assert known is not None
    assert entry is not None
    assert instances.provisioned_device(Instance(known, "", clock()), None, entry) is None
    phone = redeem(digits, clock)
    assert deliver(clock)
    assert phones_of(wire) == [phone]


def test_promise_4_whoever_asks_while_a_phone_redeems_hears_too(
    wired: wires.Wires, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked about between a redemption's read and its write: the redemption reads once more."""
    wire = wired.instance()
    digits = world.issue().digits
    known, entry = connections.find(wire.connection_id), read_entry(digits)
    assert known is not None
    assert entry is not None
    asking = Instance(known, "", clock())

    def ask(_: int, name: str) -> None:
        if name == "TransactWriteItems" and watched.made < 10:
            watched.made = 10
            assert instances.provisioned_device(asking, None, entry) is None

    with process(monkeypatch) as watched:
        watched.before = ask
        phone = redeem(digits, clock)
    assert deliver(clock)
    assert phones_of(wire) == [phone]


def test_promise_4_a_lease_lost_as_it_is_given_back_is_left_alone(
    wired: wires.Wires, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another has it by then, and keeps it."""
    wired.instance()

    def overtake(_: int, name: str) -> None:
        if name == "Query":
            clock.advance(LEASE_SECONDS + 1)
            until = clock() + timedelta(seconds=LEASE_SECONDS)
            assert leases.acquire(DOMAIN, leases.USERS_INSTANCES, "another", clock(), until)

    with process(monkeypatch) as watched:
        watched.after = overtake
        assert deliver(clock)
    assert not deliver(clock)


def test_promise_4_those_who_have_all_gone_hold_up_nobody(wired: wires.Wires, clock: Clock) -> None:
    """The first phone waits for a login of those who have gone, the next one is told."""
    gone = wired.instance(demo.INSTANCE_DOMAIN, "platform")
    granted = {"websocket_password": "third", "granted_domains": [DOMAIN]}
    domains.change(world.platform(), OTHER, granted)
    there = wired.instance(OTHER, "third")
    (first,) = add_pending(clock, 1, DOMAIN, demo.INSTANCE_DOMAIN)
    (second,) = add_pending(clock, 1, DOMAIN, OTHER)
    gone.vanish()
    assert deliver(clock)
    assert phones_of(there) == [second]
    assert [pending.hw_id for pending in pending_of()] == [first]


def overtake(clock: Clock) -> None:
    """Let another have the lease, which has ended."""
    clock.advance(LEASE_SECONDS + 1)
    until = clock() + timedelta(seconds=LEASE_SECONDS)
    assert leases.acquire(DOMAIN, leases.USERS_INSTANCES, "another", clock(), until)


def test_promise_4_whose_grant_was_taken_back_hears_nothing_more(
    wired: wires.Wires, clock: Clock
) -> None:
    """Though it asked for the code; the phone's own domain hears instead, or waits for a login."""
    granted = {"websocket_password": "third", "granted_domains": [DOMAIN]}
    domains.change(world.platform(), OTHER, granted)
    asked = wired.instance(OTHER, "third")
    first, second = (ask_code(asked, clock) for _ in range(2))
    phones = [redeem(first, clock)]
    assert deliver(clock)
    assert phones_of(asked) == phones
    domains.change(world.platform(), OTHER, {"granted_domains": []})
    phones += [redeem(second, clock, "203.0.113.1")]
    assert deliver(clock)
    assert len(pending_of()) == 1
    own = wired.instance()
    assert deliver(clock)
    assert (phones_of(asked), phones_of(own)) == (phones[:1], phones[1:])
    add_pending(clock, 1, asker="gone.example")
    assert deliver(clock)
    assert pending_of() == []


@pytest.mark.parametrize("phone_count", [1, 3])
def test_promise_4_a_lost_lease_deletes_nothing(
    wired: wires.Wires, clock: Clock, monkeypatch: pytest.MonkeyPatch, phone_count: int
) -> None:
    """Whoever was overtaken leaves everything to the other, who repeats the same numbers."""
    wire = wired.instance()
    phones = add_pending(clock, phone_count)
    real = sending.post

    def drag(connection_id: str, message: str) -> bool:
        taken = real(connection_id, message)
        overtake(clock)
        return taken

    with monkeypatch.context() as patch:
        patch.setattr(sending, "post", drag)
        assert deliver(clock)
    assert phones_of(wire) == phones[:1]
    assert [pending.hw_id for pending in pending_of()] == phones
    assert not deliver(clock)
    remind(clock)
    assert phones_of(wire) == [phones[0], *phones]
    assert_all_told(wired, phones)


def test_promise_4_nothing_is_sent_without_the_lease(wired: wires.Wires, clock: Clock) -> None:
    """It was lost while the message was written."""
    wire = wired.instance()
    phones = add_pending(clock, 1)

    def overtaken(told: Told) -> str:
        overtake(clock)
        return push.device_provisioned(told)

    assert notifications.deliver(DOMAIN, overtaken, clock)
    assert phones_of(wire) == []
    remind(clock)
    assert_all_told(wired, phones)


def test_promise_4_many_who_do_not_answer_let_no_second_sender_begin(
    wired: wires.Wires, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lease lasts while they are tried, as long as the budget does; then the schedule comes."""
    for _ in range(12):
        wired.instance()
    phones = add_pending(clock, 2)
    real, tried = sending.post, list[str]()

    def time_out(connection_id: str, _: str) -> bool:
        clock.advance(3)
        tried.append(connection_id)
        with monkeypatch.context() as patch:
            patch.setattr(sending, "post", real)
            assert not deliver(clock)  # what the second sender says
        raise NotDeliveredError("ReadTimeoutError")

    with monkeypatch.context() as patch:
        patch.setattr(sending, "post", time_out)
        assert deliver(clock)
    assert len(tried) == len(set(tried)) == 9
    assert heard(wired) == []
    remind(clock)
    assert_all_told(wired, phones)


def test_promise_4_a_lease_that_ends_soon_is_prolonged_and_the_order_kept(
    wired: wires.Wires, clock: Clock
) -> None:
    """Messages that take long: nothing is left out, and nothing overtakes."""
    wire = wired.instance()
    phones = add_pending(clock, BATCH + 5)

    def slow(told: Told) -> str:
        clock.advance(0.8)
        return push.device_provisioned(told)

    assert notifications.deliver(DOMAIN, slow, clock)
    assert phones_of(wire) == phones
    assert_all_told(wired, phones)


def test_promise_4_a_budget_that_is_used_up_is_followed_by_another(
    wired: wires.Wires, clock: Clock, client: "DynamoDBClient", table_names: dict[str, str]
) -> None:
    """More than can be told in one go: a wake-up lets the next one go on."""
    wire = wired.instance()
    phones = add_pending(clock, 2 * BATCH)
    before = wake_rows(client, table_names["notifications"])

    def slow(told: Told) -> str:
        clock.advance(1.5)
        return push.device_provisioned(told)

    assert notifications.deliver(DOMAIN, slow, clock)
    assert phones_of(wire) == phones[: len(phones_of(wire))]
    assert 0 < len(phones_of(wire)) < len(phones)
    (row,) = [row for row in wake_rows(client, table_names["notifications"]) if row not in before]
    follow(row)
    assert phones_of(wire) == phones
    assert_all_told(wired, phones)


@pytest.mark.parametrize("operation", ["UpdateItem", "Query", "TransactWriteItems"])
def test_promise_4_a_store_that_does_not_answer_fails_no_stream_record(
    wired: wires.Wires,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    client: "DynamoDBClient",
    table_names: dict[str, str],
    operation: str,
) -> None:
    """Trouble is written down, and the schedule delivers."""
    wired.instance()
    phones = add_pending(clock, 2)
    rows = wake_rows(client, table_names["notifications"])
    with faults.failing(monkeypatch, operation, *[faults.timeout() for _ in range(9)]):
        follow(*rows)
    clock.advance(LEASE_SECONDS + 1)
    remind(clock)
    assert_all_told(wired, phones)


def spoil(domain: str = DOMAIN, seal: str = "1.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA") -> None:
    """Give a domain's first row a seal that does not open."""
    item = table.NotificationItem(domain, pending_of(domain)[0].notification_id)
    item.update([table.NotificationItem.sealed_code.set(seal)])


def test_promise_4_a_row_that_nobody_can_unseal_holds_up_nothing(
    wired: wires.Wires, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is written down and stays; what is behind it is told, without a gap."""
    wired.instance()
    bad, *phones = add_pending(clock, 3)
    spoil()
    assert deliver(clock)
    assert heard(wired) == [(phones[0], 1), (phones[1], 2)]
    assert [pending.hw_id for pending in pending_of()] == [bad]
    assert "defect" in capsys.readouterr().out


def test_promise_4_a_key_that_is_not_there_ends_no_other_domains_turn(
    wired: wires.Wires, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was told before is settled; what is behind waits until the key is there."""
    wired.instance()
    phones = add_pending(clock, 3)
    real = vault.unseal
    missing = pending_of()[1].sealed_code

    def unseal(sealed: str, purpose: str) -> str:
        if sealed == missing:
            raise StoreUnavailableError("no vault key")
        return real(sealed, purpose)

    with monkeypatch.context() as patch:
        patch.setattr(vault, "unseal", unseal)
        for _ in range(2):
            remind(clock)
            assert heard(wired) == [(phones[0], 1)]
            clock.advance(60)
    remind(clock)
    assert heard(wired) == list(zip(phones, (1, 2, 3), strict=True))
    assert pending_of() == []


def test_promise_4_a_defect_of_one_domain_is_written_down(
    wired: wires.Wires,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """And the domains behind it have their turn."""
    wired.instance(demo.INSTANCE_DOMAIN, "platform")
    phones = add_pending(clock, 2, asker=demo.INSTANCE_DOMAIN)
    real = table.list_pending

    def list_pending(domain: str, limit: int, after: str | None) -> Page[table.Pending]:
        if domain == demo.INSTANCE_DOMAIN:
            raise ValueError(domain)
        return real(domain, limit, after)

    monkeypatch.setattr(table, "list_pending", list_pending)
    for domain in (demo.INSTANCE_DOMAIN, DOMAIN):
        assert notifications.try_to_deliver(domain, push.device_provisioned, clock)
    assert "defect" in capsys.readouterr().out
    assert_all_told(wired, phones)


def test_promise_4_an_engine_that_says_something_else_is_a_defect(
    wired: wires.Wires, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What we do not expect of DynamoDB is not taken for a lease that is held."""
    wired.instance()
    denied = faults.client_error("AccessDeniedException", "UpdateItem")
    with (
        faults.failing(monkeypatch, "UpdateItem", denied),
        pytest.raises(type(denied)),
    ):
        deliver(clock)


def test_promise_4_a_domain_that_is_gone_has_number_0(wired: wires.Wires, clock: Clock) -> None:
    """What was redeemed in it is told all the same."""
    wire = wired.instance(demo.INSTANCE_DOMAIN, "platform")
    phones = add_pending(clock, 1, "gone.example", demo.INSTANCE_DOMAIN)
    assert deliver(clock, "gone.example")
    assert phones_of(wire) == phones
    assert wire.told("DeviceProvisioned")[0]["device"]["domainId"] == 0


def test_promise_4_the_schedule_waits_for_a_lease_once(wired: wires.Wires, clock: Clock) -> None:
    """Several domains are held by senders that died: one pause serves them all."""
    wired.instance()
    wired.instance(demo.INSTANCE_DOMAIN, "platform")
    phones = add_pending(clock, 2)
    for domain in (DOMAIN, demo.INSTANCE_DOMAIN):
        assert leases.acquire(
            domain, leases.USERS_INSTANCES, "dead", clock(), clock() + timedelta(seconds=14)
        )
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        clock.advance(seconds)

    notifications.remind(push.device_provisioned, clock, pause, soon(clock))
    assert pauses == [LEASE_SECONDS + 1]
    assert_all_told(wired, phones)


def test_overdue_connections_are_closed_by_the_schedule(
    wired: wires.Wires, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has not logged in within a minute is hung up; one that cannot be, the next time."""
    silent, early = wired.connect(), wired.instance()
    clock.advance(59)
    remind(clock)
    assert silent.is_open
    clock.advance(1)

    def refuse(_: str) -> bool:
        raise NotDeliveredError("LimitExceededException")

    with monkeypatch.context() as patch:
        patch.setattr(sending, "close", refuse)
        remind(clock)
    assert silent.is_open
    remind(clock)
    assert not silent.is_open
    assert early.is_open
    assert connections.find(silent.connection_id) is None


def person_wire(wired: wires.Wires, clock: Clock, audience: str, sip: str) -> wires.Wire:
    """Open a connection of a person who listens to something."""
    wire = wired.connect()
    known = connections.find(wire.connection_id)
    assert known is not None
    after = replace(
        known,
        role=connections.Role.PERSON,
        domain=DOMAIN,
        sip=sip,
        audiences=[audience],
        ends_at=clock() + timedelta(hours=1),
    )
    transaction = connection.Transaction()
    connections.log_in(transaction, known, after)
    transaction.commit()
    return wire


def tell(fact: table.Fact, clock: Clock) -> None:
    """Tell people of a fact as the stream does."""
    notifications.tell_people(fact, push.person_news, push.admin_news, clock, soon(clock))


def test_people_hear_of_their_own_codes_and_phones(wired: wires.Wires, clock: Clock) -> None:
    """As they are when it is told: a code, then its phone, then that it has gone."""
    mine = person_wire(wired, clock, connections.user(DOMAIN, "user1"), "user1")
    theirs = person_wire(wired, clock, connections.user(DOMAIN, "user2"), "user2")
    office = person_wire(wired, clock, connections.admins(DOMAIN), "admin")
    issued = world.issue()
    fact = table.Fact(DOMAIN, "user1", issued.code.fingerprint)
    tell(fact, clock)
    (pending,) = mine.told("CodeChanged")
    phone = redeem(issued.digits, clock)
    tell(replace(fact, hw_id=phone), clock)
    redeemed = mine.told("CodeChanged")[1]
    assert (pending["code"]["state"], redeemed["code"]["state"]) == ("pending", "redeemed")
    (changed,) = mine.told("PhoneChanged")
    assert changed["hw_id"] == phone
    users.release_phone(world.asking(), phone)
    tell(table.Fact(DOMAIN, "user1", hw_id=phone), clock)
    assert mine.told("PhoneChanged")[1]["phone"] is None
    tell(table.Fact(DOMAIN, "user1", "no such fingerprint"), clock)
    assert theirs.received == office.received == []


def test_what_nobody_listens_to_costs_a_read(wired: wires.Wires, clock: Clock) -> None:
    """Code, phone and entry are not read when nobody is there to hear of them."""
    assert not wired.open
    fact = table.Fact(DOMAIN, "user1", world.issue().code.fingerprint, world.HW_ID)
    for told, reads in ((fact, 1), (replace(fact, rollout_id="rollout"), 2)):
        with world.calls() as made:
            tell(told, clock)
        assert made == ["Query"] * reads


def test_facts_of_a_rollout_are_told_together() -> None:
    """Each entry once, however often it changed; people hear of each of their own."""
    first, second = (table.Fact(DOMAIN, f"user{n}", "f", "h", "rollout 1") for n in (1, 2))
    made = table.Fact(DOMAIN, rollout_id="rollout 1", sips=["user2", "user3"])
    elsewhere = table.Fact("other.example", "user1", rollout_id="rollout 2")
    own = table.Fact(DOMAIN, "user1", hw_id="h")
    assert notifications.grouped([first, own, made, second, elsewhere]) == [
        table.Fact(DOMAIN, rollout_id="rollout 1", sips=["user1", "user2", "user3"]),
        table.Fact("other.example", rollout_id="rollout 2", sips=["user1"]),
        *(replace(fact, rollout_id="") for fact in (first, own, second, elsewhere)),
    ]
    assert notifications.grouped([]) == []


def test_administrators_hear_of_rollouts(wired: wires.Wires, clock: Clock) -> None:
    """An entry of a rollout is told as it is, to those who roll out."""
    office = person_wire(wired, clock, connections.admins(DOMAIN), "admin")
    rollout_id = world.make_rollout(["user1", "user2"]).rollout_id
    tell(table.Fact(DOMAIN, "user1", rollout_id=rollout_id), clock)
    tell(table.Fact(DOMAIN, rollout_id=rollout_id, sips=["user1", "user2", "user3"]), clock)
    told = office.told("RegistrationChanged")
    assert {one["rollout_id"] for one in told} == {rollout_id}
    sips = [sorted(entry["sip"] for entry in one["entries"]) for one in told]
    assert sips == [["user1"], ["user1", "user2"]]


def test_people_who_cannot_be_told_stop_nobody(
    wired: wires.Wires, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One is gone and forgotten, one takes nothing now, the store fails: the others hear."""
    audience = connections.user(DOMAIN, "user1")
    gone, deaf, well = (person_wire(wired, clock, audience, "user1") for _ in range(3))
    gone.vanish()
    wired.failing.add(deaf.connection_id)
    fact = table.Fact(DOMAIN, "user1", world.issue().code.fingerprint)
    tell(fact, clock)
    assert len(well.received) == 1
    assert connections.find(gone.connection_id) is None
    assert connections.find(deaf.connection_id) is not None
    with faults.failing(monkeypatch, "Query", faults.timeout()):
        tell(fact, clock)
    assert len(well.received) == 1


def test_the_schedule_outlives_a_connection_that_cannot_be_forgotten(
    wired: wires.Wires, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One connection's trouble keeps nobody from hearing of a phone."""
    silent = wired.connect()
    wired.instance()
    phones = add_pending(clock, 1)
    clock.advance(61)

    def vanished(_: str) -> bool:
        return False

    with monkeypatch.context() as patch:
        patch.setattr(sending, "close", vanished)
        with faults.failing(monkeypatch, "TransactWriteItems", faults.timeout()):
            remind(clock)
    assert_all_told(wired, phones)
    remind(clock)
    assert connections.find(silent.connection_id) is None


def test_no_domain_begins_that_might_outlast_the_function(
    wired: wires.Wires,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    client: "DynamoDBClient",
    table_names: dict[str, str],
) -> None:
    """Backlogs of three domains: what there is no time for is told in the minutes after."""
    wired.instance(demo.INSTANCE_DOMAIN, "platform")
    mine = person_wire(wired, clock, connections.user(DOMAIN, "user1"), "user1")
    names = [DOMAIN, OTHER, "third.example"]
    for name in names:
        add_pending(clock, 30, name, demo.INSTANCE_DOMAIN)
        transaction = connection.Transaction()
        table.add_abroad(transaction, demo.INSTANCE_DOMAIN, name, clock())
        transaction.commit()
    real = sending.post

    def slow(connection_id: str, message: str) -> bool:
        clock.advance(1)
        return real(connection_id, message)

    monkeypatch.setattr(sending, "post", slow)
    world.issue()
    rows = client.scan(TableName=table_names["notifications"])["Items"]
    for work in (partial(follow, *rows), partial(remind, clock)):
        before, count_before = clock(), len(heard(wired))
        work()
        assert clock() - before <= timedelta(seconds=55)
        assert len(heard(wired)) > count_before
    assert len(mine.told("CodeChanged")) == 1
    for _ in range(5):
        remind(clock)
    assert [pending_of(name) for name in names] == [[], [], []]


def test_no_connection_is_closed_when_there_is_no_time(wired: wires.Wires, clock: Clock) -> None:
    """The next minute comes back to it."""
    silent = wired.connect()
    clock.advance(61)
    soon_over = clock() + timedelta(seconds=20)
    notifications.remind(push.device_provisioned, clock, clock.advance, soon_over)
    assert silent.is_open


def test_people_are_told_while_there_is_time(
    wired: wires.Wires, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many who do not answer do not use up the function; nothing is read for nobody."""
    audience = connections.user(DOMAIN, "user1")
    for _ in range(20):
        person_wire(wired, clock, audience, "user1")
    fact = table.Fact(DOMAIN, "user1", world.issue().code.fingerprint)
    ends = soon(clock)

    def time_out(_: str, __: str) -> bool:
        clock.advance(3)
        raise NotDeliveredError("ReadTimeoutError")

    monkeypatch.setattr(sending, "post", time_out)
    for made in (2, 0):
        with world.calls() as calls:
            notifications.tell_people(fact, push.person_news, push.admin_news, clock, ends)
        assert len(calls) == made
    assert clock() < ends + timedelta(seconds=3)


def test_a_defect_in_somebodys_news_is_logged_and_fails_nothing(
    wired: wires.Wires, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Or the stream would stand still for it."""
    mine = person_wire(wired, clock, connections.user(DOMAIN, "user1"), "user1")
    fact = table.Fact(DOMAIN, "user1", world.issue().code.fingerprint)

    def broken(*_: object) -> list[str]:
        raise ZeroDivisionError

    notifications.tell_people(fact, broken, push.admin_news, clock, soon(clock))
    assert mine.told("CodeChanged") == []
    assert "defect" in caplog.messages
