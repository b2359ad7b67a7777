"""Security tokens: what lets phones into a domain without a code, as administrators set it.

It must not admit a phone (roles/registrations.py).
"""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from chalicelib import observability, settings
from chalicelib.core import addresses, auto_provisioning
from chalicelib.core.auto_provisioning import Claim
from chalicelib.core.errors import ConflictError, InvalidRequestError, NotFoundError
from chalicelib.roles.administration import administered
from chalicelib.storage import audit, domains, vault
from chalicelib.storage.connection import Refused, Transaction

if TYPE_CHECKING:
    from chalicelib.roles.asking import Asking
    from chalicelib.storage.domains import Domain, SecurityToken


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


def show(asking: "Asking", domain: str, category: str) -> TokenSheet:
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
    plain = vault.unseal(token.sealed_token, auto_provisioning.purpose_of(domain))
    return _sheet(asking, found, Claim(domain, plain, category), token)


def put(
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
    sealed = vault.seal(wanted, auto_provisioning.purpose_of(domain))
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
    try:
        transaction.commit()
    except Refused:
        raise ConflictError("somebody else changed this token at this moment") from None
    observability.count("TokenSet")
    return _sheet(asking, found, Claim(domain, wanted, category), token)


def delete(asking: "Asking", domain: str) -> None:
    """Turn automatic provisioning off: neither the token nor the one before counts any more.

    Raises:
        NotAllowedError: this person does not administer the domain's devices.
        NotFoundError: there is no such domain.
    """
    administered(asking, domain)
    transaction = Transaction()
    domains.delete_token(transaction, domain)
    audit.add(transaction, asking.entry("token removed", domain, domain=domain))
    transaction.commit()


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
    found = administered(asking, domain)
    known = domains.find_category(domain, category)
    if known is None or not known.provisioning:
        raise NotFoundError("provisioning category")
    return found
