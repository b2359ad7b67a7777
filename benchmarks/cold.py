"""Measures cold starts: the packaged function against a bare botocore handler beside it.

Both are started by AWS's own client from what was packaged, from an empty process to the first
answer, in turn. A package is read-only in Lambda, so nothing is compiled that came uncompiled.
"""

import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from botocore.session import Session

from benchmarks import engine
from benchmarks.table import Figure, Figures, Row
from benchmarks.visits import OK, Event, Visits
from local import dynamodb
from tests.infra import runtime

TITLE = "From an empty process to the first answer, packaged (ms)"
AGAINST = "bare botocore handler"
RUNS = 15
PHONE, PERSON = Figure(times=1.25), Figure(times=2.0)
FIGURES: Figures = {
    "`GET /health`": PHONE,
    "`GET /init`": PHONE,
    "`GET /devices/update`, idle": PHONE,
    "`GET /me`": PERSON,
    "`POST /me/codes`": PERSON,
}

BARE = """
import json
import os

import botocore.session

client = botocore.session.get_session().create_client(
    "dynamodb", endpoint_url=os.environ["DYNAMODB_ENDPOINT"]
)


def answer(event, context):
    client.get_item(
        TableName=os.environ["DEVICES_TABLE"],
        Key={"hw_id": {"S": "009033000001"}},
        ConsistentRead=True,
    )
    return {"statusCode": 200, "body": json.dumps({"status": "ok"})}
"""


def measure(service: engine.Service) -> Iterator[Row]:
    """Start each as often as the other, in turn."""
    visits = Visits(service)
    events = dict(
        zip(
            FIGURES,
            (visits.health(), visits.init(), visits.idle(), visits.me(), visits.issue()),
            strict=True,
        )
    )
    with tempfile.TemporaryDirectory() as folder, dynamodb.moto_engine() as aws:
        place = Path(folder)
        runtime.unzip(engine.packaged(), place)
        (place / "task" / "bare.py").write_text(BARE, encoding="utf-8")
        told = environment(service, aws)
        ours: dict[str, list[float]] = {name: [] for name in events}
        bare: dict[str, list[float]] = {name: [] for name in events}
        for _ in range(RUNS):
            for name, event in events.items():
                bare[name].append(started(place, "bare.answer", told, event))
                ours[name].append(started(place, "app.app", told, event))
    for name, figure in FIGURES.items():
        mine, raw = (statistics.median(times[name]) * 1000 for times in (ours, bare))
        yield Row(name, mine, raw, figure)


def environment(service: engine.Service, aws: str) -> dict[str, str]:
    """Tell a function what CloudFormation tells it; keys come from Secrets Manager (moto's)."""
    keys = json.loads(engine.KEYS.read_text(encoding="utf-8"))
    client = Session().create_client("secretsmanager", endpoint_url=aws)
    arns = {
        f"{name.upper()}_KEY_SECRET": client.create_secret(
            Name=f"bench-{name}", SecretString=json.dumps(keys[name])
        )["ARN"]
        for name in ("code", "vault")
    }
    return {
        **engine.named(engine.PREFIX),
        **arns,
        "DYNAMODB_ENDPOINT": service.endpoint,
        "ISSUES_BURST": os.environ["ISSUES_BURST"],
        "AWS_ENDPOINT_URL_SECRETS_MANAGER": aws,
        "ISSUER": service.issuer.url,
        "AUDIENCE": "dialtone",
        "AWS_ACCESS_KEY_ID": "packaged",
        "AWS_SECRET_ACCESS_KEY": "packaged",
        "AWS_ACCOUNT_ID_ENDPOINT_MODE": "disabled",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def started(place: Path, handler: str, told: Mapping[str, str], event: Event) -> float:
    """Start a function for one event; seconds from before its process to its answer.

    Raises:
        RuntimeError: it answered something else than was asked for.
    """
    began = time.perf_counter()
    with runtime.running(place, handler, told, subprocess.DEVNULL) as function:
        answer = function(event, None)
        took = time.perf_counter() - began
    if answer["statusCode"] not in OK:
        raise RuntimeError(f"{handler}: {answer}")
    return took
