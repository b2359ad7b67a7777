"""Measures how soon a Users instance hears of a phone, with two hundred connections open.

The server is the real one, the engine AWS's own, clients and phones come over real sockets; the
clock runs from before the phone's request to the message. It asserts nothing.
"""

import json
import os
import signal
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlencode

from local import demo
from local.app_client import AppClient
from tests.conftest import dynamodb_local

CONNECTIONS = 200
INSTANCES = 20
PHONES = 200
PORT = 8765
TARGET_SECONDS = 1.0
BASE = f"http://127.0.0.1:{PORT}"
SOCKET = f"ws://127.0.0.1:{PORT}/{demo.DOMAIN}/devices"


def main() -> None:
    """Measure and print."""
    with dynamodb_local(Path(".engine")) as endpoint:
        environment = {**os.environ, "PORT": str(PORT), "DYNAMODB_ENDPOINT": endpoint}
        server = subprocess.Popen(
            [sys.executable, "-m", "local.run"], env=environment, stdout=subprocess.DEVNULL
        )
        try:
            _wait()
            _report(_measure())
        finally:
            server.send_signal(signal.SIGINT)
            server.wait()


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


def _report(measured: tuple[list[float], list[float]]) -> None:
    names = ("request to DeviceProvisioned", "answer to DeviceProvisioned")
    print(f"{'':<34} {'median':>9} {'p95':>9} {'worst':>9}  {CONNECTIONS} connections")
    for name, times in zip(names, measured, strict=True):
        p95 = statistics.quantiles(times, n=20)[-1]
        told = "".join(f"{seconds * 1000:7.0f} ms" for seconds in (_median(times), p95, max(times)))
        print(f"{name:<34}{told}  p95 of the aim of 1 s: {p95 / TARGET_SECONDS:.2f}")


def _median(times: list[float]) -> float:
    return statistics.median(times)


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


if __name__ == "__main__":
    main()
