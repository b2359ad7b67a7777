"""Who is calling: ID tokens of the configured issuer, checked here and nowhere else.

No API Gateway authorizer does it, for its cache would honour expired tokens. It must not decide
what a person may do.
"""

import json
import threading
import urllib.request
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from http.client import HTTPException
from typing import TYPE_CHECKING, Any

from chalicelib import observability, settings
from chalicelib.core.errors import NotAllowedError, NotSignedInError, StoreUnavailableError

if TYPE_CHECKING:
    from jwt import PyJWK

ALGORITHMS = ("RS256", "PS256", "ES256", "EdDSA")
CLOCK_SKEW_SECONDS = 60
KEYS_KEPT_SECONDS = 3600
REFETCH_SECONDS = 30
"""How long nothing is fetched after a fetch, good or failed; without any key `RETRY_SECONDS`."""
RETRY_SECONDS = 5
MAX_TOKEN_LENGTH = 8192
_FETCH_SECONDS = 3
_MAX_KEYS_BYTES = 1_000_000
_LATEST = datetime(9999, 1, 1, tzinfo=UTC).timestamp()
"""No clock shows more; a token may say that it ends later."""
_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Person:
    """A signed-in caller.

    Args:
        sub: the issuer's own id.
        sip: the user's name in the domain.
        roles: of `users-admin`, `devices-admin`, `platform-admin`.
        signed_in_until: when the token ends.
    """

    sub: str
    sip: str
    name: str
    domain: str
    roles: frozenset[str]
    signed_in_until: datetime | None = None


def check(token: str, now: datetime) -> Person:
    """Check an ID token: signature, algorithm, issuer, audience, times, and that it is no other.

    Args:
        token: as it stands behind `Bearer`, or in a websocket's first message.
        now: the server's clock; the caller's does not count.

    Raises:
        NotSignedInError: it does not hold.
        NotAllowedError: it holds, but names no user of a domain, or a claim is malformed.
        StoreUnavailableError: the issuer's keys cannot be read.

    Source: OpenID Connect Core 1.0, 3.1.3.7; RFC 8725.
    """
    import jwt

    used = settings.current()
    if not used.issuer or not used.audience or len(token) > MAX_TOKEN_LENGTH:
        raise NotSignedInError("no issuer is configured, or the token is too long")
    try:
        header = jwt.get_unverified_header(token)
        key = _keys().find(str(header.get("kid", "")), now)
        claims = jwt.decode(
            token,
            key,
            algorithms=ALGORITHMS,
            audience=used.audience,
            issuer=used.issuer,
            options={
                "require": ["exp", "iat", "iss", "aud", "sub"],
                "verify_exp": False,
                "verify_iat": False,
                "verify_nbf": False,
            },
        )
    except (jwt.PyJWTError, RecursionError) as error:
        raise NotSignedInError(type(error).__name__) from None
    _check_times(claims, now)
    _check_kind(header, claims, used.audience)
    return _person(claims, used)


def _check_times(claims: dict[str, Any], now: datetime) -> None:
    seconds = now.timestamp()
    times = [claims["exp"], claims["iat"], claims.get("nbf", 0)]
    if not all(isinstance(time, int | float) for time in times):
        raise NotSignedInError("times are no numbers")
    expires, issued, not_before = times
    if seconds >= expires:
        raise NotSignedInError("expired")
    if max(issued, not_before) > seconds + CLOCK_SKEW_SECONDS:
        raise NotSignedInError("not valid yet")


def _check_kind(header: dict[str, Any], claims: dict[str, Any], audience: str) -> None:
    """Refuse what is signed by the issuer but is no ID token, or one made for another client."""
    is_access_token = (
        str(header.get("typ", "JWT")).lower().endswith("at+jwt")
        or claims.get("token_use", "id") != "id"
        or str(claims.get("typ", "ID")).upper() != "ID"
    )
    if is_access_token:
        raise NotSignedInError("not an ID token")
    if claims.get("azp", audience) != audience:
        raise NotSignedInError("made for another client")


def _person(claims: dict[str, Any], used: settings.Settings) -> Person:
    sip, domain = claims.get(used.sip_claim), claims.get(used.domain_claim)
    if not isinstance(sip, str) or not isinstance(domain, str) or not sip or not domain:
        raise NotAllowedError("the token names no user of a domain")
    if "#" in sip + domain:
        raise NotAllowedError("the token names no user of a domain")
    name, roles = claims.get("name"), claims.get(used.roles_claim)
    named = roles.split() if isinstance(roles, str) else [] if roles is None else roles
    are_names = isinstance(named, list) and all(isinstance(role, str) for role in named)
    if not are_names or not isinstance(name, str | None):
        raise NotAllowedError("the token's name or roles are malformed")
    return Person(
        sub=str(claims["sub"]),
        sip=sip,
        name=sip if name is None else name,
        domain=domain,
        roles=frozenset(named),
        signed_in_until=datetime.fromtimestamp(min(claims["exp"], _LATEST), UTC),
    )


_NO_DOCUMENT = (ValueError, KeyError, TypeError, AttributeError)
"""What comes of reading a document that is not as agreed."""


class _Keys:
    """The issuer's keys, fetched when first needed and again for a key that is not known yet.

    While the issuer is away, those that are known count for longer than they are kept otherwise.
    """

    def __init__(self) -> None:
        self._by_id: dict[str, PyJWK] = {}
        self._fetched_at = _NEVER
        self._tried_at = _NEVER
        self._lock = threading.Lock()

    def find(self, key_id: str, now: datetime) -> "PyJWK":
        with self._lock:
            if self._is_due(key_id, now):
                self._fetch(now)
            if key_id in self._by_id:
                return self._by_id[key_id]
            if self._fetched_at != self._tried_at:
                raise StoreUnavailableError("issuer", RETRY_SECONDS)
            raise NotSignedInError("signed by an unknown key")

    def _is_due(self, key_id: str, now: datetime) -> bool:
        pause_seconds = REFETCH_SECONDS if self._by_id else RETRY_SECONDS
        if now - self._tried_at < timedelta(seconds=pause_seconds):
            return False
        is_kept = now - self._fetched_at < timedelta(seconds=KEYS_KEPT_SECONDS)
        return not is_kept or key_id not in self._by_id

    def _fetch(self, now: datetime) -> None:
        import jwt

        self._tried_at = now
        issuer = settings.current().issuer.rstrip("/")
        try:
            configuration = _get_json(f"{issuer}/.well-known/openid-configuration")
            keys = jwt.PyJWKSet.from_dict(_get_json(str(configuration["jwks_uri"])))
        except (OSError, HTTPException, *_NO_DOCUMENT, jwt.PyJWTError) as error:
            why = type(error).__name__
            observability.logger().warning("issuer not read", extra={"why": why})
            return
        self._by_id = {str(key.key_id): key for key in keys.keys}
        self._fetched_at = now


@cache
def _keys() -> _Keys:
    return _Keys()


def forget() -> None:
    """Drop the issuer's keys, for tests and servers."""
    _keys.cache_clear()


def _get_json(url: str) -> dict[str, Any]:
    if not url.startswith(("https://", "http://")):
        raise ValueError("not a web address")
    with urllib.request.urlopen(url, timeout=_FETCH_SECONDS) as answer:  # noqa: S310 - checked above
        return dict(json.loads(answer.read(_MAX_KEYS_BYTES)))
