"""Rollouts: codes for many users at once, and what becomes of each, as UsersAdmin shows them.

It must not tell a code (roles/handouts.py), nor know what a phone does with one.
"""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chalicelib import observability, settings
from chalicelib.core.devices import Device
from chalicelib.core.errors import (
    ConflictError,
    Fault,
    InvalidRequestError,
    NotAllowedError,
    NotFoundError,
)
from chalicelib.core.rollouts import MAX_ENTRIES, MAX_USERS, Registration, Rollout, State
from chalicelib.roles import entries
from chalicelib.storage import audit, devices, domains, registrations, rollouts, users
from chalicelib.storage.connection import Transaction
from chalicelib.storage.ids import ID_LENGTH, new_id
from chalicelib.storage.lists import Page

if TYPE_CHECKING:
    from chalicelib.roles.asking import Asking
    from chalicelib.storage.users import User

_NO_CATEGORY = "no provisioning category for phones"


@dataclass(frozen=True)
class Options:
    """What a rollout can be made of, names alone."""

    categories: Sequence[str]
    phone_apps: Sequence[str]


@dataclass(frozen=True)
class Added:
    """What became of users who were to be added.

    Args:
        already: how many have an entry already, or were named twice.
    """

    added: int
    already: int


@dataclass(frozen=True)
class Changed:
    """What became of entries that were to be changed.

    Args:
        missed: whose entry was changed at this moment by somebody else, or by a phone.
        next_after: where to go on, None at the end.
    """

    changed: int
    missed: Sequence[str]
    next_after: str | None


@dataclass(frozen=True)
class Entry:
    """A user's entry, with the phone that registered; None if it is not this user's any more."""

    registration: Registration
    device: Device | None


@dataclass(frozen=True)
class Progress:
    """How far a rollout is, and a page of its entries.

    Args:
        counts: state → entries of all pages; None but for the first page, for counting 20,000
            entries takes longer than reading 1,000.
    """

    rollout: Rollout
    counts: Mapping[State, int] | None
    entries: Page[Entry]


@dataclass(frozen=True)
class Selection:
    """Which entries to change.

    Args:
        sips: of these users, at most 1,000; empty for all, up to 1,000 entries at a time.
        after: where to go on with all, None to begin.
    """

    sips: Sequence[str] = ()
    after: str | None = None


def options(asking: "Asking") -> Options:
    """Tell what a rollout can be made of.

    Raises:
        NotAllowedError: this person is no users-admin, or their domain is not served here.
    """
    domain, _ = _standing(asking)
    known = domains.categories(domain.domain)
    return Options([one.name for one in known if one.takes_phones], domain.phone_apps)


def create(  # noqa: PLR0913 - what a rollout is made of
    asking: "Asking", *, name: str, category: str, app: str, note: str, sips: Sequence[str]
) -> tuple[Rollout, Added]:
    """Make a rollout, and its first entries.

    Args:
        category: a provisioning category for phones.
        app: one of the domain's phone apps, empty for the first.
        sips: at most 1,000 users.

    Raises:
        NotAllowedError: this person is no users-admin, or their domain is not served here.
        InvalidRequestError: the category is none for phones, the app or a user is unknown.
        StoreUnavailableError: throttled or unreachable.
    """
    domain, takes_phones = _standing(asking, category)
    known, faults = _known(domain.domain, sips)
    if not takes_phones:
        faults.append(Fault("category", _NO_CATEGORY))
    if app and app not in domain.phone_apps:
        faults.append(Fault("app", "no phone app of this domain"))
    if faults:
        raise InvalidRequestError(*faults)
    rollout = Rollout(
        domain=domain.domain,
        rollout_id=new_id(asking.now),
        name=name,
        category=category,
        app=app or next(iter(domain.phone_apps), ""),
        note=note,
        created_by=asking.person.sip,
        created_at=asking.now,
    )
    transaction = Transaction()
    rollouts.put_new(transaction, rollout)
    audit.add(transaction, asking.entry("rollout made", rollout.rollout_id))
    transaction.commit()
    observability.count("RolloutMade")
    adding = entries.Adding(asking, rollout, _devices_url(asking, domain))
    added = len(entries.change_all(adding, known))
    return rollout, Added(added, len(sips) - added)


def add(asking: "Asking", rollout_id: str, sips: Sequence[str]) -> Added:
    """Add users to a rollout, each with a code of seven days; who is there already stays.

    Args:
        sips: at most 1,000 users.

    Raises:
        NotAllowedError: this person is no users-admin, or their domain is not served here.
        NotFoundError: there is no such rollout in their domain.
        InvalidRequestError: a user is unknown.
        ConflictError: the rollout has ended or is full, or its category is gone.
        StoreUnavailableError: throttled or unreachable; what was added stays.
    """
    rollout = find(asking, rollout_id)
    domain = _demand_open(asking, rollout)
    known, faults = _known(rollout.domain, sips)
    if faults:
        raise InvalidRequestError(*faults)
    there = {entry.sip for entry in registrations.find_all(rollout_id, sips)}
    new = [user for user in known if user.sip not in there]
    if new and registrations.count(rollout_id) + len(new) > MAX_ENTRIES:
        raise ConflictError(f"a rollout has at most {MAX_ENTRIES} users")
    adding = entries.Adding(asking, rollout, _devices_url(asking, domain))
    added = len(entries.change_all(adding, new))
    return Added(added, len(sips) - added)


def list_all(asking: "Asking", limit: int, after: str | None) -> Page[Rollout]:
    """List the rollouts of this person's domain, newest first.

    Raises:
        NotAllowedError: this person is no users-admin.
    """
    asking.demand_users_admin()
    return rollouts.list_all(asking.person.domain, limit, after)


def find(asking: "Asking", rollout_id: str) -> Rollout:
    """Find a rollout of this person's domain.

    Raises:
        NotAllowedError: this person is no users-admin.
        NotFoundError: there is no such rollout in their domain.
    """
    asking.demand_users_admin()
    is_id = len(rollout_id) == ID_LENGTH
    found = rollouts.find(asking.person.domain, rollout_id) if is_id else None
    if found is None:
        raise NotFoundError("rollout")
    return found


def show(
    asking: "Asking", rollout_id: str, state: State | None, limit: int, after: str | None
) -> Progress:
    """Show how far a rollout is, and its entries, newest change first; both may lag a moment.

    Args:
        state: entries of one state alone, None for all.

    Raises:
        NotAllowedError: this person is no users-admin.
        NotFoundError: there is no such rollout in their domain.
    """
    rollout = find(asking, rollout_id)

    def read() -> Page[Entry]:
        if state is None:
            page = registrations.list_changed(rollout_id, limit, after)
        else:
            page = registrations.list_state(rollout_id, state, asking.now, limit, after)
        return Page(with_phones(rollout.domain, page.items), page.next_after)

    if after is not None:
        return Progress(rollout, None, read())
    with ThreadPoolExecutor(1) as beside:
        counting = beside.submit(registrations.count_states, rollout_id, asking.now)
        entries_now = read()
    return Progress(rollout, counting.result(), entries_now)


def with_phones(domain: str, found: Iterable[Registration]) -> list[Entry]:
    """Put phones to entries, as far as they are still these users'."""
    listed = list(found)
    wanted = [entry.hw_id for entry in listed if entry.hw_id]
    phones = {phone.hw_id: phone for phone in devices.find_all(wanted)}
    return [Entry(entry, _own(phones.get(entry.hw_id), domain, entry)) for entry in listed]


def extend(asking: "Asking", rollout_id: str, selection: Selection) -> Changed:
    """Let codes that are pending live for seven days from now.

    Raises:
        NotAllowedError: this person is no users-admin, or their domain is not served here.
        NotFoundError: there is no such rollout in their domain.
        InvalidRequestError: a user has no entry.
        ConflictError: the rollout has ended, its category is gone, or a foreign central service
            has issued the codes and lets them end when it said.
        StoreUnavailableError: throttled or unreachable; what was changed stays.
    """
    rollout = find(asking, rollout_id)
    _demand_open(asking, rollout)
    if settings.current().central_url:
        raise ConflictError("these codes end at the central service: issue new ones instead")
    return _change(entries.Extending(asking, rollout), selection, {State.PENDING})


def reissue(asking: "Asking", rollout_id: str, selection: Selection) -> Changed:
    """Issue new codes in place of those that are pending or expired, and of selected revoked ones.

    The old ones die with it; who is registered keeps the phone.

    Raises:
        NotAllowedError: this person is no users-admin, or their domain is not served here.
        NotFoundError: there is no such rollout in their domain.
        InvalidRequestError: a user has no entry.
        ConflictError: the rollout has ended, or its category is gone.
        StoreUnavailableError: throttled or unreachable; what was changed stays.
    """
    rollout = find(asking, rollout_id)
    domain = _demand_open(asking, rollout)
    reissuing = entries.Reissuing(asking, rollout, _devices_url(asking, domain))
    states = {State.PENDING, State.EXPIRED}
    return _change(reissuing, selection, states | {State.REVOKED} if selection.sips else states)


def revoke(asking: "Asking", rollout_id: str, selection: Selection) -> Changed:
    """Revoke codes that are pending.

    Raises:
        NotAllowedError: this person is no users-admin.
        NotFoundError: there is no such rollout in their domain.
        InvalidRequestError: a user has no entry.
        StoreUnavailableError: throttled or unreachable; what was changed stays.
    """
    rollout = find(asking, rollout_id)
    return _change(entries.Revoking(asking, rollout), selection, {State.PENDING})


def _change(
    change: entries.Change[Registration], selection: Selection, states: set[State]
) -> Changed:
    rollout_id, now = change.rollout.rollout_id, change.asking.now
    if selection.sips:
        found = registrations.find_all(rollout_id, selection.sips)
        there = {entry.sip for entry in found}
        faults = _missing(selection.sips, there, "not in this rollout")
        if faults:
            raise InvalidRequestError(*faults)
        page = Page(found, None)
    else:
        page = registrations.list_all(rollout_id, MAX_USERS, selection.after)
    wanted = [entry for entry in page.items if entry.state_at(now) in states]
    changed = set(entries.change_all(change, wanted))
    missed = [entry.sip for entry in wanted if entry.sip not in changed]
    return Changed(len(changed), missed, page.next_after)


def _standing(asking: "Asking", category: str = "") -> tuple[domains.Domain, bool]:
    """Read the domain of who asks, and whether a category of it takes phones: one call."""
    asking.demand_users_admin()
    standing = users.find_standing(asking.person.domain, asking.person.sip, category)
    if standing.domain is None:
        raise NotAllowedError("the domain is not served here")
    return standing.domain, standing.category is not None and standing.category.takes_phones


def _demand_open(asking: "Asking", rollout: Rollout) -> domains.Domain:
    """Refuse a rollout in which no code can be issued any more."""
    domain, takes_phones = _standing(asking, rollout.category)
    if asking.now >= rollout.ends_at:
        raise ConflictError("the rollout has ended")
    if not takes_phones:
        raise ConflictError(f"the rollout's category is {_NO_CATEGORY}")
    return domain


def _devices_url(asking: "Asking", domain: domains.Domain) -> str:
    return domain.devices_url or asking.update_url


def _known(domain: str, sips: Sequence[str]) -> tuple[list["User"], list[Fault]]:
    """Look users up, each once; a fault for each that is unknown."""
    found = users.find_all(domain, sips)
    there = {user.sip for user in found}
    return found, _missing(sips, there, "no user of this domain")


def _missing(sips: Sequence[str], there: set[str], message: str) -> list[Fault]:
    """Name everybody who is not there, by their place."""
    return [
        Fault(f"users.{position}", message) for position, sip in enumerate(sips) if sip not in there
    ]


def _own(device: Device | None, domain: str, entry: Registration) -> Device | None:
    is_own = device is not None and (device.domain, device.user) == (domain, entry.sip)
    return device if is_own else None
