"""Handovers: phones that a domain's PBX must still hear of; items of the notifications table.

Each was written in the transaction in which the phone came to its user or left (redemptions.py),
and goes when the PBX has it right. It must not decide what the PBX is told.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from chalicelib.storage import lists
from chalicelib.storage.connection import MAX_TRANSACTION_ITEMS, Refused, Transaction, batch_get
from chalicelib.storage.ids import new_id, time_of
from chalicelib.storage.notifications import KEEP_SECONDS, Kind, NotificationItem

_STANDING = "pbx"
_KEEP_SIGNAL_SECONDS = 3_600


@dataclass(frozen=True)
class Handover:
    """A phone that came to a user or left; which of the two, its device tells.

    Args:
        notification_id: its row's.
        owner: sip of the user.
        attempts: how often the PBX did not take it.
        reason: why not, the last time.
        correlation_id: of the request that began it.
    """

    domain: str
    notification_id: str
    owner: str
    hw_id: str
    attempts: int = 0
    reason: str = ""
    correlation_id: str = ""


@dataclass(frozen=True)
class Standing:
    """How we stand with a domain's PBX while there is trouble.

    Args:
        reason: what the trouble is.
        since: when it began.
        attempts: how often it has been tried since.
        retry_at: before when it is not tried again.
    """

    domain: str
    reason: str
    since: datetime
    attempts: int
    retry_at: datetime


def list_due(domain: str, limit: int, now: datetime) -> list[Handover]:
    """List what is to be handed over now: what has never been tried, then what is tried again."""
    new = _listed(domain, lists.Span(f"{Kind.HANDOVER}#", limit))
    if len(new) == limit:
        return new
    due = lists.Span(f"{Kind.RETRY}#", limit - len(new), high=_at(now) + "~")
    return [*new, *_listed(domain, due)]


def list_waiting(domain: str, limit: int) -> list[Handover]:
    """List which phones are to be handed over, once each, those first that the PBX did not take."""
    tried = _listed(domain, lists.Span(f"{Kind.RETRY}#", limit))
    found = [*tried, *_listed(domain, lists.Span(f"{Kind.HANDOVER}#", limit))]
    phones: dict[tuple[str, str], Handover] = {}
    for one in found:
        phones.setdefault((one.owner, one.hw_id), one)
    return list(phones.values())[:limit]


def put_new(write: Transaction, handover: Handover, now: datetime) -> None:
    """Add to a transaction that a phone is to be handed over once more, as if it had just come."""
    item = NotificationItem.of(replace(handover, notification_id=f"{Kind.HANDOVER}#{new_id(now)}"))
    item.kind = Kind.HANDOVER
    item.purge_at = now + timedelta(seconds=KEEP_SECONDS)
    write.put(f"handover {handover.hw_id}", item)


def put_again(group: Iterable[Handover], now: datetime) -> None:
    """Let phones be handed over once more, whatever became of them.

    Raises:
        StoreUnavailableError: throttled or unreachable.
    """
    for one in group:
        transaction = Transaction()
        put_new(transaction, replace(one, attempts=0, reason=""), now)
        transaction.commit()


def settle(done: Sequence[Handover]) -> None:
    """Delete what the PBX has right.

    Raises:
        StoreUnavailableError: throttled or unreachable; what was not deleted is looked at again.
    """
    for start in range(0, len(done), MAX_TRANSACTION_ITEMS):
        transaction = Transaction()
        for one in done[start : start + MAX_TRANSACTION_ITEMS]:
            transaction.delete(one.notification_id, _key(one))
        transaction.commit()


def put_off(failed: Iterable[Handover], reason: str, retry_at: datetime) -> None:
    """Keep that the PBX did not take phones, and when it is asked again.

    Raises:
        StoreUnavailableError: throttled or unreachable; then it is asked again at once.
    """
    kept: set[str] = set()
    for one in failed:
        name = f"{Kind.RETRY}#{_at(retry_at)}#{one.notification_id.rpartition('#')[2]}"
        later = replace(one, notification_id=name, attempts=one.attempts + 1, reason=reason)
        item = NotificationItem.of(later)
        item.kind = Kind.RETRY
        item.purge_at = _ends(later)
        transaction = Transaction()
        transaction.delete("before", _key(one), NotificationItem.kind.exists())
        if one.hw_id not in kept:
            # one row says all of a phone
            transaction.put("later", item)
            kept.add(one.hw_id)
        try:
            transaction.commit()
        except Refused:
            # another has settled it, or put it off
            continue


def hurry(domain: str, limit: int, now: datetime) -> bool:
    """Let a domain's phones that wait for another try have it now.

    Returns:
        Whether there may be more of them.

    Raises:
        StoreUnavailableError: throttled or unreachable.
    """
    late = lists.Span(f"{Kind.RETRY}#", limit, low=_at(now) + "~", high="~")
    found = _listed(domain, late)
    for one in found:
        transaction = Transaction()
        transaction.delete("before", _key(one), NotificationItem.kind.exists())
        put_new(transaction, replace(one, attempts=0, reason=""), now)
        try:
            transaction.commit()
        except Refused:
            continue
    return len(found) == limit


def find_standing(domain: str) -> Standing | None:
    """Read how we stand with a domain's PBX, consistently; None if there is no trouble."""
    found = batch_get((NotificationItem, [(domain, _STANDING)]))[NotificationItem]
    return found[0].to(Standing) if found else None


def put_standing(standing: Standing) -> None:
    """Keep that there is trouble with a domain's PBX.

    Raises:
        StoreUnavailableError: throttled or unreachable.
    """
    item = NotificationItem.of(standing)
    item.notification_id = _STANDING
    item.kind = Kind.STANDING
    item.save()


def clear_standing(domain: str) -> None:
    """Keep that there is no trouble with a domain's PBX.

    Raises:
        StoreUnavailableError: throttled or unreachable.
    """
    NotificationItem(domain, _STANDING).delete()


def add_redrive(write: Transaction, domain: str, now: datetime, after: str | None = None) -> None:
    """Add to a transaction that all of a domain's phones are to be handed over, done or not.

    Args:
        after: where it goes on in the list of the domain's devices, None for its beginning.
    """
    item = _signal(Kind.REDRIVE, domain, now)
    item.after = after
    write.put("redrive", item)


def wake(domain: str, now: datetime) -> None:
    """Let what is to be handed over be looked at once more.

    Raises:
        StoreUnavailableError: throttled or unreachable.
    """
    _signal(Kind.PBX_WAKE, domain, now).save()


def _signal(kind: Kind, domain: str, now: datetime) -> NotificationItem:
    item = NotificationItem(domain, f"{kind}#{new_id(now)}", kind=kind)
    item.purge_at = now + timedelta(seconds=_KEEP_SIGNAL_SECONDS)
    return item


def _listed(domain: str, span: lists.Span) -> list[Handover]:
    page = lists.query(NotificationItem, domain, span)
    return [NotificationItem.read(item, Handover) for item in page.items]


def _ends(handover: Handover) -> datetime:
    """Tell when a phone is forgotten that the PBX never took: as long after it came as any."""
    came_at = time_of(handover.notification_id.rpartition("#")[2])
    return came_at + timedelta(seconds=KEEP_SECONDS)


def _key(handover: Handover) -> NotificationItem:
    return NotificationItem(handover.domain, handover.notification_id)


def _at(moment: datetime) -> str:
    """Write a time so that it sorts."""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}"
