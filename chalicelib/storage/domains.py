"""The domains table: settings and categories, an item each.

It must not decide what a category may be used for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pynamodb.attributes import BooleanAttribute, ListAttribute, UnicodeAttribute

from chalicelib.storage.connection import Item

SETTINGS = "settings"
_CATEGORY = "category#"


@dataclass(frozen=True)
class Domain:
    """A domain's settings.

    Args:
        devices_url: where its phones find Devices; empty for our own.
        phone_apps: names that the user's device can get, the first one preselected.
        may_add_phones: whether its users may add phones, unless said otherwise of a user.
    """

    domain: str
    devices_url: str = ""
    phone_apps: Sequence[str] = ()
    may_add_phones: bool = True


@dataclass(frozen=True)
class Category:
    """A group of devices that get the same jobs.

    Args:
        provisioning: whether codes may be issued for it.
        device_types: `PHONE`, `ANALOG_PHONE`: what it has a configuration for.
    """

    domain: str
    name: str
    provisioning: bool = False
    device_types: Sequence[str] = ()

    @property
    def takes_phones(self) -> bool:
        """Tell whether a phone can be provisioned into it."""
        return self.provisioning and "PHONE" in self.device_types


class DomainItem(Item):
    """Settings or a category; docs/data-model.md, domains."""

    concept = "domains"
    domain = UnicodeAttribute(hash_key=True)
    item = UnicodeAttribute(range_key=True)
    name = UnicodeAttribute(null=True)
    devices_url = UnicodeAttribute(null=True)
    phone_apps: ListAttribute[str] = ListAttribute(null=True)
    may_add_phones = BooleanAttribute(null=True)
    provisioning = BooleanAttribute(null=True)
    device_types: ListAttribute[str] = ListAttribute(null=True)


def settings_key(domain: str) -> tuple[str, str]:
    """Tell the key of a domain's settings."""
    return domain, SETTINGS


def category_key(domain: str, name: str) -> tuple[str, str]:
    """Tell the key of a category."""
    return domain, f"{_CATEGORY}{name}"


def categories(domain: str) -> list[Category]:
    """List a domain's categories by name, consistently."""
    found = DomainItem.query(domain, DomainItem.item.startswith(_CATEGORY), consistent_read=True)
    return [item.to(Category) for item in found]


def read(items: Sequence[DomainItem]) -> tuple[Domain | None, Mapping[str, Category]]:
    """Sort out what a batch read of settings and categories brought."""
    settings = next((item.to(Domain) for item in items if item.item == SETTINGS), None)
    found = [item.to(Category) for item in items if item.item != SETTINGS]
    return settings, {category.name: category for category in found}


def put(domain: Domain) -> None:
    """Write a domain's settings."""
    item = DomainItem.of(domain)
    item.item = SETTINGS
    item.save()


def put_category(category: Category) -> None:
    """Write a category."""
    item = DomainItem.of(category)
    item.item = category_key(category.domain, category.name)[1]
    item.save()
