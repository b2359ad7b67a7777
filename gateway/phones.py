"""Phones: everybody who is connected to this process, and what wakes them.

Sockets are the only thing that is here and nowhere else; a phone that is cut finds its way to any
other process. It must not know what a phone is told, nor the transport.
"""

import asyncio
import random
import uuid
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime

from chalicelib import observability
from chalicelib.core.errors import StoreUnavailableError
from chalicelib.storage import jobs
from gateway.session import LATER, POLICY, RESTART, Arrival, Session, Socket, Standing

MAX_CONNECTIONS = 12_000
"""Of one process; the next one finds another, or comes back later."""

MAX_STRANGERS = 1_000
"""How many phones of one source may be connected that have not proven anything.

A quarter of all may be such. Then a newcomer, who may be about to prove something, takes the place
of whoever is unassigned for longest, so that nobody without a phone can keep everybody out.
"""

LOOK_SECONDS = 5.0
"""How often the jobs of a domain are looked at: that soon a phone hears of a new one."""

VISIT_SECONDS = 600.0
"""How often a phone is asked for without a reason: it is still here, and of its domain."""

REPORT_SECONDS = 60.0
"""How often it is written down how many there are."""


def _now() -> datetime:
    return datetime.now(UTC)


class Phones:
    """The phones that are connected to this process.

    Args:
        now: tells the time.

    Attributes:
        address: where other processes reach this one, `10.0.3.7:8080`; before any phone comes.
    """

    def __init__(self, now: Callable[[], datetime] = _now) -> None:
        self.address = ""
        self.now = now
        self._sessions: set[Session] = set()
        self._strangers: dict[Session, None] = {}
        self._strangers_of: Counter[str] = Counter()
        self._online: dict[str, Session] = {}
        self._due: dict[str, float] = {}
        self._newest: dict[str, tuple[str, ...]] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self.is_draining = False

    @property
    def count(self) -> int:
        """How many are connected."""
        return len(self._sessions)

    def has_room(self, source: str) -> bool:
        """Tell whether one more may come."""
        if self.is_draining or self.count >= MAX_CONNECTIONS:
            return False
        if self._strangers_of[source] >= MAX_STRANGERS:
            return False
        return not self._is_full_of_strangers or self._longest_unassigned() is not None

    def find(self, hw_id: str) -> Session | None:
        """Find an online phone."""
        return self._online.get(hw_id)

    async def serve(self, socket: Socket, arrival: Arrival) -> None:
        """Serve a phone's websocket until it ends."""
        connection_id = str(uuid.uuid4())
        connection = f"{self.address}#{connection_id}"
        session = Session(socket, arrival, connection, self._arrived, self.now)
        self._make_room()
        self._sessions.add(session)
        self._strangers[session] = None
        self._strangers_of[arrival.source] += 1
        with observability.correlated(connection_id):
            try:
                if self.is_draining:
                    await session.close(RESTART, "service restart")
                else:
                    await session.run()
            finally:
                self._left(session)

    async def watch(self) -> None:
        """Wake phones for as long as the process lives."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self.look()
            except Exception:  # noqa: BLE001 - a defect must not leave all phones asleep from now on
                observability.logger().exception("look failed")

    async def look(self) -> None:
        """Wake whoever there is a new job for, whoever could not be served, and whoever is due."""
        by_domain: dict[str, list[Session]] = {}
        for session in self._online.values():
            by_domain.setdefault(session.arrival.domain, []).append(session)
        self._newest = {name: self._newest[name] for name in by_domain if name in self._newest}
        await asyncio.gather(*(self._look_at(*each) for each in by_domain.items()))
        now = asyncio.get_running_loop().time()
        for session in list(self._online.values()):
            if session.is_put_off or self._due[session.hw_id] <= now:
                self._due[session.hw_id] = _next_visit()
                session.wake()

    async def report(self) -> None:
        """Write down how many phones there are, for as long as the process lives."""
        while True:
            observability.measure("PhonesConnected", self.count)
            await asyncio.sleep(REPORT_SECONDS)

    async def drain(self, seconds: float) -> None:
        """Let nobody in any more, and close what is open, spread over a time.

        Phones come back with jitter of their own, to another process.
        """
        self.is_draining = True
        leaving = list(self._sessions)
        random.shuffle(leaving)
        observability.logger().info("draining", extra={"phones": len(leaving)})
        closing = []
        for session in leaving:
            closing.append(asyncio.create_task(session.close(RESTART, "service restart")))
            await asyncio.sleep(seconds / len(leaving))
        await asyncio.gather(*closing)

    async def _look_at(self, domain: str, sessions: list[Session]) -> None:
        """Wake a domain's phones if it has another newest job than when it was last looked at.

        The first time that is not known, and what was made since they arrived would be missed.
        """
        try:
            newest = await asyncio.to_thread(jobs.newest, domain)
        except StoreUnavailableError as error:
            observability.logger().warning("jobs not looked at", extra={"why": error.what})
            return
        if newest != self._newest.get(domain):
            self._newest[domain] = newest
            for session in sessions:
                session.wake()

    def _arrived(self, session: Session) -> None:
        """Take a phone that is online now; its connection before this one is dead."""
        before = self._online.get(session.hw_id)
        self._online[session.hw_id] = session
        self._due[session.hw_id] = _next_visit()
        self._forget_stranger(session)
        if before is not None:
            self._close(before, POLICY, "connected anew")

    def _left(self, session: Session) -> None:
        self._sessions.discard(session)
        if self._online.get(session.hw_id) is session:
            del self._online[session.hw_id], self._due[session.hw_id]
        self._forget_stranger(session)

    @property
    def _is_full_of_strangers(self) -> bool:
        return len(self._strangers) >= MAX_CONNECTIONS // 4

    def _longest_unassigned(self) -> Session | None:
        unassigned = (one for one in self._strangers if one.standing is Standing.UNASSIGNED)
        return next(unassigned, None)

    def _make_room(self) -> None:
        """Let the stranger go that is unassigned for longest, if there are too many."""
        if self._is_full_of_strangers and (longest := self._longest_unassigned()) is not None:
            self._forget_stranger(longest)
            self._close(longest, LATER, "try again later")

    def _close(self, session: Session, code: int, reason: str) -> None:
        """Close a connection without waiting for its end."""
        task = asyncio.create_task(session.close(code, reason))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def _forget_stranger(self, session: Session) -> None:
        """Count a phone as a stranger no longer; also one that has been none for long."""
        if session not in self._strangers:
            return
        del self._strangers[session]
        source = session.arrival.source
        self._strangers_of[source] -= 1
        if not self._strangers_of[source]:
            del self._strangers_of[source]


def _next_visit() -> float:
    """Tell when a phone is visited without a reason; not all of them at once."""
    jitter = random.uniform(0.8, 1.2)  # noqa: S311 - spreads load
    return asyncio.get_running_loop().time() + VISIT_SECONDS * jitter
