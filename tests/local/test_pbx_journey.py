"""The last step of the journey, served: the phone is a device of its user at the PBX."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from local import demo, dynamodb, pbx_server
from local.pbx import Pbx
from local.pbx_server import PbxServer
from tests.local.conftest import running
from tests.local.served import Served

SECONDS = 20.0
QUICK = {"SCHEDULE_SECONDS": "0.5", "ISSUES_BURST": "100", "GUESSES_BURST": "100"}
"""Minutes are short here, and a user may have many phones."""

MANY = 50
DONE = {"state": "done", "reason": None}


class Owner:
    """A PBX that can be stopped and started where it was."""

    def __init__(self) -> None:
        self.pbx = Pbx()
        pbx_server.seed(self.pbx)
        self._server = PbxServer(self.pbx, "127.0.0.1", 0, None)
        self.port = self._server.port

    def stop(self) -> None:
        """Cut it off."""
        self._server.stop()

    def start(self) -> None:
        """Start it again, with all that it knew."""
        self._server = PbxServer(self.pbx, "127.0.0.1", self.port, None)

    def hw_ids(self, sip: str) -> list[str]:
        """Tell which phones a user has there."""
        return [entry["hw"] for entry in self.pbx.devices_of(sip)]


@pytest.fixture(scope="module")
def owner() -> Iterator[Owner]:
    """Start a PBX with the demo people."""
    made = Owner()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def served(owner: Owner) -> Iterator[Served]:
    """Serve what `make run` starts, with this PBX."""
    with running({**QUICK, "PBX_PORT": str(owner.port)}) as made:
        yield made


@pytest.fixture
def fresh(owner: Owner) -> None:
    """Begin where the users have no phones at the PBX."""
    for person in demo.PEOPLE:
        if person.domain == demo.DOMAIN and not person.roles:
            owner.pbx.put_devices(person.sip, [])


def soon(is_so: Callable[[], object], seconds: float = SECONDS) -> None:
    """Wait for what the service is about to do."""
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def add(served: Served, sip: str, hw_id: str) -> str:
    """Let a phone come to a user, from a network of its own; tells its hw_id."""
    source = f"127.0.0.{2 + int(hw_id, 16) % 250}"
    script = served.redeem(served.code(served.token(sip)), hw_id, source)
    assert "device_token" in script
    return hw_id


def shown(served: Served, sip: str, hw_id: str) -> Any:  # noqa: ANN401 - JSON
    """Tell what Profile shows of a phone and its PBX."""
    (phone,) = [one for one in served.phones(served.token(sip)) if one["hw_id"] == hw_id]
    return phone["pbx"]


@pytest.mark.usefixtures("fresh")
def test_a_phone_is_at_the_pbx_within_seconds(served: Served, owner: Owner) -> None:
    """Once, with the domain's flags; Profile shows it, and who gives it up loses it there."""
    hw_id = add(served, "user1", "00903303aa01")
    soon(lambda: owner.hw_ids("user1") == [hw_id], 5)
    assert owner.pbx.devices_of("user1") == [
        {"hw": hw_id, "text": "IP232", "app": "phone", "trusted": True}
    ]
    soon(lambda: shown(served, "user1", hw_id) == DONE)
    status, _, _ = served.ask("DELETE", f"/api/me/phones/{hw_id}", token=served.token())
    assert status == 204
    soon(lambda: owner.hw_ids("user1") == [])


@pytest.mark.usefixtures("fresh")
def test_a_pbx_that_comes_back_gets_what_it_missed_in_order(served: Served, owner: Owner) -> None:
    """Meanwhile phones work, and show why they wait; Devices shows since when."""
    there = add(served, "user2", "00903303bb00")
    soon(lambda: owner.hw_ids("user2") == [there])
    owner.stop()
    admin = served.token("admin")
    try:
        missed = [add(served, "user2", f"00903303bb0{number}") for number in (3, 1, 2)]
        other = add(served, "user3", "00903303bb04")
        waits = {"state": "pending", "reason": "no connection"}
        for sip, hw_id in (("user2", missed[0]), ("user2", missed[-1]), ("user3", other)):
            soon(lambda sip=sip, hw_id=hw_id: shown(served, sip, hw_id) == waits)  # type: ignore[misc]
        status, _, _ = served.ask("DELETE", f"/api/me/phones/{there}", token=served.token("user2"))
        assert status == 204
        _, _, body = served.ask("GET", f"/api/domains/{demo.DOMAIN}/pbx", token=admin)
        assert json.loads(body)["trouble"]["reason"] == "no connection"
        assert json.loads(body)["waiting_count"] >= 4
    finally:
        owner.start()
    soon(lambda: owner.hw_ids("user2") == missed and owner.hw_ids("user3") == [other])
    soon(lambda: shown(served, "user3", other) == DONE)
    path = f"/api/domains/{demo.DOMAIN}/pbx"
    soon(lambda: json.loads(served.ask("GET", path, token=admin)[2])["waiting_count"] == 0)
    assert json.loads(served.ask("GET", path, token=admin)[2])["trouble"] is None


@pytest.mark.usefixtures("fresh")
def test_fifty_phones_of_one_user_at_once_are_all_there(served: Served, owner: Owner) -> None:
    """While an administrator works at the PBX."""
    token = served.token("user4")
    codes = [served.code(token) for _ in range(MANY)]
    by_hand = {"hw": "softphone-4", "text": "by hand"}
    hw_ids = [f"00903303cc{number:02x}" for number in range(MANY)]

    def arrive(number: int) -> None:
        served.redeem(codes[number], hw_ids[number], f"127.0.0.{2 + number}")
        if number == MANY // 2:
            owner.pbx.put_devices("user4", [*owner.pbx.devices_of("user4"), by_hand])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(arrive, range(MANY)))
    soon(lambda: len(owner.hw_ids("user4")) == MANY + 1)
    assert sorted(owner.hw_ids("user4")) == [*hw_ids, "softphone-4"]
    soon(
        lambda: (
            {json.dumps(phone["pbx"]) for phone in all_phones(served, token)} == {json.dumps(DONE)}
        )
    )


def all_phones(served: Served, token: str) -> list[dict[str, Any]]:
    """List a person's phones, all of them."""
    _, _, body = served.ask("GET", "/api/me/phones?limit=100", token=token)
    return list(json.loads(body)["items"])


@pytest.mark.usefixtures("fresh")
def test_a_refusal_is_shown_and_mended(served: Served, owner: Owner) -> None:
    """By whoever administers the PBX; and told again on demand."""
    owner.pbx.lock("user5")
    hw_id = add(served, "user5", "00903303dd01")
    refused = {"state": "failed", "reason": "refused: object is locked"}
    soon(lambda: shown(served, "user5", hw_id) == refused)
    owner.pbx.lock("user5", locked=False)
    admin = served.token("admin")
    path = f"/api/domains/{demo.DOMAIN}/pbx/redrive"
    assert served.ask("POST", path, token=admin, body={})[0] == 204
    soon(lambda: owner.hw_ids("user5") == [hw_id])


@contextmanager
def process(endpoint: str, pbx_port: int, port: int) -> Iterator[Served]:
    """Start the server, and end it as a machine that loses its power does."""
    started = subprocess.Popen(
        [sys.executable, "-m", "local.run"],
        env={
            **os.environ,
            **QUICK,
            "DYNAMODB_ENDPOINT": endpoint,
            "PORT": str(port),
            "PBX_PORT": str(pbx_port),
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    made = Served(port)

    def is_up() -> bool:
        try:
            return made.ask("GET", "/api/health")[0] == 200
        except ConnectionError:
            return False

    soon(is_up, 60)
    try:
        yield made
    finally:
        started.send_signal(signal.SIGKILL)
        started.wait()


@pytest.mark.usefixtures("fresh")
def test_a_server_that_is_killed_at_any_moment_loses_nothing(owner: Owner) -> None:
    """What it had not done, the next one does, within seconds and once."""
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    expected: list[str] = []
    chance = random.Random(9)
    with dynamodb.moto_engine() as endpoint:
        for number in range(3):
            with process(endpoint, owner.port, port) as made:
                soon(lambda: owner.hw_ids("user6") == expected)
                expected.append(add(made, "user6", f"00903303ee0{number}"))
                time.sleep(chance.uniform(0, 0.3))
        with process(endpoint, owner.port, port) as made:
            soon(lambda: owner.hw_ids("user6") == expected)
            for hw_id in expected:
                soon(lambda hw_id=hw_id: shown(made, "user6", hw_id) == DONE)  # type: ignore[misc]
