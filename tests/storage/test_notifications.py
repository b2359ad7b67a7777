from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError
from cryptography.exceptions import InvalidTag

from chalicelib import observability
from chalicelib.core.codes import Code, Lifetime, State
from chalicelib.core.devices import Device
from chalicelib.core.devices import State as DeviceState
from chalicelib.core.errors import Refusal, StoreUnavailableError
from chalicelib.roles import issuing
from chalicelib.storage import (
    audit,
    codes,
    connection,
    devices,
    leases,
    lists,
    notifications,
    redemptions,
)
from chalicelib.storage.connection import Refused
from chalicelib.storage.leases import USERS_INSTANCES, Lease
from chalicelib.storage.notifications import Change, Fact, Pending
from tests import faults, world
from tests.conftest import NOW

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("table_names")]
UNTIL = NOW + timedelta(seconds=10)
MILLISECOND = timedelta(milliseconds=1)
ENTRY = audit.Entry(world.DOMAIN, NOW, "code redeemed", world.HW_ID, "C1", world.HOME)
DIGITS = "918273645546"
A_PHONE = Fact(
    world.DOMAIN, "user1", hw_id=world.HW_ID, category="Office", product="IP232", version="13r1"
)
DEVICE = Device(
    world.HW_ID,
    DeviceState.REGISTERED,
    world.DOMAIN,
    "Office",
    user="user1",
    name="Desk",
    product="IP232",
    version="13r1",
    registered_from=world.HOME,
    registration_id="R1",
)


@pytest.fixture
def issued() -> issuing.IssuedCode:
    """Issue a code that no Users instance has asked for."""
    world.seed()
    return world.issue()


def asked(code: Code, connection_id: str = "c1", src: str = "s1") -> Code:
    """Ask about a code over a connection; returns it as it is then."""
    about = replace(code, asker=world.DOMAIN, asking_connection=connection_id, asking_src=src)
    transaction = connection.Transaction()
    codes.ask_about(transaction, about)
    transaction.commit()
    return world.stored(code)


def add_pending(code: Code, digits: str = DIGITS, now: datetime = NOW) -> None:
    """Keep what follows from a redemption."""
    transaction = connection.Transaction()
    notifications.add_pending(transaction, code, digits, DEVICE, now)
    transaction.commit()


def pending(now: datetime = NOW) -> Pending:
    """Keep a notification; returns it as it is listed last."""
    add_pending(code(), now=now)
    return listed()[-1]


def code() -> Code:
    """Make a code that a Users instance has asked for."""
    return Code(
        fingerprint="f" * 64,
        code_id="C1",
        state=State.PENDING,
        lifetime=Lifetime.USER,
        domain=world.DOMAIN,
        devices_url=world.UPDATE_URL,
        issued_at=NOW,
        expires_at=NOW + timedelta(seconds=600),
        purge_at=NOW + timedelta(seconds=600),
        asker="other.example",
        asking_connection="c1",
        asking_src="s1",
    )


def listed(domain: str = world.DOMAIN) -> list[Pending]:
    """Tell what is pending."""
    return notifications.list_pending(domain, 100, None).items


def of_kind(kind: notifications.Kind, domain: str = world.DOMAIN) -> list[dict[str, Any]]:
    """Read the items of a kind as they are stored."""
    span = lists.Span(kind, 100)
    return lists.query(notifications.NotificationItem, domain, span).items


def facts() -> list[Fact]:
    """Tell which facts are kept, in their order, those that a PBX must hear of last."""
    kinds = notifications.Kind.FACT, notifications.Kind.HANDOVER
    items = [item for kind in kinds for item in of_kind(kind)]
    return [notifications.NotificationItem.from_raw_data(item).to(Fact) for item in items]


def gone_or_come(change: Change) -> Fact:
    """Tell what is kept of the phone when it changes hands."""
    return replace(A_PHONE, change=change)


def since(before: list[Fact]) -> list[Fact]:
    """Tell which facts have come; those of one moment have no order."""
    come = facts()
    for fact in before:
        come.remove(fact)
    return come


def taken(holder: str = "h1", now: datetime = NOW, until: datetime = UNTIL) -> Lease:
    """Take the domain's lease, which is free."""
    lease = leases.acquire(world.DOMAIN, USERS_INSTANCES, holder, now, until)
    assert lease is not None
    return lease


def test_pending_notifications_come_in_the_order_of_redemption() -> None:
    """Page by page, each once, of one domain alone."""
    times = [NOW + timedelta(milliseconds=number) for number in (2, 0, 3, 1)]
    for number, at in enumerate(times):
        add_pending(code(), f"{number:012d}", at)
    add_pending(replace(code(), domain="third.example"))
    found: list[Pending] = []
    after = None
    while True:
        page = notifications.list_pending(world.DOMAIN, 3, after)
        found += page.items
        after = page.next_after
        if after is None:
            break
    assert [one.digits()[-1] for one in found] == ["1", "3", "0", "2"]


def test_a_pending_notification_says_who_asked_and_what_came() -> None:
    """Whatever becomes of the code and the phone until it is told."""
    found = pending()
    assert found == Pending(
        domain=world.DOMAIN,
        notification_id=found.notification_id,
        asker="other.example",
        asking_connection="c1",
        asking_src="s1",
        sealed_code=found.sealed_code,
        hw_id=world.HW_ID,
        name="Desk",
        product="IP232",
        version="13r1",
        device_type="PHONE",
    )


def test_a_sealed_code_opens_for_its_own_notification_alone(
    client: "DynamoDBClient", table_names: dict[str, str]
) -> None:
    """Nowhere do its digits stand as they are."""
    found = pending()
    assert found.digits() == DIGITS
    another = pending(NOW + MILLISECOND)
    with pytest.raises(InvalidTag):
        replace(found, notification_id=another.notification_id).digits()
    assert DIGITS not in world.dump(client, table_names)
    assert found.sealed_code not in repr(found)


def test_facts_concern_somebody() -> None:
    """One of nobody is not written, with a transaction or without."""
    transaction = connection.Transaction()
    first, second = Fact(world.DOMAIN, "user1", "f1"), Fact(world.DOMAIN, "user2", hw_id="h1")
    notifications.add_fact(transaction, first, NOW)
    notifications.add_fact(transaction, Fact(world.DOMAIN, "", "f2"), NOW)
    transaction.commit()
    notifications.note_fact(second, NOW + MILLISECOND)
    notifications.note_fact(Fact(world.DOMAIN, "", hw_id="h2"), NOW)
    assert facts() == [first, second]


def test_a_domain_is_woken_as_often_as_it_is_told() -> None:
    """With a transaction or without; each is a record of its own."""
    transaction = connection.Transaction()
    notifications.add_wake(transaction, world.DOMAIN, NOW)
    transaction.commit()
    notifications.wake(world.DOMAIN, NOW)
    assert len(of_kind(notifications.Kind.WAKE)) == 2
    assert listed() == []
    assert facts() == []


def test_who_asked_abroad_is_remembered_once_for_each_domain() -> None:
    """In its own domain everybody hears anyway, and it comes first."""
    assert notifications.domains_of("b.example") == ["b.example"]
    for domain in ("c.example", "a.example", "c.example"):
        transaction = connection.Transaction()
        notifications.add_abroad(transaction, "b.example", domain, NOW)
        transaction.commit()
    assert notifications.domains_of("b.example") == ["b.example", "a.example", "c.example"]
    assert notifications.domains_of("a.example") == ["a.example"]


def test_domains_abroad_are_read_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """In as many pages as they take."""
    for domain in ("c.example", "a.example"):
        transaction = connection.Transaction()
        notifications.add_abroad(transaction, "b.example", domain, NOW)
        transaction.commit()
    monkeypatch.setattr(notifications, "_MAX_PAGE", 1)
    assert notifications.domains_of("b.example") == ["b.example", "a.example", "c.example"]


def test_everything_but_a_lease_goes_by_itself() -> None:
    """After thirty days, an hour for what only wakes, and sixty days for who asked abroad."""
    pending()
    notifications.note_fact(Fact(world.DOMAIN, "user1"), NOW)
    notifications.wake(world.DOMAIN, NOW)
    transaction = connection.Transaction()
    notifications.add_abroad(transaction, world.DOMAIN, "other.example", NOW)
    transaction.commit()
    taken()
    kept = {
        kind.value: int(item["purge_at"]["N"]) - int(NOW.timestamp())
        for kind in notifications.Kind
        for item in of_kind(kind)
        if "purge_at" in item
    }
    day = 86_400
    assert kept == {"pending": 30 * day, "fact": 30 * day, "wake": 3_600, "abroad": 60 * day}


def test_one_holds_the_lease() -> None:
    """However many try at the same moment."""
    with ThreadPoolExecutor(16) as pool:
        taken_by = list(
            pool.map(
                lambda number: leases.acquire(
                    world.DOMAIN, USERS_INSTANCES, f"h{number}", NOW, UNTIL
                ),
                range(16),
            )
        )
    (lease,) = filter(None, taken_by)
    assert (lease.wanted, lease.sequence, lease.until) == (0, 0, UNTIL)


def test_each_domain_has_a_lease_of_its_own() -> None:
    """That one is held does not keep another."""
    taken()
    assert leases.acquire("other.example", USERS_INSTANCES, "h2", NOW, UNTIL) is not None


def test_a_lease_ends_by_itself() -> None:
    """At its end it is still held, after it anybody may take it."""
    taken()
    assert leases.acquire(world.DOMAIN, USERS_INSTANCES, "h2", UNTIL, UNTIL) is None
    assert taken("h2", UNTIL + MILLISECOND).holder == "h2"


def test_a_lease_that_is_given_back_is_free_at_once() -> None:
    """Giving it back twice is no harm to whoever has it then."""
    first = taken()
    assert leases.give_back(first) is None
    assert leases.give_back(first) is None
    second = taken("h2")
    assert leases.give_back(first) is None
    assert leases.acquire(world.DOMAIN, USERS_INSTANCES, "h3", NOW, UNTIL) is None
    assert leases.give_back(second) is None


def test_a_lease_that_was_wanted_meanwhile_is_kept_to_look_once_more() -> None:
    """It is given back when nobody wanted it since."""
    lease = taken()
    assert leases.acquire(world.DOMAIN, USERS_INSTANCES, "h2", NOW, UNTIL) is None
    leases.want(world.DOMAIN, USERS_INSTANCES)
    leases.want(world.DOMAIN, USERS_INSTANCES)
    again = leases.give_back(lease)
    assert again == replace(lease, wanted=2)
    assert leases.give_back(again) is None
    assert taken("h2").wanted == 2


def test_a_lease_may_be_wanted_before_it_is_ever_held() -> None:
    """Whoever takes it then looks after that anyway."""
    leases.want(world.DOMAIN, USERS_INSTANCES)
    lease = taken()
    assert (lease.wanted, lease.sequence) == (1, 0)
    assert leases.give_back(lease) is None


def test_a_lease_that_was_lost_is_not_given_back() -> None:
    """Nor does what was wanted then concern whoever has lost it."""
    lost = taken()
    after = UNTIL + MILLISECOND
    taken("h2", after, after + timedelta(seconds=10))
    leases.want(world.DOMAIN, USERS_INSTANCES)
    assert leases.give_back(lost) is None
    assert leases.acquire(world.DOMAIN, USERS_INSTANCES, "h3", after, UNTIL) is None


def test_what_was_told_is_settled_and_numbered() -> None:
    """It goes, the rest stays, the lease lasts longer, and the next one counts on."""
    first, second = pending(), pending(NOW + MILLISECOND)
    lease = taken()
    later = UNTIL + timedelta(seconds=10)
    settled = notifications.settle(lease, [first], later)
    assert settled == replace(lease, sequence=1, until=later)
    assert listed() == [second]
    assert leases.acquire(world.DOMAIN, USERS_INSTANCES, "h2", later, later) is None
    assert notifications.settle(settled, [second], later) == replace(settled, sequence=2)
    assert listed() == []
    assert leases.give_back(settled) is None
    assert taken("h2").sequence == 2


def test_nothing_told_only_prolongs_the_lease() -> None:
    """The number stays."""
    lease = taken()
    later = UNTIL + MILLISECOND
    assert notifications.settle(lease, [], later) == replace(lease, until=later)


def test_as_many_as_a_page_are_settled_at_once() -> None:
    """Fifty are one transaction."""
    for number in range(50):
        add_pending(code(), now=NOW + number * MILLISECOND)
    lease = taken()
    settled = notifications.settle(lease, listed(), UNTIL)
    assert settled == replace(lease, sequence=50)
    assert listed() == []


def test_nothing_is_settled_without_the_lease() -> None:
    """What was told by whoever has lost it is told once more, and its number counts not."""
    first = pending()
    lost = taken()
    held = taken("h2", UNTIL + MILLISECOND, UNTIL + timedelta(seconds=10))
    assert notifications.settle(lost, [first], UNTIL) is None
    assert listed() == [first]
    assert leases.give_back(held) is None
    assert notifications.settle(lost, [first], UNTIL) is None
    assert listed() == [first]
    assert taken("h3").sequence == 0


@pytest.mark.parametrize("step", ["acquire", "prolong", "give_back"])
def test_a_lease_is_neither_had_nor_lost_when_the_table_does_not_answer(
    monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """An error is told as what it is."""
    lease = taken()
    again = UNTIL + MILLISECOND
    steps = {
        "acquire": lambda: leases.acquire(world.DOMAIN, USERS_INSTANCES, "h2", again, again),
        "prolong": lambda: leases.prolong(lease, again),
        "give_back": lambda: leases.give_back(lease),
    }
    error = faults.client_error("ValidationException", "UpdateItem")
    with faults.failing(monkeypatch, "UpdateItem", error), pytest.raises(ClientError):
        steps[step]()
    with (
        faults.failing(monkeypatch, "UpdateItem", *[faults.timeout()] * 10),
        pytest.raises(StoreUnavailableError),
    ):
        steps[step]()
    assert leases.acquire(world.DOMAIN, USERS_INSTANCES, "h3", UNTIL, UNTIL) is None


def test_a_redemption_tells_its_owner_and_whoever_asked(issued: issuing.IssuedCode) -> None:
    """In the same transaction; of a phone that changes hands both its owners hear."""
    known = asked(issued.code)
    before = facts()
    redemptions.write(known, issued.digits, DEVICE, None, ENTRY)
    (told,) = listed()
    assert (told.digits(), told.asking_connection, told.asking_src) == (issued.digits, "c1", "s1")
    came = gone_or_come(Change.PROVISIONED)
    assert since(before) == [replace(came, fingerprint=issued.code.fingerprint)]
    next_code = world.issue("user2")
    before = facts()
    taker = replace(DEVICE, user="user2", registration_id="R2")
    seen = devices.find(world.HW_ID)
    redemptions.write(next_code.code, next_code.digits, taker, seen, ENTRY)
    assert sorted((fact.owner, fact.fingerprint) for fact in since(before)) == [
        ("user1", ""),
        ("user2", next_code.code.fingerprint),
    ]


def test_a_redemption_that_nobody_asked_about_is_not_pending(issued: issuing.IssuedCode) -> None:
    """Its owner hears, and no Users instance."""
    redemptions.write(issued.code, issued.digits, DEVICE, None, ENTRY)
    assert listed() == []


@pytest.mark.parametrize("is_asked_before", [False, True])
def test_whoever_asks_between_read_and_write_hears_of_the_phone(
    issued: issuing.IssuedCode, *, is_asked_before: bool
) -> None:
    """The redemption is refused, and the next attempt tells the one who asked last."""
    read = asked(issued.code, "c0") if is_asked_before else issued.code
    asked(issued.code, "c1", "")
    with pytest.raises(Refused) as raised:
        redemptions.write(read, issued.digits, DEVICE, None, ENTRY)
    assert (listed(), devices.find(world.HW_ID)) == ([], None)
    now, seen = redemptions.as_they_are(raised.value, read, None)
    assert now is not None
    redemptions.write(now, issued.digits, DEVICE, seen, ENTRY)
    (told,) = listed()
    assert (told.asking_connection, told.asking_src) == ("c1", "")


def test_a_phone_that_comes_while_somebody_asks_is_told(
    issued: issuing.IssuedCode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It notices nothing."""
    real = redemptions.read

    def read(*arguments: Any) -> Any:  # noqa: ANN401 - as it is
        found = real(*arguments)
        asked(issued.code)
        return found

    monkeypatch.setattr(redemptions, "read", read)
    world.redeem(issued.digits)
    (told,) = listed()
    assert (told.hw_id, told.digits()) == (world.HW_ID, issued.digits)


def test_nobody_asks_about_a_code_that_is_not_open(issued: issuing.IssuedCode) -> None:
    """Neither a redeemed one nor one that another has taken the digits of."""
    with pytest.raises(Refused):
        asked(replace(issued.code, code_id="another"))
    redemptions.write(issued.code, issued.digits, DEVICE, None, ENTRY)
    with pytest.raises(Refused):
        asked(issued.code)
    assert world.stored(issued.code).asker == ""


def test_the_last_one_to_ask_counts(issued: issuing.IssuedCode) -> None:
    """Also when it asks without a `src`."""
    assert asked(issued.code).asking_src == "s1"
    known = asked(issued.code, "c2", "")
    assert (known.asking_connection, known.asking_src) == ("c2", "")


def test_a_refused_code_is_a_fact_for_its_owner(issued: issuing.IssuedCode) -> None:
    """With the code, and no phone of its own."""
    before = facts()
    redemptions.refuse(issued.code, Refusal.ALREADY_USED, ENTRY)
    assert since(before) == [Fact(world.DOMAIN, "user1", issued.code.fingerprint)]


def test_a_refused_code_of_a_foreign_installation_concerns_nobody_here(
    client: "DynamoDBClient", table_names: dict[str, str]
) -> None:
    """Nothing is written: neither a fact nor an entry in a trail."""
    redemptions.refuse(replace(code(), domain=""), Refusal.ALREADY_USED, ENTRY)
    assert world.dump(client, table_names) == ""


@pytest.mark.parametrize("user", ["user1", ""])
def test_a_released_phone_is_a_fact_for_whoever_had_it(user: str) -> None:
    """With the phone and no code; one of nobody is one for the domain alone."""
    device = replace(DEVICE, user=user)
    redemptions.admit(device, None, ENTRY)
    before = facts()
    redemptions.release(device, ENTRY)
    assert since(before) == [replace(gone_or_come(Change.REMOVED), owner=user)]
    kind = notifications.Kind.HANDOVER if user else notifications.Kind.FACT
    assert [len(of_kind(kind)), len(facts())] == [2, 2]


def test_a_phone_that_never_came_does_not_leave() -> None:
    """One that is expected in the place of another is on a list, and nowhere else."""
    expected = replace(DEVICE, registration_id="", registered_at=None)
    redemptions.admit(expected, None, ENTRY)
    before = facts()
    redemptions.release(expected, ENTRY)
    assert since(before) == [A_PHONE]


def test_a_row_carries_the_id_of_the_request_that_wrote_it(
    client: "DynamoDBClient", table_names: dict[str, str], issued: issuing.IssuedCode
) -> None:
    """A fact and what is pending have it; what no request wrote has none, as rows of older code."""
    table = table_names["notifications"]
    for one in client.scan(TableName=table)["Items"]:
        assert "correlation_id" not in one
        assert notifications.NotificationItem.from_raw_data(one).fact().causes == ()
    code = asked(issued.code)
    with observability.correlated("an id"):
        redemptions.write(code, issued.digits, DEVICE, None, ENTRY)
    (pending,) = notifications.list_pending(world.DOMAIN, 10, None).items
    assert pending.correlation_id == "an id"
    (fact,) = [
        notifications.NotificationItem.from_raw_data(one).fact()
        for one in client.scan(TableName=table)["Items"]
        if one["kind"]["S"] == "handover"
    ]
    assert (fact.owner, fact.causes) == ("user1", ("an id",))
