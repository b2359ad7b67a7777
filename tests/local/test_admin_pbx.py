"""The administrators' commands for a PBX, against the served system and the PBX to test against."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from local import admin_screen, demo, pbx_server
from local.pbx import APP, PASSWORD, Pbx
from local.pbx_server import PbxServer
from tests.local.conftest import running
from tests.local.served import Served
from tests.local.test_admin import Admin, serving

DOMAIN = demo.DOMAIN
NOBODY_LISTENS = "wss://127.0.0.1:1"


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    """Serve what `make run` starts."""
    with running({}) as made:
        yield made


@pytest.fixture
def administrator(
    served: Served,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Admin]:
    """Sit an administrator down; the domain has no PBX before, nor after."""
    remove(served)
    yield Admin(served, tmp_path, monkeypatch, capsys)
    remove(served)


@pytest.fixture
def server() -> Iterator[PbxServer]:
    """Serve a PBX."""
    with pbx_server.serve(Pbx()) as made:
        yield made


def put(served: Served, url: str, password: str = PASSWORD, **more: Any) -> None:  # noqa: ANN401 - any JSON
    """Give the domain a PBX."""
    body = {"address": url, "app_object": APP, "password": password, **more}
    path = f"/api/domains/{DOMAIN}/pbx"
    assert served.ask("PUT", path, token=served.token("admin"), body=body)[0] == 200


def remove(served: Served) -> None:
    """Let the domain have no PBX, neither the demo's nor a test's."""
    served.ask("DELETE", f"/api/domains/{DOMAIN}/pbx", token=served.token("admin"))


def rows(out: str) -> list[list[str]]:
    """Read what a script would read."""
    return [line.split("\t") for line in out.splitlines()]


def test_a_pbx_is_shown_with_what_waits(administrator: Admin, served: Served) -> None:
    """Its password is only said to be set, and each phone says whose it is."""
    served.redeem(served.code(served.token("user1")), "009033ad0071", "127.0.0.71")
    put(served, NOBODY_LISTENS, tls_only=True)
    shown = administrator("pbx", "show", DOMAIN)
    assert shown.exit_code == 0, shown.err
    told = rows(shown.out)
    assert told[0] == ["setting", "value"]
    assert ["address", NOBODY_LISTENS] in told
    assert ["password", "set"] in told
    assert ["find users by", "sip"] in told
    assert ["flags", "tls_only"] in told
    assert ["hw_id", "user", "attempts", "reason"] in told
    assert ["009033ad0071", "user1", "0"] in [row[:3] for row in told]
    assert PASSWORD not in shown.out + shown.err


def test_a_test_tells_how_each_step_went(
    administrator: Admin, served: Served, server: PbxServer
) -> None:
    """It ends with 0 if the PBX can be spoken to, else with 1 and why not."""
    put(served, server.url)
    good = administrator("pbx", "check", DOMAIN)
    assert (good.exit_code, good.err) == (0, "")
    told = dict(rows(good.out))
    assert told["password"] == told["PbxAdminApi"] == "good"
    put(served, server.url, "wrong")
    refused = administrator("pbx", "check", DOMAIN)
    assert refused.exit_code == 1
    assert refused.err == "The PBX cannot be spoken to: password\n"
    told = dict(rows(refused.out))
    assert told["websocket"] == "good"
    assert told["password"] == "failed"
    assert told["PbxAdminApi"] == "not reached, or unknown"


def test_all_phones_are_handed_over_again(administrator: Admin, served: Served) -> None:
    """It has no result but that it was done, which the audit trail knows as well."""
    put(served, NOBODY_LISTENS)
    done = administrator("pbx", "redrive", DOMAIN)
    assert (done.exit_code, done.out) == (0, "")
    assert done.err.startswith("All phones are handed over once more")
    path = f"/api/domains/{DOMAIN}/audit?month={datetime.now(UTC):%Y-%m}"
    trail = json.loads(served.ask("GET", path, token=served.token("admin"))[2])["items"]
    assert trail[0]["action"] == "PBX told again"


@pytest.mark.parametrize("what", ["show", "check", "redrive"])
def test_without_a_pbx_or_the_right_nothing_is_done(
    administrator: Admin, served: Served, what: str
) -> None:
    """It is said which of the two is missing."""
    none = administrator("pbx", what, DOMAIN)
    assert (none.exit_code, none.out) == (1, "")
    assert "unknown PBX" in none.err
    refused = administrator("pbx", what, DOMAIN, token=served.token("user1"))
    assert (refused.exit_code, refused.out) == (3, "")
    assert "for a PBX, a devices-admin of its domain." in refused.err


def test_trouble_is_told_with_its_times(administrator: Admin) -> None:
    """Why, since when, how often it was tried, and when again."""
    at = "2036-11-24T12:00:00Z"
    trouble = {"reason": "certificate", "since": at, "attempts": 9, "retry_at": at}
    known = {
        "address": NOBODY_LISTENS,
        "app_object": APP,
        "has_password": True,
        "find_by": "name",
        **dict.fromkeys(("reverse_proxy", "tls_only", "no_mobility", "imports_users"), False),
        "trouble": trouble,
        "waiting_count": 0,
        "waiting": [],
    }

    class Plays(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = json.dumps(known).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with serving(Plays) as url:
        shown = administrator("pbx", "show", DOMAIN, "--url", f"{url}/api")
    time = admin_screen.moment(at)
    told = dict(rows(shown.out))
    assert told["trouble"] == f"certificate, since {time}, attempts 9, again at {time}"
    assert told["flags"] == "none"
    assert "hw_id" not in told
