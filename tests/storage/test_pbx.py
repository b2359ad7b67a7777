"""The adapter that speaks to a PBX, against one over real websockets."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from websockets.sync.server import serve as serve_websockets

from chalicelib import pbx as adapter
from chalicelib.core.errors import PbxRefusedError, PbxUnavailableError
from chalicelib.core.user_objects import Access, FindBy, Row, Trouble, UserObject
from local.pbx import APP, LOCKED, PASSWORD, AppObject, Pbx
from local.pbx_server import PbxServer, serve
from tests.local import self_signed

SECONDS = 10.0
PHONE = {"hw": "009033460af2", "text": "IP222", "app": "phone", "trusted": True}
OF_ALL = {"hw": "softphone", "text": "of the template"}
HAND_MADE = {"hw": "009033460af3", "text": "by hand", "no-filter": True}


@pytest.fixture
def server() -> Iterator[PbxServer]:
    """Serve a PBX with one user."""
    known = Pbx()
    known.add_user("user1", cn="User 1", template_devices=[OF_ALL])
    with serve(known) as made:
        yield made


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for nothing for long."""
    monkeypatch.setattr(adapter, "ANSWER_SECONDS", 0.2)
    monkeypatch.setattr(adapter, "CONNECT_SECONDS", 0.5)


def access(url: str, app: str = APP, password: str = PASSWORD) -> Access:
    return Access(url, app, password)


def trouble_with(url: str, app: str = APP, password: str = PASSWORD) -> str:
    """Tell why somebody cannot be found at a PBX."""
    with (
        pytest.raises(PbxUnavailableError) as raised,
        adapter.connect(access(url, app, password)) as opened,
    ):
        opened.find(FindBy.SIP, "user1")
    assert PASSWORD not in str(raised.value)
    return raised.value.trouble


def test_a_user_is_found_by_sip_or_name(server: PbxServer) -> None:
    """With the devices of its own; the path need not be told."""
    server.pbx.put_devices("user1", [HAND_MADE])
    with adapter.connect(access(server.url.removesuffix("/PBX0/APPS/websocket"))) as opened:
        found = opened.find(FindBy.SIP, "user1")
        assert found == UserObject(server.pbx.user("user1").guid, [HAND_MADE])
        assert opened.find(FindBy.NAME, "User 1") == found
        assert opened.find(FindBy.SIP, "User 1") is None
        assert opened.apis is not None
        assert "PbxAdminApi" in opened.apis


def test_devices_are_written_and_what_was_there_is_told(server: PbxServer) -> None:
    """Also what somebody else wrote since they were read."""
    with adapter.connect(access(server.url)) as opened:
        found = opened.find(FindBy.SIP, "user1")
        assert found is not None
        before, after = opened.put_devices(FindBy.SIP, "user1", found.guid, [PHONE])
        assert (before, after) == (found, UserObject(found.guid, [PHONE]))
        server.pbx.put_devices("user1", [HAND_MADE])
        before, after = opened.put_devices(FindBy.SIP, "user1", found.guid, [])
        assert (before, after) == (UserObject(found.guid, [HAND_MADE]), UserObject(found.guid, []))
        server.pbx.remove_user("user1")
        with pytest.raises(PbxRefusedError) as raised:
            opened.put_devices(FindBy.SIP, "user1", found.guid, [])
        assert raised.value.reason == "refused: object not found"


def test_a_refusal_says_what_the_pbx_said(server: PbxServer) -> None:
    """And the connection goes on."""
    server.pbx.lock("user1")
    with adapter.connect(access(server.url)) as opened:
        found = opened.find(FindBy.SIP, "user1")
        assert found is not None
        with pytest.raises(PbxRefusedError) as raised:
            opened.put_devices(FindBy.SIP, "user1", found.guid, [PHONE])
        assert raised.value.reason == f"refused: {LOCKED}"
        assert opened.find(FindBy.SIP, "user1") == found


def test_who_may_not_log_in_is_told_so(server: PbxServer) -> None:
    """By a wrong password, or a wrong name."""
    assert trouble_with(server.url, password="wrong") is Trouble.PASSWORD
    assert trouble_with(server.url, app="other") is Trouble.PASSWORD


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("has_info", "expected"), [(True, Trouble.NO_RIGHTS), (False, Trouble.NO_ANSWER)]
)
def test_an_app_object_without_rights_gets_no_answer(
    server: PbxServer, *, has_info: bool, expected: Trouble
) -> None:
    """Where the PBX says what it grants, we know why."""
    server.pbx.app_objects["poor"] = AppObject(PASSWORD, frozenset({"Services"}))
    server.pbx.has_pbx_info = has_info
    assert trouble_with(server.url, app="poor") is expected


@pytest.mark.usefixtures("quick")
def test_a_pbx_that_is_slow_or_talks_nonsense_is_told_apart(server: PbxServer) -> None:
    """After the login; before, there is no AppWebsocket."""
    server.pbx.is_silent = True
    assert trouble_with(server.url) is Trouble.NO_WEBSOCKET
    server.pbx.is_silent = False
    server.pbx.is_broken = True
    assert trouble_with(server.url) is Trouble.NO_WEBSOCKET
    server.pbx.is_broken = False
    for fault, expected in (
        ("is_silent", Trouble.NO_ANSWER),
        ("is_broken", Trouble.UNREADABLE),
    ):
        with adapter.connect(access(server.url)) as opened:
            setattr(server.pbx, fault, True)
            with pytest.raises(PbxUnavailableError) as raised:
                opened.find(FindBy.SIP, "user1")
            assert raised.value.trouble is expected
        setattr(server.pbx, fault, False)


def test_a_connection_that_ends_is_told(server: PbxServer) -> None:
    """Before an answer, and before a request."""
    with adapter.connect(access(server.url)) as opened:
        found = opened.find(FindBy.SIP, "user1")
        assert found is not None
        server.pbx.dies_before_answer = True
        with pytest.raises(PbxUnavailableError) as raised:
            opened.put_devices(FindBy.SIP, "user1", found.guid, [PHONE])
        assert raised.value.trouble is Trouble.CONNECTION_LOST
        with pytest.raises(PbxUnavailableError) as raised:
            opened.find(FindBy.SIP, "user1")
        assert raised.value.trouble is Trouble.CONNECTION_LOST
    assert server.pbx.devices_of("user1") == [PHONE]


@pytest.mark.usefixtures("quick")
def test_a_slow_answer_is_one(server: PbxServer) -> None:
    """As long as it comes in time."""
    server.pbx.delay_seconds = 0.05
    with adapter.connect(access(server.url)) as opened:
        assert opened.find(FindBy.SIP, "user1") is not None


def test_a_pbx_that_drags_on_is_hung_up_on(server: PbxServer) -> None:
    """Though it answers each request in time."""
    server.pbx.delay_seconds = 0.05
    with adapter.connect(access(server.url), 0.5) as opened:
        asking = (opened.find(FindBy.SIP, "user1") for _ in range(100))
        with pytest.raises(PbxUnavailableError) as raised:
            list(asking)
    assert raised.value.trouble is Trouble.NO_ANSWER
    assert server.pbx.asked["GetObject"] < 20


@pytest.mark.usefixtures("quick")
def test_a_pbx_that_never_stops_talking_is_hung_up_on() -> None:
    """Nothing of what nobody asked for is kept."""
    import time

    def talk(connection: object) -> None:
        for _ in connection:  # type: ignore[attr-defined]
            connection.send(CHALLENGE)  # type: ignore[attr-defined]
            for number in range(1_000_000):
                connection.send(f'{{"src":"{number}"}}')  # type: ignore[attr-defined]

    with serve_websockets(talk, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        began = time.monotonic()
        port = server.socket.getsockname()[1]
        assert trouble_with(f"ws://127.0.0.1:{port}/x") is Trouble.NO_ANSWER
        assert time.monotonic() - began < SECONDS
        server.shutdown()
        thread.join()


def test_half_a_character_goes_as_it_came(server: PbxServer) -> None:
    """It stands in somebody else's device."""
    odd = {"hw": "x", "text": "\ud800"}
    with adapter.connect(access(server.url)) as opened:
        found = opened.find(FindBy.SIP, "user1")
        assert found is not None
        opened.put_devices(FindBy.SIP, "user1", found.guid, [odd])
    assert server.pbx.devices_of("user1") == [odd]


def test_what_the_pbx_says_is_masked(server: PbxServer) -> None:
    """It is kept, shown and logged."""
    server.pbx.refuses = "no: password=hunter2 code 1234 5678 9012"
    with adapter.connect(access(server.url)) as opened:
        found = opened.find(FindBy.SIP, "user1")
        assert found is not None
        with pytest.raises(PbxRefusedError) as raised:
            opened.put_devices(FindBy.SIP, "user1", found.guid, [PHONE])
    assert raised.value.reason == "refused: no: password=*** code ***"


def test_names_and_ports_that_are_not_there_are_told() -> None:
    """Nothing is tried twice."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert trouble_with(f"ws://127.0.0.1:{port}") is Trouble.NO_CONNECTION
    assert trouble_with(f"ws://{'x' * 64}.example") is Trouble.UNKNOWN_NAME


def test_a_name_that_nobody_knows_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the system says it."""

    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert trouble_with("wss://pbx.example.com") is Trouble.UNKNOWN_NAME


def test_a_certificate_must_be_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that nobody vouches for is none; one that the machine trusts is."""
    path = self_signed.certificate(tmp_path)
    known = Pbx()
    known.add_user("user1")
    with serve(known, tls=self_signed.server_context(path)) as server:
        assert trouble_with(server.url) is Trouble.CERTIFICATE
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
        with adapter.connect(access(server.url)) as opened:
            assert opened.find(FindBy.SIP, "user1") is not None


def test_tls_is_not_spoken_to_what_does_not_speak_it(server: PbxServer) -> None:
    """That is trouble with the certificate, for there is none."""
    url = server.url.replace("ws://", "wss://")
    assert trouble_with(url) is Trouble.CERTIFICATE


def test_another_web_server_is_no_pbx(server: PbxServer) -> None:
    """A path that answers, and is no websocket."""
    assert trouble_with(server.url.replace("/PBX0", "/PBX1")) is Trouble.NO_WEBSOCKET


def read(url: str, app: str = APP, *, max_rows: int = 100) -> list[Row]:
    """Read a PBX's table of users."""
    with adapter.connect(access(url, app)) as opened:
        return list(opened.users(max_rows, 30))


def trouble_reading(url: str, app: str = APP, *, max_rows: int = 100) -> tuple[str, int]:
    """Tell why a table cannot be read, and how many rows came before."""
    rows: list[Row] = []
    with (
        pytest.raises(PbxUnavailableError) as raised,
        adapter.connect(access(url, app)) as opened,
    ):
        rows.extend(opened.users(max_rows, 30))
    return raised.value.trouble, len(rows)


def test_the_table_of_users_is_read(server: PbxServer) -> None:
    """Fewer rows than are asked for at once, and what is no user is told apart."""
    server.pbx.put_devices("user1", [HAND_MADE])
    server.pbx.add_user("user2", cn="User 2", e164="102", email="user2@example.com")
    server.pbx.add_user("lobby", pseudo="waiting")
    assert read(server.url) == [
        Row("user1", {"name": "User 1"}, (HAND_MADE,)),
        Row("user2", {"name": "User 2", "number": "102", "email": "user2@example.com"}),
        Row("lobby", {"name": "lobby"}, is_user=False),
    ]


@pytest.mark.parametrize("count", [0, 7, 8, 9, 500])
def test_a_table_of_any_length_comes_whole_and_in_order(count: int) -> None:
    """However many rows are asked for at once; as many as are allowed are not too many."""
    known = Pbx()
    for number in range(count):
        known.add_user(f"user{number:03}")
    with serve(known) as server:
        rows = read(server.url, max_rows=count)
        assert [row.sip for row in rows] == [f"user{number:03}" for number in range(count)]
        if count == 500:
            assert trouble_reading(server.url, max_rows=499) == (Trouble.TOO_LONG, 499)


def test_a_table_is_read_as_long_as_there_is_time(server: PbxServer) -> None:
    """What came until then is there."""
    with adapter.connect(access(server.url)) as opened:
        for number in range(20):
            server.pbx.add_user(f"clerk{number}")
        rows = opened.users(100, 0.3)
        seen = [next(rows)]
        server.pbx.delay_seconds = 0.1
        with pytest.raises(PbxUnavailableError) as raised:
            seen += rows
    assert raised.value.trouble is Trouble.TOO_LONG
    assert seen[0].sip == "user1"


def test_others_can_be_asked_for_while_a_table_is_read(server: PbxServer) -> None:
    """No row is lost by it, and what changes meanwhile is no row."""
    for number in range(20):
        server.pbx.add_user(f"clerk{number}")
    with adapter.connect(access(server.url)) as opened:
        seen = []
        for row in opened.users(100, 30):
            assert opened.find(FindBy.SIP, row.sip) is not None
            server.pbx.put_devices(row.sip, [PHONE])
            seen.append(row.sip)
    assert seen == ["user1", *(f"clerk{number}" for number in range(20))]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("has_info", [True, False])
def test_a_table_that_is_not_granted_is_told(server: PbxServer, *, has_info: bool) -> None:
    """It is not answered, whether or not the PBX says what it grants."""
    server.pbx.app_objects["poor"] = AppObject(PASSWORD, frozenset({"PbxAdminApi"}))
    server.pbx.has_pbx_info = has_info
    assert trouble_reading(server.url, app="poor") == (Trouble.NO_TABLE, 0)


def test_a_table_can_be_all_that_is_granted(server: PbxServer) -> None:
    """It needs nothing else."""
    server.pbx.app_objects["table"] = AppObject(PASSWORD, frozenset({"PbxTableUsers"}))
    assert [row.sip for row in read(server.url, "table")] == ["user1"]


@contextmanager
def saying(*lines: str) -> Iterator[str]:
    """Serve a websocket that answers each message with the next of some texts; "" ends it."""
    texts = list(lines)

    def converse(connection: object) -> None:
        for _ in connection:  # type: ignore[attr-defined]
            if texts and not texts[0]:
                return
            if texts:
                connection.send(texts.pop(0))  # type: ignore[attr-defined]

    with serve_websockets(converse, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}/x"
        finally:
            server.shutdown()
            thread.join()


CHALLENGE = '{"mt":"AppChallengeResult","src":"dialtone0","challenge":"1"}'
LOGIN = '{"mt":"AppLoginResult","src":"dialtone1","ok":true}'


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (['{"src":"dialtone0","challenge":1}'], Trouble.NO_WEBSOCKET),
        (["[]"], Trouble.NO_WEBSOCKET),
        (["[" * 100_000], Trouble.NO_WEBSOCKET),
        ([CHALLENGE, "no JSON"], Trouble.UNREADABLE),
        ([CHALLENGE, LOGIN.replace("true", '"true"')], Trouble.PASSWORD),
        ([CHALLENGE, LOGIN, '{"src":"dialtone2","guid":1}'], Trouble.UNREADABLE),
        ([CHALLENGE, LOGIN, '{"src":"dialtone2","guid":"g","devices":{}}'], Trouble.UNREADABLE),
        ([CHALLENGE, LOGIN, '{"src":"dialtone2","guid":"g","devices":[1]}'], Trouble.UNREADABLE),
        ([CHALLENGE, LOGIN, '{"mt":"PbxInfo","apis":1}'], Trouble.NO_RIGHTS),
        ([CHALLENGE, LOGIN, '{"mt":"GetObjectResult"}'], Trouble.NO_ANSWER),
    ],
)
def test_whatever_is_said_has_a_defined_end(texts: list[str], expected: Trouble) -> None:
    """Nothing of it is believed."""
    with saying(*texts) as url:
        assert trouble_with(url) is expected


@pytest.mark.usefixtures("quick")
def test_what_is_granted_may_be_told_as_texts_or_as_objects() -> None:
    """What is neither is no name."""
    told = '[{"name":"PbxAdminApi"},"PbxTableUsers",1,{},{"name":2}]'
    with (
        saying(CHALLENGE, LOGIN, f'{{"mt":"PbxInfo","apis":{told}}}') as url,
        pytest.raises(PbxUnavailableError) as raised,
        adapter.connect(Access(url, "a", "p"), 5) as made,
    ):
        made.find(FindBy.SIP, "user1")
    assert raised.value.trouble == Trouble.NO_ANSWER
    assert made.apis == frozenset({"PbxAdminApi", "PbxTableUsers"})


START = '{"src":"dialtone2","mt":"ReplicateStartResult"}'


def row(columns: str) -> str:
    """Write the answer to a ReplicateNext."""
    return f'{{"src":"dialtone2","mt":"ReplicateNextResult","columns":{columns}}}'


ONE = row('{"guid":"g","h323":"a"}')


@pytest.mark.parametrize(
    "end",
    [
        row("{}"),
        row("null"),
        row('{"h323":"b"}'),
        row("[1]"),
        '{"src":"dialtone2","mt":"ReplicateNextResult"}',
    ],
)
def test_a_table_ends_with_a_row_that_is_none(end: str) -> None:
    """By the one test or the other that clients make."""
    change = '{"src":"dialtone2","mt":"ReplicateUpdate","columns":{"guid":"g","h323":"a"}}'
    with saying(CHALLENGE, LOGIN, START, ONE, change, end) as url:
        assert read(url) == [Row("a")]


def test_what_is_not_as_agreed_in_a_row_is_not_told() -> None:
    """The rest of it is."""
    odd = '{"guid":"g","cn":1,"e164":"1","emails":[1,{}],"devices":{"hw":1},"pseudo":""}'
    devices = '{"guid":"g","h323":"b","devices":[1,{"hw":"c"}]}'
    with saying(CHALLENGE, LOGIN, START, row(odd), row(devices), row("{}")) as url:
        assert read(url) == [Row("", {"number": "1"}), Row("b", {}, ({"hw": "c"},))]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([START[:-1] + ',"error":"no"}'], (Trouble.NO_TABLE, 0)),
        (["no JSON"], (Trouble.UNREADABLE, 0)),
        ([START, ONE], (Trouble.NO_ANSWER, 1)),
        ([START, ONE, "no JSON"], (Trouble.UNREADABLE, 1)),
        ([START, ONE, '{"src":"dialtone2","error":1}'], (Trouble.UNREADABLE, 1)),
    ],
)
def test_a_table_that_ends_early_says_why(texts: list[str], expected: tuple[str, int]) -> None:
    """And an error is no end."""
    with saying(CHALLENGE, LOGIN, *texts) as url:
        assert trouble_reading(url) == expected


def test_a_connection_that_ends_amid_a_table_is_told() -> None:
    """What came before it was cut counts."""
    with saying(CHALLENGE, LOGIN, START, *([ONE] * 8), "") as url:
        trouble, rows = trouble_reading(url)
    assert trouble is Trouble.CONNECTION_LOST
    assert 1 <= rows <= 8


def test_a_redirect_is_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What proves the password is for the host that was named alone."""
    from http import HTTPStatus

    from websockets.datastructures import Headers
    from websockets.http11 import Response

    known = Pbx()
    with serve(known) as elsewhere:
        to = Headers(Location=elsewhere.url)

        def away(*_: object) -> Response:
            return Response(HTTPStatus.FOUND, "Found", to, b"")

        with serve_websockets(print, "127.0.0.1", 0, process_request=away) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            port = server.socket.getsockname()[1]
            assert trouble_with(f"ws://127.0.0.1:{port}/x") is Trouble.NO_WEBSOCKET
            server.shutdown()
            thread.join()
    assert not known.asked
