"""The domains table: settings, categories, the security token and the firmware, an item each.

Numbers stand beside names, for AppWebsocket names things by number. It must not decide what a
category may be used for, nor unseal anything.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from pynamodb.attributes import (
    BooleanAttribute,
    JSONAttribute,
    ListAttribute,
    NumberAttribute,
    UnicodeAttribute,
    UTCDateTimeAttribute,
)

from chalicelib.core.user_objects import FindBy
from chalicelib.storage import connection
from chalicelib.storage.connection import EnumAttribute, Item, Transaction, batch_get
from chalicelib.storage.lists import Page, Span, query

if TYPE_CHECKING:
    from pynamodb.expressions.condition import Condition

_T = TypeVar("_T")

SETTINGS = "settings"
TOKEN = "token"  # noqa: S105 - the name of an item
FIRMWARE = "firmware"
_CATEGORY = "category#"
_DIRECTORY = "#directory"
_LISTED = "domain#"
_NUMBERED = "number#"
_WITH_PBX = "pbx#"
_COUNTER = "counter"
_PAGE = 1_000


@dataclass(frozen=True)
class Domain:
    """A domain's settings.

    Args:
        number: unique among domains and categories; 0 before it is stored.
        devices_url: where its phones find Devices; empty for our own.
        phone_apps: names that the user's device can get, the first one preselected.
        may_add_phones: whether its users may add phones, unless said otherwise of a user.
        granted_domains: names of other domains that this one's AppWebsocket login may see.
        sealed_websocket_password: of its AppWebsocket logins, empty for none.
        pbx_url: of its PBX's AppWebsocket, empty for a domain that keeps its lists here alone.
        pbx_app, sealed_pbx_password: of the app object that we are there.
        pbx_find_by: by what a user is found there.
        pbx_flags: what each device that is added there gets.
        pbx_imports_users: whether its users are added and changed as they are there.
    """

    domain: str
    number: int = 0
    devices_url: str = ""
    phone_apps: Sequence[str] = ()
    may_add_phones: bool = True
    granted_domains: Sequence[str] = ()
    sealed_websocket_password: str = field(default="", repr=False)
    pbx_url: str = ""
    pbx_app: str = ""
    sealed_pbx_password: str = field(default="", repr=False)
    pbx_find_by: FindBy = FindBy.SIP
    pbx_flags: Sequence[str] = ()
    pbx_imports_users: bool = False

    def may_see(self, name: str) -> bool:
        """Tell whether this domain's AppWebsocket login may see a domain."""
        return name == self.domain or name in self.granted_domains


@dataclass(frozen=True)
class Category:
    """A group of devices that get the same jobs.

    Args:
        number: unique among domains and categories; 0 before it is stored.
        provisioning: whether codes may be issued for it.
        device_types: `PHONE`, `ANALOG_PHONE`: what it has a configuration for.
    """

    domain: str
    name: str
    number: int = 0
    provisioning: bool = False
    device_types: Sequence[str] = ()

    @property
    def takes_phones(self) -> bool:
        """Tell whether a phone can be provisioned into it."""
        return self.provisioning and "PHONE" in self.device_types


@dataclass(frozen=True)
class SecurityToken:
    """A domain's security token, for automatic provisioning.

    Args:
        sealed_old_token: the one before, empty for none.
        old_until: until when that one still counts.
    """

    domain: str
    sealed_token: str = field(repr=False)
    set_at: datetime
    sealed_old_token: str = field(default="", repr=False)
    old_until: datetime | None = None


class DomainItem(Item):
    """Settings, a category, a token or a firmware JSON; docs/data-model.md, domains."""

    concept = "domains"
    domain = UnicodeAttribute(hash_key=True)
    item = UnicodeAttribute(range_key=True)
    number = NumberAttribute(null=True)
    name = UnicodeAttribute(null=True)
    devices_url = UnicodeAttribute(null=True)
    phone_apps: ListAttribute[str] = ListAttribute(null=True)
    may_add_phones = BooleanAttribute(null=True)
    granted_domains: ListAttribute[str] = ListAttribute(null=True)
    sealed_websocket_password = UnicodeAttribute(null=True)
    pbx_url = UnicodeAttribute(null=True)
    pbx_app = UnicodeAttribute(null=True)
    sealed_pbx_password = UnicodeAttribute(null=True)
    pbx_find_by = EnumAttribute(FindBy, null=True)
    pbx_flags: ListAttribute[str] = ListAttribute(null=True)
    pbx_imports_users = BooleanAttribute(null=True)
    provisioning = BooleanAttribute(null=True)
    device_types: ListAttribute[str] = ListAttribute(null=True)
    sealed_token = UnicodeAttribute(null=True)
    set_at = UTCDateTimeAttribute(null=True)
    sealed_old_token = UnicodeAttribute(null=True)
    old_until = UTCDateTimeAttribute(null=True)
    firmware = JSONAttribute(null=True)


def settings_key(domain: str) -> tuple[str, str]:
    """Tell the key of a domain's settings."""
    return domain, SETTINGS


def category_key(domain: str, name: str) -> tuple[str, str]:
    """Tell the key of a category."""
    return domain, f"{_CATEGORY}{name}"


def token_key(domain: str) -> tuple[str, str]:
    """Tell the key of a domain's security token."""
    return domain, TOKEN


def find(domain: str) -> Domain | None:
    """Read a domain's settings consistently."""
    return _read(settings_key(domain), Domain)


def find_all(names: Iterable[str]) -> list[Domain]:
    """Read the settings of domains consistently, in no order; unknown ones are left out."""
    keys = [settings_key(name) for name in names]
    return [item.to(Domain) for item in batch_get((DomainItem, keys))[DomainItem]]


def name_of(number: int) -> str:
    """Tell which domain has a number, empty if none has; consistently."""
    found = batch_get((DomainItem, [(_DIRECTORY, f"{_NUMBERED}{number}")]))[DomainItem]
    return str(found[0].name) if found else ""


def find_category(domain: str, name: str) -> Category | None:
    """Read a category consistently."""
    return _read(category_key(domain, name), Category)


def find_token(domain: str) -> SecurityToken | None:
    """Read a domain's security token consistently, sealed."""
    return _read(token_key(domain), SecurityToken)


def find_firmware(domain: str) -> Mapping[str, Any] | None:
    """Read a domain's current firmware JSON consistently."""
    found = batch_get((DomainItem, [(domain, FIRMWARE)]))[DomainItem]
    return dict(found[0].firmware) if found else None


def categories(domain: str) -> list[Category]:
    """List a domain's categories by name, consistently."""
    return [DomainItem.from_raw_data(item).to(Category) for item in _all(domain, _CATEGORY)]


def read(items: Sequence[DomainItem]) -> tuple[Domain | None, Mapping[str, Category]]:
    """Sort out what a batch read of settings and categories brought."""
    settings = next((item.to(Domain) for item in items if item.item == SETTINGS), None)
    found = [item.to(Category) for item in items if item.item.startswith(_CATEGORY)]
    return settings, {category.name: category for category in found}


def read_token(items: Sequence[DomainItem]) -> SecurityToken | None:
    """Find the security token in what a batch read brought."""
    return next((item.to(SecurityToken) for item in items if item.item == TOKEN), None)


def list_all(limit: int, after: str | None) -> Page[Domain]:
    """List domains by name; consistently, from the directory."""
    page = query(DomainItem, _DIRECTORY, Span(_LISTED, limit, after))
    names = [item["item"]["S"].removeprefix(_LISTED) for item in page.items]
    found = batch_get((DomainItem, [settings_key(name) for name in names]))[DomainItem]
    by_name = {item.domain: item.to(Domain) for item in found}
    return Page([by_name[name] for name in names if name in by_name], page.next_after)


def new_number() -> int:
    """Draw the next number for a domain or a category; gaps do not matter."""
    answer = connection.call(
        "UpdateItem",
        TableName=connection.table_name(DomainItem.concept),
        Key=DomainItem.key_of(_DIRECTORY, _COUNTER),
        UpdateExpression="ADD #number :one",
        ExpressionAttributeNames={"#number": "number"},
        ExpressionAttributeValues={":one": {"N": "1"}},
        ReturnValues="UPDATED_NEW",
    )
    return int(answer["Attributes"]["number"]["N"])


def create(write: Transaction, domain: Domain) -> None:
    """Add a new domain and its entry in the directory to a transaction."""
    item = DomainItem.of(domain)
    item.item = SETTINGS
    write.put("domain", item, DomainItem.item.does_not_exist())
    write.put("entry", DomainItem(_DIRECTORY, f"{_LISTED}{domain.domain}", number=domain.number))
    by_number = DomainItem(_DIRECTORY, f"{_NUMBERED}{domain.number}", name=domain.domain)
    write.put("entry by number", by_number)


def delete(write: Transaction, domain: Domain) -> None:
    """Add to a transaction that a domain goes, with its token, firmware and directory entries."""
    name = domain.domain
    write.delete("domain", DomainItem(*settings_key(name)), DomainItem.item.exists())
    write.delete("token", DomainItem(*token_key(name)))
    write.delete("firmware", DomainItem(name, FIRMWARE))
    write.delete("entry", DomainItem(_DIRECTORY, f"{_LISTED}{name}"))
    unlist_pbx(write, name)
    write.delete("entry by number", DomainItem(_DIRECTORY, f"{_NUMBERED}{domain.number}"))


def change(
    write: Transaction, domain: str, changes: Mapping[str, Any], seen: Domain | None = None
) -> None:
    """Add a change of some of a domain's settings to a transaction.

    Args:
        changes: members of Domain → new values, at least one; an empty text takes one away.
        seen: as it was; if its PBX has another address or password since, the transaction is
            refused. None if that does not matter.
    """
    actions = [
        getattr(DomainItem, name).remove() if value == "" else getattr(DomainItem, name).set(value)
        for name, value in changes.items()
    ]
    condition: Condition = DomainItem.item.exists()
    for name in ("pbx_url", "sealed_pbx_password") if seen else ():
        attribute, value = getattr(DomainItem, name), getattr(seen, name)
        condition &= (attribute == value) if value else attribute.does_not_exist()
    write.update("domain", DomainItem(*settings_key(domain)), actions, condition)


def list_pbx(write: Transaction, domain: str) -> None:
    """Add to a transaction that a domain has a PBX, for `list_with_pbx`."""
    write.put("entry of its PBX", DomainItem(_DIRECTORY, f"{_WITH_PBX}{domain}"))


def unlist_pbx(write: Transaction, domain: str) -> None:
    """Add to a transaction that a domain has no PBX."""
    write.delete("entry of its PBX", DomainItem(_DIRECTORY, f"{_WITH_PBX}{domain}"))


def list_with_pbx() -> list[str]:
    """List the names of all domains that have a PBX, consistently."""
    return [item["item"]["S"].removeprefix(_WITH_PBX) for item in _all(_DIRECTORY, _WITH_PBX)]


def put_category(write: Transaction, category: Category, seen: Category | None) -> None:
    """Add a category to a transaction.

    Args:
        seen: as it was; if it has come or gone since, the transaction is refused.
    """
    item = DomainItem.of(category)
    item.item = category_key(category.domain, category.name)[1]
    condition = (DomainItem.number == seen.number) if seen else DomainItem.item.does_not_exist()
    write.put("category", item, condition)


def delete_category(write: Transaction, category: Category) -> None:
    """Add to a transaction that a category goes."""
    key = category_key(category.domain, category.name)
    write.delete("category", DomainItem(*key), DomainItem.number == category.number)


def put_token(write: Transaction, token: SecurityToken, seen: SecurityToken | None) -> None:
    """Add a domain's new security token to a transaction.

    Args:
        seen: the one that it replaces; if that has changed since, the transaction is refused.
    """
    item = DomainItem.of(token)
    item.item = TOKEN
    is_as_seen = (
        DomainItem.sealed_token == seen.sealed_token if seen else DomainItem.item.does_not_exist()
    )
    write.put("token", item, is_as_seen)


def delete_token(write: Transaction, domain: str) -> None:
    """Add to a transaction that a domain has no security token any more."""
    write.delete("token", DomainItem(*token_key(domain)))


def put_firmware(write: Transaction, domain: str, firmware: Mapping[str, Any]) -> None:
    """Add a domain's current firmware JSON to a transaction."""
    write.put("firmware", DomainItem(domain, FIRMWARE, firmware=dict(firmware)))


def _all(partition: str, prefix: str) -> Iterator[dict[str, Any]]:
    """Read the items of a prefix to their end."""
    after: str | None = None
    while True:
        page = query(DomainItem, partition, Span(prefix, _PAGE, after))
        yield from page.items
        after = page.next_after
        if after is None:
            return


def _read(key: tuple[str, str], kind: type[_T]) -> _T | None:
    found = batch_get((DomainItem, [key]))[DomainItem]
    return found[0].to(kind) if found else None
