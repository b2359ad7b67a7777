"""A foreign central service, which issues the digits of our codes if the settings name one.

It is asked once a code, with a time-out, and never redirected. It must not know what a code is
for: only where our Devices are, and which lifetime is meant.
"""

import json
import urllib.request
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError

from chalicelib import settings
from chalicelib.core.codes import Lifetime, read_entry
from chalicelib.core.errors import CentralUnavailableError
from chalicelib.storage import vault

TIMEOUT_SECONDS = 3
MAX_PAUSE_SECONDS = 3600
_MAX_ANSWER_BYTES = 10_000
_TOO_MANY = 429


@dataclass(frozen=True)
class Drawn:
    """What a foreign central service issued.

    Args:
        digits: the 12 digits.
        expires_at: until when it sends phones on.
    """

    digits: str = field(repr=False)
    expires_at: datetime


class _Straight(urllib.request.HTTPRedirectHandler):
    """Follows nothing: the key is for the configured host alone."""

    def redirect_request(self, *_: Any, **__: Any) -> None:  # noqa: ANN401 - urllib's signature
        """Refuse to be sent elsewhere."""


def new_code(devices_url: str, lifetime: Lifetime) -> Drawn:
    """Ask for a code.

    Args:
        devices_url: where the phone that types it shall be sent.

    Raises:
        CentralUnavailableError: no answer in time, or another than agreed; says which.

    Source: docs/openapi.json, `POST /provisioning/codes`, of the other installation.
    """
    url = f"{settings.current().central_url}/provisioning/codes"
    if not url.startswith(("https://", "http://")):
        raise CentralUnavailableError("CENTRAL_URL is no web address")
    request = urllib.request.Request(  # noqa: S310 - checked above
        url,
        json.dumps({"devices_url": devices_url, "lifetime": lifetime}).encode(),
        {"Content-Type": "application/json", "Authorization": f"Bearer {vault.central_key()}"},
    )
    try:
        with urllib.request.build_opener(_Straight).open(
            request, timeout=TIMEOUT_SECONDS
        ) as answer:
            told = json.loads(answer.read(_MAX_ANSWER_BYTES))
        return _drawn(told["code"], told["expires_at"])
    except HTTPError as error:
        with error:  # it is also the open answer
            raise _refused(error) from None
    except (URLError, OSError, HTTPException) as error:
        raise CentralUnavailableError(type(error).__name__) from None
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        raise CentralUnavailableError("an answer other than agreed") from None


def _drawn(code: object, expires_at: str) -> Drawn:
    entry = read_entry(code) if isinstance(code, str) else None
    if entry is None or entry.digits is None:
        raise ValueError("no code")
    end = datetime.fromisoformat(expires_at)
    if end.tzinfo is None:
        raise ValueError("a time without its zone")
    return Drawn(entry.digits, end.astimezone(UTC))


def _refused(error: HTTPError) -> CentralUnavailableError:
    pause = error.headers.get("Retry-After", "")
    if error.code == _TOO_MANY and pause.isdecimal():
        return CentralUnavailableError("HTTP 429", min(int(pause), MAX_PAUSE_SECONDS))
    return CentralUnavailableError(f"HTTP {error.code}")
