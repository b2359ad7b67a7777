"""A service with demo data, whose output is kept and searched for secrets."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING

import botocore.endpoint
import pytest

from chalicelib import identity, observability, sending, settings
from chalicelib.api import devices, phones, profile, rollouts
from chalicelib.sockets import connections as sockets
from chalicelib.sockets import push
from local.api_gateway import Context
from local.identity import AUDIENCE
from tests import world
from tests.conftest import use
from tests.http.service import ISSUER_URL, Caller, new_issuer
from tests.journeys.clients import Service
from tests.wires import Wires

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


@pytest.fixture
def service(
    table_names: dict[str, str],
    client: "DynamoDBClient",
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Service]:
    """Serve; nothing waits but the clock."""
    issuer = new_issuer()
    wires = Wires(monkeypatch)
    used = replace(
        settings.current(),
        issuer=ISSUER_URL,
        audience=AUDIENCE,
        emit_metrics=True,
        log_level="DEBUG",
    )
    use(used, monkeypatch)
    documents = {f"{ISSUER_URL}{path}": body for path, body in issuer.documents().items()}
    monkeypatch.setattr(identity, "_get_json", documents.__getitem__)
    identity.forget()
    # botocore's pauses between its own tries; and a function that died has no time left
    monkeypatch.setattr(botocore.endpoint, "time", SimpleNamespace(sleep=lambda _: None))
    monkeypatch.setattr(Context, "get_remaining_time_in_millis", lambda _: 1)
    world.seed(datetime.now(UTC))
    caller = Caller(issuer)
    made = Service(caller, wires, client, table_names["notifications"])
    monkeypatch.setattr(
        sending, "post", lambda to, text: made.wire.post(to, lambda: wires.post(to, text))
    )
    for place in (sockets, push):
        monkeypatch.setattr(place, "now", made.now)
    for module in (phones, profile, rollouts, devices):
        monkeypatch.setattr(module.views, "_clock", made.now)
    observability.forget()
    yield made
    observability.forget()
    caller.close()
    text = "".join(capsys.readouterr())
    assert '"route":"/devices/update"' in text
    assert {secret[:4] for secret in made.secrets if secret in text} == set()
    dumped = world.dump(client, table_names)
    assert {secret[:4] for secret in made.secrets if secret in dumped} == set()


@pytest.fixture
def is_thorough(request: pytest.FixtureRequest) -> bool:
    """Tell whether there is time for every call: on AWS's own engine, not on moto."""
    return bool(request.config.getoption("--engine"))
