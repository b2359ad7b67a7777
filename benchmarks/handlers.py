"""Measures whole handlers against the botocore calls that they make, call for call.

A handler's time runs from its event to its answer; of it, the time inside botocore is what botocore
alone would take, on the same engine in the same moment.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks import engine
from benchmarks.engine import Real
from benchmarks.table import Figure, Figures, Row
from benchmarks.visits import Event, Visits, answered

TITLE = "A whole handler, warm (ms)"
AGAINST = "the same calls by botocore"
RUNS = 150
WARM_UP = 5
HANDLER = Figure(times=1.25)
FIGURES: Figures = {
    "`GET /init`, new phone": HANDLER,
    "`GET /init` with a code": HANDLER,
    "`GET /init`, code refused": HANDLER,
    "`POST /me/codes`": HANDLER,
    "`GET /devices/update`, code redeemed": HANDLER,
    "`GET /devices/update`, domain's token": HANDLER,
    "`GET /devices/update`, idle": HANDLER,
    "`GET /me`": HANDLER,
}


def measure(service: engine.Service) -> Iterator[Row]:
    """Let each handler answer often."""
    visits = Visits(service)
    token = visits.new_token()
    idle = visits.idle("0090bb000001")
    made: tuple[Callable[[], Event], ...] = (
        visits.init,
        lambda: visits.init(visits.code()),
        lambda: visits.init("000000000000"),
        visits.issue,
        lambda: visits.redeem(visits.code()),
        lambda: visits.admit(token),
        lambda: idle,
        visits.me,
    )
    for (name, figure), make in zip(FIGURES.items(), made, strict=True):
        whole, spent = times_of(make)
        ours, bare = (statistics.median(times) * 1000 for times in (whole, spent))
        yield Row(name, ours, bare, figure, f"{ours - bare:.2f} ms more")


def times_of(make: Callable[[], Event]) -> tuple[list[float], list[float]]:
    """Answer many events; returns seconds of the whole of each, and those inside botocore."""
    events = [make() for _ in range(WARM_UP + RUNS)]
    whole: list[float] = []
    spent: list[float] = []

    def timed(real: Real, operation: str, arguments: dict[str, Any]) -> Any:  # noqa: ANN401 - botocore's own
        began = time.perf_counter()
        try:
            return real(operation, arguments)
        finally:
            spent[-1] += time.perf_counter() - began

    with engine.calls_through(timed):
        for event in events:
            spent.append(0.0)
            began = time.perf_counter()
            answered(event)
            whole.append(time.perf_counter() - began)
    return whole[WARM_UP:], spent[WARM_UP:]
