"""Automatic provisioning on the served system: many phones at once, rotation, strangers."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from local import demo
from local.phone import Outcome, fetch_from, run_phone
from local.update_client import UpdateClient
from tests.local.served import Served

FORM = "vars create UPDATE/PROVISIONING-CODE h prompt"
PHONES = 200
TOKEN = "abcdef#XYZ & 100% für uns"


def ask(served: Served, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401 - JSON
    """Make a request as the administrator of the demo domain."""
    path = f"/api/domains/{demo.DOMAIN}/{path}"
    status, _, text = served.ask(method, path, token=served.token("admin"), body=body)
    assert status in {200, 201, 204}, text
    return json.loads(text) if text else None


def phone(line: str, number: int) -> UpdateClient:
    """Make a phone that an administrator has sent a line to."""
    mac = f"00-90-33-7f-{number >> 8:02x}-{number & 255:02x}"
    client = UpdateClient(mac, "IP232", "127.0.0.1", "http://127.0.0.1:1/init")
    client.execute(f"{line}\nconfig write\nconfig activate", 12)
    return client


def run(client: UpdateClient) -> Outcome:
    """Let a phone poll until nothing is left to do."""
    return run_phone(client, fetch_from("127.0.0.77"), None, max_polls=30, pause_seconds=0.02)


def current_of(served: Served, category: str) -> set[str]:
    """List the devices that have confirmed everything, page by page, each once."""
    seen: list[str] = []
    after: str | None = ""
    while after is not None:
        more = f"&cursor={after}" if after else ""
        page = ask(served, "GET", f"devices?category={category}&state=current&limit=100{more}")
        seen += [item["hw_id"] for item in page["items"]]
        after = page["next"]
    assert len(seen) == len(set(seen))
    return set(seen)


@pytest.mark.engine
def test_two_hundred_phones_from_one_address_all_register_at_once(served: Served) -> None:
    """Without a code, with a token of odd characters; each gets its jobs and a token of its own."""
    wanted = {"category": "Office", "token": TOKEN, "keep_old_seconds": 0}
    line = ask(served, "PUT", "token", wanted)["update_client_line"]
    start = threading.Barrier(16)

    def one(number: int) -> Outcome:
        if number < start.parties:
            start.wait(30)
        return run(phone(line, number))

    with ThreadPoolExecutor(start.parties) as pool:
        outcomes = list(pool.map(one, range(PHONES)))
    assert [outcome.verdict for outcome in outcomes] == ["registered: yes, up to date"] * PHONES
    assert {outcome.client.running["prot"] for outcome in outcomes} == {demo.FIRMWARE_BUILD}
    assert {outcome.client.active["UP1"]["/poll"] for outcome in outcomes} == {"5"}
    tokens = {outcome.client.active_url.split("device_token=")[1] for outcome in outcomes}
    assert len(tokens) == PHONES
    wanted_ids = {outcome.client.mac.replace("-", "") for outcome in outcomes}
    for _ in range(5):
        late = wanted_ids - current_of(served, "Office")
        if not late:
            return
        # a poll that met a busy engine got a comment: a phone asks again a while later
        for outcome in outcomes:
            if outcome.client.mac.replace("-", "") in late:
                run(outcome.client)
    pytest.fail(f"not current: {sorted(late)}")


@pytest.mark.engine
def test_the_old_token_works_until_its_end_and_a_known_phone_gets_nothing(served: Served) -> None:
    """Rotation keeps the old line good for a while; nobody's MAC opens what is there."""
    first = ask(served, "PUT", "token", {"category": "Office"})["update_client_line"]
    rotated = {"category": "Office", "keep_old_seconds": 3}
    sheet = ask(served, "PUT", "token", rotated)
    until = time.monotonic() + 3
    assert run(phone(first, 1_001)).is_registered
    assert run(phone(sheet["update_client_line"], 1_002)).is_registered
    assert sheet["old_until"] is not None
    while time.monotonic() < until:
        time.sleep(0.05)
    late = run(phone(first, 1_003))
    assert (late.is_registered, late.client.shows_code_form) == (False, True)
    assert run(phone(sheet["update_client_line"], 1_003)).is_registered
    known = phone(sheet["update_client_line"], 1_002)
    _, script = fetch_from("127.0.0.77")(known.url())
    assert [line for line in script.splitlines() if not line.startswith("#")] == [FORM]
