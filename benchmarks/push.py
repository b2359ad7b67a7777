"""Measures how soon a Users instance hears of a phone, with two hundred connections open.

The server is the real one, the engine AWS's own, clients and phones come over real sockets; the
clock runs from before the phone's request to the message. It asserts nothing.
"""

import json
import signal
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import urlencode

from benchmarks import engine
from benchmarks.table import Figure, Figures, Row
from local import demo
from local.app_client import AppClient
from tests.conftest import dynamodb_local

TITLE = "A connected app hears of a redemption, 200 connections (ms)"
AGAINST = "the aim"
CONNECTIONS = 200
INSTANCES = 20
PHONES = 200
PORT = 8765
AIM = 1_000
FIGURES: Figures = {
    "from the phone's request, p95": Figure(times=1.0),
    "from the phone's answer, p95": Figure(times=1.0),
}
BASE = f"http://127.0.0.1:{PORT}"
SOCKET = f"ws://127.0.0.1:{PORT}/{demo.DOMAIN}/devices"


def measure(_: engine.Service) -> Iterator[Row]:
    """Start a server with an engine of its own, and redeem one phone after the other."""
    with dynamodb_local(engine.ROOT / ".engine") as endpoint:
        environment = {**engine.OUTSIDE, "PORT": str(PORT), "DYNAMODB_ENDPOINT": endpoint}
        server = subprocess.Popen(
            [sys.executable, "-m", "local.run"], env=environment, stdout=subprocess.DEVNULL
        )
        try:
            _wait()
            measured = _measure()
        finally:
            server.send_signal(signal.SIGINT)
            server.wait()
    for (name, figure), times in zip(FIGURES.items(), measured, strict=True):
        p95 = statistics.quantiles(times, n=20)[-1] * 1000
        others = f"median {statistics.median(times) * 1000:.0f}, worst {max(times) * 1000:.0f}"
        yield Row(name, p95, AIM, figure, others)


def _measure() -> tuple[list[float], list[float]]:
    """Redeem one phone after the other; returns seconds from its request, and from its answer."""
    from_request, from_answer = [], []
    with ExitStack() as stack:
        tokens = [_token(f"user{number}") for number in range(1, 21)]
        instances = [stack.enter_context(AppClient.connect(SOCKET)) for _ in range(INSTANCES)]
        for instance in instances:
            instance.log_in("users", "dialtone", domain=demo.DOMAIN)
        for number in range(CONNECTIONS - INSTANCES):
            page = stack.enter_context(AppClient.connect(SOCKET))
            page.sign_in(tokens[number % len(tokens)])
        for number in range(PHONES):
            asking = instances[number % INSTANCES]
            code = asking.ask("GetProvisioningCode", category="Office", sip="user1")["code"]
            query = {"sn": f"0090ee{number:06x}", "type": "IP232", "PROVISIONING-CODE": code}
            began = time.perf_counter()
            urllib.request.urlopen(f"{BASE}/api/devices/update?{urlencode(query)}").read()
            answered = time.perf_counter()
            asking.wait_for("DeviceProvisioned", 30)
            told = time.perf_counter()
            from_request.append(told - began)
            from_answer.append(told - answered)
    return from_request, from_answer


def _token(user: str) -> str:
    request = urllib.request.Request(f"{BASE}/dev/token", json.dumps({"user": user}).encode())
    with urllib.request.urlopen(request) as answer:
        return str(json.load(answer)["token"])


def _wait() -> None:
    for _ in range(300):
        try:
            urllib.request.urlopen(f"{BASE}/api/health").read()
        except urllib.error.URLError:
            time.sleep(0.1)
        else:
            return
    raise TimeoutError("the server does not start")
