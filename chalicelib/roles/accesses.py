"""Accesses: how a domain's PBX is spoken to, for whoever has something to tell it or to ask of it.

It must not speak to it.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from chalicelib.core.user_objects import Access
from chalicelib.storage import vault
from chalicelib.storage.domains import Domain

if TYPE_CHECKING:
    from chalicelib.pbx import Pbx

Connect = Callable[[Access, float], AbstractContextManager["Pbx"]]
"""Logs in to a PBX, for so many seconds at most."""


def access_of(domain: Domain) -> Access:
    """Tell how a domain's PBX is spoken to, the password in clear."""
    password = vault.unseal(domain.sealed_pbx_password, purpose_of(domain.domain))
    return Access(domain.pbx_url, domain.pbx_app, password)


def purpose_of(domain: str) -> str:
    """Tell for what the password at a domain's PBX is sealed."""
    return f"PBX password {domain}"
