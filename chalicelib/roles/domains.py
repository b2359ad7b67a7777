"""Domains: their settings, categories and security tokens, as administrators see and set them.

It must not make jobs (roles/updates.py) nor touch a device (roles/assignments.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from chalicelib import observability, settings
from chalicelib.core import addresses, auto_provisioning
from chalicelib.core.auto_provisioning import Claim
from chalicelib.core.errors import (
    ConflictError,
    Fault,
    InUseError,
    InvalidRequestError,
    NotFoundError,
)
from chalicelib.core.jobs import EVERY_CATEGORY
from chalicelib.storage import audit, devices, domains, jobs, vault
from chalicelib.storage.connection import Refused, Transaction
from chalicelib.storage.lists import Page

if TYPE_CHECKING:
    from chalicelib.roles.asking import Asking
    from chalicelib.storage.domains import Category, Domain, SecurityToken

_FOR_PLATFORM_ADMINS = frozenset({"granted_domains"})
_FOR_USERS_ADMINS = frozenset({"may_add_phones"})


@dataclass(frozen=True)
class TokenSheet:
    """What an administrator needs to roll a security token out.

    Args:
        url: of the sysclient, as the phone must show it.
        config_line: sets that URL.
        update_client_url, update_client_line: the same for update clients.
        warning: what to beware of.
        is_weak: whether the token could be guessed.
        old_until: until when the token before counts, None for none.
        sysclient_script, update_client_script: whole update scripts.
    """

    url: str = field(repr=False)
    config_line: str = field(repr=False)
    update_client_url: str = field(repr=False)
    update_client_line: str = field(repr=False)
    warning: str
    is_weak: bool
    old_until: datetime | None
    sysclient_script: str = field(repr=False)
    update_client_script: str = field(repr=False)


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
        return _found(domain)
    return _administered(asking, domain)


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
        show(asking, domain)
    else:
        _administered(asking, domain)
    if _FOR_PLATFORM_ADMINS & set(wanted):
        asking.demand_platform_admin()
    _check(wanted)
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
    known = _administered(asking, domain)
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
    _administered(asking, domain)
    return domains.categories(domain)


def put_category(
    asking: "Asking", domain: str, name: str, *, provisioning: bool, device_types: Sequence[str]
) -> "Category":
    """Make a category, or change the one of this name.

    Raises:
        NotAllowedError: this person does not administer the domain's devices.
        NotFoundError: there is no such domain.
        InvalidRequestError: the name stands for every category.
        ConflictError: somebody else made or deleted it at this moment.
    """
    _administered(asking, domain)
    if name == EVERY_CATEGORY:
        raise InvalidRequestError(Fault("category", f"{EVERY_CATEGORY} stands for every category"))
    seen = domains.find_category(domain, name)
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
    _administered(asking, domain)
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


def show_token(asking: "Asking", domain: str, category: str) -> TokenSheet:
    """Show a domain's security token again, as the lines that carry it.

    Raises:
        NotAllowedError: this person does not administer the domain's devices.
        NotFoundError: there is no such domain or provisioning category, or no token.
    """
    found = _with_provisioning(asking, domain, category)
    token = domains.find_token(domain)
    if token is None:
        raise NotFoundError("token")
    audit.note(asking.entry("token shown", domain, domain=domain))
    plain = vault.unseal(token.sealed_token, _token_purpose(domain))
    return _sheet(asking, found, Claim(domain, plain, category), token)


def set_token(
    asking: "Asking", domain: str, category: str, plain: str | None, keep_old_seconds: int | None
) -> TokenSheet:
    """Set a domain's security token, which turns automatic provisioning on, or rotate it.

    Args:
        plain: the token, None for one of 256 bits.
        keep_old_seconds: how long the one before still counts, None for the setting.

    Raises:
        NotAllowedError: this person does not administer the domain's devices.
        NotFoundError: there is no such domain or provisioning category.
        InvalidRequestError: the token is too short, too long or not printable.
        ConflictError: somebody else set one at this moment.
    """
    found = _with_provisioning(asking, domain, category)
    wanted = plain if plain is not None else vault.new_token()
    faults = auto_provisioning.token_faults(wanted)
    if faults:
        raise InvalidRequestError(*faults)
    seen = domains.find_token(domain)
    sealed = vault.seal(wanted, _token_purpose(domain))
    token = domains.SecurityToken(domain, sealed, asking.now)
    if keep_old_seconds is None:
        keep_old_seconds = settings.current().keep_old_token_seconds
    if seen is not None and keep_old_seconds:
        old_until = asking.now + timedelta(seconds=keep_old_seconds)
        token = replace(token, sealed_old_token=seen.sealed_token, old_until=old_until)
    transaction = Transaction()
    domains.put_token(transaction, token, seen)
    action = "token rotated" if seen else "token set"
    audit.add(transaction, asking.entry(action, domain, domain=domain))
    _commit(transaction, "token")
    observability.count("TokenSet")
    return _sheet(asking, found, Claim(domain, wanted, category), token)


def delete_token(asking: "Asking", domain: str) -> None:
    """Turn automatic provisioning off: neither the token nor the one before counts any more.

    Raises:
        NotAllowedError: this person does not administer the domain's devices.
        NotFoundError: there is no such domain.
    """
    _administered(asking, domain)
    transaction = Transaction()
    domains.delete_token(transaction, domain)
    audit.add(transaction, asking.entry("token removed", domain, domain=domain))
    transaction.commit()


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


def _sheet(asking: "Asking", domain: "Domain", claim: Claim, token: "SecurityToken") -> TokenSheet:
    sysclient_base, update_base = _sysclient_url(asking, domain), asking.update_url
    if domain.devices_url and not addresses.is_websocket(domain.devices_url):
        update_base = domain.devices_url
    url = auto_provisioning.url(sysclient_base, claim)
    update_client_url = auto_provisioning.url(update_base, claim)
    config_line = auto_provisioning.config_line(url)
    update_client_line = auto_provisioning.update_client_line(update_client_url)
    is_old_open = token.old_until is not None and asking.now < token.old_until
    return TokenSheet(
        url=url,
        config_line=config_line.text,
        update_client_url=update_client_url,
        update_client_line=update_client_line.text,
        warning=auto_provisioning.WARNING,
        is_weak=auto_provisioning.is_weak(claim.token),
        old_until=token.old_until if is_old_open else None,
        sysclient_script=auto_provisioning.script(config_line),
        update_client_script=auto_provisioning.script(update_client_line),
    )


def _sysclient_url(asking: "Asking", domain: "Domain") -> str:
    """Tell where sysclients find Devices: where the domain says, else at our own host."""
    if domain.devices_url and addresses.is_websocket(domain.devices_url):
        return domain.devices_url
    own = urlsplit(asking.base_url)
    scheme = "wss" if own.scheme == "https" else "ws"
    return f"{scheme}://{own.netloc}/{quote(domain.domain, safe='')}/devices/sysclients"


def _with_provisioning(asking: "Asking", domain: str, category: str) -> "Domain":
    found = _administered(asking, domain)
    known = domains.find_category(domain, category)
    if known is None or not known.provisioning:
        raise NotFoundError("provisioning category")
    return found


def _check(wanted: Mapping[str, Any]) -> None:
    url = wanted.get("devices_url")
    faults = addresses.url_faults("devices_url", url, addresses.DEVICES) if url else ()
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


def _token_purpose(domain: str) -> str:
    return f"security token {domain}"


def _administered(asking: "Asking", domain: str) -> "Domain":
    """Refuse whoever does not administer the domain's devices."""
    asking.demand_admin_of(domain)
    return _found(domain)


def _found(domain: str) -> "Domain":
    found = domains.find(domain)
    if found is None:
        raise NotFoundError("domain")
    return found
