"""Measures what each operation costs with few codes in the tables, and with many.

Each size has tables of its own on the same engine, and each operation is done in all of them in
turn. DynamoDB tells itself what capacity a call has consumed. It must not go round the service for
anything that it measures, only to fill the tables.
"""

import json
import multiprocessing
import os
import secrets
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from botocore.config import Config
from botocore.session import Session

from benchmarks import engine
from benchmarks.engine import Real
from benchmarks.table import Figure, Figures, Row
from benchmarks.visits import Event, Visits, answered
from chalicelib.core.codes import Code, Lifetime
from chalicelib.core.codes import State as CodeState
from chalicelib.core.rollouts import Registration, State
from chalicelib.storage.codes import CodeItem
from chalicelib.storage.registrations import RegistrationItem
from local import demo

TITLE = "The same with more codes in the tables (ms)"
FEW, MANY = 1_000, 100_000
MOST = int(os.environ.get("CODES") or 1_000_000)
SIZES = sorted({FEW, min(MANY, MOST), MOST})
AGAINST = f"with {FEW:,} codes"
A_ROLLOUT = 1_000
A_BATCH = 12
"""Codes with their entries: 25 items at most in a call."""

A_PART = 5_000
OWN_CODES = 10
SIP = "person-of-the-model"
WRITERS = 4
ROUNDS, VISITS = 20, 5
FLAT = Figure(times=1.25)
ISSUE, WITH_CODE, REFUSED = "issue", "`/init` with a code", "`/init`, refused"
REDEEM, IDLE = "redeem", "idle poll"
OWN, PAGE = "a person's own codes", "a page of a rollout"
FIGURES: Figures = dict.fromkeys((ISSUE, WITH_CODE, REFUSED, REDEEM, IDLE, OWN, PAGE), FLAT)


@dataclass
class Spent:
    """What an operation took each time: seconds, and its calls with their capacity units."""

    seconds: list[float] = field(default_factory=list)
    costs: Counter[tuple[int, float]] = field(default_factory=Counter)

    @property
    def milliseconds(self) -> float:
        """At the median."""
        return statistics.median(self.seconds) * 1000

    @property
    def cost(self) -> tuple[int, float]:
        """The calls and units that it takes nearly always, whatever a new second brings."""
        return self.costs.most_common(1)[0][0]


class Filled:
    """Tables with so many codes, and what is asked of them."""

    def __init__(self, service: engine.Service, size: int) -> None:
        """Create and fill them."""
        self._visits = Visits(service)
        self.prefix = f"with-{size}-"
        engine.create_tables(service, self.prefix)
        self._idle = self._visits.idle()
        self._page = self._visits.rollout(self._visits.new_rollout(), limit="100")
        fill(service.endpoint, self.prefix, self._page["pathParameters"]["rollout_id"], size)
        self.spent = _new()

    def begin(self) -> None:
        """Issue a person's codes, which live for ten minutes."""
        engine.use_tables(self.prefix)
        for _ in range(OWN_CODES):
            self._visits.code("user3")

    def visit(self, spent: dict[str, Spent]) -> None:
        """Do each operation once."""
        visits = self._visits
        code = json.loads(_do(spent[ISSUE], visits.issue()))["code"]
        _do(spent[WITH_CODE], visits.init(code))
        _do(spent[REFUSED], visits.init("000000000000"))
        _do(spent[REDEEM], visits.redeem(code))
        _do(spent[IDLE], self._idle)
        _do(spent[OWN], visits.own_codes("user3"))
        _do(spent[PAGE], self._page)


def _new() -> dict[str, Spent]:
    return {name: Spent() for name in FIGURES}


def _do(spent: Spent, event: Event) -> str:
    units: list[float] = []

    def count(real: Real, operation: str, arguments: dict[str, Any]) -> Any:  # noqa: ANN401 - botocore's own
        answer = real(operation, {**arguments, "ReturnConsumedCapacity": "TOTAL"})
        told = answer.get("ConsumedCapacity", [])
        tables = told if isinstance(told, list) else [told]
        units.append(sum(table["CapacityUnits"] for table in tables))
        return answer

    with engine.calls_through(count):
        began = time.perf_counter()
        body = answered(event)
        spent.seconds.append(time.perf_counter() - began)
    spent.costs[len(units), sum(units)] += 1
    return body


def measure(service: engine.Service) -> Iterator[Row]:
    """Fill tables of each size, and let each operation happen in all of them in turn."""
    all_filled = {size: Filled(service, size) for size in SIZES}
    for filled in all_filled.values():
        filled.begin()
    for _ in range(ROUNDS):
        for filled in all_filled.values():
            engine.use_tables(filled.prefix)
            filled.visit(_new())  # connects, and fetches the issuer's keys
            for _ in range(VISITS):
                filled.visit(filled.spent)
    engine.use_tables(engine.PREFIX)
    few = all_filled[FEW].spent
    for name, figure in FIGURES.items():
        for size in SIZES[1:]:
            many = all_filled[size].spent[name]
            calls, units = many.cost
            is_same = many.cost == few[name].cost
            was = "as with fewer" if is_same else f"were {few[name].cost}"
            yield Row(
                f"{name}, {size:,} codes",
                many.milliseconds,
                few[name].milliseconds,
                figure,
                f"{calls} calls, {units:g} units, {was}",
                holds=is_same,
            )


def fill(endpoint: str, prefix: str, rollout_id: str, size: int) -> None:
    """Write codes and the entries of rollouts that they belong to, 1,000 a rollout."""
    parts = [
        (endpoint, prefix, rollout_id, start, min(start + A_PART, size))
        for start in range(0, size, A_PART)
    ]
    with ProcessPoolExecutor(WRITERS, multiprocessing.get_context("spawn")) as writers:
        list(writers.map(_write, parts))


def _write(part: tuple[str, str, str, int, int]) -> None:
    endpoint, prefix, rollout_id, start, end = part
    config = Config(parameter_validation=False, read_timeout=120)
    client = Session().create_client("dynamodb", endpoint_url=endpoint, config=config)
    code, entry = _models()
    for first in range(start, end, A_BATCH):
        puts: dict[str, list[Any]] = {f"{prefix}codes": [], f"{prefix}registrations": []}
        for number in range(first, min(first + A_BATCH, end)):
            own = {
                "fingerprint": secrets.token_hex(32),
                "code_id": f"{number:026}",
                # the first are of the rollout that is read
                "rollout_id": f"{number // A_ROLLOUT:026}" if number >= A_ROLLOUT else rollout_id,
            }
            for model, put in zip((code, entry), puts.values(), strict=True):
                item = {
                    name: {kind: text.replace(SIP, f"person{number:07}")}
                    for name, value in model.items()
                    for kind, text in value.items()
                }
                item |= {name: {"S": text} for name, text in own.items()}
                put.append({"PutRequest": {"Item": item}})
        if client.batch_write_item(RequestItems=puts)["UnprocessedItems"]:
            raise RuntimeError("the engine did not take all")


def _models() -> tuple[dict[str, dict[str, str]], dict[str, dict[str, str]]]:
    """Make a code and its entry as DynamoDB takes them, of which all others are made."""
    now = datetime.now(UTC)
    ends = now + timedelta(days=7)
    code = Code(
        fingerprint="-",
        code_id="-",
        rollout_id="-",
        state=CodeState.PENDING,
        domain=demo.DOMAIN,
        category="Office",
        lifetime=Lifetime.ROLLOUT,
        owner=SIP,
        devices_url="https://d.example/api/devices/update",
        issued_at=now,
        expires_at=ends,
        purge_at=ends,
        sealed_code=secrets.token_urlsafe(60),
    )
    entry = Registration(
        fingerprint="-",
        code_id="-",
        rollout_id="-",
        sip=SIP,
        name=SIP,
        state=State.PENDING,
        expires_at=ends,
        since=now,
        changed_at=now,
        purge_at=ends,
    )
    return CodeItem.of(code).serialize(), RegistrationItem.of(entry).serialize()
