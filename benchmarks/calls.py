"""Counts what a phone costs: requests to DynamoDB and request units, step by step.

Requests are those that are made; units follow from them by DynamoDB's rules, for the engine on one
machine does not count transactions as the service does. It measures no time.
"""

import contextlib
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from benchmarks import engine
from benchmarks.engine import Real
from benchmarks.table import Figure, Figures, Row
from benchmarks.visits import Event, Visits, answered
from local import tables
from tests.wires import stream_event

TITLE = "Requests to DynamoDB, per phone"
AGAINST = ""
PHONES = 20
WRITE_UNIT_BYTES = 1024
ISSUED, TOLD = "a code is issued", "all of it is told, to nobody"
NO_CODE, AGAIN = "`/init` without a code", "the same phone again"
WITH_CODE, REFUSED = "`/init` with a code", "`/init` with a code, refused"
REDEEMED, REFUSED_THERE = "`/devices/update`, redeemed", "`/devices/update`, refused"
CONFIRMING, IDLE = "the poll that confirms the jobs", "an idle poll"
ADMITTED, ROLLED_OUT = "`/devices/update`, domain's token", "a rollout, per user"
FIGURES: Figures = {
    ISSUED: Figure(4),
    NO_CODE: Figure(1),
    AGAIN: Figure(0),
    WITH_CODE: Figure(4),
    REFUSED: Figure(3),
    REDEEMED: Figure(6),
    REFUSED_THERE: Figure(3),
    CONFIRMING: Figure(),
    IDLE: Figure(2),
    ADMITTED: Figure(),
    TOLD: Figure(),
    ROLLED_OUT: Figure(),
}


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

    def count(real: Real, operation: str, arguments: dict[str, Any]) -> Any:  # noqa: ANN401 - botocore's own
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

    with engine.calls_through(count):
        yield


class Journey:
    """Takes phones through their steps, and notes what each costs."""

    def __init__(self, service: engine.Service) -> None:
        """Begin with nothing spent."""
        self._visits = Visits(service)
        self._token = self._visits.new_token()
        self.steps = {name: Spent() for name in FIGURES}
        self._told: list[dict[str, Any]] = []

    def step(self, name: str, made: Event) -> str:
        """Make a request of a step; returns the answer's body."""
        with counting(self.steps[name], self._told):
            return answered(made)

    def phone(self) -> None:
        """Let a person ask for a code, and a phone go from its box to its configuration."""
        visits = self._visits
        code = json.loads(self.step(ISSUED, visits.issue()))["code"]
        first = visits.init()
        self.step(NO_CODE, first)
        self.step(AGAIN, first)
        self.step(WITH_CODE, visits.init(code))
        self.step(REFUSED, visits.init("000000000000"))
        redeem = visits.redeem(code)
        seen = visits.poll(redeem, self.step(REDEEMED, redeem))
        self.step(CONFIRMING, seen)
        self.step(IDLE, seen)
        self.tell()
        self.step(REFUSED_THERE, visits.redeem(code))
        self.step(ADMITTED, visits.admit(self._token))
        self._told.clear()

    def tell(self) -> None:
        """Let the stream's function see what was added since."""
        from app import follow_notifications

        images = self._told[:]
        self._told.clear()
        with counting(self.steps[TOLD], []), contextlib.redirect_stdout(engine.nowhere):
            for image in images:
                follow_notifications(stream_event(image), None)

    def roll_out(self, sips: list[str]) -> None:
        """Let an administrator roll phones out to people."""
        self.step(ROLLED_OUT, self._visits.roll_out("calls", sips))
        self._told.clear()


def measure(service: engine.Service) -> Iterator[Row]:
    """Count, per phone."""
    journey = Journey(service)
    for _ in range(PHONES):
        journey.phone()
    journey.roll_out([f"user{number}" for number in range(1, PHONES + 1)])
    for name, spent in journey.steps.items():
        units = f"{spent.reads / PHONES:.1f} read units, {spent.writes / PHONES:.1f} write units"
        yield Row(name, spent.requests / PHONES, figure=FIGURES[name], besides=units)
