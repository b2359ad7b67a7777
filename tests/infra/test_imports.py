"""Cold starts: what happens at import, and what the phones' path loads."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent

WATCH = """
import os, pkgutil, sys
import aws_lambda_powertools, botocore.session, chalice.app, pydantic, pynamodb.models, ulid
import pynamodb.attributes, pynamodb.connection, pynamodb.transactions

found = []

def outside():
    frame = sys._getframe(2)
    while frame and frame.f_code.co_filename.endswith(("os.py", "_collections_abc.py")):
        frame = frame.f_back
    name = frame.f_code.co_filename if frame else ""
    return name if ROOT in name and ".venv" not in name else ""

class Watched(type(os.environ)):
    def __getitem__(self, key):
        if outside():
            found.append(f"environment {key} in {outside()}")
        return super().__getitem__(key)

def hook(event, arguments):
    if event.startswith("socket.") and event not in ("socket.gethostname",):
        found.append(f"{event} {arguments}")
    if event == "open" and not str(arguments[0]).endswith((".py", ".pyc")):
        if "c" in str(arguments[1] or "") or outside():
            found.append(f"open {arguments[0]}")

os.environ.__class__ = Watched
sys.addaudithook(hook)
import app, chalicelib
for module in pkgutil.walk_packages(chalicelib.__path__, "chalicelib."):
    __import__(module.name)
print(found)
"""

COLD = """
import asyncio, json, sys
from app import app
STORE = ("botocore", "pynamodb", "chalicelib.sockets")
store = [name for name in STORE if name in sys.modules]
from local.api_gateway import Context

def get(path, query):
    return app({
        "resource": path, "path": path, "httpMethod": "GET", "headers": {},
        "multiValueHeaders": {},
        "queryStringParameters": None,
        "multiValueQueryStringParameters": {name: [value] for name, value in query.items()} or None,
        "pathParameters": None, "stageVariables": None, "body": None, "isBase64Encoded": False,
        "requestContext": {
            "resourcePath": path, "httpMethod": "GET", "requestId": "r", "stage": "api",
            "domainName": "d.example", "identity": {"sourceIp": "192.0.2.1"},
        },
    }, Context("r"))

HEAVY = ("pydantic", "boto3", "cryptography", "jwt")
HEAVY += ("chalicelib.sockets.outward", "chalicelib.roles.announcements", "chalicelib.event_bus")
answers = [get("/health", {}), get("/init", {"mac": "009033000001"})]
answers.append(get("/devices/update", {"sn": "009033000001", "device_token": TOKEN}))
print(json.dumps({
    "answers": [answer["body"] for answer in answers],
    "heavy": [name for name in HEAVY if name in sys.modules],
    "store": store,
}))
"""


def run(script: str, **values: str) -> str:
    """Run a script in a fresh interpreter."""
    lines = [f"{name} = {value!r}" for name, value in values.items()]
    done = subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-c", "\n".join([*lines, script])],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env=dict(os.environ),
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_opens_nothing_and_reads_no_environment() -> None:
    """Every module of ours, watched by an audit hook and a watched environment."""
    assert run(WATCH, ROOT=str(ROOT)).strip() == "[]"


def test_the_phones_path_loads_nothing_heavy(
    engine: str,
    table_names: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Health, /init without a code and an idle poll, from a cold start."""
    from dataclasses import replace
    from datetime import UTC, datetime

    from chalicelib.roles import devices
    from tests import world
    from tests.roles.test_devices import done_facts

    now = datetime.now(UTC)
    world.seed(now)
    token = world.redeem(world.issue(now=now).digits, now=now).token
    devices.update_script(world.visit(None, token=token, facts=replace(done_facts())), now)
    for concept, name in table_names.items():
        monkeypatch.setenv(f"{concept.upper()}_TABLE", name)
    monkeypatch.setenv("DYNAMODB_ENDPOINT", engine)
    told = json.loads(run(COLD, TOKEN=token).splitlines()[-1])
    assert told["heavy"] == []
    assert told["store"] == []
    assert "vars create" in told["answers"][1]
    assert told["answers"][2].startswith("# dialtone: ")
