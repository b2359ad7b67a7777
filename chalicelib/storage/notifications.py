"""The notifications table: what Users instances must hear, who is telling them, and what follows.

Its stream wakes those who tell. It must not send anything, nor decide who hears what.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from pynamodb.attributes import (
    JSONAttribute,
    ListAttribute,
    NumberAttribute,
    TTLAttribute,
    UnicodeAttribute,
    UTCDateTimeAttribute,
)

from chalicelib import observability
from chalicelib.core.codes import Code
from chalicelib.core.devices import Device
from chalicelib.loading import on_use
from chalicelib.storage import vault
from chalicelib.storage.connection import (
    EnumAttribute,
    Item,
    Refused,
    Transaction,
)
from chalicelib.storage.ids import new_id
from chalicelib.storage.leases import Lease, milliseconds

if TYPE_CHECKING:
    from chalicelib.storage import lists
    from chalicelib.storage.lists import Page
else:
    # a phone that is registered reads none
    lists = on_use("chalicelib.storage.lists")

KEEP_SECONDS = 30 * 86_400
"""How long a Users instance may stay away and still hear of a phone."""

_KEEP_WAKE_SECONDS = 3_600
_MAX_PAGE = 1_000


class Kind(StrEnum):
    """What an item is for; its sort key begins with it."""

    PENDING = "pending"
    WAKE = "wake"
    FACT = "fact"
    HANDOVER = "handover"
    RETRY = "retry"
    PBX_WAKE = "pbx-wake"
    REDRIVE = "redrive"
    STANDING = "standing"
    REPLICATION = "replication"
    ABROAD = "abroad"
    LEASE = "lease"


@dataclass(frozen=True)
class Pending:
    """A redemption that a Users instance must hear of.

    Args:
        domain: of the code.
        asker: domain of the Users instance that asked for it.
        asking_connection, asking_src: the connection and the `src` that it asked with.
        sealed_code: the digits; told once more, and then nowhere.
        correlation_id: of the request that redeemed it; empty in rows of older code.
    """

    domain: str
    notification_id: str
    asker: str
    asking_connection: str
    hw_id: str
    sealed_code: str = field(repr=False)
    asking_src: str = ""
    name: str = ""
    product: str = ""
    version: str = ""
    device_type: str = ""
    correlation_id: str = ""

    def digits(self) -> str:
        """Unseal the code."""
        return vault.unseal(self.sealed_code, f"notification {self.notification_id}")


class Change(StrEnum):
    """What happened to a phone that is not somewhere else than before only for its user."""

    PROVISIONED = "provisioned"
    REMOVED = "removed"


@dataclass(frozen=True)
class Fact:
    """Something that happened to somebody's code or phone; what it is now is read when it is told.

    Args:
        owner: sip of whom it concerns, empty for those who roll out alone.
        fingerprint: of the code, empty for none.
        hw_id: of the phone, empty for none.
        rollout_id: of the rollout whose entries may look different now, empty for none.
        sips: whose entries, if there is no owner.
        causes: correlation ids of the requests that made it true, as far as they are known.
        change: whether the phone came to its domain and user or left them, None for neither.
        category, product, version: of a phone that came or left.
        notification_id: of its row, empty before it is written.
    """

    domain: str
    owner: str = ""
    fingerprint: str = ""
    hw_id: str = ""
    rollout_id: str = ""
    sips: Sequence[str] = ()
    causes: Sequence[str] = ()
    change: Change | None = None
    category: str = ""
    product: str = ""
    version: str = ""
    notification_id: str = field(default="", compare=False)


class NotificationItem(Item):
    """One notification, fact, wake-up or lease; docs/data-model.md, notifications."""

    concept = "notifications"
    domain = UnicodeAttribute(hash_key=True)
    notification_id = UnicodeAttribute(range_key=True)
    kind = EnumAttribute(Kind)
    asker = UnicodeAttribute(null=True)
    asking_connection = UnicodeAttribute(null=True)
    asking_src = UnicodeAttribute(null=True)
    sealed_code = UnicodeAttribute(null=True)
    owner = UnicodeAttribute(null=True)
    fingerprint = UnicodeAttribute(null=True)
    hw_id = UnicodeAttribute(null=True)
    rollout_id = UnicodeAttribute(null=True)
    sips: ListAttribute[str] = ListAttribute(null=True)
    change = EnumAttribute(Change, null=True)
    category = UnicodeAttribute(null=True)
    attempts = NumberAttribute(null=True)
    reason = UnicodeAttribute(null=True)
    since = UTCDateTimeAttribute(null=True)
    retry_at = UTCDateTimeAttribute(null=True)
    after = UnicodeAttribute(null=True)
    replicated_at = UTCDateTimeAttribute(null=True)
    counts = JSONAttribute(null=True)
    name = UnicodeAttribute(null=True)
    product = UnicodeAttribute(null=True)
    version = UnicodeAttribute(null=True)
    device_type = UnicodeAttribute(null=True)
    correlation_id = UnicodeAttribute(null=True)
    holder = UnicodeAttribute(null=True)
    until_ms = NumberAttribute(null=True)
    wanted = NumberAttribute(null=True)
    sequence = NumberAttribute(null=True)
    purge_at = TTLAttribute(null=True)

    def fact(self) -> Fact:
        """Make the fact of this item."""
        return replace(self.to(Fact), causes=(self.correlation_id,) if self.correlation_id else ())


def add_pending(write: Transaction, code: Code, digits: str, device: Device, now: datetime) -> None:
    """Add to the redemption of a code that whoever asked for it hears of its phone."""
    notification_id = f"{Kind.PENDING}#{new_id(now)}"
    pending = Pending(
        domain=code.domain,
        notification_id=notification_id,
        asker=code.asker,
        asking_connection=code.asking_connection,
        asking_src=code.asking_src,
        sealed_code=vault.seal(digits, f"notification {notification_id}"),
        hw_id=device.hw_id,
        name=device.name,
        product=device.product,
        version=device.version,
        device_type=device.device_type,
    )
    write.put("notification", _item(pending, Kind.PENDING, now, KEEP_SECONDS))


def add_fact(write: Transaction, fact: Fact, now: datetime) -> None:
    """Add a fact to the transaction that makes it true, if it concerns anybody."""
    if fact.owner or fact.sips or fact.change:
        write.put(f"fact of {fact.owner}", _fact(fact, now))


def note_fact(fact: Fact, now: datetime) -> None:
    """Write a fact that no transaction of ours makes true, if it concerns anybody.

    Raises:
        StoreUnavailableError: throttled or unreachable.
    """
    if fact.owner:
        _fact(fact, now).save()


def add_wake(write: Transaction, domain: str, now: datetime) -> None:
    """Add to a transaction that a domain's pending notifications are looked at once more."""
    write.put(f"wake {domain}", _wake(domain, now))


def wake(domain: str, now: datetime) -> None:
    """Let a domain's pending notifications be looked at once more.

    Raises:
        StoreUnavailableError: throttled or unreachable.
    """
    _wake(domain, now).save()


def add_abroad(write: Transaction, asker: str, domain: str, now: datetime) -> None:
    """Add to a transaction that a Users instance of one domain asked for a code of another."""
    item = NotificationItem(asker, f"{Kind.ABROAD}#{domain}", kind=Kind.ABROAD)
    item.purge_at = now + timedelta(seconds=2 * KEEP_SECONDS)
    write.put("abroad", item)


def domains_of(asker: str) -> list[str]:
    """List the domains that may hold notifications for the Users instances of one."""
    abroad, after = [asker], None
    prefix = f"{Kind.ABROAD}#"
    while True:
        page = lists.query(NotificationItem, asker, lists.Span(prefix, _MAX_PAGE, after))
        abroad += [item["notification_id"]["S"].removeprefix(prefix) for item in page.items]
        after = page.next_after
        if after is None:
            return abroad


def list_pending(domain: str, limit: int, after: str | None) -> "Page[Pending]":
    """List what a domain's Users instances must still hear, in the order in which it happened."""
    page = lists.query(NotificationItem, domain, lists.Span(f"{Kind.PENDING}#", limit, after))
    found = [NotificationItem.from_raw_data(item).to(Pending) for item in page.items]
    return lists.Page(found, page.next_after)


def settle(lease: Lease, told: list[Pending], until: datetime) -> Lease | None:
    """Delete what was told and keep its last number, all or nothing; the lease is prolonged.

    Args:
        told: at most 50, numbered from `lease.sequence` + 1.

    Returns:
        The lease as it is now, None if it was lost to another.
    """
    transaction = Transaction()
    for pending in told:
        key = NotificationItem(pending.domain, pending.notification_id)
        transaction.delete(pending.notification_id, key)
    sequence = lease.sequence + len(told)
    transaction.update(
        "lease",
        NotificationItem(lease.domain, lease.name),
        [
            NotificationItem.sequence.set(sequence),
            NotificationItem.until_ms.set(milliseconds(until)),
        ],
        NotificationItem.holder == lease.holder,
    )
    try:
        transaction.commit()
    except Refused:
        return None
    return replace(lease, sequence=sequence, until=until)


def _fact(fact: Fact, now: datetime) -> NotificationItem:
    # a user's phone that comes or goes is also a device that the PBX must hear of
    kind = Kind.HANDOVER if fact.change and fact.owner else Kind.FACT
    item = _item(fact, kind, now, KEEP_SECONDS)
    item.notification_id = f"{kind}#{new_id(now)}"
    return item


def _wake(domain: str, now: datetime) -> NotificationItem:
    item = NotificationItem(domain, f"{Kind.WAKE}#{new_id(now)}", kind=Kind.WAKE)
    item.purge_at = now + timedelta(seconds=_KEEP_WAKE_SECONDS)
    return item


def _item(facts: object, kind: Kind, now: datetime, keep_seconds: int) -> NotificationItem:
    item = NotificationItem.of(facts)
    item.kind = kind
    item.correlation_id = observability.correlation_id() or None
    item.purge_at = now + timedelta(seconds=keep_seconds)
    return item
