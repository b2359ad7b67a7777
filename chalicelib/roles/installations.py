"""Installations: foreign Devices that ask our central service for codes, each with a key.

What we keep of such a code is where its phone goes, and nothing else. It must not know whose phone
it is.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from chalicelib import settings
from chalicelib.core import addresses
from chalicelib.core.codes import Code, Lifetime
from chalicelib.core.errors import InvalidRequestError, NotFoundError, NotSignedInError
from chalicelib.core.rate_limits import LimitName
from chalicelib.roles import issuing
from chalicelib.storage import audit, installations, limits, vault
from chalicelib.storage.connection import Transaction
from chalicelib.storage.ids import ID_LENGTH, new_id
from chalicelib.storage.installations import Installation
from chalicelib.storage.lists import Page

if TYPE_CHECKING:
    from chalicelib.roles.asking import Asking


@dataclass(frozen=True)
class NewInstallation:
    """A new installation, the only time that its key is told."""

    installation: Installation
    key: str = field(repr=False)


def create(asking: "Asking", name: str) -> NewInstallation:
    """Let a foreign installation ask for codes.

    Raises:
        NotAllowedError: this person does not administer the platform.
    """
    asking.demand_platform_admin()
    installation_id = new_id(asking.now)
    key = f"{installation_id}.{vault.new_token()}"
    by, domain = asking.person.sip, asking.person.domain
    made = Installation(installation_id, name, vault.token_hash(key), by, asking.now, domain)
    installations.put(made, asking.entry("installation made", installation_id, detail=name))
    return NewInstallation(made, key)


def list_all(asking: "Asking", limit: int, after: str | None) -> Page[Installation]:
    """List the installations that may ask for codes, newest first.

    Raises:
        NotAllowedError: this person does not administer the platform.
    """
    asking.demand_platform_admin()
    return installations.list_all(limit, after)


def delete(asking: "Asking", installation_id: str) -> None:
    """Delete an installation; its key is dead at once, its open codes live on until they expire.

    Raises:
        NotAllowedError: this person does not administer the platform.
        NotFoundError: there is no such installation.
    """
    asking.demand_platform_admin()
    entry = asking.entry("installation deleted", installation_id)
    if len(installation_id) != ID_LENGTH or not installations.delete(installation_id, entry):
        raise NotFoundError("installation")


def issue_code(
    key: str, devices_url: str, lifetime: Lifetime, source: str, now: datetime
) -> issuing.IssuedCode:
    """Issue a code that sends its phone to a foreign Devices.

    Args:
        key: the installation's.
        devices_url: where the phone shall go.
        source: in the form of rate_limits.source_of.

    Raises:
        NotSignedInError: there is no installation with this key.
        InvalidRequestError: `devices_url` is none.
        LimitReachedError: the installation has asked for too many codes.
        StoreUnavailableError: throttled or unreachable.
    """
    installation_id = key.partition(".")[0]
    known = installations.find(installation_id) if len(installation_id) == ID_LENGTH else None
    if known is None or not vault.is_token(key, known.key_hash):
        raise NotSignedInError("not an installation's key")
    faults = addresses.url_faults("devices_url", devices_url, addresses.DEVICES)
    if faults:
        raise InvalidRequestError(*faults)
    limit = settings.current().limits[LimitName.FOREIGN_CODES]
    limits.reserve(limit, installation_id, now)

    def also(write: Transaction, code: Code) -> None:
        actor = f"{known.name} ({installation_id})"
        entry = audit.Entry(known.domain, now, "code issued", actor, code.code_id, source)
        if known.domain:
            audit.add(write, entry)

    return issuing.issue(issuing.Order(lifetime, devices_url), now, also)
