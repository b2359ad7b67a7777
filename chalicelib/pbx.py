"""A domain's PBX, spoken to as one of its app objects: AppWebsocket, and two of its apis.

What has been seen to work with real ones and what is only inferred stands in docs/pbx.md. It must
not decide what a user shall have there, nor let a password or a digest into a text.
"""

import json
import socket
import ssl
import time
from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Any, Protocol
from urllib.parse import urlsplit

from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.sync.client import ClientConnection
from websockets.sync.client import connect as connect_websocket

from chalicelib import observability
from chalicelib.core import user_objects
from chalicelib.core.app_login import Login, digest
from chalicelib.core.errors import PbxRefusedError, PbxUnavailableError
from chalicelib.core.user_objects import Access, Entry, FindBy, Row, Step, Trouble, UserObject

WHOLE_SECONDS = 20
CONNECT_SECONDS = 5
ANSWER_SECONDS = 5
_MAX_MESSAGE_BYTES = 1 << 20
_CLOSE_SECONDS = 1
_MAX_ADDRESSES = 2
_INFO = "{}"
_IN_FLIGHT = 8
"""How many rows of a table are asked for at once: each is an answer of its own."""

_COLUMNS = ("guid", "h323", "cn", "e164", "emails", "devices", "pseudo")
_CHANGES = frozenset({"ReplicateAdd", "ReplicateUpdate", "ReplicateDel"})
_NOT_GRANTED = {Step.ADMIN_API: Trouble.NO_RIGHTS, Step.USERS_API: Trouble.NO_TABLE}
_FOUND_BY = {FindBy.SIP: "h323", FindBy.NAME: "cn"}


class Pbx(Protocol):
    """What is asked of a PBX: the port that roles/pbx_turns.py and replications.py speak to.

    Args:
        apis: what the PBX says that it grants, None if it has said nothing.
    """

    apis: frozenset[str] | None

    def find(self, by: FindBy, name: str) -> UserObject | None:
        """Find a user; None if there is none of this name."""

    def put_devices(
        self, by: FindBy, name: str, guid: str, devices: Sequence[Entry]
    ) -> tuple[UserObject | None, UserObject | None]:
        """Write a user's devices; returns the user as it was just before, and as it is then."""

    def users(self, max_rows: int, seconds: float) -> Iterator[Row]:
        """Read the table of users; what was read before trouble counts."""


@contextmanager
def connect(access: Access, seconds: float = WHOLE_SECONDS) -> Iterator["Connection"]:
    """Log in to a PBX.

    Args:
        seconds: after which nothing of it is waited for any more, however fast each answer comes.

    Raises:
        PbxUnavailableError: it cannot be spoken to; says why.

    Source: docs/pbx.md.
    """
    ends = time.monotonic() + seconds
    with _opened(access.url, seconds) as opened:
        made = Connection(opened, ends)
        made.log_in(access)
        yield made


class Connection:
    """An open websocket to a PBX; not for several threads.

    Args:
        ends: on the monotonic clock, after which nothing is waited for.
        apis: what the PBX says that it grants, None if it has said nothing.
    """

    def __init__(self, opened: ClientConnection, ends: float) -> None:
        self.apis: frozenset[str] | None = None
        self._socket = opened
        self._ends = ends
        self._numbers = count()
        self._answers: defaultdict[str, deque[Mapping[str, Any]]] = defaultdict(deque)
        self._awaited: Counter[str] = Counter()

    def log_in(self, access: Access) -> None:
        """Prove the app object's password.

        Raises:
            PbxUnavailableError: it is refused, or not answered as agreed.
        """
        challenge = self._challenge()
        login = Login(access.app, info=_INFO)
        told = {name: getattr(login, name) for name in ("app", "domain", "sip", "guid", "dn")}
        proof = digest(login, challenge, access.password)
        try:
            answer = self.ask({"mt": "AppLogin", **told, "digest": proof, "info": {}})
        except PbxUnavailableError as error:
            if error.trouble is Trouble.CONNECTION_LOST:
                # some hang up on a wrong password without a word
                raise PbxUnavailableError(Trouble.PASSWORD) from None
            raise
        if answer.get("ok") is not True:
            raise PbxUnavailableError(Trouble.PASSWORD)

    def _challenge(self) -> str:
        try:
            challenge = self.ask({"mt": "AppChallenge"}).get("challenge")
        except PbxUnavailableError:
            raise PbxUnavailableError(Trouble.NO_WEBSOCKET) from None
        if not isinstance(challenge, str):
            raise PbxUnavailableError(Trouble.NO_WEBSOCKET)
        return challenge

    def find(self, by: FindBy, name: str) -> UserObject | None:
        """Find a user, with the devices of its own object and not those of its template.

        Raises:
            PbxUnavailableError: no answer, or not as agreed.
        """
        return _user(self.ask(_get(by, name)))

    def put_devices(
        self, by: FindBy, name: str, guid: str, devices: Sequence[Entry]
    ) -> tuple[UserObject | None, UserObject | None]:
        """Write a user's devices.

        All three requests are sent at once, so that nobody else's change slips between what is
        read and what is written unnoticed: whoever calls sees it in what was there before.

        Returns:
            The user just before, and after.

        Raises:
            PbxRefusedError: the PBX does not take it; says what it said.
            PbxUnavailableError: no answer, or not as agreed.
        """
        written = {
            "api": Step.ADMIN_API,
            "mt": "UpdateObject",
            "guid": guid,
            "devices": list(devices),
        }
        sent = [self._send(one) for one in (_get(by, name), written, _get(by, name))]
        before, result, after = (self._answer_to(src) for src in sent)
        if result.get("error") or result.get("errorText"):
            said = result.get("errorText") or result.get("error")
            raise PbxRefusedError(user_objects.refused(observability.redact(str(said))))
        return _user(before), _user(after)

    def users(self, max_rows: int, seconds: float) -> Iterator[Row]:
        """Read the table of users, row by row, with whatever else stands in it.

        Args:
            max_rows: how many are read at most.
            seconds: how long no new one is waited for.

        Raises:
            PbxUnavailableError: the table is not granted, no answer, or not as agreed; or too long
                for this. What was read until then is right.

        Source: docs/decisions/0027.
        """
        ends = time.monotonic() + seconds
        src = self._start()
        following = {"api": Step.USERS_API, "mt": "ReplicateNext"}
        for _ in range(_IN_FLIGHT):
            self._send(following, src)
        for read in count():
            answer = self._answer_to(src, Step.USERS_API)
            if answer.get("error"):
                raise PbxUnavailableError(Trouble.UNREADABLE)
            columns = answer.get("columns")
            if not isinstance(columns, dict) or not isinstance(columns.get("guid"), str):
                return
            if read >= max_rows:
                raise PbxUnavailableError(Trouble.TOO_LONG)
            yield _row(columns)
            if time.monotonic() >= ends:
                raise PbxUnavailableError(Trouble.TOO_LONG)
            self._send(following, src)

    def _start(self) -> str:
        """Begin with the table of users → the `src` under which its rows come."""
        columns: dict[str, Any] = {name: {} for name in _COLUMNS}
        start = {"api": Step.USERS_API, "mt": "ReplicateStart", "add": True, "del": True}
        src = self._send({**start, "columns": columns})
        try:
            answer = self._answer_to(src, Step.USERS_API)
        except PbxUnavailableError as error:
            # who is not granted it is not answered, whether or not the PBX says what it grants
            is_silent = error.trouble is Trouble.NO_ANSWER
            raise PbxUnavailableError(Trouble.NO_TABLE if is_silent else error.trouble) from None
        if answer.get("error"):
            raise PbxUnavailableError(Trouble.NO_TABLE)
        return src

    def ask(self, message: Mapping[str, Any]) -> Mapping[str, Any]:
        """Send a request → its answer.

        Raises:
            PbxUnavailableError: no answer, or not as agreed.
        """
        return self._answer_to(self._send(message))

    def _send(self, message: Mapping[str, Any], src: str = "") -> str:
        src = src or f"dialtone{next(self._numbers)}"
        # escaped, for what came from the PBX may be half a character, which no socket takes
        text = json.dumps({**message, "src": src}, separators=(",", ":"))
        self._awaited[src] += 1
        try:
            self._socket.send(text)
        except ConnectionClosed:
            raise PbxUnavailableError(Trouble.CONNECTION_LOST) from None
        return src

    def _answer_to(self, src: str, api: Step = Step.ADMIN_API) -> Mapping[str, Any]:
        """Wait for the answer to a request; what belongs to another one is kept for it.

        Args:
            api: whose request it is, which may not be granted.
        """
        end = min(time.monotonic() + ANSWER_SECONDS, self._ends)
        while not self._answers[src]:
            told = self._received(end, api)
            if told.get("mt") == "PbxInfo":
                self.apis = _apis(told)
            elif told.get("mt") not in _CHANGES and self._is_awaited(told.get("src")):
                self._answers[told["src"]].append(told)
        return self._answers[src].popleft()

    def _is_awaited(self, src: object) -> bool:
        """Tell whether this belongs to a request of ours that has no answer yet."""
        if not isinstance(src, str) or not self._awaited[src]:
            return False
        self._awaited[src] -= 1
        return True

    def _unanswered(self, api: Step) -> PbxUnavailableError:
        is_refused = self.apis is not None and api not in self.apis
        return PbxUnavailableError(_NOT_GRANTED[api] if is_refused else Trouble.NO_ANSWER)

    def _received(self, end: float, api: Step) -> Mapping[str, Any]:
        left = end - time.monotonic()
        if left <= 0:
            # what has come already would be handed out without waiting, for ever
            raise self._unanswered(api)
        try:
            told = json.loads(self._socket.recv(left))
        except TimeoutError:
            raise self._unanswered(api) from None
        except ConnectionClosed:
            raise PbxUnavailableError(Trouble.CONNECTION_LOST) from None
        except (ValueError, RecursionError):
            raise PbxUnavailableError(Trouble.UNREADABLE) from None
        if not isinstance(told, dict):
            raise PbxUnavailableError(Trouble.UNREADABLE)
        return told


@contextmanager
def _opened(url: str, seconds: float) -> Iterator[ClientConnection]:
    """Open a websocket, step by step, so that each failure has a name; it follows no redirect."""
    parts = urlsplit(url)
    is_secure = parts.scheme == "wss"
    whole = url if parts.path.strip("/") else f"{parts.scheme}://{parts.netloc}{user_objects.PATH}"
    patience = min(CONNECT_SECONDS, seconds)
    raw = _connected(str(parts.hostname), parts.port or (443 if is_secure else 80), patience)
    with raw:
        try:
            opened = connect_websocket(
                whole,
                sock=raw,
                ssl=ssl.create_default_context() if is_secure else None,
                open_timeout=patience,
                close_timeout=_CLOSE_SECONDS,
                ping_interval=None,
                proxy=None,
                max_size=_MAX_MESSAGE_BYTES,
                legacy=True,
            )
        except ssl.SSLError:
            raise PbxUnavailableError(Trouble.CERTIFICATE) from None
        except (WebSocketException, ValueError, EOFError, OSError):
            raise PbxUnavailableError(Trouble.NO_WEBSOCKET) from None
        try:
            yield opened
        finally:
            opened.close()


def _connected(host: str, port: int, patience: float) -> socket.socket:
    """Connect to a host, at two of its addresses at most, each with half of the patience."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[:_MAX_ADDRESSES]
    except (socket.gaierror, UnicodeError):
        raise PbxUnavailableError(Trouble.UNKNOWN_NAME) from None
    for family, kind, protocol, _, address in found:
        made = socket.socket(family, kind, protocol)
        made.settimeout(patience / len(found))
        try:
            made.connect(address)
        except OSError:
            made.close()
        else:
            return made
    raise PbxUnavailableError(Trouble.NO_CONNECTION)


def _get(by: FindBy, name: str) -> Mapping[str, Any]:
    return {"api": Step.ADMIN_API, "mt": "GetObject", _FOUND_BY[by]: name, "template": "without"}


def _user(told: Mapping[str, Any]) -> UserObject | None:
    guid, devices = told.get("guid"), told.get("devices")
    if guid is None:
        return None
    if devices is None:
        devices = []
    is_list = isinstance(devices, list) and all(isinstance(entry, dict) for entry in devices)
    if not isinstance(guid, str) or not is_list:
        raise PbxUnavailableError(Trouble.UNREADABLE)
    return UserObject(guid, devices)


def _row(columns: Mapping[str, Any]) -> Row:
    """Read a row; what is not as agreed in it counts as not told."""
    emails = [one.get("email") for one in _entries(columns.get("emails"))]
    told = {
        "name": columns.get("cn"),
        "number": columns.get("e164"),
        "email": emails[0] if emails else None,
    }
    sip = columns.get("h323")
    return Row(
        sip if isinstance(sip, str) else "",
        {name: value for name, value in told.items() if isinstance(value, str)},
        _entries(columns.get("devices")),
        is_user=not columns.get("pseudo"),
    )


def _entries(told: object) -> tuple[Entry, ...]:
    listed = told if isinstance(told, list) else []
    return tuple(one for one in listed if isinstance(one, dict))


def _apis(told: Mapping[str, Any]) -> frozenset[str]:
    """Tell the names of the apis that a PbxInfo lists, as texts or as objects with a name."""
    listed = told.get("apis")
    names = listed if isinstance(listed, list) else []
    named = (one.get("name") if isinstance(one, dict) else one for one in names)
    return frozenset(name for name in named if isinstance(name, str))
