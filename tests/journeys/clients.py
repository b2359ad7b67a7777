"""Clients as they are outside: each asks again when it gets no answer, or is told to come back."""

import csv
import io
import json
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from pynamodb.exceptions import TransactWriteError

import app
from chalicelib.core.errors import StoreUnavailableError
from chalicelib.roles.notifications import LEASE_SECONDS
from local import demo
from local.phone import Outcome, run_phone
from tests.http.administration import fetch_through, phone
from tests.http.service import Answer, Caller
from tests.journeys.wire import Died, Fault, Place, Wire
from tests.wires import Wire as Socket
from tests.wires import Wires, stream_event

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

MAX_TRIES = 12
"""More than any fault lasts."""

COME_BACK = frozenset({409, 429, 503})
A_MINUTE = 60.0
DEMO_PASSWORD = "dialtone"
_A_MINUTE_PASSED = {
    "version": "0",
    "id": "1",
    "detail-type": "Scheduled Event",
    "source": "aws.events",
    "account": "000000000000",
    "time": "2036-11-24T12:00:00Z",
    "region": "eu-central-1",
    "resources": [],
    "detail": {},
}


@dataclass
class Service:
    """The functions as AWS calls them, and everybody outside who needs patience.

    Args:
        troubles: whatever made somebody ask again.
        secrets: codes and tokens that somebody was told, and nobody may write down.
    """

    caller: Caller
    wires: Wires
    client: "DynamoDBClient"
    table: str
    wire: Wire = field(default_factory=Wire)
    troubles: list[str] = field(default_factory=list)
    secrets: set[str] = field(default_factory=set)
    seconds: float = 0.0
    _steps: int = 0
    _seen: set[str] = field(default_factory=set)

    def now(self) -> datetime:
        """Tell the server's clock, which a test can put forward."""
        return datetime.now(UTC) + timedelta(seconds=self.seconds)

    def _step(self, what: str) -> str:
        """Name the next step of a journey, which is the same whenever that is told."""
        self._steps += 1
        return f"{self._steps} {what}"

    @contextmanager
    def watched(
        self, fault: Fault | None = None, chosen: Mapping[str, Place] | None = None
    ) -> Iterator[Wire]:
        """Watch a journey from its beginning, and let things fail."""
        self._steps = 0
        self.troubles.clear()
        with Wire(fault, chosen or {}) as self.wire:
            yield self.wire
        self.wire = Wire()

    # people

    def token(self, sip: str, user: str = "user1") -> str:
        """Sign somebody in."""
        named = {} if sip == user else {"sip": sip, "sub": f"sub-{sip}", "name": sip.title()}
        made = self.caller.issuer.token(user, self.now(), **named)
        self.secrets.add(made)
        return made

    def ask(self, method: str, path: str, token: str, body: object = None) -> Answer:
        """Ask until there is an answer, as a page does: a POST under one key."""
        headers = {"Idempotency-Key": str(uuid.uuid4())} if method == "POST" else {}
        step = self._step(method)
        for _ in range(MAX_TRIES):
            self.wire.begin(step)
            try:
                answer = self.caller.call(method, path, token=token, body=body, headers=headers)
            except Died:
                self.troubles.append(f"{method} {path}: no answer")
                continue
            if answer.status in COME_BACK:
                assert int(answer.headers["retry-after"]) > 0
            elif answer.status < 500:
                return answer
            self.troubles.append(f"{method} {path}: {answer.status}")
        raise AssertionError(self.troubles)

    def read(self, path: str, token: str) -> Any:  # noqa: ANN401 - any JSON
        """Read a document."""
        answer = self.ask("GET", path, token)
        assert answer.status == 200, answer.text
        return answer.json

    def read_until(self, path: str, token: str, holds: Callable[[Any], bool]) -> Any:  # noqa: ANN401 - as above
        """Read a list that may lag, until it shows what is known to be true."""
        for _ in range(MAX_TRIES):
            told = self.read(path, token)
            if holds(told):
                return told
            self.troubles.append(f"{path} lags")
        raise AssertionError(told)

    def write(self, path: str, token: str, body: object) -> Any:  # noqa: ANN401 - any JSON
        """Write something."""
        answer = self.ask("POST", path, token, body)
        assert answer.status in {200, 201}, answer.text
        return answer.json

    def code_list(self, path: str, token: str) -> dict[str, str]:
        """Download a code list: name → code."""
        answer = self.ask("GET", path, token)
        assert answer.status == 200, answer.text
        rows = list(csv.DictReader(io.StringIO(answer.body.decode("utf-8-sig"))))
        told = {row["name"]: row["code"].replace(" ", "") for row in rows if row["code"]}
        self.secrets.update(told.values())
        return told

    # phones

    def switch_on(self, hw_id: str, source: str, code: str) -> Outcome:
        """Take a phone from its box, and type a code when it asks for one."""
        client = phone(hw_id)
        fetch = self.fetch(source)
        outcome = run_phone(client, fetch, code, max_polls=MAX_TRIES + 6)
        for _ in range(MAX_TRIES):
            # what is put off looks like nothing to do, and a phone comes back an hour later
            met = len(self.troubles)
            if run_phone(client, fetch, None, max_polls=1).is_registered and met == len(
                self.troubles
            ):
                break
        self.secrets |= {self.token_of(outcome)} - {""}
        return outcome

    def token_of(self, outcome: Outcome) -> str:
        """Tell the token that a phone has in its URL, empty for none."""
        return outcome.client.active_url.partition("device_token=")[2].partition("&")[0]

    def fetch(self, source: str) -> Callable[[str], tuple[int, str]]:
        """Let a phone reach the service."""
        reached = fetch_through(self.caller, source)

        def fetch(url: str) -> tuple[int, str]:
            self.wire.begin(_poll(url))
            try:
                status, script = reached(url)
            except Died as death:
                self.troubles.append("GET of a phone: no answer")
                raise ConnectionResetError("no answer") from death
            assert status == 200
            if "come back later" in script:
                self.troubles.append(f"GET of a phone: {script}")
            return status, script

        return fetch

    # what AWS calls by itself

    def pump(self) -> None:
        """Bring the stream what is new in the table, everything twice, then let a minute pass.

        What was new when a process died comes again.
        """
        rows = self.client.scan(TableName=self.table, ConsistentRead=True)["Items"]
        new = [row for row in rows if row["notification_id"]["S"] not in self._seen]
        new.sort(key=lambda row: row["notification_id"]["S"])
        self._seen |= {row["notification_id"]["S"] for row in new}
        for _ in range(2):
            self._call(lambda: app.follow_notifications(stream_event(*new), None))
        self.minute()

    def minute(self) -> None:
        """Let a minute pass, which is more than a lease."""
        assert LEASE_SECONDS < A_MINUTE
        self.seconds += A_MINUTE
        self._call(lambda: app.every_minute(_A_MINUTE_PASSED, None))

    def _call(self, function: Callable[[], object]) -> None:
        step = self._step("function")
        for _ in range(MAX_TRIES):
            self.wire.begin(step)
            try:
                function()
            except (Died, StoreUnavailableError, TransactWriteError) as trouble:
                self.troubles.append(f"function: {type(trouble).__name__}")
                self.seconds += A_MINUTE
            else:
                return
        raise AssertionError(self.troubles)

    # websockets

    def listen(self, token: str) -> Socket:
        """Let a page open its websocket, again and again until it is heard."""
        return self._connect(lambda socket: self._say(socket, "UserLogin", token=token))

    def instance(self) -> Socket:
        """Let a Users instance log in."""

        def log_in(socket: Socket) -> dict[str, Any]:
            return socket.log_in(demo.DOMAIN, DEMO_PASSWORD)

        return self._connect(log_in)

    def leave(self, socket: Socket) -> None:
        """Close a websocket; API Gateway tells that once, whatever becomes of it."""
        self.wire.begin(self._step("leave"))
        try:
            socket.disconnect()
        except (Died, TransactWriteError) as trouble:
            self.troubles.append(f"leave: {type(trouble).__name__}")

    def order(self, socket: Socket, sip: str) -> str:
        """Let a Users instance ask for a code for somebody."""
        step = self._step("order")
        for _ in range(MAX_TRIES):
            self.wire.begin(step)
            try:
                told = self._say(socket, "GetProvisioningCode", category="Office", sip=sip)
            except Died:
                self.troubles.append("GetProvisioningCode: no answer")
                continue
            if "code" in told:
                self.secrets.add(str(told["code"]))
                return str(told["code"])
            self.troubles.append(f"GetProvisioningCode: {told}")
        raise AssertionError(self.troubles)

    def _connect(self, log_in: Callable[[Socket], dict[str, Any]]) -> Socket:
        step = self._step("login")
        for _ in range(MAX_TRIES):
            self.wire.begin(step)
            try:
                socket = self.wires.connect()
                told = log_in(socket)
            except (Died, Exception) as trouble:  # noqa: BLE001 - whatever it was, no login
                self.troubles.append(f"login: {type(trouble).__name__}")
                continue
            if told.get("ok"):
                return socket
            self.troubles.append(f"login: {told}")
        raise AssertionError(self.troubles)

    def _say(self, socket: Socket, name: str, **members: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON
        """Send a message; tells the last answer of its kind, {} for none."""
        answers = socket.send(json.dumps({"mt": name, **members}))
        return ([one for one in answers if one["mt"] == f"{name}Result"] or [{}])[-1]


def _poll(url: str) -> str:
    """Name a poll by what it asks, without what is another in each story: the same is again."""
    parts = urlsplit(url)
    told = dict(parse_qsl(parts.query))
    which = told.get("mac", told.get("sn", ""))[-1:]
    builds = [told[name] for name in ("PROT", "BOOT") if name in told]
    return " ".join(["phone", which, parts.path, *sorted(told), *builds])
