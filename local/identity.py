"""A small OpenID Connect issuer for one machine: discovery, keys, sign-in, and signed ID tokens.

The service checks its tokens exactly as any other issuer's, and its pages sign in as at any other.
It must not be reachable from another machine, for whoever asks it for a token gets one.
"""

import base64
import hashlib
import json
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from html import escape
from typing import Any
from urllib.parse import parse_qsl, urlencode

import jwt
from cryptography.hazmat.primitives.asymmetric import ec

AUDIENCE = "dialtone"
TOKEN_SECONDS = 3600
CODE_SECONDS = 60
_KEY_ID = "local"
_JSON = {"Content-Type": "application/json", "Cache-Control": "no-store"}
_HTML = {"Content-Type": "text/html; charset=utf-8", "Cache-Control": "no-store"}

Answer = tuple[int, dict[str, str], str]

PAGE = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Sign in: demo people</title>
<link rel="icon" href="data:,">
<style>
body {{ font: 1rem/1.6 system-ui, sans-serif; max-width: 34rem; margin: 2rem auto;
  padding: 0 1rem }}
ul {{ list-style: none; padding: 0 }}
a {{ display: block; padding: .5rem }}
</style>
<h1>Who are you?</h1>
<p>This issuer is part of the demo: it asks for no password. Pick somebody.</p>
<ul>
{people}
</ul>
</html>
"""


@dataclass(frozen=True)
class DemoPerson:
    """A person to try the service as."""

    sip: str
    name: str
    domain: str
    roles: tuple[str, ...] = ()


@dataclass(frozen=True)
class Grant:
    """What a code of ours stands for.

    Args:
        challenge: hash of the secret that whoever redeems the code must know.
        nonce: goes into the token, None for none.
    """

    name: str
    redirect_uri: str
    challenge: str
    nonce: str | None
    ends_at: datetime


class Issuer:
    """Signs ID tokens for the people it knows, with a key made at its start."""

    def __init__(self, url: str, people: tuple[DemoPerson, ...], pages_url: str = "") -> None:
        """Take the issuer's own URL, whom it knows, and the pages that may sign people in."""
        self.url = url
        self._pages_url = pages_url
        self._grants: dict[str, Grant] = {}
        self._refreshing: dict[str, str] = {}
        self.people = {person.sip: person for person in people}
        self._key = ec.generate_private_key(ec.SECP256R1())

    def documents(self) -> dict[str, dict[str, Any]]:
        """Tell what it publishes: path below its URL → JSON."""
        public = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(self._key.public_key()))
        key = {**public, "kid": _KEY_ID, "use": "sig", "alg": "ES256"}
        return {
            "/.well-known/openid-configuration": {
                "issuer": self.url,
                "authorization_endpoint": f"{self.url}/authorize",
                "token_endpoint": f"{self.url}/token",
                "end_session_endpoint": f"{self.url}/end",
                "jwks_uri": f"{self.url}/keys",
                "response_types_supported": ["code"],
                "grant_types_supported": ["authorization_code", "refresh_token"],
                "code_challenge_methods_supported": ["S256"],
                "token_endpoint_auth_methods_supported": ["none"],
                "id_token_signing_alg_values_supported": ["ES256"],
                "subject_types_supported": ["public"],
            },
            "/keys": {"keys": [key]},
        }

    def answer(self, path: str, query: str, form: str, now: datetime) -> Answer:
        """Answer a request to a path below the issuer's URL: status, headers, body."""
        published = self.documents()
        if path in published:
            return 200, _JSON, json.dumps(published[path])
        if path == "/authorize":
            return self._authorize(dict(parse_qsl(query, keep_blank_values=True)), now)
        if path == "/token":
            return self._exchange(dict(parse_qsl(form)), now)
        if path == "/end":
            return 302, {"Location": self._pages_url}, ""
        return 404, _JSON, json.dumps({"error": "not_found"})

    def _authorize(self, asked: dict[str, str], now: datetime) -> Answer:
        """List whom one can be; whoever is picked goes back to the pages with a code."""
        faults = [
            name
            for name, wanted in {
                "response_type": "code",
                "client_id": AUDIENCE,
                "redirect_uri": self._pages_url,
                "code_challenge_method": "S256",
            }.items()
            if asked.get(name) != wanted
        ]
        if faults or not asked.get("code_challenge"):
            error = {"error": "invalid_request", "error_description": ", ".join(faults)}
            return 400, _JSON, json.dumps(error)
        picked = asked.pop("as", None)
        if picked is None:
            return 200, _HTML, PAGE.format(people="\n".join(self._links(asked)))
        told = {"state": asked.get("state", "")}
        if picked in self.people:
            code = secrets.token_urlsafe(32)
            ends_at = now + timedelta(seconds=CODE_SECONDS)
            self._grants[code] = Grant(
                picked, self._pages_url, asked["code_challenge"], asked.get("nonce"), ends_at
            )
            told["code"] = code
        else:
            told["error"] = "access_denied"
        return 302, {"Location": f"{self._pages_url}?{urlencode(told)}"}, ""

    def _links(self, asked: dict[str, str]) -> list[str]:
        people = [(sip, f"{one.name} ({sip})", one.roles) for sip, one in self.people.items()]
        told = [(sip, ", ".join([name, *roles])) for sip, name, roles in people]
        return [
            f'<li><a href="?{escape(urlencode({**asked, "as": sip}))}">{escape(text)}</a></li>'
            for sip, text in [*told, ("", "nobody: refuse")]
        ]

    def _exchange(self, form: dict[str, str], now: datetime) -> Answer:
        """Give tokens for a code, once and to whoever asked for it, or for a refresh token."""
        name, claims = None, {}
        if form.get("grant_type") == "authorization_code":
            grant = self._grants.pop(form.get("code", ""), None)
            verifier = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
            challenge = base64.urlsafe_b64encode(verifier).decode().rstrip("=")
            told = (form.get("redirect_uri"), form.get("client_id"), challenge)
            if grant and now < grant.ends_at:
                wanted = (grant.redirect_uri, AUDIENCE, grant.challenge)
                name = grant.name if told == wanted else None
                claims = {"nonce": grant.nonce}
        elif form.get("grant_type") == "refresh_token":
            name = self._refreshing.pop(form.get("refresh_token", ""), None)
        if name is None:
            return 400, _JSON, json.dumps({"error": "invalid_grant"})
        refresh = secrets.token_urlsafe(32)
        self._refreshing[refresh] = name
        tokens = {
            "token_type": "Bearer",
            "expires_in": TOKEN_SECONDS,
            "id_token": self.token(name, now, **claims),
            "refresh_token": refresh,
        }
        return 200, _JSON, json.dumps(tokens)

    def token(self, name: str, now: datetime, /, **claims: Any) -> str:  # noqa: ANN401 - any JSON
        """Sign an ID token.

        Args:
            claims: override or add claims; None removes one.

        Raises:
            KeyError: nobody of this name.
        """
        person = self.people[name]
        all_claims = {
            "iss": self.url,
            "aud": AUDIENCE,
            "sub": f"local-{person.sip}",
            "iat": int(now.timestamp()),
            "exp": int((now + timedelta(seconds=TOKEN_SECONDS)).timestamp()),
            "name": person.name,
            "sip": person.sip,
            "domain": person.domain,
            "roles": list(person.roles),
            **claims,
        }
        kept = {name: value for name, value in all_claims.items() if value is not None}
        return jwt.encode(kept, self._key, algorithm="ES256", headers={"kid": _KEY_ID})
