"""A client of AppWebsocket, the vendor's protocol, for scripts and tests: `make app-client`.

It must know the protocol and nothing of how the service works. Passwords and codes appear only
where a person asked for them.
"""

import argparse
import hashlib
import json
import sys
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

Indication = dict[str, Any]

DEFAULT_URL = "ws://127.0.0.1:8000/example.com/devices"
TIMEOUT_SECONDS = 10.0
# API Gateway takes frames of 32 KB; no character is longer than 4 bytes.
_FRAME_CHARACTERS = 8 * 1024


class RefusedError(Exception):
    """The service answered, but not with what was asked for."""


class AppClient:
    """One connection to an AppWebsocket service."""

    def __init__(self, socket: ClientConnection, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        """Take an open websocket, and how long to wait for an answer."""
        self.socket = socket
        self._timeout_seconds = timeout_seconds
        self._count = 0
        self._kept: deque[Indication] = deque()

    @classmethod
    def connect(
        cls, url: str, timeout_seconds: float = TIMEOUT_SECONDS, source: str | None = None
    ) -> Self:
        """Open a connection.

        Args:
            source: a loopback address to call from.

        Raises:
            InvalidStatus: the upgrade was refused.
        """
        options: dict[str, Any] = {"source_address": (source, 0)} if source else {}
        socket = connect(
            url,
            open_timeout=timeout_seconds,
            close_timeout=timeout_seconds,
            ping_interval=None,
            proxy=None,
            # the library's word for a connection that is closed by close()
            legacy=True,
            **options,
        )
        return cls(socket, timeout_seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        self.socket.close()

    def send(self, message: dict[str, Any] | str) -> None:
        """Send a message: members, or the very text."""
        text = message if isinstance(message, str) else compact(message)
        if len(text) > _FRAME_CHARACTERS:
            starts = range(0, len(text), _FRAME_CHARACTERS)
            self.socket.send(text[start : start + _FRAME_CHARACTERS] for start in starts)
        else:
            self.socket.send(text)

    def log_in(  # noqa: PLR0913, PLR0917 - the login has these parts
        self,
        app: str,
        password: str,
        domain: str = "",
        sip: str = "",
        guid: str = "",
        dn: str = "",
        info: str | None = None,
    ) -> Indication:
        """Log in with a password → the AppLoginResult, whether it says ok or not.

        Args:
            info: JSON, sent and hashed as it is written; None leaves it out.
        """
        challenge = self.ask("AppChallenge")["challenge"]
        login = {
            "mt": "AppLogin",
            "app": app,
            "domain": domain,
            "sip": sip,
            "guid": guid,
            "dn": dn,
            "digest": digest((app, domain, sip, guid, dn), info, challenge, password),
            "src": self._next_src(),
        }
        text = compact(login)
        if info is not None:
            text = f'{text[:-1]},"info":{info}}}'
        self.send(text)
        return self.wait_for("AppLoginResult", src=login["src"])

    def sign_in(self, token: str) -> Indication:
        """Sign a person in with an ID token, as a page does → the answer."""
        return self.ask("UserLogin", token=token)

    def ask(self, mt: str, **members: Any) -> Indication:  # noqa: ANN401 - any JSON
        """Send a request → its answer.

        Raises:
            TimeoutError: there was none in time.
        """
        src = self._next_src()
        self.send({"mt": mt, **members, "src": src})
        return self.wait_for(f"{mt}Result", src=src)

    def ask_list(self, mt: str, member: str, **members: Any) -> list[Any]:  # noqa: ANN401 - any JSON
        """Send a request → the list that its answers bring, whole.

        Args:
            member: the answers' member that holds the list.

        Raises:
            RefusedError: the answer is an error.
            TimeoutError: the last answer did not come in time.
        """
        src = self._next_src()
        self.send({"mt": mt, **members, "src": src})
        found: list[Any] = []
        is_last = False
        while not is_last:
            answer = self.wait_for(f"{mt}Result", src=src)
            if answer.get("error"):
                raise RefusedError(str(answer["error"]))
            found += answer.get(member, [])
            is_last = bool(answer.get("last"))
        return found

    def wait_for(
        self, mt: str, timeout_seconds: float | None = None, src: str | None = None
    ) -> Indication:
        """Wait for a message of a type; whatever else comes is kept until it is waited for.

        Args:
            src: only the one that belongs to this request.

        Raises:
            TimeoutError: it did not come in time.
            ConnectionClosed: the connection ended.
        """
        wanted = self._timeout_seconds if timeout_seconds is None else timeout_seconds
        return self._take(
            lambda told: told.get("mt") == mt and src in {None, told.get("src")}, wanted
        )

    def wait_for_any(self, timeout_seconds: float | None = None) -> Indication:
        """Wait for the next message of whatever type.

        Raises:
            TimeoutError: none came in time.
            ConnectionClosed: the connection ended.
        """
        return self._take(lambda _: True, timeout_seconds)

    def _take(
        self, is_wanted: Callable[[Indication], bool], timeout_seconds: float | None
    ) -> Indication:
        for kept in self._kept:
            if is_wanted(kept):
                self._kept.remove(kept)
                return kept
        end = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        while True:
            left = None if end is None else max(0.0, end - time.monotonic())
            told: Indication = json.loads(self.socket.recv(left))
            if is_wanted(told):
                return told
            self._kept.append(told)

    def _next_src(self) -> str:
        self._count += 1
        return f"src{self._count - 1}"


def digest(names: tuple[str, ...], info: str | None, challenge: str, password: str) -> str:
    """Prove a password.

    Args:
        names: app, domain, sip, guid and dn, as sent.
        info: the very text that is sent, None if none is.

    Source: the vendor's description of AppWebsocket logins.
    """
    parts = (*names, *([] if info is None else [info]), challenge, password)
    return hashlib.sha256(":".join(parts).encode()).hexdigest()


def compact(message: dict[str, Any]) -> str:
    """Write JSON without spaces."""
    return json.dumps(message, ensure_ascii=False, separators=(",", ":"))


def main(arguments: list[str] | None = None) -> int:
    """Log in, ask for a code, and print what is told until Ctrl+C.

    Returns:
        0, 1 if something was refused, 2 if the service ended the connection.
    """
    parser = argparse.ArgumentParser(prog="make app-client", description=__doc__)
    parser.add_argument("--url", default=DEFAULT_URL, help="the Devices service")
    parser.add_argument("--domain", default="example.com")
    parser.add_argument("--password", default="dialtone", help="the domain's")
    parser.add_argument("--app", default="users")
    parser.add_argument("--category", default="Office", help="what the phone is to become")
    parser.add_argument("--sip", default="user1", help="whose phone it is to become")
    given = parser.parse_args(arguments)
    try:
        with AppClient.connect(given.url) as client:
            return _converse(client, given)
    except KeyboardInterrupt:
        return 0
    except (WebSocketException, OSError) as error:
        print(f"The service is not there: {error}")
        return 2


def _converse(client: AppClient, given: argparse.Namespace) -> int:
    logged_in = client.log_in(given.app, given.password, given.domain)
    if not logged_in.get("ok"):
        print("The login was refused")
        return 1
    print(f"logged in to {given.domain} as {given.app}")
    try:
        categories = client.ask_list("GetProvisioningCategories", "categories", type="PHONE")
    except RefusedError as error:
        print(f"No categories: {error}")
        return 1
    print("categories:", ", ".join(str(category.get("name")) for category in categories))
    answer = client.ask("GetProvisioningCode", category=given.category, sip=given.sip)
    if not answer.get("code"):
        print(f"No code: {answer.get('error')}")
        return 1
    code = str(answer["code"])
    print("code:", " ".join(code[at : at + 4] for at in range(0, len(code), 4)), flush=True)
    print("waiting for what is told; Ctrl+C ends it", flush=True)
    while True:
        print(compact(client.wait_for_any()), flush=True)


if __name__ == "__main__":
    sys.exit(main())
