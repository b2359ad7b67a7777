"""Both journeys through what is packaged: started by AWS's own client, from an empty directory."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.sync.client import connect

from local.phone import fetch_from, run_phone
from local.update_client import UpdateClient
from tests.bus import EventBridge, event_bridge
from tests.infra import runtime
from tests.infra.templates import package
from tests.local.conftest import running
from tests.local.served import Served
from tests.local.websockets_served import eventually

pytestmark = pytest.mark.slow
SECONDS = 20


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Package for the stage that is deployed first."""
    return package(tmp_path_factory.mktemp("package"))


@pytest.fixture(scope="module")
def bridge() -> Iterator[EventBridge]:
    """Serve an EventBridge."""
    with event_bridge() as made:
        yield made


@pytest.fixture(scope="module")
def served(packed: Path, bridge: EventBridge) -> Iterator[Served]:
    """Serve the packaged functions behind the gateways of one machine."""
    given = {"AWS_ENDPOINT_URL_EVENTBRIDGE": bridge.url}
    with running(given, ("tests.infra.packaged", str(packed))) as made:
        yield made


def provision(served: Served, code: str, number: int) -> None:
    """Let a simulated phone type a code and poll until nothing is left to do."""
    url = f"http://127.0.0.1:{served.port}/init"
    client = UpdateClient(f"00-90-33-7a-00-{number:02x}", "IP232", "127.0.0.1", url)
    assert run_phone(client, fetch_from("127.0.0.9"), code, pause_seconds=0.02).is_registered


def test_a_person_adds_a_phone_and_hears_of_it(served: Served, bridge: EventBridge) -> None:
    """Issue, route, redeem, configure, and tell over the websocket and the bus of the template."""
    token = served.token("user1")
    with connect(f"ws://127.0.0.1:{served.port}/ws") as socket:
        socket.send(json.dumps({"mt": "UserLogin", "token": token}))
        assert json.loads(socket.recv(SECONDS))["ok"] is True
        code = served.code(token)
        provision(served, code, 1)
        heard: set[str] = set()
        while not {"CodeChanged", "PhoneChanged"} <= heard:
            heard.add(json.loads(socket.recv(SECONDS))["mt"])
    (phone,) = served.phones(token)
    assert (phone["hw_id"], phone["state"]) == ("0090337a0001", "current")

    def told() -> list[tuple[str, str]]:
        entries = [entry for call in bridge.calls for entry in call]
        return [
            (entry["EventBusName"], entry["DetailType"])
            for entry in entries
            if "0090337a0001" in entry["Detail"]
        ]

    eventually(lambda: told() == [("default", "PhoneProvisioned")])


def test_an_administrator_rolls_phones_out(served: Served) -> None:
    """Make a rollout, hand its codes out as CSV and slips, and see every phone come."""
    admin = served.token("admin")
    body = {"name": "Packaged", "category": "Office"}
    made = json.loads(served.ask("POST", "/api/rollouts", token=admin, body=body)[2])
    path = f"/api/rollouts/{made['rollout_id']}"
    users = [f"user{number}" for number in range(3, 8)]
    assert served.ask("POST", f"{path}/entries", token=admin, body={"users": users})[0] == 200
    told = served.ask("GET", f"{path}/codes.csv", token=admin)[2].removeprefix("\ufeff")
    codes = [row["code"] for row in csv.DictReader(io.StringIO(told))]
    assert len(codes) == len(users)
    assert served.ask("GET", f"{path}/slips", token=admin)[2].count("<svg") == len(users)
    for number, code in enumerate(codes, 2):
        provision(served, code.replace(" ", ""), number)
    board = json.loads(served.ask("GET", path, token=admin)[2])
    assert board["counts"]["registered"] == len(users)


@pytest.mark.parametrize("path", ["/api/", "/api/openapi.json", "/api/config.json"])
def test_what_is_no_code_is_packaged_too(served: Served, path: str) -> None:
    """The pages and the description of the interface are files beside the code."""
    assert served.ask("GET", path)[0] == 200


@pytest.mark.parametrize("handler", ["app.every_minute", "app.nothing"])
def test_a_function_that_cannot_do_its_work_says_so(
    packed: Path, tmp_path: Path, handler: str
) -> None:
    """Without its tables and keys, or by a wrong name, it fails, and the harness sees that."""
    runtime.unzip(packed, tmp_path)
    nowhere = {"DYNAMODB_ENDPOINT": "http://127.0.0.1:9", "AWS_ACCESS_KEY_ID": "x"}
    nowhere |= {"AWS_SECRET_ACCESS_KEY": "x", "AWS_MAX_ATTEMPTS": "1"}
    with (
        runtime.running(tmp_path, handler, nowhere) as function,
        pytest.raises(runtime.FunctionError),
    ):
        function({"id": "1", "source": "aws.events"}, None)
