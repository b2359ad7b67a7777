"""Limits: the generic cell rate algorithm as a pure function, and every limit by name.

It must not store anything: storage/limits.py keeps the one timestamp that a bucket needs.
"""

import math
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv6Address, ip_address, ip_network

from chalicelib.core.codes import DIGIT_COUNT

IPV6_SITE_PREFIX = 56
_DAY_MS = 86_400_000


class LimitName(StrEnum):
    """Every limit; a new one is also set in settings.py and described in docs/operations.md."""

    GUESSES = "guesses"
    ISSUES = "issues"
    SIGHTINGS = "sightings"
    TOKENS = "tokens"
    SAME_TOKEN = "same_token"  # noqa: S105 - a name
    FOREIGN_CODES = "foreign_codes"
    LOGINS = "logins"
    DOMAIN_LOGINS = "domain_logins"
    MESSAGES = "messages"
    PBX_REQUESTS = "pbx_requests"


@dataclass(frozen=True)
class Limit:
    """How much, and how fast it comes back.

    Args:
        name: which limit.
        burst: attempts at once, at least 1.
        interval_ms: milliseconds after which one attempt comes back.
    """

    name: LimitName
    burst: int
    interval_ms: int


@dataclass(frozen=True)
class Decision:
    """What becomes of an attempt.

    Args:
        is_allowed: whether it may go on.
        stored_ms: the timestamp to keep; unchanged when it is not allowed.
        retry_after_ms: milliseconds until an attempt can succeed, 0 when allowed.
    """

    is_allowed: bool
    stored_ms: int
    retry_after_ms: int


def decide(now_ms: int, limit: Limit, stored_ms: int | None) -> Decision:
    """Decide one attempt by the generic cell rate algorithm.

    Args:
        now_ms: the server's clock, epoch milliseconds.
        stored_ms: the theoretical arrival time kept so far, None for an unused bucket.

    Source: ITU-T I.371, virtual scheduling.
    """
    arrival_ms = max(now_ms, stored_ms if stored_ms is not None else now_ms) + limit.interval_ms
    excess_ms = arrival_ms - now_ms - limit.burst * limit.interval_ms
    if excess_ms > 0:
        return Decision(is_allowed=False, stored_ms=stored_ms or 0, retry_after_ms=excess_ms)
    return Decision(is_allowed=True, stored_ms=arrival_ms, retry_after_ms=0)


def guess_risk(open_codes: int, sources: int, limit: Limit) -> float:
    """Tell the chance that guessing finds an open code within a day.

    Args:
        open_codes: how many there are; any of them is a hit.
        sources: how many guess, each as often as the limit lets it.
    """
    attempts = sources * (limit.burst + _DAY_MS // limit.interval_ms)
    return -math.expm1(attempts * math.log1p(-open_codes / 10**DIGIT_COUNT))


def source_of(address: str) -> str:
    """Reduce an address to what one customer of a provider holds.

    Args:
        address: an IPv4 or IPv6 address as text.

    Returns:
        The IPv4 address, or the /56 network of an IPv6 address; `unknown` for anything else.
    """
    try:
        ip = ip_address(address)
    except ValueError:
        return "unknown"
    if isinstance(ip, IPv6Address):
        if ip.ipv4_mapped is not None:
            return str(ip.ipv4_mapped)
        return str(ip_network((ip, IPV6_SITE_PREFIX), strict=False))
    return str(ip)
