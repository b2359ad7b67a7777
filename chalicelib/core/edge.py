"""The edge in front of the service: whether a request came through it, and what it then tells.

Whatever a request says of its caller is believed beside the edge's secret alone, for anybody can
write a header. It must not know who calls, nor read any setting.
"""

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

SECRET = "x-dialtone-edge"  # noqa: S105 - the name of the header that holds it
VIEWER_ADDRESS = "cloudfront-viewer-address"
VIEWER_SCHEME = "cloudfront-forwarded-proto"


@dataclass(frozen=True)
class Arrival:
    """How a request came.

    Args:
        came_by_edge: whether it showed the edge's secret.
        address: the caller's, as text; the edge's word for it, or API Gateway's.
        scheme: `http` or `https`, as the caller spoke it.
    """

    came_by_edge: bool
    address: str
    scheme: str


def arrival(
    headers: Mapping[str, str], address: str, scheme: str, hashes: Sequence[str]
) -> Arrival:
    """Tell how a request came.

    Args:
        headers: names in lower case.
        address: who called, as API Gateway has it.
        scheme: how, as API Gateway has it.
        hashes: SHA-256 of each of the edge's secrets, hex; none: there is no edge.
    """
    if not is_secret(headers.get(SECRET, ""), hashes):
        return Arrival(came_by_edge=False, address=address, scheme=scheme)
    told = headers.get(VIEWER_ADDRESS)
    return Arrival(
        came_by_edge=True,
        address=without_port(told) if told else address,
        scheme=headers.get(VIEWER_SCHEME, scheme),
    )


def is_secret(shown: str, hashes: Sequence[str]) -> bool:
    """Compare what a request shows with every secret, in constant time.

    A secret has 256 bits, so its hash needs no key and may stand where settings do.
    """
    shown_hash = sha256(shown.encode()).hexdigest()
    same = [hmac.compare_digest(shown_hash, one) for one in hashes]
    return bool(shown) and any(same)


def without_port(told: str) -> str:
    """Take the port from an address: `198.51.100.1:443`, `2001:db8::1:443`, `[2001:db8::1]:443`.

    Source: Amazon CloudFront Developer Guide, Add CloudFront request headers.
    """
    return told.rpartition(":")[0].strip("[]")
