"""URLs, hosts and domains that administrators give, checked before anything is built from them.

It must not resolve or reach anything.
"""

import re
from urllib.parse import urlsplit

from chalicelib.core.errors import Fault

MAX_URL_LENGTH = 1_000
MAX_HOST_LENGTH = 253
WEB = ("http", "https")
DEVICES = ("http", "https", "ws", "wss")
"""How phones reach their Devices: the update client's schemes, and the sysclient's."""

_HOST = r"[0-9A-Za-z._:\[\]-]+"
_LABEL = r"(?!-)[\w-]{1,63}(?<!-)"
_DOMAIN = rf"{_LABEL}(\.{_LABEL})*"


def is_url(text: object, schemes: tuple[str, ...]) -> bool:
    """Tell whether this is a whole URL of one of the schemes: ASCII, one word, no fragment.

    A name or a password in it would be readable wherever the URL is, so there may be none.
    """
    if not isinstance(text, str) or not 0 < len(text) <= MAX_URL_LENGTH:
        return False
    if not text.isascii() or not text.isprintable() or " " in text or "#" in text:
        return False
    try:
        parts = urlsplit(text)
        is_host = bool(parts.hostname) and parts.port != 0 and "@" not in parts.netloc
    except ValueError:
        return False
    return is_host and parts.scheme in schemes


def is_websocket(url: str) -> bool:
    """Tell whether a Devices URL is the sysclient's."""
    return urlsplit(url).scheme in {"ws", "wss"}


def is_host(text: object) -> bool:
    """Tell whether this is a host name or an address, with or without a port."""
    return (
        isinstance(text, str)
        and len(text) <= MAX_HOST_LENGTH
        and re.fullmatch(_HOST, text) is not None
    )


def is_domain(text: str) -> bool:
    """Tell whether a new domain may be called this: as DNS would, with letters of any language.

    Older ones may be called otherwise, so none that is there is held to it.
    """
    return len(text) <= MAX_HOST_LENGTH and re.fullmatch(_DOMAIN, text) is not None


def url_faults(field: str, text: object, schemes: tuple[str, ...]) -> tuple[Fault, ...]:
    """Say what is wrong with a URL."""
    if is_url(text, schemes):
        return ()
    wanted = ", ".join(schemes)
    return (Fault(field, f"a whole URL ({wanted}) of at most {MAX_URL_LENGTH} characters"),)
