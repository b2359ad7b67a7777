"""A small OpenID Connect issuer for one machine: discovery, keys, and signed ID tokens.

The service checks its tokens exactly as any other issuer's. It must not be reachable from another
machine, for whoever asks it for a token gets one.
"""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec

AUDIENCE = "dialtone"
TOKEN_SECONDS = 3600
_KEY_ID = "local"


@dataclass(frozen=True)
class DemoPerson:
    """A person to try the service as."""

    sip: str
    name: str
    domain: str
    roles: tuple[str, ...] = ()


class Issuer:
    """Signs ID tokens for the people it knows, with a key made at its start."""

    def __init__(self, url: str, people: tuple[DemoPerson, ...]) -> None:
        """Take the issuer's own URL and whom it knows."""
        self.url = url
        self.people = {person.sip: person for person in people}
        self._key = ec.generate_private_key(ec.SECP256R1())

    def documents(self) -> dict[str, dict[str, Any]]:
        """Tell what it publishes: path below its URL → JSON."""
        public = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(self._key.public_key()))
        key = {**public, "kid": _KEY_ID, "use": "sig", "alg": "ES256"}
        return {
            "/.well-known/openid-configuration": {
                "issuer": self.url,
                "jwks_uri": f"{self.url}/keys",
                "id_token_signing_alg_values_supported": ["ES256"],
                "subject_types_supported": ["public"],
            },
            "/keys": {"keys": [key]},
        }

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
