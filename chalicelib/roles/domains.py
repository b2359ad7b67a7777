"""Domains: their settings and categories, as administrators see and set them.

It must not make jobs (roles/updates.py), touch a device (roles/assignments.py), nor know a token
(roles/security_tokens.py).
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from chalicelib.core import addresses, names
from chalicelib.core.errors import (
    ConflictError,
    Fault,
    InUseError,
    InvalidRequestError,
    NotFoundError,
)
from chalicelib.core.jobs import EVERY_CATEGORY
from chalicelib.roles.administration import administered, existing
from chalicelib.storage import audit, devices, domains, jobs, vault
from chalicelib.storage.connection import Refused, Transaction
from chalicelib.storage.lists import Page

if TYPE_CHECKING:
    from chalicelib.roles.asking import Asking
    from chalicelib.storage.domains import Category, Domain

_FOR_PLATFORM_ADMINS = frozenset({"granted_domains"})
_FOR_USERS_ADMINS = frozenset({"may_add_phones"})


def list_all(asking: "Asking", limit: int, after: str | None) -> Page["Domain"]:
    """List the domains that this person administers, by name.

    Raises:
        NotAllowedError: this person administers none.
    """
    asking.demand_admin()
    if asking.is_platform_admin:
        return domains.list_all(limit, after)
    own = domains.find(asking.person.domain)
    return Page([own] if own and not after else [], None)


def show(asking: "Asking", domain: str) -> "Domain":
    """Show a domain's settings, also to those who administer its users.

    Raises:
        NotAllowedError: this person does not administer it.
        NotFoundError: there is no such domain.
    """
    if asking.is_users_admin_of(domain):
        return existing(domain)
    return administered(asking, domain)


def create(asking: "Asking", domain: str, wanted: Mapping[str, Any]) -> "Domain":
    """Make a domain.

    Args:
        wanted: settings, members of Domain; `websocket_password` in clear.

    Raises:
        NotAllowedError: this person does not administer the platform.
        InvalidRequestError: settings are malformed.
        ConflictError: there is one of this name.
    """
    asking.demand_platform_admin()
    _check(wanted)
    made = domains.Domain(domain, domains.new_number(), **_sealed(domain, wanted))
    transaction = Transaction()
    domains.create(transaction, made)
    told = ", ".join(sorted(wanted))
    audit.add(transaction, asking.entry("domain made", domain, domain=domain, detail=told))
    try:
        transaction.commit()
    except Refused:
        raise ConflictError("there is a domain of this name") from None
    return made


def change(asking: "Asking", domain: str, wanted: Mapping[str, Any]) -> "Domain":
    """Change some of a domain's settings.

    Which domains it may see is for platform-admins alone; whether its users may add phones is for
    its users-admins, too.

    Args:
        wanted: members of Domain → new values; `websocket_password` in clear, empty for none.

    Raises:
        NotAllowedError: this person may not.
        InvalidRequestError: settings are malformed.
        NotFoundError: there is no such domain.
    """
    if set(wanted) <= _FOR_USERS_ADMINS:
        known = show(asking, domain)
    else:
        known = administered(asking, domain)
    if _FOR_PLATFORM_ADMINS & set(wanted):
        asking.demand_platform_admin()
    _check(wanted, known.phone_apps)
    if wanted:
        transaction = Transaction()
        domains.change(transaction, domain, _sealed(domain, wanted))
        told = ", ".join(sorted(wanted))
        audit.add(transaction, asking.entry("domain changed", domain, domain=domain, detail=told))
        try:
            transaction.commit()
        except Refused:
            raise NotFoundError("domain") from None
    return show(asking, domain)


def delete(asking: "Asking", domain: str) -> None:
    """Delete a domain that nothing uses any more.

    Raises:
        NotAllowedError: this person does not administer the platform.
        NotFoundError: there is no such domain.
        InUseError: it has devices, categories or jobs.
    """
    asking.demand_platform_admin()
    known = administered(asking, domain)
    _demand_unused(
        devices=devices.count_in(domain),
        categories=len(domains.categories(domain)),
        jobs=len(jobs.find_of_category(domain, EVERY_CATEGORY)),
    )
    transaction = Transaction()
    domains.delete(transaction, known)
    audit.add(transaction, asking.entry("domain deleted", domain, domain=domain))
    try:
        transaction.commit()
    except Refused:
        raise NotFoundError("domain") from None


def categories(asking: "Asking", domain: str) -> list["Category"]:
    """List a domain's categories by name.

    Raises:
        NotAllowedError: this person does not administer its devices.
        NotFoundError: there is no such domain.
    """
    administered(asking, domain)
    return domains.categories(domain)


def put_category(
    asking: "Asking", domain: str, name: str, *, provisioning: bool, device_types: Sequence[str]
) -> "Category":
    """Make a category, or change the one of this name.

    Raises:
        NotAllowedError: this person does not administer the domain's devices.
        NotFoundError: there is no such domain.
        InvalidRequestError: the name stands for every category, or is new and no name.
        ConflictError: somebody else made or deleted it at this moment.
    """
    administered(asking, domain)
    if name == EVERY_CATEGORY:
        raise InvalidRequestError(Fault("category", f"{EVERY_CATEGORY} stands for every category"))
    seen = domains.find_category(domain, name)
    faults = () if seen else names.faults("category", name)
    if faults:
        raise InvalidRequestError(*faults)
    number = seen.number if seen else domains.new_number()
    category = domains.Category(domain, name, number, provisioning, device_types)
    transaction = Transaction()
    domains.put_category(transaction, category, seen)
    action = "category changed" if seen else "category made"
    audit.add(transaction, asking.entry(action, name, domain=domain))
    _commit(transaction, "category")
    return category


def delete_category(asking: "Asking", domain: str, name: str) -> None:
    """Delete a category that nothing uses any more; its open codes still register phones in it.

    Raises:
        NotAllowedError: this person does not administer the domain's devices.
        NotFoundError: there is no such domain or category.
        InUseError: it has devices or jobs.
    """
    administered(asking, domain)
    category = domains.find_category(domain, name)
    if category is None:
        raise NotFoundError("category")
    _demand_unused(
        devices=devices.count_in(domain, name), jobs=len(jobs.find_of_category(domain, name))
    )
    transaction = Transaction()
    domains.delete_category(transaction, category)
    audit.add(transaction, asking.entry("category deleted", name, domain=domain))
    _commit(transaction, "category")


def audit_trail(
    asking: "Asking", domain: str, month: str, limit: int, after: str | None
) -> Page[audit.Entry]:
    """List what happened in a domain in a month, newest first.

    Args:
        month: `2026-11`.

    Raises:
        NotAllowedError: this person does not administer its devices.
    """
    asking.demand_admin_of(domain)
    return audit.list_month(domain, month, limit, after)


def _check(wanted: Mapping[str, Any], known_apps: Sequence[str] = ()) -> None:
    url = wanted.get("devices_url")
    faults = [*(addresses.url_faults("devices_url", url, addresses.DEVICES) if url else ())]
    for place, app in enumerate(wanted.get("phone_apps", ())):
        faults += names.faults(f"phone_apps.{place}", app) if app not in known_apps else ()
    if faults:
        raise InvalidRequestError(*faults)


def _sealed(domain: str, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Seal the AppWebsocket password among settings; an empty one is none."""
    known = dict(wanted)
    password = known.pop("websocket_password", None)
    if password is not None:
        purpose = f"websocket password {domain}"
        known["sealed_websocket_password"] = vault.seal(password, purpose) if password else ""
    return known


def _demand_unused(**used_by: int) -> None:
    if any(used_by.values()):
        raise InUseError({kind: count for kind, count in used_by.items() if count})


def _commit(transaction: Transaction, kind: str) -> None:
    try:
        transaction.commit()
    except Refused:
        raise ConflictError(f"somebody else changed this {kind} at this moment") from None
