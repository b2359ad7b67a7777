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
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from typing import Any, TypeVar

from benchmarks import engine
from benchmarks.engine import Bare, Call, event, renamed
from chalicelib.core import roster
from chalicelib.core.rollouts import State
from chalicelib.identity import Person
from chalicelib.roles import handouts, people, rollouts
from chalicelib.roles.asking import Asking
from local import demo
from local.api_gateway import Context, thread_local

USERS = 20_000
A_CALL = 1_000
PHONES = 200
TIMES = 5
SIPS = [f"person{number:05}" for number in range(USERS)]
WORKERS = 8
"""As many as storage/connection.py has."""

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

    def report(self, name: str, of: Callable[[Sequence[float]], float] = sum) -> None:
        """Print one line: how long each took in all or at the median, and their ratios."""
        wall, raw = of(self.ours.wall), of(self.raw.wall)
        own, raw_own = of(self.ours.own), of(self.raw.own)
        print(
            f"{name:<34} {wall:8.3f} s {raw:8.3f} s {wall / raw:6.2f} x"
            f"   {own:8.3f} s {raw_own:8.3f} s {own / raw_own:6.2f} x",
            flush=True,
        )


def main() -> None:
    """Start AWS's DynamoDB Local, measure, print."""
    with engine.service() as endpoint:
        print(
            f"{'':<34} {'ours':>10} {'bare':>10} {'ratio':>8}"
            f"   {'own CPU':>10} {'bare':>10} {'ratio':>8}"
        )
        Measured(endpoint).all()


class Measured:
    """One run."""

    def __init__(self, endpoint: str) -> None:
        """Sign in, and get bare botocore ready."""
        from app import app

        self._bare = Bare(endpoint)
        self._app = thread_local(app)
        issuer, _ = engine.issuer()
        self._headers = {"authorization": f"Bearer {issuer.token('admin', datetime.now(UTC))}"}
        self._rollout_id = ""

    def all(self) -> None:
        """Measure everything."""
        self._import()
        self._add()
        self._page("first 1,000 entries, with counts", None)
        self._page("next 1,000 entries", None, is_first=False)
        self._page("next 1,000 pending entries", State.PENDING, is_first=False)
        self._whole("whole handler", "", limit="1000")
        self._whole("export", "/codes.csv")
        self._whole("200 slips", "/slips", limit="200")
        self._redeem()
        self._page("1,000 registered entries", State.REGISTERED)
        self._reissue()

    @property
    def _asking(self) -> Asking:
        roles = frozenset({"users-admin"})
        person = Person("s", "admin", "Administrator", demo.DOMAIN, roles)
        return Asking(person, "192.0.2.9", "https://d.example", datetime.now(UTC))

    def _import(self) -> None:
        lines = (f"{sip};Person {sip};{1000 + n};{sip}@example.com" for n, sip in enumerate(SIPS))
        raw = "\r\n".join(["sip;name;number;e-mail", *lines]).encode()
        for name in ("20,000 users imported", "the same, unchanged"):
            race = Race(self._bare)
            race.run(
                lambda: people.take_in(
                    self._asking, roster.read(raw), "line", is_dry_run=False, skips_wrong=False
                ),
                is_writing=True,
            )
            race.report(name)

    def _add(self) -> None:
        race, asking = Race(self._bare), self._asking
        with contextlib.redirect_stdout(engine.nowhere):
            made, _ = rollouts.create(
                asking, name="Everybody", category="Office", app="", note="", sips=()
            )
        self._rollout_id = made.rollout_id
        for start in range(0, USERS, A_CALL):
            add = partial(rollouts.add, asking, made.rollout_id, SIPS[start : start + A_CALL])
            if race.run(add, is_writing=True).added != A_CALL:
                raise RuntimeError("not all were added")
        race.report("20,000 codes issued, 20 calls")
        race.report("one of these calls", statistics.median)

    def _page(self, name: str, state: State | None, *, is_first: bool = True) -> None:
        race, asking, after = Race(self._bare), self._asking, None
        if not is_first:
            first = rollouts.show(asking, self._rollout_id, state, A_CALL, None)
            after = first.entries.next_after
        for _ in range(TIMES):
            shown = race.run(lambda: rollouts.show(asking, self._rollout_id, state, A_CALL, after))
            if len(shown.entries.items) != A_CALL:
                raise RuntimeError(f"{len(shown.entries.items)} entries")
        race.report(name, statistics.median)

    def _whole(self, name: str, path: str, **query: str) -> None:
        race = Race(self._bare)
        route = f"/rollouts/{{rollout_id}}{path}"
        one = event(
            "GET",
            route.format(rollout_id=self._rollout_id),
            query,
            route=route,
            headers=self._headers,
            pathParameters={"rollout_id": self._rollout_id},
        )
        for _ in range(TIMES):
            answer = race.run(lambda: self._app(one, Context("r")))
            if answer["statusCode"] != HTTPStatus.OK:
                raise RuntimeError(answer)
        race.report(f"{name}, {len(json.dumps(answer)):,} bytes", statistics.median)

    def _redeem(self) -> None:
        """Let phones come all at once; who finds the store busy comes again, as phones do."""
        _, found = handouts.export(self._asking, self._rollout_id, None)
        phones = [
            event(
                "GET",
                "/devices/update",
                {"sn": f"0090ee{n:06x}", "type": "IP232", "PROVISIONING-CODE": handout.digits},
                source=f"10.0.{n // 250}.{n % 250 + 1}",
            )
            for n, handout in enumerate(found[:A_CALL])
        ]
        times: list[float] = []
        bare_times: list[float] = []

        def redeem(phone: dict[str, Any]) -> int:
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
        print(f"{PHONES} phones at once, {visits - PHONES} came twice")
        for name, told in (("  ours", times), ("  bare", bare_times)):
            p50, p95 = statistics.median(told), statistics.quantiles(told, n=20)[-1]
            print(f"{name:<34} p50 {p50:.3f} s, p95 {p95:.3f} s, worst {max(told):.3f} s")
        with contextlib.redirect_stdout(engine.nowhere), ThreadPoolExecutor(WORKERS) as pool:
            list(pool.map(redeem, phones[PHONES:]))

    def _reissue(self) -> None:
        race, selection = Race(self._bare), rollouts.Selection(SIPS[-A_CALL:])
        made = race.run(
            lambda: rollouts.reissue(self._asking, self._rollout_id, selection), is_writing=True
        )
        if made.changed != A_CALL:
            raise RuntimeError(made)
        race.report("1,000 codes reissued")


if __name__ == "__main__":
    main()
