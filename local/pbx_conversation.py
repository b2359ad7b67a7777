"""What is said over one connection to a PBX: logins, PbxAdminApi and PbxTableUsers.

As the vendor describes AppWebsocket and replication. It must not know sockets
(local/pbx_server.py), nor more of Dialtone than how a login is hashed.
"""

import json
import secrets
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from chalicelib.core import app_login
from local.pbx import COLUMNS, AppObject, Message, Pbx, User

BROKEN = "<html>502 Bad Gateway</html>"


@dataclass
class _Replication:
    """A table that an app keeps a copy of.

    Args:
        left: guids of rows that it has yet to fetch.
    """

    envelope: Message
    columns: list[str]
    kinds: frozenset[str]
    left: deque[str]

    def cut(self, row: Message) -> Message:
        """Leave the columns that were asked for."""
        return {name: row[name] for name in self.columns if name in row}


class Conversation:
    """What is said over one connection.

    `is_over`: the PBX ends it once what `received` returned is sent. `is_cut`: at once and without
    a good-bye.
    """

    def __init__(self, pbx: Pbx, tell: Callable[[str], None]) -> None:
        """Take what the PBX knows, and what sends a message that answers nothing."""
        self.is_over = False
        self.is_cut = False
        self._pbx = pbx
        self._tell = tell
        self._challenge = ""
        self._app: AppObject | None = None
        self._replication: _Replication | None = None

    def received(self, text: str) -> list[str]:
        """Take a message → what is answered; what is no JSON object, with an `mt`, ends it all."""
        try:
            message = json.loads(text)
        except ValueError:
            message = None
        mt = message.get("mt") if isinstance(message, dict) else None
        if not isinstance(mt, str):
            self.is_over = True
            return []
        self._pbx.count(mt)
        if self._pbx.is_silent:
            return []
        if self._pbx.is_broken:
            return [BROKEN]
        return [_compact(answer) for answer in self._answers(mt, message, text)]

    def end(self) -> None:
        """Tell nothing any more; the connection is gone."""
        if self._replication is not None:
            self._replication = None
            self._pbx.unlisten(self._hear)

    def _answers(self, mt: str, message: Message, text: str) -> list[Message]:
        if mt == "AppChallenge":
            self._challenge = f"{secrets.randbelow(10**16):016}"
            return [_result(message, challenge=self._challenge)]
        if mt == "AppLogin":
            return self._log_in(message, text)
        if self._app is None:
            self.is_over = True
            return []
        api = message.get("api")
        if api is None:
            return [_result(message)] if mt == "KeepAlive" else []
        if api not in self._app.apis:
            return []
        return self._ask(api, mt, message)

    def _log_in(self, message: Message, text: str) -> list[Message]:
        names = ("app", "domain", "sip", "guid", "dn", "digest")
        said = {name: str(message.get(name, "")) for name in names}
        login = app_login.Login(**said, info=app_login.raw_member(text, "info"))
        app = self._pbx.app_objects.get(login.app)
        challenge, self._challenge = self._challenge, ""
        is_proved = (
            app is not None and app_login.digest(login, challenge, app.password) == login.digest
        )
        if app is None or not challenge or not is_proved:
            self.is_over = True
            return [_result(message)]
        self._app = app
        told = [_result(message, ok=True, app=login.app, domain=self._pbx.domain)]
        if self._pbx.has_pbx_info:
            itself = {"domain": self._pbx.domain, "pbx": self._pbx.name, "pbxDns": self._pbx.dns}
            told.append({"mt": "PbxInfo", **itself, "apis": sorted(app.apis)})
        return told

    def _ask(self, api: str, mt: str, message: Message) -> list[Message]:
        match api, mt:
            case "PbxAdminApi", "GetObject":
                return [_result(message, **self._pbx.get_object(message))]
            case "PbxAdminApi", "UpdateObject":
                answer = _result(message, **self._pbx.update_object(message))
                self.is_cut = self._pbx.dies_before_answer
                return [] if self.is_cut else [answer]
            case "PbxTableUsers", "ReplicateStart":
                return [self._start(message)]
            case "PbxTableUsers", "ReplicateNext" if self._replication is not None:
                return [self._next(message, self._replication)]
            case _:
                return []

    def _start(self, message: Message) -> Message:
        """Begin a replication; changes are told from here on, also of rows yet to be fetched."""
        self.end()
        asked = message.get("columns", {})
        columns = [name for name in COLUMNS if name == "guid" or name in asked]
        flags = {"Add": message.get("add"), "Del": message.get("del"), "Update": True}
        kinds = frozenset(kind for kind, is_asked in flags.items() if is_asked)
        left = deque(self._pbx.listen(self._hear))
        self._replication = _Replication(_echoed(message), columns, kinds, left)
        return _result(message, columns={name: {} for name in columns})

    def _next(self, message: Message, replication: _Replication) -> Message:
        while replication.left:
            row = self._pbx.row(replication.left.popleft())
            if row is not None:
                return _result(message, columns=replication.cut(row))
        return _result(message)

    def _hear(self, kind: str, user: User) -> None:
        replication = self._replication
        if replication is not None and kind in replication.kinds:
            columns = replication.cut(user.columns())
            self._tell(
                _compact({"mt": f"Replicate{kind}", **replication.envelope, "columns": columns})
            )


def _result(message: Message, **members: Any) -> Message:  # noqa: ANN401 - any JSON
    return {"mt": f"{message['mt']}Result", **_echoed(message), **members}


def _echoed(message: Message) -> Message:
    return {name: value for name, value in message.items() if name in {"api", "src"}}


def _compact(message: Message) -> str:
    return json.dumps(message, separators=(",", ":"))
