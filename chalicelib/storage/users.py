"""The users table: the people of a domain, by import or by first sign-in.

It must not decide what they may do.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from pynamodb.attributes import BooleanAttribute, UnicodeAttribute

from chalicelib.storage import audit
from chalicelib.storage.connection import (
    Item,
    Refused,
    Transaction,
    at_once,
    batch_get,
    batch_put,
    can_be_there,
)
from chalicelib.storage.domains import (
    Category,
    Domain,
    DomainItem,
    category_key,
    read,
    settings_key,
)
from chalicelib.storage.lists import Page, Span, query

_STRETCH = 1_000
_MAX_READ = 2 * _STRETCH
"""How far a stretch is read through before what is left of it is read one by one."""


@dataclass(frozen=True)
class User:
    """A person of a domain.

    Args:
        may_add_phones: None leaves it to the domain.
    """

    domain: str
    sip: str
    name: str = ""
    number: str = ""
    email: str = ""
    may_add_phones: bool | None = None


class UserItem(Item):
    """One user; docs/data-model.md, users."""

    concept = "users"
    domain = UnicodeAttribute(hash_key=True)
    sip = UnicodeAttribute(range_key=True)
    name = UnicodeAttribute(null=True)
    number = UnicodeAttribute(null=True)
    email = UnicodeAttribute(null=True)
    may_add_phones = BooleanAttribute(null=True)


@dataclass(frozen=True)
class Standing:
    """What decides what a user may do: the user, the domain, and a category; None if unknown."""

    user: User | None
    domain: Domain | None
    category: Category | None = None


def find_standing(domain: str, sip: str, category: str = "") -> Standing:
    """Read a user, the domain's settings and, if one is named, a category: consistently, one call.

    Raises:
        StoreUnavailableError: throttled or unreachable.
    """
    wanted = [settings_key(domain), *([category_key(domain, category)] if category else [])]
    found = batch_get((UserItem, [(domain, sip)]), (DomainItem, wanted))
    settings, categories = read(found[DomainItem])
    user = next((item.to(User) for item in found[UserItem]), None)
    return Standing(user, settings, categories.get(category))


def find_all(domain: str, sips: Iterable[str]) -> list[User]:
    """Read users of a domain consistently, in no order; those that are not there are left out."""
    found = batch_get((UserItem, [(domain, sip) for sip in sips]))[UserItem]
    return [item.to(User) for item in found]


def find_many(domain: str, sips: Iterable[str]) -> list[User]:
    """Read many users of a domain consistently, as `find_all` does.

    Most of a domain's users are read through from one to another: reading each by its key costs
    thirty times the capacity, more than the one partition that they are in has in a few seconds.
    """
    wanted = sorted({sip for sip in sips if can_be_there(domain, sip)})
    stretches = [wanted[at : at + _STRETCH] for at in range(0, len(wanted), _STRETCH)]
    found = at_once(lambda stretch: _read_through(domain, stretch), stretches)
    return [user for some in found for user in some]


def _read_through(domain: str, sips: Sequence[str]) -> list[User]:
    span = Span("", _MAX_READ, low=sips[0], high=sips[-1])
    page, wanted = query(UserItem, domain, span), set(sips)
    found = [UserItem.read(item, User) for item in page.items if item["sip"]["S"] in wanted]
    last = page.next_after
    left = [] if last is None else [sip for sip in sips if sip > last]
    return found + find_all(domain, left)


def list_all(domain: str, limit: int, after: str | None) -> Page[User]:
    """List a domain's users by sip, consistently."""
    page = query(UserItem, domain, Span("", limit, after))
    return Page([UserItem.read(item, User) for item in page.items], page.next_after)


def put_new(user: User, entry: audit.Entry) -> None:
    """Keep a user at first sign-in, and write that down; one that is there already stays as it is.

    Raises:
        StoreUnavailableError: throttled or unreachable.
    """
    transaction = Transaction()
    transaction.put("user", UserItem.of(user), UserItem.sip.does_not_exist())
    audit.add(transaction, entry)
    with suppress(Refused):
        transaction.commit()


def put_all(users: Iterable[User]) -> None:
    """Write users, over what is there of them.

    Raises:
        StoreUnavailableError: throttled or unreachable; what was written stays.
    """
    batch_put([UserItem.of(user) for user in users])
