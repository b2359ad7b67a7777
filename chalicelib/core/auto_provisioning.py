"""Automatic provisioning: the doubly encoded URL with a domain's security token, and its lines.

Values are encoded first, then the whole URL once more for the configuration line, so that after
the phone has decoded it once the URL is whole, without spaces. It must not decide who may register
(roles/registrations.py).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, urlencode

from chalicelib.core import scripts
from chalicelib.core.errors import Fault
from chalicelib.core.scripts import Line

MIN_TOKEN_LENGTH = 10
MAX_TOKEN_LENGTH = 200
MAX_VALUE_LENGTH = 253
"""No domain, token or category is longer, and no key of a table could be."""

STRONG_BITS = 64
MIN_DISTINCT = 6

WARNING = (
    "Do not send the line through a web browser, which would decode it once too often: put it into "
    "an update script. Afterwards compare the URL that the phone shows with `url`: it must be the "
    "same, without spaces."
)
"""The concept's two warnings."""


@dataclass(frozen=True)
class Claim:
    """What a phone presents instead of a code: all three, or it presents nothing."""

    domain: str
    token: str = field(repr=False)
    category: str


def read_claim(query: Mapping[str, str]) -> Claim | None:
    """Read a claim from a phone's query, None unless all three are there and may be names."""
    values = [query.get(name, "") for name in ("domain", "token", "category")]
    is_whole = all(0 < len(value) <= MAX_VALUE_LENGTH for value in values)
    return Claim(*values) if is_whole else None


def purpose_of(domain: str) -> str:
    """Tell for what a domain's token is sealed."""
    return f"security token {domain}"


def token_faults(token: str) -> tuple[Fault, ...]:
    """Say what is wrong with a security token that somebody chose."""
    if MIN_TOKEN_LENGTH <= len(token) <= MAX_TOKEN_LENGTH and token.isprintable():
        return ()
    length = f"{MIN_TOKEN_LENGTH} to {MAX_TOKEN_LENGTH}"
    return (Fault("token", f"{length} printable characters"),)


def is_weak(token: str) -> bool:
    """Tell whether a token could be guessed: few characters, or few different ones.

    An estimate from its length and the kinds of characters in it; a sentence of words passes.
    """
    kinds = (
        (26, str.islower),
        (26, str.isupper),
        (10, str.isdecimal),
        (33, lambda char: not char.isalnum()),
    )
    pool = sum(size for size, is_kind in kinds if any(map(is_kind, token)))
    bits = len(token) * math.log2(max(pool, 2))
    return bits < STRONG_BITS or len(set(token)) < MIN_DISTINCT


def url(base: str, claim: Claim) -> str:
    """Write the URL, its values encoded.

    Args:
        base: the Devices URL, of the sysclient or of update clients.

    Source: the concept article, automatic provisioning.
    """
    values = {"domain": claim.domain, "token": claim.token, "category": claim.category}
    own = urlencode(values, quote_via=quote, safe="")
    return f"{base}{'&' if '?' in base else '?'}{own}"


def config_line(sysclient_url: str) -> Line:
    """Write the line for a phone's sysclient, the whole URL encoded once more."""
    return scripts.sysclient(sysclient_url)


def update_client_line(update_url: str) -> Line:
    """Write the line for a phone's update client, which fills in who it is at each call.

    Args:
        update_url: as `url` writes it, with its query.
    """
    return scripts.update_client(f"{update_url}&{scripts.PLACEHOLDERS}")


def script(line: Line) -> str:
    """Write a line as a whole update script, with the clean-up of the central service."""
    lines = (line, *scripts.CLEAN_UP, scripts.IGNORE_DHCP)
    return scripts.render("automatic provisioning", (*lines, scripts.WRITE, scripts.ACTIVATE))
