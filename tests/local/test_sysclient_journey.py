"""Simulated phones with a websocket of their own, on the served system, from box to dial tone."""

import asyncio
import json
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from chalicelib.core import scripts
from local import demo, serve, tables
from local.app_client import AppClient
from local.phone import fetch_from, run_phone
from local.sysclient import Sysclient
from local.sysclient_connection import Pace, SysclientConnection
from local.update_client import UpdateClient
from tests.local.conftest import running
from tests.local.served import Served

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

DOMAIN = demo.SYSCLIENT_DOMAIN
SOON_SECONDS = 60
PACE = Pace(first_pause=0.2, longest_pause=0.5, idle=0.3, restart=0.1)


@pytest.fixture
def kept(engine: str, client: "DynamoDBClient") -> Iterator[dict[str, str]]:
    """Let a service keep its data over a restart."""
    yield {"DYNAMODB_ENDPOINT": engine}
    for concept in tables.definitions():
        client.delete_table(TableName=f"{serve.PREFIX}{concept}")


def boxed(served: Served, number: int) -> Sysclient:
    """Take a phone from its box."""
    url = f"http://127.0.0.1:{served.port}/init"
    return Sysclient(UpdateClient(f"00-90-33-7a-00-{number:02x}", "IP232", "127.0.0.1", url))


async def staying(phone: Sysclient, served: Served, then: Callable[[], None]) -> None:
    """Let a phone connect, do its jobs and restart, until it is up to date; then do something."""
    connection = SysclientConnection(phone, pace=PACE)
    running = asyncio.create_task(connection.run())
    try:
        async with asyncio.timeout(SOON_SECONDS):
            while True:
                is_settled = await connection.settle(0.3, 1)
                state = (await asyncio.to_thread(device, served, phone)).get("state")
                if is_settled and state == "current":
                    break
        await asyncio.to_thread(then)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def online(phone: Sysclient, served: Served, then: Callable[[], None] = lambda: None) -> None:
    """Let a phone be online until it is up to date, and do something meanwhile."""
    asyncio.run(staying(phone, served, then))


def device(served: Served, phone: Sysclient) -> dict[str, Any]:
    """Look a phone up as an administrator."""
    token = served.token("sysadmin")
    path = f"/api/domains/{DOMAIN}/devices/{phone.hw_id}"
    return dict(json.loads(served.ask("GET", path, token=token)[2]))


def expected(served: Served, phone: Sysclient) -> set[str]:
    """Ask why it gets which jobs; tell the types of those that it has done."""
    token = served.token("sysadmin")
    path = f"/api/domains/{DOMAIN}/devices/{phone.hw_id}/explain"
    told = json.loads(served.ask("GET", path, token=token)[2])
    return {job["type"] for job in told["items"] if job["standing"] == "confirmed"}


def is_configured(phone: Sysclient) -> None:
    """Hold that a phone really keeps what the jobs of its domain say."""
    assert phone.client.running == {"prot": demo.FIRMWARE_BUILD, "boot": demo.BOOT_BUILD}
    assert phone.client.written["NTP0"] == {"/addr": "time.example.com"}
    assert phone.client.written["PHONE"] == {
        "/name": phone.hw_id,
        "/gk-addr": "pbx.example.com",
        "/pwd": "demo-registration",
    }
    assert phone.admin_password == "demo-admin"


@contextmanager
def instance(served: Served) -> Iterator[AppClient]:
    """Log in as a Users instance of the domain."""
    with AppClient.connect(f"ws://127.0.0.1:{served.port}/{DOMAIN}/devices") as client:
        client.log_in("users", "dialtone", domain=DOMAIN)
        yield client


def seen(client: AppClient, phone: Sysclient) -> dict[str, Any]:
    """Look a phone up as a Users instance."""
    return next(
        found for found in client.ask("GetDevices")["devices"] if found["hwId"] == phone.hw_id
    )


def test_a_phone_goes_from_its_box_to_a_dial_tone_and_returns(kept: dict[str, str]) -> None:
    """By its code; the instance that asked for it hears of it; a new process knows it again."""
    with running(kept) as served:
        phone = boxed(served, 1)
        with instance(served) as users:
            code = users.ask("GetProvisioningCode", category="Office", sip="sysuser1")["code"]
            run_phone(phone.client, fetch_from(None), code, pause_seconds=0.02)
            assert phone.client.sysclient_url.startswith("ws://127.0.0.1:")
            online(phone, served)
            told = users.wait_for("DeviceProvisioned", SOON_SECONDS)
            assert (told["device"]["hwId"], told["code"]) == (phone.hw_id, code)
        assert [found["hw_id"] for found in served.phones(served.token("sysuser1"))] == [
            phone.hw_id
        ]
        assert device(served, phone)["state"] == "current"
        assert expected(served, phone) == {"software", "ntp", "phone", "admin-password"}
        is_configured(phone)
        done = phone.jobs_done
    with running(kept) as served:
        address = f"ws://127.0.0.1:{served.port}/{DOMAIN}/devices/sysclients"
        phone.client.execute(f"{scripts.sysclient(address).text}\nconfig write\nconfig activate", 0)
        heard: list[str] = []
        phone.say = heard.append
        online(phone, served)
        assert "← challenge" in heard
        assert phone.jobs_done == done
        assert device(served, phone)["state"] == "current"


def test_a_phone_is_provisioned_by_its_address_and_shows_its_pages(served: Served) -> None:
    """Nobody types anything; a Users instance sees it online, and reads its configuration."""
    phone = boxed(served, 2)
    url = demo.provisioning_url(f"127.0.0.1:{served.port}")
    pointed = f"{scripts.sysclient(url).text}\nconfig write\nconfig activate"
    phone.client.execute(pointed, 0)
    read: list[tuple[str, str]] = []

    def look(users: AppClient) -> None:
        found = seen(users, phone)
        assert found["online"] is True
        url = f"{found['uri']}cfg.txt"
        with urllib.request.urlopen(url, timeout=30) as page:  # noqa: S310 - of this machine
            read.append((page.headers["Content-Security-Policy"], page.read().decode()))

    with instance(served) as users:
        online(phone, served, lambda: look(users))
        for _ in range(100):
            found = seen(users, phone)
            if not found["online"]:
                break
        assert (found["online"], found["uri"]) == (False, "")
    is_configured(phone)
    ((policy, configuration),) = read
    assert policy.startswith("sandbox")
    assert "NTP0" in configuration
