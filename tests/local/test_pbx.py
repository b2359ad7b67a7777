"""The PBX to test against, over real websockets."""

import json
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, InvalidStatus
from websockets.sync.client import connect

from local.app_client import AppClient, digest
from local.pbx import (
    ADMIN,
    APP,
    LOCKED,
    MALFORMED,
    NOT_FOUND,
    PASSWORD,
    TABLE_USERS,
    TAKEN,
    AppObject,
    Pbx,
)
from local.pbx_conversation import BROKEN
from local.pbx_server import PbxServer, seed, serve
from tests.local import self_signed
from tests.local.websockets_served import eventually

PHONE = {"hw": "009033460af2", "text": "IP222", "app": "phone"}
OTHER = {"hw": "009033460af3", "text": "by hand", "app": "phone", "no-filter": True}
SECONDS = 5.0
QUIET_SECONDS = 0.05


@contextmanager
def client_of(server: PbxServer, **login: Any) -> Iterator[AppClient]:  # noqa: ANN401 - AppClient's
    """Log in."""
    with AppClient.connect(server.url, SECONDS) as client:
        assert client.log_in(APP, PASSWORD, **login)["ok"]
        yield client


@pytest.fixture
def server() -> Iterator[PbxServer]:
    """Serve a PBX with one user."""
    pbx = Pbx()
    pbx.add_user("user1", cn="User 1", e164="101", email="user1@example.com")
    with serve(pbx) as made:
        yield made


@pytest.fixture
def pbx(server: PbxServer) -> Pbx:
    return server.pbx


@pytest.fixture
def client(server: PbxServer) -> Iterator[AppClient]:
    """Log in, and leave nothing behind that nobody has waited for."""
    with client_of(server) as made:
        made.wait_for("PbxInfo")
        yield made


def get(client: AppClient, **members: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON
    return client.ask("GetObject", api=ADMIN, **members)


def update(client: AppClient, **members: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON
    return client.ask("UpdateObject", api=ADMIN, **members)


def replicate(client: AppClient, **members: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - any JSON
    """Fetch a whole table."""
    client.ask("ReplicateStart", api=TABLE_USERS, **members)
    rows = []
    while "columns" in (answer := client.ask("ReplicateNext", api=TABLE_USERS)):
        rows.append(answer["columns"])
    return rows


def test_a_login_is_answered_and_the_pbx_tells_of_itself(server: PbxServer) -> None:
    with AppClient.connect(server.url, SECONDS) as client:
        answer = client.log_in(APP, PASSWORD, "d", "s", "g", "n", '{"b":1,"a":1.0}')
        assert answer == {
            "mt": "AppLoginResult",
            "src": "src1",
            "ok": True,
            "app": APP,
            "domain": "example.com",
        }
        assert client.wait_for_any() == {
            "mt": "PbxInfo",
            "domain": "example.com",
            "pbx": "pbx",
            "pbxDns": "pbx.example.com",
            "apis": ["PbxAdminApi", "PbxTableUsers", "Services"],
        }


def test_a_pbx_may_tell_nothing_of_itself(server: PbxServer, pbx: Pbx) -> None:
    pbx.has_pbx_info = False
    with client_of(server) as client, pytest.raises(TimeoutError):
        client.wait_for_any(QUIET_SECONDS)


@pytest.mark.parametrize(("app", "password"), [(APP, "wrong"), ("other", PASSWORD), (APP, "")])
def test_a_wrong_login_is_refused_and_ends_the_connection(
    server: PbxServer, app: str, password: str
) -> None:
    with AppClient.connect(server.url, SECONDS) as client:
        assert client.log_in(app, password) == {"mt": "AppLoginResult", "src": "src1"}
        with pytest.raises(ConnectionClosed):
            client.wait_for_any(SECONDS)


def test_a_challenge_is_digits_and_good_once(server: PbxServer) -> None:
    with AppClient.connect(server.url, SECONDS) as client:
        challenge = client.ask("AppChallenge")["challenge"]
        assert re.fullmatch(r"\d{16}", challenge)
        proof = digest((APP, "", "", "", ""), None, challenge, PASSWORD)
        assert client.ask("AppLogin", app=APP, digest=proof)["ok"]
        assert "ok" not in client.ask("AppLogin", app=APP, digest=proof)


def test_a_login_without_a_challenge_is_refused(server: PbxServer) -> None:
    with AppClient.connect(server.url, SECONDS) as client:
        proof = digest((APP, "", "", "", ""), None, "", PASSWORD)
        assert "ok" not in client.ask("AppLogin", app=APP, digest=proof)


@pytest.mark.parametrize(
    "said",
    [
        '{"mt":"GetObject","api":"PbxAdminApi","h323":"user1"}',
        '{"mt":"KeepAlive"}',
        "no JSON",
        "[]",
        '{"api":"PbxAdminApi"}',
    ],
)
def test_whoever_is_not_logged_in_is_not_listened_to(server: PbxServer, said: str) -> None:
    with AppClient.connect(server.url, SECONDS) as client:
        client.send(said)
        with pytest.raises(ConnectionClosed):
            client.wait_for_any(SECONDS)


@pytest.mark.parametrize("key", ["h323", "cn", "guid"])
def test_an_object_is_found_by_each_of_its_names(client: AppClient, pbx: Pbx, key: str) -> None:
    pbx.put_devices("user1", [OTHER])
    user = pbx.user("user1")
    assert get(client, **{key: getattr(user, key)}) == {
        "mt": "GetObjectResult",
        "api": ADMIN,
        "src": "src2",
        "guid": user.guid,
        "h323": "user1",
        "cn": "User 1",
        "dn": "User 1",
        "e164": "101",
        "email": "user1@example.com",
        "devices": [OTHER],
    }
    assert re.fullmatch("[0-9a-f]{32}", user.guid)


@pytest.mark.parametrize("named", [{"h323": "nobody"}, {"guid": "0" * 32}, {}])
def test_an_object_that_is_not_there_is_an_error(client: AppClient, named: dict[str, str]) -> None:
    answer = get(client, **named)
    assert answer["error"] == NOT_FOUND
    assert "guid" not in answer


def test_a_templates_devices_are_told_unless_they_are_not_wanted(
    client: AppClient, pbx: Pbx
) -> None:
    pbx.add_user("user2", template_devices=[OTHER])
    pbx.put_devices("user2", [PHONE])
    assert get(client, h323="user2")["devices"] == [PHONE, OTHER]
    assert get(client, h323="user2", template="without")["devices"] == [PHONE]


def test_an_update_changes_what_it_brings_and_nothing_else(client: AppClient, pbx: Pbx) -> None:
    before = pbx.user("user1")
    answer = update(client, guid=before.guid, devices=[PHONE], dn="Anna")
    assert answer == {
        "mt": "UpdateObjectResult",
        "api": ADMIN,
        "src": "src2",
        "guid": before.guid,
    }
    after = pbx.user("user1")
    assert (after.devices, after.dn) == ([PHONE], "Anna")
    assert (after.h323, after.cn, after.e164) == (before.h323, before.cn, before.e164)
    update(client, guid=before.guid, e164="102")
    assert pbx.devices_of("user1") == [PHONE]
    update(client, guid=before.guid, devices=[])
    assert pbx.devices_of("user1") == []


def test_an_update_by_cn_changes_and_with_a_question_mark_creates(
    client: AppClient, pbx: Pbx
) -> None:
    guid = pbx.user("user1").guid
    assert update(client, guid="*", cn="User 1", devices=[PHONE])["guid"] == guid
    assert update(client, guid="?", cn="User 1", e164="9")["guid"] == guid
    assert (pbx.devices_of("user1"), pbx.user("user1").e164) == ([PHONE], "9")
    assert update(client, guid="*", cn="User 2")["error"] == NOT_FOUND
    made = update(client, guid="?", cn="User 2", h323="user2")["guid"]
    assert (pbx.user("user2").guid, pbx.user("user2").cn) == (made, "User 2")
    assert update(client, guid="?")["error"] == NOT_FOUND


def test_an_update_that_cannot_be_done_is_an_error(client: AppClient, pbx: Pbx) -> None:
    guid = pbx.user("user1").guid
    pbx.add_user("user2")
    pbx.lock("user1")
    assert update(client, guid=guid, devices=[PHONE])["error"] == LOCKED
    pbx.lock("user1", locked=False)
    assert update(client, guid=guid, h323="user2")["error"] == TAKEN
    assert update(client, guid="0" * 32, devices=[])["error"] == NOT_FOUND
    assert update(client, devices=[])["error"] == NOT_FOUND
    for devices in ("none", [1], [{"text": "no hw"}], None):
        assert update(client, guid=guid, devices=devices)["error"] == MALFORMED
    assert pbx.devices_of("user1") == []
    assert "error" not in update(client, guid=guid, devices=[PHONE])


def test_what_is_not_granted_or_not_known_is_not_answered(server: PbxServer, pbx: Pbx) -> None:
    pbx.app_objects["table"] = AppObject("secret", frozenset({TABLE_USERS}))
    with AppClient.connect(server.url, SECONDS) as client:
        assert client.log_in("table", "secret")["ok"]
        assert client.wait_for("PbxInfo")["apis"] == [TABLE_USERS]
        client.send({"mt": "GetObject", "api": ADMIN, "h323": "user1"})
        client.send({"mt": "GetObject", "h323": "user1"})
        client.send({"mt": "Dance", "api": TABLE_USERS})
        client.send({"mt": "ReplicateNext", "api": TABLE_USERS})
        assert client.ask("KeepAlive") == {"mt": "KeepAliveResult", "src": "src2"}
        with pytest.raises(TimeoutError):
            client.wait_for_any(QUIET_SECONDS)


def test_a_table_comes_row_by_row_with_the_columns_that_were_asked_for(
    client: AppClient, pbx: Pbx
) -> None:
    pbx.put_devices("user1", [PHONE])
    second = pbx.add_user("user2", template_devices=[OTHER])
    columns: dict[str, Any] = {"h323": {}, "devices": {}, "unknown": {}}
    answer = client.ask("ReplicateStart", api=TABLE_USERS, columns=columns)
    assert answer["columns"] == {"guid": {}, "h323": {}, "devices": {}}
    pbx.add_user("user3")
    pbx.remove_user("user3")
    rows = replicate(client, columns=columns)
    assert rows == [
        {"guid": pbx.user("user1").guid, "h323": "user1", "devices": [PHONE]},
        {"guid": second.guid, "h323": "user2", "devices": []},
    ]


def test_a_row_that_goes_before_it_is_fetched_is_left_out(client: AppClient, pbx: Pbx) -> None:
    client.ask("ReplicateStart", api=TABLE_USERS, columns={})
    pbx.remove_user("user1")
    assert "columns" not in client.ask("ReplicateNext", api=TABLE_USERS)


def test_changes_are_told_to_whoever_replicates(client: AppClient, pbx: Pbx) -> None:
    client.send(
        {
            "mt": "ReplicateStart",
            "api": TABLE_USERS,
            "src": "table",
            "add": True,
            "del": True,
            "columns": {"h323": {}, "devices": {}},
        }
    )
    client.wait_for("ReplicateStartResult", src="table")
    made = pbx.add_user("user2")
    pbx.put_devices("user2", [PHONE])
    update(client, guid=made.guid, devices=[])
    pbx.remove_user("user2")
    row = {"guid": made.guid, "h323": "user2"}
    for kind, devices in (("Add", []), ("Update", [PHONE]), ("Update", []), ("Del", [])):
        assert client.wait_for_any() == {
            "mt": f"Replicate{kind}",
            "api": TABLE_USERS,
            "src": "table",
            "columns": {**row, "devices": devices},
        }


def test_rows_that_come_and_go_are_told_only_on_demand(client: AppClient, pbx: Pbx) -> None:
    client.ask("ReplicateStart", api=TABLE_USERS, columns={})
    pbx.add_user("user2")
    pbx.put_devices("user1", [PHONE])
    pbx.remove_user("user2")
    assert client.wait_for_any()["mt"] == "ReplicateUpdate"
    with pytest.raises(TimeoutError):
        client.wait_for_any(QUIET_SECONDS)


def test_whoever_has_gone_is_told_nothing(server: PbxServer, pbx: Pbx) -> None:
    with client_of(server) as client:
        client.ask("ReplicateStart", api=TABLE_USERS, columns={})
    pbx.put_devices("user1", [PHONE])
    with client_of(server) as client:
        assert get(client, h323="user1")["devices"] == [PHONE]


def test_requests_are_counted(client: AppClient, pbx: Pbx) -> None:
    get(client, h323="user1")
    get(client, h323="nobody")
    assert pbx.asked == {"AppChallenge": 1, "AppLogin": 1, "GetObject": 2}


def test_a_silent_pbx_does_and_answers_nothing(client: AppClient, pbx: Pbx) -> None:
    pbx.is_silent = True
    client.send(
        {"mt": "UpdateObject", "api": ADMIN, "guid": pbx.user("user1").guid, "devices": [PHONE]}
    )
    eventually(lambda: pbx.asked["UpdateObject"])
    with pytest.raises(TimeoutError):
        client.wait_for_any(QUIET_SECONDS)
    assert pbx.devices_of("user1") == []


def test_a_broken_pbx_answers_with_what_is_no_json(client: AppClient, pbx: Pbx) -> None:
    pbx.is_broken = True
    client.send({"mt": "KeepAlive"})
    assert client.socket.recv(SECONDS) == BROKEN


def test_a_slow_pbx_does_at_once_and_answers_later(client: AppClient, pbx: Pbx) -> None:
    pbx.delay_seconds = 0.2
    start = time.monotonic()
    client.send(
        {"mt": "UpdateObject", "api": ADMIN, "guid": pbx.user("user1").guid, "devices": [PHONE]}
    )
    eventually(lambda: pbx.devices_of("user1"))
    client.wait_for("UpdateObjectResult")
    assert time.monotonic() - start >= 0.2


def test_a_slow_pbx_stops_at_once() -> None:
    pbx = Pbx(delay_seconds=3600)
    with serve(pbx) as server, AppClient.connect(server.url, SECONDS) as client:
        client.send({"mt": "AppChallenge"})
        eventually(lambda: pbx.asked["AppChallenge"])
        server.stop()
        with pytest.raises(ConnectionClosedError):
            client.wait_for_any(SECONDS)


def test_a_pbx_refuses_with_what_a_test_says(client: AppClient, pbx: Pbx) -> None:
    pbx.refuses = "licence missing"
    answer = update(client, guid=pbx.user("user1").guid, devices=[PHONE])
    assert (answer["error"], "guid" in answer) == ("licence missing", False)
    assert pbx.devices_of("user1") == []


def test_an_administrator_can_come_between_reading_and_writing(client: AppClient, pbx: Pbx) -> None:
    """Whoever has an answer can count on what ran after it was read."""
    pbx.after_get = lambda: pbx.put_devices("user1", [OTHER])
    assert get(client, h323="user1")["devices"] == []
    assert pbx.devices_of("user1") == [OTHER]
    seen: list[Any] = []
    pbx.before_update = lambda: seen.append(pbx.devices_of("user1"))
    update(client, guid=pbx.user("user1").guid, devices=[PHONE])
    assert seen == [[OTHER]]
    assert pbx.devices_of("user1") == [PHONE]


def test_a_pbx_may_die_with_an_update_done_and_not_answered(server: PbxServer, pbx: Pbx) -> None:
    def only_once() -> None:
        pbx.dies_before_answer = pbx.asked["UpdateObject"] == 1

    pbx.before_update = only_once
    guid = pbx.user("user1").guid
    with client_of(server) as client, pytest.raises(ConnectionClosedError):
        update(client, guid=guid, devices=[PHONE])
    assert pbx.devices_of("user1") == [PHONE]
    with client_of(server) as client:
        assert update(client, guid=guid, devices=[])["guid"] == guid


def test_a_pbx_that_stops_cuts_connections_and_can_come_back_on_its_port(tmp_path: Path) -> None:
    """It knows what it knew."""
    file = tmp_path / "pbx.json"
    with serve(Pbx(file)) as server, client_of(server) as client:
        server.pbx.add_user("user1", template_devices=[OTHER])
        server.pbx.add_user("user2")
        server.pbx.put_devices("user1", [PHONE])
        server.pbx.remove_user("user2")
        server.pbx.lock("user1")
        server.stop()
        with pytest.raises(ConnectionClosedError):
            client.wait_for("Nothing", SECONDS)
        with pytest.raises(ConnectionRefusedError):
            AppClient.connect(server.url, SECONDS)
    with serve(Pbx(file), port=server.port) as again, client_of(again) as client:
        assert again.url == server.url
        assert again.pbx.users() == server.pbx.users()
        assert get(client, h323="user1")["devices"] == [PHONE, OTHER]
    assert [path.name for path in tmp_path.iterdir()] == ["pbx.json"]


def test_what_a_test_is_handed_is_its_own(pbx: Pbx) -> None:
    """To change it changes nothing at the PBX."""
    devices = [dict(PHONE)]
    pbx.put_devices("user1", devices)
    devices[0]["text"] = "changed"
    pbx.devices_of("user1").clear()
    pbx.users()[0].devices.clear()
    assert pbx.devices_of("user1") == [PHONE]
    with pytest.raises(KeyError):
        pbx.user("nobody")


def test_many_at_once_lose_nothing(server: PbxServer, pbx: Pbx) -> None:
    names = [f"person{number}" for number in range(8)]

    def add(name: str) -> None:
        with client_of(server) as client:
            update(client, guid="?", cn=name, devices=[PHONE])

    threads = [threading.Thread(target=add, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {user.h323 for user in pbx.users()} == {"user1", *names}


def test_a_pbx_speaks_tls_to_whoever_trusts_it(tmp_path: Path) -> None:
    certificate = self_signed.certificate(tmp_path)
    with serve(Pbx(), tls=self_signed.server_context(certificate)) as server:
        assert server.url.startswith("wss://127.0.0.1:")
        with pytest.raises(ssl.SSLCertVerificationError):
            AppClient.connect(server.url, SECONDS)
        trusting = ssl.create_default_context(cafile=certificate)
        with connect(server.url, ssl=trusting, proxy=None, legacy=True) as websocket:
            client = AppClient(websocket, SECONDS)
            assert client.log_in(APP, PASSWORD)["ok"]
            client.wait_for("PbxInfo")
            server.stop()
            with pytest.raises(ConnectionClosedError):
                client.wait_for_any(SECONDS)


def test_other_paths_are_not_there(server: PbxServer) -> None:
    with pytest.raises(InvalidStatus) as refused:
        AppClient.connect(server.url.replace("websocket", "elsewhere"), SECONDS)
    assert refused.value.response.status_code == 404


def test_people_of_this_machine_can_look_at_the_users(server: PbxServer, pbx: Pbx) -> None:
    pbx.put_devices("user1", [PHONE])
    url = f"http://127.0.0.1:{server.port}/users"
    with urlopen(url, timeout=SECONDS) as answer:
        assert answer.headers["Content-Type"] == "application/json"
        (user,) = json.load(answer)
    assert (user["h323"], user["devices"], user["is_locked"]) == ("user1", [PHONE], False)


def test_the_demo_users_come_once() -> None:
    pbx = Pbx()
    pbx.add_user("user3", cn="By hand")
    seed(pbx)
    seed(pbx)
    assert {user.h323 for user in pbx.users()} == {f"user{number}" for number in range(1, 21)}
    assert pbx.user("user3").cn == "By hand"
    assert (pbx.user("user20").cn, pbx.user("user20").e164) == ("User 20", "120")


@contextmanager
def process_of(*arguments: str) -> Iterator[tuple[str, str, str]]:
    """Start a PBX as a process → its address, what it says of logins, and where its users are."""
    command = [sys.executable, "-m", "local.pbx", "--port", "0", *arguments]
    with subprocess.Popen(  # noqa: S603 - our own command
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            assert process.stdout is not None
            url, _, login, users = (process.stdout.readline().strip() for _ in range(4))
            yield url.split()[-1], login, users.split()[-1]
            process.send_signal(signal.SIGINT)
            rest = process.stdout.read()
            assert (process.wait(), "Traceback" in rest) == (0, False), rest
        finally:
            process.kill()


@pytest.mark.slow
def test_the_command_line_serves_until_it_is_interrupted(tmp_path: Path) -> None:
    """It says where it is and how to log in, and ends with connections open."""
    kept = ("--file", str(tmp_path / "pbx.json"))
    for users, count in ((["--users", "anna, bert"], 2), ([], 2), (["--users", "anna,carl"], 3)):
        with ExitStack() as clients, process_of(*kept, *users) as (url, login, users_url):
            assert login == f"app object  {APP}    (password {PASSWORD})"
            client = clients.enter_context(AppClient.connect(url, SECONDS))
            assert client.log_in(APP, PASSWORD)["ok"]
            with urlopen(users_url, timeout=SECONDS) as answer:  # noqa: S310 - our own
                assert len(json.load(answer)) == count


@pytest.mark.slow
def test_the_command_line_says_that_its_port_is_not_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ended = subprocess.run(  # noqa: S603 - our own command
            [sys.executable, "-m", "local.pbx", "--port", str(taken.getsockname()[1])],
            capture_output=True,
            text=True,
            check=False,
        )
    assert (ended.returncode, ended.stderr) == (2, "")
    assert "is not free" in ended.stdout
