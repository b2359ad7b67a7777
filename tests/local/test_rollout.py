"""A rollout on the served system: a real page's socket, real phones, the list until its end."""

import csv
import io
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from local.app_client import AppClient
from local.phone import fetch_from, run_phone
from local.update_client import UpdateClient
from tests.local.served import Served

pytestmark = pytest.mark.engine

USERS = [f"user{number}" for number in range(1, 21)]
SOON_SECONDS = 60


def ask(served: Served, method: str, path: str, body: object = None) -> str:
    """Call as the administrator."""
    token = served.token("admin")
    status, _, text = served.ask(method, f"/api{path}", token=token, body=body)
    assert status in {200, 201}, text
    return text


def provision(served: Served, code: str, number: int) -> str:
    """Let a simulated phone type a code and poll until nothing is left to do."""
    url = f"http://127.0.0.1:{served.port}/init"
    client = UpdateClient(f"00-90-33-6d-00-{number:02x}", "IP232", "127.0.0.1", url)
    outcome = run_phone(client, fetch_from(f"127.0.0.{number + 1}"), code, pause_seconds=0.02)
    assert outcome.is_registered
    return f"0090336d00{number:02x}"


def test_twenty_phones_of_a_rollout_register_at_once(served: Served) -> None:
    """A signed-in administrator hears of every entry, and the list says so in the end."""
    with AppClient.connect(f"ws://127.0.0.1:{served.port}/ws") as page:
        page.sign_in(served.token("admin"))
        wanted = {"name": "Autumn", "category": "Office", "users": USERS}
        rollout_id = json.loads(ask(served, "POST", "/rollouts", wanted))["rollout_id"]
        told = {entry["sip"]: entry for entry in listen(page, rollout_id, "pending")}
        assert sorted(told) == sorted(USERS)
        text = ask(served, "GET", f"/rollouts/{rollout_id}/codes.csv")
        rows = list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline="")))
        with ThreadPoolExecutor(8) as hands:
            numbers = range(len(rows))
            hw_ids = list(hands.map(lambda at: provision(served, rows[at]["code"], at), numbers))
        registered = {entry["sip"]: entry for entry in listen(page, rollout_id, "registered")}
    assert sorted(registered) == sorted(USERS)
    shown = json.loads(ask(served, "GET", f"/rollouts/{rollout_id}"))
    assert shown["counts"] == {"pending": 0, "registered": 20, "expired": 0, "revoked": 0}
    assert {entry["device"]["hw_id"] for entry in shown["items"]} == set(hw_ids)
    assert {entry["code_id"] for entry in shown["items"]} == {
        entry["code_id"] for entry in told.values()
    }


def listen(page: AppClient, rollout_id: str, state: str) -> list[dict[str, Any]]:
    """Listen until every user's entry was told in a state."""
    entries: list[dict[str, Any]] = []
    while {entry["sip"] for entry in entries} < set(USERS):
        changed = page.wait_for("RegistrationChanged", SOON_SECONDS)
        assert changed["rollout_id"] == rollout_id
        entries += [entry for entry in changed["entries"] if entry["state"] == state]
    return entries
