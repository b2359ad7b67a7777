"""Measures cold starts and whole handlers against bare botocore, in one run, as ratios.

Every figure is a median against the same engine on the same machine in the same minute. It asserts
nothing: a machine that is slow today must not fail a build.
"""

import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from benchmarks import engine
from benchmarks.engine import ROOT, event
from chalicelib.core.codes import read_entry
from chalicelib.core.jobs import plan_for, serial_of
from chalicelib.roles import devices
from chalicelib.storage import connection
from chalicelib.storage import devices as device_table
from chalicelib.storage import jobs as job_table
from local import demo
from local.api_gateway import Context

COLD_RUNS = 15
WARM_RUNS = 150
BYTECODE = str(ROOT / ".state" / "bytecode")

BARE = """
import json
def handler(event, context):
    client = make()
    client.get_item(TableName=TABLE, Key={"hw_id": {"S": "009033000001"}}, ConsistentRead=True)
    return {"statusCode": 200, "body": json.dumps({"status": "ok"})}
def make():
    import botocore.session
    return botocore.session.get_session().create_client("dynamodb", endpoint_url=ENDPOINT)
handler({}, None)
"""

OURS = """
import json
from app import app
event = json.loads(EVENT)
class Context:
    function_name = "f"; memory_limit_in_mb = 1; invoked_function_arn = "a"; aws_request_id = "r"
if PATCH_ISSUER:
    from chalicelib import identity
    documents = json.loads(PATCH_ISSUER)
    identity._get_json = documents.__getitem__
answer = app(event, Context())
assert answer["statusCode"] in (200, 201), answer
"""


def cold(script: str, **values: str) -> float:
    """Run a script in a fresh interpreter; seconds from its start to its answer.

    Every module comes from the same cache of bytecode, ours and botocore alike, whether or not this
    machine writes any beside the sources.
    """
    lines = [f"{name} = {value!r}" for name, value in values.items()]
    started = time.perf_counter()
    subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-c", "\n".join([*lines, script, "import os", "os._exit(0)"])],
        cwd=ROOT,
        check=True,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPYCACHEPREFIX": BYTECODE, "PYTHONDONTWRITEBYTECODE": ""},
    )
    return time.perf_counter() - started


def report(name: str, ours: list[float], bare: list[float], target: float) -> None:
    """Print one line: medians in milliseconds, their ratio, and what the design asks for."""
    mine, raw = statistics.median(ours) * 1000, statistics.median(bare) * 1000
    print(f"{name:<34} {mine:8.1f} ms  {raw:8.1f} ms  {mine / raw:6.2f} x   (at most {target} x)")


@contextmanager
def in_botocore(spent: list[float]) -> Iterator[None]:
    """Add up the time that calls spend inside botocore."""
    client = connection.shared().client
    real = client._make_api_call  # noqa: SLF001 - the call itself, and nothing around it

    def timed(*arguments: Any) -> Any:  # noqa: ANN401 - botocore's own
        started = time.perf_counter()
        try:
            return real(*arguments)
        finally:
            spent[-1] += time.perf_counter() - started

    setattr(client, "_make_api_call", timed)  # noqa: B010 - types know it as a method
    try:
        yield
    finally:
        setattr(client, "_make_api_call", real)  # noqa: B010 - see above


def warm(name: str, make: Callable[[int], dict[str, Any]]) -> None:
    """Measure a whole handler against the botocore calls that it makes."""
    from app import app

    with contextlib.redirect_stdout(engine.nowhere):
        events = [make(n) for n in range(WARM_RUNS)]
    whole: list[float] = []
    spent: list[float] = []
    with in_botocore(spent), contextlib.redirect_stdout(engine.nowhere):
        for one in events:
            spent.append(0.0)
            started = time.perf_counter()
            answer = app(one, Context("r"))
            whole.append(time.perf_counter() - started)
            if answer["statusCode"] not in {200, 201}:
                raise RuntimeError(f"{name}: {answer}")
    report(name, whole, spent, 1.25)


def main() -> None:
    """Start AWS's DynamoDB Local, measure, print."""
    with engine.service() as endpoint:
        measure(endpoint)


def measure(endpoint: str) -> None:
    """Measure everything."""
    issuer, documents = engine.issuer()
    bearer = {"authorization": f"Bearer {issuer.token('user1', datetime.now(UTC))}"}
    category = json.dumps({"category": "Office"})
    issue = event(
        "POST",
        "/me/codes",
        {},
        body=category,
        headers={**bearer, "content-type": "application/json"},
        multiValueHeaders={},
    )
    print(f"{'':<34} {'ours':>11}  {'bare':>11}")
    with contextlib.redirect_stdout(engine.nowhere):
        token, facts = registered("009033000001")
    idle = event("GET", "/devices/update", {"sn": "009033000001", "device_token": token, **facts})
    phone = event("GET", "/init", {"mac": "009033000002"})
    steps = {
        "cold GET /health": (event("GET", "/health", {}), 1.25),
        "cold GET /init": (phone, 1.25),
        "cold GET /devices/update, idle": (idle, 1.25),
        "cold GET /me": (event("GET", "/me", {}, headers=bearer), 2.0),
        "cold POST /me/codes": (issue, 2.0),
    }
    timings: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in steps}
    cold(OURS, EVENT=json.dumps(issue), PATCH_ISSUER=json.dumps(documents))  # fills the cache
    for _ in range(COLD_RUNS):
        for name, (one, _) in steps.items():
            bare = cold(BARE, ENDPOINT=endpoint, TABLE="bench-devices")
            issuer_documents = json.dumps(documents) if "/me" in one["path"] else ""
            ours = cold(OURS, EVENT=json.dumps(one), PATCH_ISSUER=issuer_documents)
            timings[name][0].append(ours)
            timings[name][1].append(bare)
    for name, (_, target) in steps.items():
        report(name, *timings[name], target)

    def code() -> str:
        from chalicelib.identity import Person
        from chalicelib.roles import users
        from chalicelib.roles.asking import Asking

        person = Person("s", "user2", "User 2", demo.DOMAIN, frozenset())
        asking = Asking(person, "192.0.2.9", "https://d.example", datetime.now(UTC))
        return users.issue_code(asking, "Office").digits

    warm("GET /init, new phone", lambda n: event("GET", "/init", {"mac": f"0090aa{n:06x}"}))
    warm(
        "GET /init with a code",
        lambda n: event("GET", "/init", {"mac": f"0090bb{n:06x}", "code": code()}),
    )
    warm("POST /me/codes", lambda _: issue)
    warm(
        "GET /devices/update, redeem",
        lambda n: event(
            "GET", "/devices/update", {"sn": f"0090cc{n:06x}", "code": code(), "type": "IP232"}
        ),
    )
    with contextlib.redirect_stdout(engine.nowhere):
        claim = {"domain": demo.DOMAIN, "token": new_token(), "category": "Office"}
    warm(
        "GET /devices/update, admit",
        lambda n: event(
            "GET", "/devices/update", {"sn": f"0090dd{n:06x}", "type": "IP232", **claim}
        ),
    )
    warm("GET /devices/update, idle", lambda _: idle)


def new_token() -> str:
    """Set the demo domain's security token."""
    from chalicelib.identity import Person
    from chalicelib.roles import domains
    from chalicelib.roles.asking import Asking

    person = Person(
        "s", "platform", "Platform", demo.INSTANCE_DOMAIN, frozenset({"platform-admin"})
    )
    asking = Asking(person, "192.0.2.9", "https://d.example", datetime.now(UTC))
    token = "a security token of the benchmark"  # noqa: S105 - nobody else's
    domains.set_token(asking, demo.DOMAIN, "Office", token, None)
    return token


def registered(hw_id: str) -> tuple[str, dict[str, str]]:
    """Register a phone that has run everything; returns its token and what it reports."""
    from chalicelib.core.devices import Facts
    from chalicelib.identity import Person
    from chalicelib.roles import registrations, users
    from chalicelib.roles.asking import Asking

    now = datetime.now(UTC)
    person = Person("s", "user1", "User 1", demo.DOMAIN, frozenset())
    asking = Asking(person, "192.0.2.9", "https://d.example", now)
    digits = users.issue_code(asking, "Office").digits
    entry = read_entry(digits)
    facts = Facts(product="IP232", prot=demo.FIRMWARE_BUILD, boot=demo.BOOT_BUILD)
    visit = devices.Visit(hw_id, facts, entry, None, "192.0.2.9", "https://d.example/u")
    token = registrations.register(visit, entry, now).token if entry else ""
    device = device_table.find(hw_id)
    plan = plan_for(demo.DOMAIN, "Office", job_table.find_matching(demo.DOMAIN, "Office"))
    check = serial_of(device.registration_id, plan) if device else ""
    told = {"PROT": demo.FIRMWARE_BUILD, "BOOT": demo.BOOT_BUILD, "CHECK": check, "type": "IP232"}
    seen = devices.Visit(
        hw_id, Facts("IP232", "", told["PROT"], told["BOOT"], check), None, token, "192.0.2.9", ""
    )
    devices.update_script(seen, now + timedelta(seconds=1))
    return token, told


if __name__ == "__main__":
    main()
