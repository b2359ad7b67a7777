"""The users table: the people of a domain, by import or by first sign-in.

It must not decide what they may do.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from pynamodb.attributes import BooleanAttribute, UnicodeAttribute
from pynamodb.exceptions import PutError

from chalicelib.storage.connection import Item, batch_get
from chalicelib.storage.domains import (
    Category,
    Domain,
    DomainItem,
    category_key,
    read,
    settings_key,
)


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


def put_new(user: User) -> None:
    """Keep a user at first sign-in; one that is there already stays as it is.

    Raises:
        StoreUnavailableError: throttled or unreachable.
    """
    try:
        UserItem.of(user).save(UserItem.sip.does_not_exist())
    except PutError as error:
        if error.cause_response_code != "ConditionalCheckFailedException":
            raise


def put_all(users: Iterable[User]) -> None:
    """Write users, over what is there of them."""
    with UserItem.batch_write() as batch:
        for user in users:
            batch.save(UserItem.of(user))
