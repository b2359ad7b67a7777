"""The calls of the administrators' command line: HTTP to any deployment, again while it may help.

It must not print, and no error that it raises holds a token or a code.
"""

import base64
import http.client
import json
import math
import re
import secrets
import ssl
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode, urljoin, urlsplit

from chalicelib.core.errors import Fault
from chalicelib.observability import MASK, redact

JSON, FILE = "application/json", "application/octet-stream"
DEFAULT_TRIES = 6
TIMEOUT_SECONDS = 60
MAX_PAUSE_SECONDS = 30
MAX_TOLD_PAUSE_SECONDS = 120
"""Who is told to wait longer than this should rather come back."""

REFUSED, USAGE, NOT_ALLOWED, UNAVAILABLE, INTERRUPTED = 1, 2, 3, 4, 130
"""What the command line ends with; 0 is done."""

_OK, _REDIRECT, _BAD, _SERVER_ERROR = 200, 300, 400, 500
_NOT_SIGNED_IN, _NOT_ALLOWED, _NOT_FOUND, _CONFLICT = 401, 403, 404, 409
_LATER = frozenset({429, 502, 503, 504})

Say = Callable[[str], None]
Pause = Callable[[float], None]


class AdminError(Exception):
    """What ends a command; its text is for a person.

    Args:
        exit_code: what the command ends with.
    """

    exit_code = REFUSED


class RefusedError(AdminError):
    """The service does not do it, or a file cannot be used; carries every fault.

    Args:
        faults: as the service names them, empty if it named none.
    """

    def __init__(self, text: str, *faults: Fault) -> None:
        """Take a sentence, and the faults that stand below it."""
        super().__init__("\n".join((text, *(f"  {written(fault)}" for fault in faults))))
        self.faults = faults


class UsageError(AdminError):
    """The command cannot be run as it was given."""

    exit_code = USAGE


class NotAllowedError(AdminError):
    """Nobody is signed in, or this person may not do it."""

    exit_code = NOT_ALLOWED


class UnavailableError(AdminError):
    """The service is not reachable, or not available, after all tries."""

    exit_code = UNAVAILABLE


@dataclass(frozen=True)
class Answer:
    """What the service answered.

    Args:
        url: of the request.
        headers: by names in lower case.
    """

    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    def document(self) -> dict[str, Any]:
        """Read its JSON.

        Raises:
            UnavailableError: it has none, so it is not the service that answers.
        """
        try:
            return dict(json.loads(self.body))
        except (ValueError, TypeError):
            raise self.stranger() from None

    def stranger(self) -> "UnavailableError":
        """Say that it is not the service that answers."""
        place = self.url.partition("?")[0]
        return UnavailableError(f"What answers at {place} is not Dialtone. Check --url.")

    def problem(self) -> dict[str, Any]:
        """Read its problem+json; whatever else it is tells nothing."""
        try:
            return dict(json.loads(self.body))
        except (ValueError, TypeError):
            return {}

    def next_url(self) -> str | None:
        """Tell where its Link header says that the list goes on, None at the end."""
        found = re.search(r'<([^>]*)>\s*;\s*rel="?next"?', self.headers.get("link", ""))
        return urljoin(self.url, found[1]) if found else None


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Follows nothing: a token must not travel on to wherever an answer points."""

    def redirect_request(self, *_: object) -> None:
        """Leave the answer as it is."""


class Calls:
    """Asks a deployment in one person's name."""

    def __init__(
        self, url: str, token: str, say: Say, pause: Pause, tries: int = DEFAULT_TRIES
    ) -> None:
        """Take the deployment, and who asks.

        Args:
            url: the service's base, with its stage.
            say: takes a line whenever a call is tried again.
            pause: waits some seconds.
            tries: how often a call is made at most.

        Raises:
            UsageError: the URL is none of a service.
            NotAllowedError: the token is none.
        """
        self._base = _base(url)
        self._token = token.strip()
        if not self._token:
            text = (
                "Nobody is signed in: set DIALTONE_TOKEN to an ID token of your issuer.\n"
                "On `make run`: POST /dev/token gives one, see README.md."
            )
            raise NotAllowedError(text)
        if not re.fullmatch(r"[!-~]+", self._token):
            raise NotAllowedError("DIALTONE_TOKEN holds no token: there are blanks or others in it")
        self._say = say
        self._pause = pause
        self._tries = tries
        self._opener = urllib.request.build_opener(_NoRedirects)

    def get(self, *path: str, **query: str) -> dict[str, Any]:
        """Read a document."""
        return self.fetch(self.url(*path, **query)).document()

    def post(self, *path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Have something done, once, however often the call is made."""
        content = json.dumps(body, ensure_ascii=False).encode()
        return self._send(self.url(*path), content, JSON).document()

    def order(self, *path: str) -> None:
        """Have something done, once, that is answered by nothing."""
        self._send(self.url(*path), b"{}", JSON)

    def post_file(self, *path: str, content: bytes, **query: str) -> dict[str, Any]:
        """Hand in a file."""
        return self._send(self.url(*path, **query), content, FILE).document()

    def url(self, *path: str, **query: str) -> str:
        """Write the URL of a resource; what is empty is left out of the query."""
        given = urlencode({name: value for name, value in query.items() if value})
        place = "/".join(quote(part, safe="") for part in path)
        return f"{self._base}/{place}" + (f"?{given}" if given else "")

    def fetch(self, url: str, content_type: str = JSON) -> Answer:
        """Read what a URL of this service leads to.

        Raises:
            RefusedError: it leads elsewhere, where the token must not go.
            UnavailableError: what comes is of another type.
        """
        if not url.startswith(f"{self._base}/"):
            raise RefusedError("The service points to another place, which is not followed.")
        answer = self._made({}, urllib.request.Request(url))
        if answer.headers.get("content-type", "").partition(";")[0] != content_type:
            raise answer.stranger()
        return answer

    def _send(self, url: str, content: bytes, content_type: str) -> Answer:
        # drawn once a call: a repeated one gets the answer that was lost, and does nothing twice
        headers = {"Content-Type": content_type, "Idempotency-Key": str(uuid.uuid4())}
        return self._made(headers, urllib.request.Request(url, content, method="POST"))

    def _made(self, headers: Mapping[str, str], request: urllib.request.Request) -> Answer:
        for name, value in headers.items():
            request.add_header(name, value)
        request.add_unredirected_header("Authorization", f"Bearer {self._token}")
        for attempt in range(1, self._tries + 1):
            answer, trouble = self._attempt(request)
            if answer is not None and not _is_for_later(answer):
                return self._checked(answer)
            told = answer.headers.get("retry-after", "") if answer else ""
            if attempt == self._tries or _seconds(told) > MAX_TOLD_PAUSE_SECONDS:
                break
            seconds = _pause_seconds(attempt, told)
            again = f"trying again in {math.ceil(seconds)} s ({attempt + 1} of {self._tries})"
            self._say(f"{trouble}; {again}")
            self._pause(seconds)
        seconds = _seconds(told)
        asked = f" It asks to come back in {seconds:.0f} seconds." if seconds else ""
        raise UnavailableError(f"{trouble}. Tried {attempt} of {self._tries} times.{asked}")

    def _attempt(self, request: urllib.request.Request) -> tuple[Answer | None, str]:
        """Make a request once: its answer if there is one, and what the trouble would be."""
        try:
            with self._opener.open(request, timeout=TIMEOUT_SECONDS) as response:
                return self._answer(request, response.status, response), ""
        except urllib.error.HTTPError as error:
            with error:
                try:
                    answer = self._answer(request, error.code, error)
                except (OSError, http.client.HTTPException) as broken:
                    return None, self._no_answer(broken)
            title = answer.problem().get("title", "it is not available")
            return answer, self._masked(f"The service says {error.code}: {title}")
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            if isinstance(reason, ssl.SSLCertVerificationError):
                text = f"{self._base} does not prove who it is: {reason.verify_message}"
                raise UnavailableError(text) from None
            return None, self._no_answer(reason)

    @staticmethod
    def _answer(request: urllib.request.Request, status: int, response: Any) -> Answer:  # noqa: ANN401 - an answer, or an HTTPError that is one
        headers = {name.lower(): value for name, value in response.headers.items()}
        return Answer(request.full_url, status, headers, response.read())

    def _no_answer(self, error: object) -> str:
        told = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return self._masked(f"No answer from {self._base}: {told}")

    def _checked(self, answer: Answer) -> Answer:
        """Let an answer through that brings what was asked for.

        Raises:
            NotAllowedError, RefusedError, UnavailableError: what it is instead.
        """
        if _OK <= answer.status < _REDIRECT:
            return answer
        problem = answer.problem()
        title = str(problem.get("title", f"The service answered {answer.status}"))
        detail = str(problem.get("detail", ""))
        text = self._masked(f"{title}: {detail}." if detail else f"{title}.")
        if answer.status == _NOT_SIGNED_IN:
            raise NotAllowedError(f"{text}\n{_about(self._token)}")
        if answer.status == _NOT_ALLOWED:
            raise NotAllowedError(
                f"{text}\nIt takes a users-admin of a domain that is served here; "
                "for a PBX, a devices-admin of its domain."
            )
        if answer.status == _NOT_FOUND and not detail:
            raise RefusedError(f"{text} Check --url.")
        if answer.status < _BAD:
            text = "The service has moved, and a token is not sent on: check --url."
            raise RefusedError(text)
        if answer.status >= _SERVER_ERROR:
            raise UnavailableError(text)
        raise RefusedError(text, *self._faults(problem))

    def _faults(self, problem: Mapping[str, Any]) -> list[Fault]:
        told = problem.get("faults", [])
        listed = told if isinstance(told, list) else []
        return [
            Fault(self._masked(str(each.get("field", ""))), self._masked(str(each.get("message"))))
            for each in listed
            if isinstance(each, dict)
        ]

    def _masked(self, text: str) -> str:
        return redact(text.replace(self._token, MASK))


def written(fault: Fault) -> str:
    """Write a fault in a line."""
    return f"{fault.field}: {fault.message}" if fault.field else fault.message


def _base(url: str) -> str:
    wanted = "--url must be the service's http:// or https:// address, as https://example.com/api"
    try:
        parts = urlsplit(url)
        is_good = parts.port != 0
    except ValueError:
        raise UsageError(wanted) from None
    is_good &= parts.scheme in {"http", "https"} and bool(parts.hostname)
    is_good &= re.fullmatch(r"[!-~]+", url) is not None
    if not is_good or parts.username is not None or parts.query or parts.fragment:
        raise UsageError(wanted)
    return url.rstrip("/")


def _is_for_later(answer: Answer) -> bool:
    """Tell whether the same call may be answered differently after a pause."""
    # a conflict that passes: the same call, whose answer was lost, is still being done
    is_passing = answer.status == _CONFLICT and "retry-after" in answer.headers
    return is_passing or answer.status in _LATER


def _seconds(told: str) -> float:
    return float(told) if told.isascii() and told.isdecimal() else 0.0


def _pause_seconds(attempt: int, told: str) -> float:
    """Say how long to wait: never less than was told, longer each time, and at random beyond.

    So many who were refused at once do not return as one, and a call that is still being done has
    the time to end.
    """
    least = max(_seconds(told), min(MAX_PAUSE_SECONDS, 2.0 ** (attempt - 1)))
    return least * (1 + secrets.randbelow(1001) / 2000)


def _about(token: str) -> str:
    """Say why a token may have been refused, and what to do; reads nothing of it but its end."""
    renew = "Get a new one from your issuer, set DIALTONE_TOKEN to it, and run the command again."
    try:
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        ended = datetime.fromtimestamp(claims["exp"], UTC)
    except (IndexError, ValueError, TypeError, KeyError, OverflowError, OSError):
        return f"The service does not take what DIALTONE_TOKEN holds. {renew}"
    if ended <= datetime.now(UTC):
        return f"Your token expired at {ended:%Y-%m-%d %H:%M} UTC. {renew}"
    return f"The service does not take your token; is it made for this one? {renew}"
