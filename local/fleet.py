"""A fleet: many sysclients in one process, to see what Devices does under their load.

`python -m local.phone --fleet 1000 --url "ws://HOST/DOMAIN/devices/sysclients?domain=…"`. Once a
second it says how many are connected and registered, how many jobs they have done, and how often
they came back. With `--passwords FILE` a later run is the same phones, which return by digest; the
file can be read by its owner alone, for it holds what proves them.
"""

import argparse
import asyncio
import json
import os
import resource
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random

from chalicelib.core import scripts
from chalicelib.core.addresses import is_url
from local.sysclient import Sysclient
from local.sysclient_connection import Pace, SysclientConnection
from local.update_client import UpdateClient

RATE = 50.0
FIRST_MAC = "00-90-33-f0-00-00"
SECOND = 1.0

_FILES_BESIDE = 64
"""What a process has open beside its websockets."""


@dataclass(frozen=True)
class Counts:
    """Where the phones of a fleet are, at one moment.

    Args:
        started, connected, registered: how many phones.
        jobs_done, reconnects: how often, all phones together.
    """

    started: int
    connected: int
    registered: int
    jobs_done: int
    reconnects: int

    def __str__(self) -> str:
        return (
            f"{self.started} started, {self.connected} connected, {self.registered} registered, "
            f"{self.jobs_done} jobs done, {self.reconnects} reconnects"
        )


class Fleet:
    """Phones of consecutive MACs that connect to one URL.

    Args:
        connections: one for each phone.

    `told` is what was counted last.
    """

    def __init__(self, connections: Sequence[SysclientConnection]) -> None:
        self._connections = connections
        self._started: list[asyncio.Task[None]] = []
        self.told = Counts(0, 0, 0, 0, 0)

    def count(self) -> bool:
        """Count, and tell whether anything has changed since the last time."""
        before = self.told
        sysclients = [connection.sysclient for connection in self._connections]
        self.told = Counts(
            len(self._started),
            sum(sysclient.conversation is not None for sysclient in sysclients),
            sum(sysclient.is_registered for sysclient in sysclients),
            sum(sysclient.jobs_done for sysclient in sysclients),
            sum(max(connection.opened_count - 1, 0) for connection in self._connections),
        )
        return self.told != before

    @property
    def is_settled(self) -> bool:
        """Tell whether all are registered, and nothing is under way."""
        return all(connection.is_settled for connection in self._connections)

    async def start(self, rate: float) -> None:
        """Start one after another.

        Args:
            rate: how many in a second.
        """
        now = asyncio.get_running_loop().time
        began_at = now()
        for number, connection in enumerate(self._connections):
            await asyncio.sleep(max(0.0, began_at + number / rate - now()))
            self._started.append(asyncio.create_task(connection.run()))

    async def end(self) -> None:
        """Close all connections; a phone that has failed by a defect of its own says so here."""
        for task in self._started:
            task.cancel()
        for ended in await asyncio.gather(*self._started, return_exceptions=True):
            if isinstance(ended, Exception):
                raise ended


def sysclients(
    first_mac: str, count: int, product: str, local_ip: str, url: str
) -> list[Sysclient]:
    """Make phones that an administrator has pointed to a URL.

    Args:
        first_mac: of the first one, `00-90-33-f0-00-00`; the others count up from there.
    """
    first = int(first_mac.replace("-", ""), 16)
    pointed = f"{scripts.sysclient(url).text}\nconfig write\nconfig activate"
    made = []
    for number in range(first, first + count):
        mac = number.to_bytes(6, "big").hex("-")
        client = UpdateClient(mac, product, local_ip, "http://127.0.0.1/init")
        client.execute(pointed, 0)
        made.append(Sysclient(client))
    return made


def remember(path: Path, fleet: Iterable[Sysclient]) -> None:
    """Take passwords and builds from a file, for the phones that are in it; there may be none."""
    if not path.exists():
        return
    kept = json.loads(path.read_text())
    for sysclient in fleet:
        if told := kept.get(sysclient.hw_id):
            sysclient.password = told["password"]
            sysclient.client.running.update(prot=told["prot"], boot=told["boot"])


def keep(path: Path, fleet: Iterable[Sysclient]) -> None:
    """Put passwords and builds into a file that only its owner can read, beside those in it."""
    kept = json.loads(path.read_text()) if path.exists() else {}
    for sysclient in fleet:
        if sysclient.password:
            kept[sysclient.hw_id] = {"password": sysclient.password, **sysclient.client.running}
    written = path.with_name(f"{path.name}.new")
    written.unlink(missing_ok=True)
    with os.fdopen(os.open(written, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(kept, file, indent=1)
    written.replace(path)


async def run(fleet: Fleet, given: argparse.Namespace) -> None:
    """Start a fleet, say once a second where it is, and end it once nothing more comes.

    Args:
        given: `rate`; `quiet` and `patience` in seconds; `stay` to go on until Ctrl+C.
    """
    starting = asyncio.create_task(fleet.start(given.rate))
    unchanged_seconds = 0.0
    try:
        while True:
            await asyncio.sleep(SECOND)
            is_changed = fleet.count() or not starting.done()
            _show(fleet.told)
            unchanged_seconds = 0.0 if is_changed else unchanged_seconds + SECOND
            wanted_seconds = given.quiet if fleet.is_settled else given.patience
            if unchanged_seconds >= wanted_seconds and not given.stay:
                return
    finally:
        starting.cancel()
        await fleet.end()


def _show(counts: Counts) -> None:
    """Write the one line over what stood there, or below it where nobody watches."""
    is_watched = sys.stdout.isatty()
    print(f"\r{counts}\x1b[K" if is_watched else counts, end="" if is_watched else "\n", flush=True)


def _allow_files(count: int) -> None:
    """Let this process have so many websockets open, as far as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + _FILES_BESIDE
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def main(given: argparse.Namespace) -> int:
    """Run a fleet.

    Returns:
        0 all are registered, 1 some are connected and not registered, 2 not reached or not
        finished.
    """
    if not is_url(given.url, ("ws", "wss")):
        print("--url must be a websocket's: ws://HOST/DOMAIN/devices/sysclients")
        return 2
    _allow_files(given.fleet)
    made = sysclients(
        given.mac or FIRST_MAC, given.fleet, given.type, given.source or "127.0.0.1", given.url
    )
    if given.passwords:
        remember(given.passwords, made)
    pace, random = Pace(), Random()  # noqa: S311 - jitter; one for all, for each has 2,500 bytes
    fleet = Fleet([SysclientConnection(each, given.source, pace, random) for each in made])
    try:
        with suppress(KeyboardInterrupt):
            asyncio.run(run(fleet, given))
    finally:
        if given.passwords:
            keep(given.passwords, made)
    print(f"\nfleet of {given.fleet}: {fleet.told}")
    if fleet.told.registered == given.fleet:
        return 0
    return 1 if fleet.told.connected == given.fleet else 2
