"""AppWebsocket logins: what the digest covers, and the text of a message as it was received.

It must not know who may log in, nor where a password is kept.
"""

import hashlib
import json
from dataclasses import dataclass, field

CHALLENGE_DIGITS = 16
"""The vendor's own are digits, and clients take at most 16 characters."""

LOGIN_SECONDS = 60
"""How long a connection may stay without having logged in."""

_DECODER = json.JSONDecoder()
_SPACE = " \t\n\r"


@dataclass(frozen=True)
class Login:
    """What an `AppLogin` says; empty where it says nothing.

    Args:
        app: name of the application that is asked for.
        domain, sip, guid, dn: who logs in.
        digest: 64 lower-case hex digits.
        info: the JSON text of this member exactly as it came in, None if it is not there.
    """

    app: str = ""
    domain: str = ""
    sip: str = ""
    guid: str = ""
    dn: str = ""
    digest: str = field(default="", repr=False)
    info: str | None = None


def digest(login: Login, challenge: str, password: str) -> str:
    """Compute the digest that proves the password.

    Args:
        challenge: as it was sent, at most 16 characters.

    Returns:
        64 lower-case hex digits. With `info` there is a part more, also if that is `{}`.

    Source: the vendor's AppWebsocket description, checked with its examples (tests/vectors.json).
    """
    info = [] if login.info is None else [login.info]
    parts = [login.app, login.domain, login.sip, login.guid, login.dn, *info, challenge, password]
    return hashed(*parts)


def hashed(*parts: str) -> str:
    """Hash parts with a colon between them, as every login of the vendor's does.

    Returns:
        64 lower-case hex digits.
    """
    return hashlib.sha256(":".join(parts).encode("utf-8", "surrogatepass")).hexdigest()


def raw_member(text: str, name: str) -> str | None:
    """Cut a member of a JSON object out of its text, spelt as it was received.

    A digest covers the spelling: order, escapes and numbers would not survive reading and writing.

    Args:
        text: a JSON object.

    Returns:
        The text of the member's value, of the last one if there are several, as readers of JSON
        do; None if there is none or it is `null`.

    Raises:
        ValueError: the text is no JSON object.
        RecursionError: it is nested too deeply.
    """
    at = _after_space(text, 0)
    if text[at : at + 1] != "{":
        raise ValueError("no JSON object")
    found: str | None = None
    at = _after_space(text, at + 1)
    while text[at : at + 1] == '"':
        key, at = _DECODER.raw_decode(text, at)
        at = _after_space(text, _after_space(text, at) + 1)
        value, end = _DECODER.raw_decode(text, at)
        if key == name:
            found = None if value is None else text[at:end]
        at = _after_space(text, end)
        at = _after_space(text, at + 1) if text[at : at + 1] == "," else at
    return found


def _after_space(text: str, at: int) -> int:
    while text[at : at + 1] in _SPACE and at < len(text):
        at += 1
    return at
