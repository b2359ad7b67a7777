"""The registrations table: the entries of a rollout, a user each.

An entry changes in the transaction that changes its code, so neither can be ahead of the other.
It must not decide what may become of an entry (roles/rollouts.py).
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Self, cast

from pynamodb.attributes import TTLAttribute, UnicodeAttribute, UTCDateTimeAttribute

from chalicelib.core.codes import Code
from chalicelib.core.errors import Refusal
from chalicelib.core.rollouts import Registration, State
from chalicelib.loading import on_use
from chalicelib.storage.connection import EnumAttribute, Item, Transaction, at_once, batch_get

if TYPE_CHECKING:
    from chalicelib.storage import lists
    from chalicelib.storage.lists import Index, Page, Span
else:
    # a phone that redeems its code asks for no list
    lists = on_use("chalicelib.storage.lists")

_LAST = "\uffff"
"""Sorts behind whatever stands in a key."""


class RegistrationItem(Item):
    """One entry; docs/data-model.md, registrations."""

    concept = "registrations"
    rollout_id = UnicodeAttribute(hash_key=True)
    sip = UnicodeAttribute(range_key=True)
    listing = UnicodeAttribute()
    standing = UnicodeAttribute()
    name = UnicodeAttribute(null=True)
    fingerprint = UnicodeAttribute()
    code_id = UnicodeAttribute()
    state = EnumAttribute(State)
    expires_at = UTCDateTimeAttribute()
    since = UTCDateTimeAttribute()
    changed_at = UTCDateTimeAttribute()
    hw_id = UnicodeAttribute(null=True)
    reason = UnicodeAttribute(null=True)
    purge_at = TTLAttribute()

    @classmethod
    def of(cls, facts: object) -> Self:
        """Make the item of an entry, with the places in which lists find it."""
        registration, item = cast("Registration", facts), super().of(facts)
        item.listing = _listing(registration.sip, registration.changed_at)
        item.standing = _standing(registration)
        return item


def put_new(write: Transaction, registration: Registration) -> None:
    """Add a user's first entry to a transaction; it is refused if there is one."""
    item = RegistrationItem.of(registration)
    write.put(_name(registration), item, RegistrationItem.sip.does_not_exist())


def put(write: Transaction, registration: Registration, seen: Registration) -> None:
    """Add to a transaction that an entry's code is another, lives longer or is revoked.

    Args:
        registration: as it shall be.
        seen: as it was; if its code, its state, its end or its reason has changed since, the
            transaction is refused: a code that was extended meanwhile has not expired.
    """
    reason = RegistrationItem.reason
    condition = (
        (RegistrationItem.code_id == seen.code_id)
        & (RegistrationItem.state == seen.state)
        & (RegistrationItem.expires_at == seen.expires_at)
        & (reason == seen.reason if seen.reason else reason.does_not_exist())
    )
    write.put(_name(registration), RegistrationItem.of(registration), condition)


def register(write: Transaction, code: Code, hw_id: str, now: datetime) -> None:
    """Add to the redemption of a code that its user has a phone."""
    registered = State.REGISTERED
    write.update(
        f"registration {code.owner}",
        RegistrationItem(code.rollout_id, code.owner),
        [
            RegistrationItem.state.set(registered),
            RegistrationItem.hw_id.set(hw_id),
            RegistrationItem.since.set(now),
            RegistrationItem.changed_at.set(now),
            RegistrationItem.reason.remove(),
            RegistrationItem.listing.set(_listing(code.owner, now)),
            RegistrationItem.standing.set(_standing_since(registered, now, code.owner)),
        ],
        (RegistrationItem.code_id == code.code_id) & (RegistrationItem.state == State.PENDING),
    )


def note_refusal(write: Transaction, code: Code, refusal: Refusal, now: datetime) -> None:
    """Add to a transaction what the administrator should know of a refused attempt."""
    write.update(
        f"registration {code.owner}",
        RegistrationItem(code.rollout_id, code.owner),
        [
            RegistrationItem.reason.set(refusal),
            RegistrationItem.changed_at.set(now),
            RegistrationItem.listing.set(_listing(code.owner, now)),
        ],
        RegistrationItem.code_id == code.code_id,
    )


def find_all(rollout_id: str, sips: Iterable[str]) -> list[Registration]:
    """Read users' entries consistently, in no order; who has none is left out."""
    keys = [(rollout_id, sip) for sip in sips]
    found = batch_get((RegistrationItem, keys))[RegistrationItem]
    return [item.to(Registration) for item in found]


def list_all(rollout_id: str, limit: int, after: str | None) -> "Page[Registration]":
    """List a rollout's entries by sip, consistently."""
    return _page(rollout_id, lists.Span("", limit, after))


def list_changed(rollout_id: str, limit: int, after: str | None) -> "Page[Registration]":
    """List a rollout's entries, newest change first; the list may lag."""
    span = lists.Span("", limit, after, newest_first=True)
    return _page(rollout_id, span, _index("by-change", "listing"))


def list_state(
    rollout_id: str, state: State, now: datetime, limit: int, after: str | None
) -> "Page[Registration]":
    """List a rollout's entries of one state, newest first; the list may lag, its items not."""
    page = lists.query(
        RegistrationItem,
        rollout_id,
        _span(state, now, limit, after),
        _index("by-state", "standing"),
    )
    sips = [item["sip"]["S"] for item in page.items]
    found = {entry.sip: entry for entry in find_all(rollout_id, sips)}
    current = [found[sip] for sip in sips if sip in found]
    return lists.Page([entry for entry in current if entry.state_at(now) is state], page.next_after)


def count(rollout_id: str) -> int:
    """Count a rollout's entries, consistently."""
    return lists.count(RegistrationItem, rollout_id, lists.Span("", 0))


def count_states(rollout_id: str, now: datetime) -> dict[State, int]:
    """Count a rollout's entries by their state, all at once; the counts may lag."""
    index, states = _index("by-state", "standing"), list(State)
    spans = [_span(state, now, 0, None) for state in states]
    counts = at_once(lambda span: lists.count(RegistrationItem, rollout_id, span, index), spans)
    return dict(zip(states, counts, strict=True))


def _page(rollout_id: str, span: "Span", index: "Index | None" = None) -> "Page[Registration]":
    page = lists.query(RegistrationItem, rollout_id, span, index)
    found = [RegistrationItem.read(item, Registration) for item in page.items]
    return lists.Page(found, page.next_after)


def _span(state: State, now: datetime, limit: int, after: str | None) -> "Span":
    """Say where a state's entries stand; what is pending stands by the end of its code."""
    if state not in {State.PENDING, State.EXPIRED}:
        return lists.Span(f"{state}#", limit, after, newest_first=True)
    # the key of an entry that ends now begins with its time and `#`, so it stands below
    low, high = (_at(now) + "$", _LAST) if state is State.PENDING else ("", _at(now) + "$")
    pending = f"{State.PENDING}#"
    return lists.Span(pending, limit, after, newest_first=True, low=low, high=high)


def _index(name: str, range_key: str) -> "Index":
    return lists.Index(name, "rollout_id", range_key, _sip_in)


def _sip_in(place: str) -> str:
    # names hold no `#`, see core/roster.py
    return place.rpartition("#")[2]


def _name(registration: Registration) -> str:
    return f"registration {registration.sip}"


def _listing(sip: str, changed_at: datetime) -> str:
    return f"{_at(changed_at)}#{sip}"


def _standing(registration: Registration) -> str:
    is_pending = registration.state is State.PENDING
    moment = registration.expires_at if is_pending else registration.since
    return _standing_since(registration.state, moment, registration.sip)


def _standing_since(state: State, moment: datetime, sip: str) -> str:
    return f"{state}#{_at(moment)}#{sip}"


def _at(moment: datetime) -> str:
    """Write a time so that it sorts."""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}"
