"""AppWebsocket on the served system: a real client, real phones, real cuts."""

import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from local import demo
from local.app_client import AppClient
from local.phone import fetch_from, run_phone
from local.update_client import UpdateClient
from tests.local.served import Served

pytestmark = pytest.mark.engine

PASSWORD = "dialtone"
PHONES = 40
SOON_SECONDS = 60


@pytest.fixture
def instance(served: Served) -> Iterator[AppClient]:
    """Log in as a Users instance of the demo domain."""
    with connected(served) as client:
        yield client


def connected(served: Served, info: str | None = None, path: str = "devices") -> AppClient:
    """Open a connection and log in."""
    client = AppClient.connect(f"ws://127.0.0.1:{served.port}/{demo.DOMAIN}/{path}")
    client.log_in("users", PASSWORD, domain=demo.DOMAIN, info=info)
    return client


def provision(served: Served, code: str, number: int) -> str:
    """Let a simulated phone type a code and poll until nothing is left to do."""
    url = f"http://127.0.0.1:{served.port}/init"
    client = UpdateClient(f"00-90-33-6a-00-{number:02x}", "IP232", "127.0.0.1", url)
    outcome = run_phone(client, fetch_from(f"127.0.0.{number + 1}"), code, pause_seconds=0.02)
    assert outcome.is_registered
    return f"0090336a00{number:02x}"


@pytest.mark.parametrize("info", [None, '{"cn" : "Müller \\u00e4", "x": [1.0e3]}'])
def test_a_phone_is_told_to_the_instance_that_asked_for_its_code(
    served: Served, info: str | None
) -> None:
    """With each layout of the digest, and under each form of the URL."""
    with connected(served, info, "devices/users.htm") as client:
        (office, *_) = client.ask("GetProvisioningCategories", type="PHONE")["categories"]
        issued = client.ask("GetProvisioningCode", category=office["name"], sip="user4")
        hw_id = provision(served, issued["code"], 1 if info else 2)
        told = client.wait_for("DeviceProvisioned", SOON_SECONDS)
    assert (told["device"]["hwId"], told["code"]) == (hw_id, issued["code"])
    assert told["src"] == issued["src"]


def test_the_next_instance_to_log_in_hears_of_what_it_missed(served: Served) -> None:
    """Nobody was there when the phone came."""
    with connected(served) as client:
        issued = client.ask("GetProvisioningCode", category="Office")
    hw_id = provision(served, issued["code"], 3)
    with connected(served) as client:
        told = client.wait_for("DeviceProvisioned", SOON_SECONDS)
    assert (told["device"]["hwId"], told["code"]) == (hw_id, issued["code"])


def test_a_page_hears_of_its_persons_phone(served: Served) -> None:
    """From the code to the phone, without asking again."""
    token = served.token("user5")
    with AppClient.connect(f"ws://127.0.0.1:{served.port}/ws") as page:
        page.sign_in(token)
        code = served.code(token)
        assert page.wait_for("CodeChanged", SOON_SECONDS)["code"]["state"] == "pending"
        hw_id = provision(served, code, 4)
        assert page.wait_for("CodeChanged", SOON_SECONDS)["code"]["state"] == "redeemed"
        states = []
        while "current" not in states:
            changed = page.wait_for("PhoneChanged", SOON_SECONDS)
            states.append(changed["phone"]["state"])
            assert changed["hw_id"] == hw_id
    # each message tells the state by then, so a fast phone may skip what was between
    assert states[-1] == "current"


def test_codes_of_profile_are_not_told_to_users_instances(
    served: Served, instance: AppClient
) -> None:
    """It hears of the phone whose code it asked for, which came later, and of no other."""
    provision(served, served.code(served.token("user6")), 5)
    hw_id = provision(served, instance.ask("GetProvisioningCode", category="Office")["code"], 6)
    assert instance.wait_for("DeviceProvisioned", SOON_SECONDS)["device"]["hwId"] == hw_id


def test_promise_4_every_phone_is_told_although_the_client_is_cut_again_and_again(
    served: Served,
) -> None:
    """In sequence, each at least once, while API Gateway ends the only connection at random."""
    with connected(served) as client:
        codes = [
            str(client.ask("GetProvisioningCode", category="Office")["code"]) for _ in range(PHONES)
        ]
    told: list[dict[str, Any]] = []
    done = threading.Event()
    listening = threading.Thread(target=_listen, args=(served, told, done))
    listening.start()
    try:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda n: _redeem(served, codes[n], n), range(PHONES)))
        waited = time.monotonic()
        while len({each["code"] for each in told}) < PHONES:
            assert time.monotonic() - waited < SOON_SECONDS, f"{len(told)} were told"
            time.sleep(0.05)
    finally:
        done.set()
        listening.join()
    numbers = [each["sequence"] for each in told]
    assert numbers == sorted(numbers)
    assert {each["code"] for each in told} == set(codes)
    assert len(set(numbers)) == PHONES


def _redeem(served: Served, code: str, number: int) -> None:
    script = served.redeem(code, f"0090336b00{number:02x}", f"127.0.1.{number + 1}")
    assert "device_token" in script


def _listen(served: Served, told: list[dict[str, Any]], done: threading.Event) -> None:
    """Listen as the only Users instance; the service cuts each connection after a few messages."""
    chance = random.Random(4)
    while not done.is_set():
        with connected(served) as client:
            patience = chance.randint(1, 15)
            while not done.is_set():
                try:
                    told.append(client.wait_for("DeviceProvisioned", 0.2))
                except TimeoutError:
                    continue
                except ConnectionClosed:
                    break
                patience -= 1
                if patience == 0:
                    # API Gateway ends a connection that sends it bytes, whatever is on its way
                    client.socket.send(b"cut")
