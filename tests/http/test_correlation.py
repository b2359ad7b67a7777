"""One phone is followed through the logs: from its request to the last push that it causes."""

import json
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import app
from chalicelib import observability, settings
from chalicelib.roles import rollouts, users
from chalicelib.sockets import push
from tests import world
from tests.bus import Bus
from tests.conftest import use
from tests.http.service import Caller
from tests.wires import Wire, Wires, event, stream_event

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"
UUID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
OF_A_MESSAGE = "JKJaXmPLvHcESHA="
"""As API Gateway draws them for websockets."""


@dataclass
class Service:
    """The whole service, whose lines are kept, and whose stream is read when a test says so."""

    caller: Caller
    wires: Wires
    client: "DynamoDBClient"
    output: pytest.CaptureFixture[str]
    seen: set[str] = field(default_factory=set)
    last: list[dict[str, Any]] = field(default_factory=list)

    def lines(self) -> list[dict[str, Any]]:
        """Read what was logged since it was last read."""
        return [json.loads(line) for line in self.output.readouterr().out.splitlines()]

    def person(self, user: str) -> Wire:
        """Open a connection over which a person has signed in."""
        wire = self.wires.connect()
        assert wire.ask("UserLogin", token=self.caller.sign_in(user))["ok"] is True
        return wire

    def redeem(self, digits: str, number: int = 1) -> str:
        """Redeem a code as a phone does; returns the id that all lines of its request have."""
        self.lines()
        query = {"mac": f"00-90-33-00-00-{number:02x}", "hw": "IP232", "code": digits}
        source = f"203.0.113.{number}"
        answer = self.caller.call("GET", "/devices/update", query=query, source=source)
        assert "device_token" in answer.text
        lines = self.last = self.lines()
        assert {line.get("message") for line in lines} == {None, "request"}
        assert ["CodeRedeemed" in line for line in lines] == [True, False]
        (caused_by,) = {line["correlation_id"] for line in lines}
        return str(caused_by)

    def flow(self) -> list[dict[str, Any]]:
        """Let what is new in the stream arrive; returns what was logged meanwhile."""
        self.lines()
        table = settings.current().tables["notifications"]
        images = {
            one["notification_id"]["S"]: one
            for one in self.client.scan(TableName=table)["Items"]
            if one["notification_id"]["S"] not in self.seen
        }
        self.seen |= images.keys()
        event = stream_event(*(images[key] for key in sorted(images)))
        app.follow_notifications(event, None)
        if settings.current().event_bus:
            app.hand_over(event, None)
        return self.lines()


@pytest.fixture
def service(
    caller: Caller,
    wires: Wires,
    client: "DynamoDBClient",
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Service]:
    """Serve with metrics on."""
    use(replace(settings.current(), emit_metrics=True), monkeypatch)
    observability.forget()
    yield Service(caller, wires, client, capsys)
    observability.forget()


def said(lines: list[dict[str, Any]], caused_by: str) -> list[str]:
    """List what was said under an id: the message, or the metric."""
    return [
        line.get("message") or line["_aws"]["CloudWatchMetrics"][0]["Metrics"][0]["Name"]
        for line in lines
        if line.get("correlation_id") == caused_by
    ]


def test_a_redemption_and_its_pushes_have_one_id(service: Service) -> None:
    """The phone's request, what the Users instance is told, what its person's page is told."""
    person, instance = service.person("user1"), service.wires.instance()
    code = instance.ask("GetProvisioningCode", category="Office", sip="user1")["code"]
    service.flow()
    caused_by = service.redeem(code)
    assert re.fullmatch(UUID, caused_by)
    lines = service.flow()
    assert said(lines, caused_by) == ["PhoneTold", "phone told", "people told"]
    assert instance.told("DeviceProvisioned")
    assert person.told("PhoneChanged")
    assert code not in json.dumps(lines)


def test_the_queries_name_what_is_there(service: Service, bus: Bus) -> None:
    """Each field of docs/operations.md is in a line of a request, a push, or one that failed."""
    section = OPERATIONS.read_text().split("### Follow one phone")[1].split("\n## ")[0]
    first, second = re.findall(r"^fields (.+)$", section, re.MULTILINE)
    named = set(f"{first}, {second}".split(", ")) - {"@timestamp", "@log"}
    assert 'like "CodeRedeemed"' in section
    person, other, instance = *map(service.person, ("user1",) * 2), service.wires.instance()
    service.wires.failing.add(person.connection_id)
    service.redeem(instance.ask("GetProvisioningCode", category="Office", sip="user1")["code"])
    assert ["CodeRedeemed" in json.dumps(line) for line in service.last] == [True, False]
    lines = [*service.last, *service.flow()]
    assert other.told("PhoneChanged")
    assert bus.taken
    assert named <= {name for line in lines for name in line}


def test_a_rollouts_redemptions_are_told_apart(service: Service) -> None:
    """Those who roll out are told of both at once, and each has a line of its own."""
    admin = service.person("admin")
    wanted = {"category": "Office", "name": "Autumn", "users": ["user1", "user2"]}
    made = service.caller.call("POST", "/rollouts", user="admin", body=wanted)
    assert made.status == 201
    (of_rollout,) = {line["correlation_id"] for line in service.lines() if "status" in line}
    assert "people told" in said(service.flow(), of_rollout)
    rollout = rollouts.find(world.users_admin(), made.json["rollout_id"])
    codes = world.told(rollout, world.entry(rollout, "user1").since)
    ids = [service.redeem(codes[f"user{number}"], number) for number in (1, 2)]
    assert len({of_rollout, *ids}) == 3
    before = len(admin.told("RegistrationChanged"))
    lines = service.flow()
    for caused_by in ids:
        assert said(lines, caused_by) == ["people told"]
    assert len(admin.told("RegistrationChanged")) == before + 1


def test_each_row_of_a_dispatch_has_its_own_id(service: Service) -> None:
    """One sender tells of several phones, each under the id of its request."""
    instance = service.wires.instance()
    codes = [
        instance.ask("GetProvisioningCode", category="Office", sip=f"user{number}")["code"]
        for number in (1, 2, 3)
    ]
    service.flow()
    ids = [service.redeem(code, number) for number, code in enumerate(codes, start=1)]
    lines = service.flow()
    told = {line["correlation_id"]: line for line in lines if line.get("message") == "phone told"}
    assert [told[caused_by]["sequence"] for caused_by in ids] == [1, 2, 3]


def test_a_push_that_fails_has_the_id_too(service: Service) -> None:
    """For the Users instance and for the page, and when it is told later."""
    person, instance = service.person("user1"), service.wires.instance()
    code = instance.ask("GetProvisioningCode", category="Office", sip="user1")["code"]
    service.flow()
    caused_by = service.redeem(code)
    service.wires.failing |= {person.connection_id, instance.connection_id}
    assert said(service.flow(), caused_by) == ["push failed", "PushFailed", "push failed"]
    service.wires.failing.clear()
    push.remind()
    assert said(service.lines(), caused_by) == ["PhoneTold", "phone told"]


def test_a_message_over_a_websocket_has_its_id(service: Service) -> None:
    """A code that a Users instance asks for is told to its person under the message's id."""
    service.person("user1")
    instance = service.wires.instance()
    service.flow()
    wanted = json.dumps({"mt": "GetProvisioningCode", "category": "Office", "sip": "user1"})
    asked = event(instance.connection_id, "MESSAGE", wanted)
    asked["requestContext"]["requestId"] = OF_A_MESSAGE
    app.websocket_message(asked, None)
    assert said(service.lines(), OF_A_MESSAGE) == ["CodeIssued"]
    assert said(service.flow(), OF_A_MESSAGE) == ["people told"]


def test_a_row_of_older_code_is_told_without(service: Service) -> None:
    """It has no id, and its line has none of another's."""
    instance = service.wires.instance()
    code = instance.ask("GetProvisioningCode", category="Office", sip="user1")["code"]
    service.redeem(code)
    table = settings.current().tables["notifications"]
    (pending,) = [
        one for one in service.client.scan(TableName=table)["Items"] if "sealed_code" in one
    ]
    assert pending.pop("correlation_id")
    service.client.put_item(TableName=table, Item=pending)
    (line,) = [one for one in service.flow() if one.get("message") == "phone told"]
    assert "correlation_id" not in line
    assert [told["code"] for told in instance.told("DeviceProvisioned")] == [code]


def test_a_request_leaves_no_id_behind(service: Service) -> None:
    """What this process does next is logged under its own, or under none."""
    service.caller.call("GET", "/health")
    assert observability.correlation_id() == ""
    with observability.correlated(OF_A_MESSAGE):
        with observability.correlated(""):
            assert observability.correlation_id() == ""
        assert observability.correlation_id() == OF_A_MESSAGE
    assert observability.correlation_id() == ""


@given(st.text() | st.from_regex(r"\d{4}[ -]?\d{4}[ -]?\d{4}", fullmatch=True) | st.none())
def test_what_a_caller_chose_is_replaced(chosen: str | None) -> None:
    """An id of any other form could be a code, or a book."""
    found = observability.correlation_of(chosen)
    assert re.fullmatch(UUID, found)
    assert observability.correlation_of(found) == found
    assert observability.correlation_of(OF_A_MESSAGE) == OF_A_MESSAGE


def test_a_defect_has_the_id(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stack of a request, and the line that ends it."""

    def fail(_: object) -> None:
        raise ValueError

    monkeypatch.setattr(users, "profile", fail)
    assert service.caller.call("GET", "/me", user="user1").status == 500
    lines = service.lines()
    assert [line["message"] for line in lines] == ["defect", "request"]
    assert len({line["correlation_id"] for line in lines}) == 1


def test_threads_that_log_first_at_once_get_one_logger() -> None:
    """What is done in parts at once begins with no logger made."""
    for _ in range(50):
        observability.forget()
        gate = threading.Barrier(8)

        def ask(gate: threading.Barrier = gate) -> object:
            gate.wait()
            return observability.logger()

        with ThreadPoolExecutor(8) as threads:
            made = [one.result() for one in [threads.submit(ask) for _ in range(8)]]
        assert len(set(map(id, made))) == 1
