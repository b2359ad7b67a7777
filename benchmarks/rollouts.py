"""Measures rollouts of 20,000 users against bare botocore making the same calls, in one run.

Bare botocore gets its arguments ready-made, has as many workers, and writes into tables of its own
what ours has just written. Beside the time stands the time of this process alone, for the engine
runs on the same machine. It asserts nothing.
"""

import contextlib
import itertools
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import TypeVar

from benchmarks import engine
from benchmarks.engine import Bare, Call, renamed
from benchmarks.table import Figure, Figures, Row
from benchmarks.visits import Event, Visits, asking
from chalicelib.core import roster
from chalicelib.core.rollouts import State
from chalicelib.roles import handouts, people, rollouts
from chalicelib.roles.asking import Asking
from local.api_gateway import Context, thread_local

TITLE = "A rollout of 20,000 users (s)"
AGAINST = "the same calls by botocore"
USERS = 20_000
A_CALL = 1_000
PHONES = 200
TIMES = 5
SIPS = [f"person{number:05}" for number in range(USERS)]
WORKERS = 8
"""As many as storage/connection.py has."""

IMPORTED, UNCHANGED = "20,000 users imported", "the same, unchanged"
ISSUED, A_CALL_OF_IT = "20,000 codes issued, 20 calls", "one of these calls"
FIRST, NEXT = "first 1,000 entries, with counts", "next 1,000 entries"
PENDING, REGISTERED = "next 1,000 pending entries", "1,000 registered entries"
HANDLER, EXPORT, SLIPS = "1,000 entries, the whole handler", "all codes as CSV", "200 slips"
AT_ONCE, AT_ONCE_P95 = "200 phones redeem at once, median", "the same, p95"
REISSUED = "1,000 codes reissued"
WHOLE = Figure(times=1.25)
FIGURES: Figures = {
    IMPORTED: Figure(),
    UNCHANGED: Figure(),
    ISSUED: Figure(60),
    A_CALL_OF_IT: Figure(),
    FIRST: Figure(),
    NEXT: Figure(),
    PENDING: Figure(),
    HANDLER: WHOLE,
    EXPORT: WHOLE,
    SLIPS: WHOLE,
    AT_ONCE: Figure(),
    AT_ONCE_P95: Figure(),
    REGISTERED: Figure(),
    REISSUED: Figure(),
}

_T = TypeVar("_T")


@dataclass
class Spent:
    """What a piece of work took: seconds, and seconds of this process."""

    wall: list[float] = field(default_factory=list)
    own: list[float] = field(default_factory=list)

    def on(self, work: Callable[[], _T]) -> _T:
        """Do it."""
        wall, own = time.perf_counter(), time.process_time()
        try:
            return work()
        finally:
            self.wall.append(time.perf_counter() - wall)
            self.own.append(time.process_time() - own)


@dataclass
class Race:
    """Ours against bare botocore, once or often."""

    bare: Bare
    ours: Spent = field(default_factory=Spent)
    raw: Spent = field(default_factory=Spent)

    def run(self, work: Callable[[], _T], *, is_writing: bool = False) -> _T:
        """Do it, and let bare botocore make the same calls: those of threads with as many."""
        with engine.listening() as heard, contextlib.redirect_stdout(engine.nowhere):
            result = self.ours.on(work)
        calls = [call for some in heard.values() for call in some]
        if is_writing:
            calls = [renamed(call) for call in calls]
        with ThreadPoolExecutor(WORKERS if len(heard) > 1 else 1) as pool:
            self.raw.on(lambda: list(pool.map(self.bare.call, calls)))
        return result

    def row(
        self, name: str, of: Callable[[Sequence[float]], float] = sum, besides: str = ""
    ) -> Row:
        """Tell how long each took in all or at the median."""
        own = of(self.ours.own) / of(self.raw.own)
        told = f"{own:.2f} x the CPU{besides and f', {besides}'}"
        return Row(name, of(self.ours.wall), of(self.raw.wall), FIGURES[name], told)


def measure(service: engine.Service) -> Iterator[Row]:
    """Import, roll out, look, hand out, redeem, reissue."""
    return Measured(service).all()


class Measured:
    """One run."""

    def __init__(self, service: engine.Service) -> None:
        """Get the app and bare botocore ready."""
        from app import app

        self._bare = Bare(service.endpoint)
        self._app = thread_local(app)
        self._visits = Visits(service)
        self._rollout_id = ""

    def all(self) -> Iterator[Row]:
        """Measure everything."""
        yield from self._import()
        yield from self._add()
        yield self._page(FIRST, None)
        yield self._page(NEXT, None, is_first=False)
        yield self._page(PENDING, State.PENDING, is_first=False)
        yield self._whole(HANDLER, "", limit="1000")
        yield self._whole(EXPORT, "/codes.csv")
        yield self._whole(SLIPS, "/slips", limit="200")
        yield from self._redeem()
        yield self._page(REGISTERED, State.REGISTERED)
        yield self._reissue()

    @property
    def _asking(self) -> Asking:
        return asking("admin", "users-admin")

    def _import(self) -> Iterator[Row]:
        lines = (f"{sip};Person {sip};{1000 + n};{sip}@example.com" for n, sip in enumerate(SIPS))
        raw = "\r\n".join(["sip;name;number;e-mail", *lines]).encode()
        for name in (IMPORTED, UNCHANGED):
            race = Race(self._bare)
            race.run(
                lambda: people.take_in(
                    self._asking, roster.read(raw), "line", is_dry_run=False, skips_wrong=False
                ),
                is_writing=True,
            )
            yield race.row(name)

    def _add(self) -> Iterator[Row]:
        race, admin = Race(self._bare), self._asking
        self._rollout_id = self._visits.new_rollout()
        for start in range(0, USERS, A_CALL):
            add = partial(rollouts.add, admin, self._rollout_id, SIPS[start : start + A_CALL])
            if race.run(add, is_writing=True).added != A_CALL:
                raise RuntimeError("not all were added")
        yield race.row(ISSUED)
        yield race.row(A_CALL_OF_IT, statistics.median)

    def _page(self, name: str, state: State | None, *, is_first: bool = True) -> Row:
        race, admin, after = Race(self._bare), self._asking, None
        if not is_first:
            first = rollouts.show(admin, self._rollout_id, state, A_CALL, None)
            after = first.entries.next_after
        for _ in range(TIMES):
            shown = race.run(lambda: rollouts.show(admin, self._rollout_id, state, A_CALL, after))
            if len(shown.entries.items) != A_CALL:
                raise RuntimeError(f"{len(shown.entries.items)} entries")
        return race.row(name, statistics.median)

    def _whole(self, name: str, path: str, **query: str) -> Row:
        race, one = Race(self._bare), self._visits.rollout(self._rollout_id, path, **query)
        for _ in range(TIMES):
            answer = race.run(lambda: self._app(one, Context("r")))
            if answer["statusCode"] != HTTPStatus.OK:
                raise RuntimeError(answer)
        return race.row(name, statistics.median, f"{len(json.dumps(answer)) / 1000:,.0f} KB")

    def _redeem(self) -> Iterator[Row]:
        """Let phones come all at once; who finds the store busy comes again, as phones do."""
        _, found = handouts.export(self._asking, self._rollout_id, None)
        phones = [self._visits.redeem(handout.digits) for handout in found[:A_CALL]]
        times: list[float] = []
        bare_times: list[float] = []

        def redeem(phone: Event) -> int:
            for visits in itertools.count(1):
                began = time.perf_counter()
                answer = self._app(phone, Context("r"))
                if "device_token" in answer["body"]:
                    times.append(time.perf_counter() - began)
                    return visits
                if "come back later" not in answer["body"]:
                    raise RuntimeError(answer)
            raise AssertionError

        def call_all(calls: Sequence[Call]) -> None:
            began = time.perf_counter()
            for call in calls:
                self._bare.call(call)
            bare_times.append(time.perf_counter() - began)

        with (
            engine.listening() as heard,
            contextlib.redirect_stdout(engine.nowhere),
            ThreadPoolExecutor(PHONES) as pool,
        ):
            visits = sum(pool.map(redeem, phones[:PHONES]))
        each = [[renamed(call) for call in calls] for calls in heard.values()]
        with ThreadPoolExecutor(len(each)) as pool:
            list(pool.map(call_all, each))
        twice = f"{visits - PHONES} came twice"
        yield Row(AT_ONCE, statistics.median(times), statistics.median(bare_times), besides=twice)
        p95, bare_p95 = (statistics.quantiles(told, n=20)[-1] for told in (times, bare_times))
        yield Row(AT_ONCE_P95, p95, bare_p95, besides=f"worst {max(times):.2f} s")
        with contextlib.redirect_stdout(engine.nowhere), ThreadPoolExecutor(WORKERS) as pool:
            list(pool.map(redeem, phones[PHONES:]))

    def _reissue(self) -> Row:
        race, selection = Race(self._bare), rollouts.Selection(SIPS[-A_CALL:])
        made = race.run(
            lambda: rollouts.reissue(self._asking, self._rollout_id, selection), is_writing=True
        )
        if made.changed != A_CALL:
            raise RuntimeError(made)
        return race.row(REISSUED)
