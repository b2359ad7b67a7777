"""What administrators see of a PBX's users, and how they have them read at once."""

from datetime import UTC, datetime
from typing import Any

import pytest

from chalicelib import settings
from chalicelib.roles import replications
from local.pbx import APP, PASSWORD, Pbx
from local.pbx_server import serve
from tests.http.service import Answer, Caller
from tests.http.test_problems import assert_problem

WHERE = "/domains/example.com/pbx"


@pytest.fixture
def settings_of(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Let a PBX be spoken to without TLS."""
    from dataclasses import replace
    from functools import cache

    used = replace(settings.current(), pbx_plain=True)
    monkeypatch.setattr(settings, "current", cache(lambda: used))
    return {"app_object": APP, "password": PASSWORD, "imports_users": True}


def replicate(caller: Caller, user: str = "admin", **more: Any) -> Answer:  # noqa: ANN401 - Caller.call's own
    """Have a PBX's users read at once."""
    return caller.call("POST", f"{WHERE}/replicate", user="" if more else user, **more)


def shown(caller: Caller) -> dict[str, Any]:
    """Show the PBX."""
    answer = caller.call("GET", WHERE, user="admin")
    assert answer.status == 200
    return dict(answer.json)


def read_now() -> None:
    """Let the schedule come."""
    from datetime import timedelta

    from chalicelib import pbx

    now = datetime.now(UTC)
    replications.run_due(pbx.connect, lambda: datetime.now(UTC), now + timedelta(minutes=1))


def test_users_come_from_the_pbx(caller: Caller, settings_of: dict[str, Any]) -> None:
    """What came of it is shown, and asking for it again is done once for a key."""
    known = Pbx()
    known.add_user("user1", cn="Anne", e164="4711")
    known.add_user("carol", cn="Carol", email="carol@example.com")
    with serve(known) as server:
        put = caller.call("PUT", WHERE, user="admin", body={**settings_of, "address": server.url})
        assert (put.json["imports_users"], put.json["replication"]) == (True, None)
        read_now()
        told = shown(caller)["replication"]
        assert (told["read"], told["added"], told["changed"], told["trouble"]) == (2, 1, 1, None)
        assert (told["unchanged"], told["invalid"]) == (0, 0)
        assert told["gone"] > 10
        assert told["at"] < told["retry_at"]
        users = caller.call("GET", "/users", user="admin").json["items"]
        (carol,) = [user for user in users if user["sip"] == "carol"]
        assert (carol["name"], carol["email"]) == ("Carol", "carol@example.com")
        body = {"app_object": APP, "address": server.url}
        assert caller.call("PUT", WHERE, user="admin", body=body).json["imports_users"] is True
        headers = {"Idempotency-Key": "once"}
        for _ in range(2):
            assert replicate(caller, token=caller.sign_in("admin"), headers=headers).status == 204
        read_now()
        assert shown(caller)["replication"]["unchanged"] == 2
        assert known.asked["ReplicateStart"] == 2


def test_trouble_is_shown(caller: Caller, settings_of: dict[str, Any]) -> None:
    """What is not known then is null; and who does not want users imported gets none."""
    with serve(Pbx()) as server:
        body = {**settings_of, "address": server.url, "password": "wrong", "imports_users": False}
        assert caller.call("PUT", WHERE, user="admin", body=body).status == 200
        read_now()
        told = shown(caller)["replication"]
    assert (told.pop("at") < told.pop("retry_at"), told) == (
        True,
        {
            "read": 0,
            "added": None,
            "changed": None,
            "unchanged": None,
            "invalid": None,
            "gone": None,
            "trouble": "password",
        },
    )


def test_a_table_that_is_too_long_is_told_from_one_that_stops(
    caller: Caller, settings_of: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is read again in an hour and not in a minute, and what came of it is here."""
    monkeypatch.setattr(replications, "READ_SECONDS", 0.4)
    known = Pbx(delay_seconds=0.02)
    for number in range(100):
        known.add_user(f"clerk{number:03}")
    with serve(known) as server:
        body = {**settings_of, "address": server.url}
        assert caller.call("PUT", WHERE, user="admin", body=body).status == 200
        read_now()
    told = shown(caller)["replication"]
    assert (told["trouble"], told["gone"]) == ("table too long", None)
    assert 0 < told["read"] == told["added"] < 100


def test_who_administers_users_may_have_them_read(
    caller: Caller, settings_of: dict[str, Any]
) -> None:
    """Where there is a PBX, whose settings are not theirs."""
    of_users = caller.sign_in("admin", roles=["users-admin"])
    found = assert_problem(replicate(caller, token=of_users), 404, "not-found")
    assert found["detail"] == "unknown PBX"
    body = {**settings_of, "address": "wss://pbx.example.com"}
    assert caller.call("PUT", WHERE, user="admin", body=body).status == 200
    assert replicate(caller, token=of_users).status == 204
    assert_problem(caller.call("GET", WHERE, token=of_users), 403, "not-allowed")
    assert_problem(replicate(caller, "user1"), 403, "not-allowed")
    elsewhere = caller.sign_in("admin", roles=["users-admin"], domain="other.example")
    assert_problem(replicate(caller, token=elsewhere), 403, "not-allowed")
