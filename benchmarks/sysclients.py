"""Measures one gateway with two thousand phones: memory, a job for all, and a restart.

The gateway is the process that is deployed, the engine AWS's own, and the phones are simulated
ones in a process of their own, over real websockets. Each restarts once, for it loads firmware.
It asserts nothing.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from benchmarks import engine
from benchmarks.table import Figure, Figures, Row
from benchmarks.visits import asking
from chalicelib.roles import updates
from local import demo

TITLE = "2,000 phones at one gateway"
AGAINST = ""
PHONES = 2_000
FEW = 10
A_SECOND = 100
DRAIN_SECONDS = 20
PATIENCE_SECONDS = 600
FIGURES: Figures = {
    "registered, firmware and configuration done (s)": Figure(),
    "memory for each phone that is idle (kB)": Figure(most=50),
    "a job has reached and was done by all (s)": Figure(),
    "the gateway is restarted: all are back (s)": Figure(),
}
_COUNTS = re.compile(r"(\d+) connected, (\d+) registered, (\d+) jobs done, (\d+) reconnects")
_RESIDENT = re.compile(r"VmRSS:\s+(\d+) kB")


def measure(service: engine.Service) -> Iterator[Row]:
    """Let them come, give them a job, and take the gateway away from them once."""
    port = _free_port()
    host = f"127.0.0.1:{port}"
    demo.seed_sysclients(datetime.now(UTC), host)
    names = iter(FIGURES.items())

    def row(value: float, besides: str = "", *, holds: bool = True) -> Row:
        name, figure = next(names)
        return Row(name, value, None, figure, besides, holds)

    with ExitStack() as stack:
        gateway = stack.enter_context(_gateway(service, port))
        url = demo.provisioning_url(host)
        # what is loaded when the first phone comes costs the same for any number of them
        with _fleet(url, FEW, "00-90-33-f9-00-00") as few:
            few.wait(lambda: few.registered == FEW and few.reconnects >= FEW)
            few.settle()
        alone = _resident(gateway)
        began = time.perf_counter()
        fleet = stack.enter_context(_fleet(url, PHONES))
        # software, time server, registration, administrator's password
        fleet.wait(lambda: fleet.registered == PHONES and fleet.reconnects >= PHONES)
        fleet.settle()
        yield row(time.perf_counter() - began, f"{A_SECOND} come in a second")
        each = (_resident(gateway) - alone) / PHONES
        yield row(each, f"{alone / 1024:.0f} MB with none of them", holds=fleet.connected == PHONES)
        before, began = fleet.jobs, time.perf_counter()
        admin = asking("sysadmin", "devices-admin", domain=demo.SYSCLIENT_DOMAIN)
        parameters = {"variables": {"BENCH": "1"}}
        updates.make_configuration_job(admin, demo.SYSCLIENT_DOMAIN, "*", "variables", parameters)
        fleet.wait(lambda: fleet.jobs >= before + PHONES)
        yield row(time.perf_counter() - began, f"{fleet.jobs - before} done")
        jobs, reconnects, began = fleet.jobs, fleet.reconnects, time.perf_counter()
        gateway.send_signal(signal.SIGTERM)
        gateway.wait()
        stack.enter_context(_gateway(service, port))
        fleet.wait(lambda: fleet.connected == PHONES and fleet.reconnects >= reconnects + PHONES)
        took = time.perf_counter() - began
        fleet.settle()
        besides = f"of it {DRAIN_SECONDS} s to let them go; {fleet.jobs - jobs} did a job twice"
        yield row(took, besides, holds=fleet.registered == PHONES)


class _Fleet:
    """What the phones say of themselves, once a second."""

    def __init__(self, output: IO[str]) -> None:
        self._output = output
        self.connected = self.registered = self.jobs = self.reconnects = 0

    def wait(self, is_there: Callable[[], bool]) -> None:
        """Listen until they are where they should be.

        Raises:
            RuntimeError: they do not get there.
        """
        ends_at = time.monotonic() + PATIENCE_SECONDS
        while not is_there():
            if not self._listen() or time.monotonic() > ends_at:
                raise RuntimeError(f"the phones got stuck: {vars(self)}")

    def settle(self) -> None:
        """Listen until nothing happens any more."""
        quiet = 0
        while quiet < 5:  # noqa: PLR2004 - seconds
            before = (self.connected, self.jobs, self.reconnects)
            self._listen()
            is_same = before == (self.connected, self.jobs, self.reconnects)
            quiet = quiet + 1 if is_same else 0

    def _listen(self) -> bool:
        line = self._output.readline()
        if found := _COUNTS.search(line):
            counts = map(int, found.groups())
            self.connected, self.registered, self.jobs, self.reconnects = counts
        return bool(line)


@contextmanager
def _gateway(service: engine.Service, port: int) -> Iterator["subprocess.Popen[bytes]"]:
    """Run the gateway until this is left."""
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway"],
        env={
            **os.environ,
            **engine.named(engine.PREFIX),
            "DYNAMODB_ENDPOINT": service.endpoint,
            "GATEWAY_PORT": str(port),
            "GATEWAY_DRAIN_SECONDS": str(DRAIN_SECONDS),
        },
        cwd=engine.ROOT,
        stdout=subprocess.DEVNULL,
    )
    try:
        _wait_for(f"http://127.0.0.1:{port}/health")
        yield process
    finally:
        process.kill()
        process.wait()


@contextmanager
def _fleet(url: str, count: int, first_mac: str = "00-90-33-f0-00-00") -> Iterator[_Fleet]:
    """Run phones until this is left."""
    command = ["-m", "local.phone", "--fleet", str(count), "--rate", str(A_SECOND), "--stay"]
    process = subprocess.Popen(  # noqa: S603 - our own command
        [sys.executable, *command, "--mac", first_mac, "--url", url],
        cwd=engine.ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout  # noqa: S101 - it was asked for
    try:
        yield _Fleet(process.stdout)
    finally:
        process.kill()
        process.wait()


def _resident(process: "subprocess.Popen[bytes]") -> int:
    """Tell how much memory a process has, in kB."""
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
    found = _RESIDENT.search(status)
    assert found  # noqa: S101 - as long as it runs
    return int(found[1])


def _wait_for(url: str) -> None:
    for _ in range(300):
        try:
            urllib.request.urlopen(url, timeout=1).close()
        except urllib.error.URLError:
            time.sleep(0.1)
        else:
            return


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
