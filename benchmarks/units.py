"""Counts what a phone costs: requests to DynamoDB and request units, step by step.

Requests are those that are made; units follow from them by DynamoDB's rules, for the engine on one
machine does not count transactions as the service does. It measures no time.
"""

import contextlib
import io
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from benchmarks import engine
from benchmarks.engine import event
from chalicelib.storage import connection
from local import demo, tables
from local.api_gateway import Context
from tests.wires import stream_event

PHONES = 20
WRITE_UNIT_BYTES = 1024
OFFICE = json.dumps({"category": "Office"})


@dataclass
class Spent:
    """What a step cost, for all phones together."""

    requests: int = 0
    reads: float = 0.0
    writes: float = 0.0


def read_units(operation: str, arguments: dict[str, Any], answer: dict[str, Any]) -> float:
    """Count what a request reads: one unit an item, half of one if it may lag.

    Items of ours have less than 4 KB, and what is not there costs as much.
    """
    if operation == "BatchGetItem":
        asked = arguments["RequestItems"].values()
        return float(sum(len(one["Keys"]) * _weight(one) for one in asked))
    if operation in {"GetItem", "Query"}:
        # a query's items are added up before they are rounded; ours are few and small
        return _weight(arguments) * max(1.0, float(answer.get("ScannedCount", 1)) / 10)
    return 0.0


def write_units(operation: str, arguments: dict[str, Any]) -> float:
    """Count what a request writes: a unit an item and KB, twice that in a transaction.

    To this each index of the table adds one, which is too much where its key stays.
    """
    if operation == "TransactWriteItems":
        writes = [next(iter(one.items())) for one in arguments["TransactItems"]]
        return sum(_written(one, 2, kind != "ConditionCheck") for kind, one in writes)
    if operation in {"PutItem", "UpdateItem", "DeleteItem"}:
        return _written(arguments, 1, is_change=True)
    if operation == "BatchWriteItem":
        writes_of = arguments["RequestItems"].items()
        return sum(
            _written({"TableName": table, **next(iter(one.values()))}, 1, is_change=True)
            for table, several in writes_of
            for one in several
        )
    return 0.0


def _weight(request: dict[str, Any]) -> float:
    return 1.0 if request.get("ConsistentRead") else 0.5


def _written(write: dict[str, Any], each: int, is_change: bool) -> float:  # noqa: FBT001 - of one caller
    size = _size({"M": write.get("Item", {})})
    concept = write["TableName"].removeprefix(engine.PREFIX)
    indexes = len(tables.definitions()[concept].get("GlobalSecondaryIndexes", []))
    return each * max(1, math.ceil(size / WRITE_UNIT_BYTES)) + (indexes if is_change else 0)


def _size(value: dict[str, Any]) -> int:
    """Tell how large a value is, about as DynamoDB counts."""
    ((kind, inner),) = value.items()
    if kind == "M":
        return sum(len(name.encode()) + _size(one) for name, one in inner.items())
    if kind == "L":
        return sum(_size(one) + 1 for one in inner)
    return len(str(inner).encode())


@contextmanager
def counting(spent: Spent, added: list[dict[str, Any]]) -> Iterator[None]:
    """Add up what is spent meanwhile.

    Args:
        added: takes the rows that are put into `notifications`, whose stream wakes a function.
    """
    client = connection.shared().client
    real = client._make_api_call  # noqa: SLF001 - the call itself, and nothing around it

    def counted(operation: str, arguments: dict[str, Any]) -> Any:  # noqa: ANN401 - botocore's own
        answer = real(operation, arguments)
        spent.requests += 1
        spent.reads += read_units(operation, arguments, answer)
        spent.writes += write_units(operation, arguments)
        puts = [one.get("Put", {}) for one in arguments.get("TransactItems", [])]
        puts += [arguments] if operation == "PutItem" else []
        added.extend(
            put["Item"] for put in puts if put.get("TableName") == f"{engine.PREFIX}notifications"
        )
        return answer

    setattr(client, "_make_api_call", counted)  # noqa: B010 - types know it as a method
    try:
        yield
    finally:
        setattr(client, "_make_api_call", real)  # noqa: B010 - see above


class Journey:
    """Takes phones through their steps, and notes what each costs."""

    def __init__(self) -> None:
        """Begin with nothing spent; a person signs in by an issuer of our own."""
        issuer, _ = engine.issuer()
        token = issuer.token("user1", datetime.now(UTC))
        admin = issuer.token("admin", datetime.now(UTC))
        self._person, self._admin = (
            {"authorization": f"Bearer {one}", "content-type": "application/json"}
            for one in (token, admin)
        )
        self.steps: dict[str, Spent] = {}
        self._told: list[dict[str, Any]] = []

    def step(self, name: str, made: dict[str, Any]) -> str:
        """Make a request of a step; returns the answer's body."""
        from app import app

        spent = self.steps.setdefault(name, Spent())
        with counting(spent, self._told), contextlib.redirect_stdout(io.StringIO()):
            answer = app(made, Context("r"))
        if answer["statusCode"] not in {200, 201}:
            raise RuntimeError(f"{name}: {answer}")
        return str(answer["body"])

    def tell(self, name: str) -> None:
        """Let the stream's function see what was added since."""
        from app import follow_notifications

        spent, images = self.steps.setdefault(name, Spent()), self._told[:]
        self._told.clear()
        with counting(spent, []), contextlib.redirect_stdout(io.StringIO()):
            for image in images:
                follow_notifications(stream_event(image), None)

    def issue(self) -> str:
        """Let the person ask for a code."""
        asked = event("POST", "/me/codes", {}, body=OFFICE, headers=self._person)
        code = json.loads(self.step("a code is issued", {**asked, "multiValueHeaders": {}}))["code"]
        return str(code)

    def phone(self, number: int, code: str) -> None:
        """Let a phone go from its box to its configuration."""
        hw_id = {"sn": f"0090ef{number:06x}", "type": "IP232"}
        self.step("GET /init, no code yet", event("GET", "/init", hw_id))
        typed = {**hw_id, "PROVISIONING-CODE": code}
        self.step("GET /init with the code", event("GET", "/init", typed))
        script = self.step("GET /devices/update, redeemed", event("GET", "/devices/update", typed))
        token = script.split("device_token%3D")[1].split("%")[0].split("\r")[0]
        running = {"PROT": demo.FIRMWARE_BUILD, "BOOT": demo.BOOT_BUILD, "device_token": token}
        seen = event("GET", "/devices/update", {**hw_id, **running})
        self.step("its first poll", seen)
        self.step("an idle poll", seen)
        self.tell("all of it is told")

    def roll_out(self, sips: list[str]) -> None:
        """Let an administrator roll phones out to people."""
        body = json.dumps({"category": "Office", "name": "units", "users": sips})
        asked = event("POST", "/rollouts", {}, body=body, headers=self._admin)
        self.step("a rollout, per user", {**asked, "multiValueHeaders": {}})
        self._told.clear()


def main() -> None:
    """Count and print, per phone."""
    with engine.service():
        journey = Journey()
        for number in range(PHONES):
            journey.phone(number, journey.issue())
        journey.roll_out([f"user{number}" for number in range(1, PHONES + 1)])
    print(f"{'per phone':<34} {'requests':>9} {'reads':>9} {'writes':>9}")
    for name, spent in journey.steps.items():
        told = (spent.requests / PHONES, spent.reads / PHONES, spent.writes / PHONES)
        print(f"{name:<34} " + " ".join(f"{value:9.2f}" for value in told))


if __name__ == "__main__":
    main()
