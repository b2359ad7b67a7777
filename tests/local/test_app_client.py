"""Our own AppWebsocket client, against a service that a test plays."""

import json
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from local import dynamodb
from local.app_client import AppClient, RefusedError, compact, digest, main
from local.websocket_gateway import MAX_FRAME_BYTES
from tests.local.websockets_served import Event, Server, eventually, running

CHALLENGE = "0123456789abcdef"
Answers = Callable[[dict[str, Any]], list[dict[str, Any]]]


class Played:
    """The service that a test plays: it answers each message with what a function says."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.got: list[dict[str, Any]] = []
        self.answered_count = 0
        self.texts: list[str] = []
        self.management = server.management()
        self.answers: Answers = lambda _: []
        server.message = self._message

    def open(self) -> AppClient:
        """Connect a client."""
        return AppClient.connect(f"{self.server.url}/example.com/devices", timeout_seconds=5)

    def tell(self, message: dict[str, Any]) -> None:
        """Send a message to the connection that is open."""
        connection_id = self.server.connection_id()
        data = compact(message).encode()
        self.management.post_to_connection(ConnectionId=connection_id, Data=data)

    def _message(self, event: Event) -> None:
        self.texts.append(event["body"])
        message = json.loads(event["body"])
        self.got.append(message)
        echoed = {"mt": f"{message['mt']}Result", "src": message.get("src")}
        for answer in self.answers(message):
            self.tell({**echoed, **answer})
        self.answered_count += 1


@pytest.fixture
def played() -> Iterator[Played]:
    """Serve a service that a test plays."""
    dynamodb.use_local_credentials()
    with running() as server:
        yield Played(server)


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        (None, "a205299ed2ef2786c311e0be1b14db343f2cadd906a6ae7b564eee34bda5e9a1"),
        ("{}", "57b23fe824b9222a7ac879597cb509bcdc865a1bfeb057d9d12118cef0c3ba34"),
        (
            '{"cn":"Test User"}',
            "96db3c3f657230c2b68194becc6d2a77f05de9f79f01fc81e9ca0fb196b10d9d",
        ),
    ],
)
def test_a_digest_is_the_vendors(info: str | None, expected: str) -> None:
    """The vendor's own examples come out as published."""
    assert digest(("pbxadminapi", "", "", "", ""), info, CHALLENGE, "pwd") == expected


@pytest.mark.parametrize("info", [None, '{"b":1,"a":1.0}'])
def test_a_login_proves_the_password_and_sends_the_very_info(
    played: Played, info: str | None
) -> None:
    played.answers = lambda message: [
        {"challenge": CHALLENGE} if message["mt"] == "AppChallenge" else {"ok": True}
    ]
    with played.open() as client:
        assert client.log_in("users", "dialtone", "example.com", "s", "g", "d", info)["ok"]
    challenge, login = played.got
    names = ("users", "example.com", "s", "g", "d")
    assert (challenge["src"], login["src"]) == ("src0", "src1")
    assert tuple(login[name] for name in ("app", "domain", "sip", "guid", "dn")) == names
    assert login["digest"] == digest(names, info, CHALLENGE, "dialtone")
    assert ("info" in login) is (info is not None)
    assert info is None or f'"info":{info}' in played.texts[1]


def test_a_person_signs_in_with_a_token(played: Played) -> None:
    played.answers = lambda _: [{"ok": True}]
    with played.open() as client:
        assert client.sign_in("a.b.c")["ok"]
    assert played.got == [{"mt": "UserLogin", "token": "a.b.c", "src": "src0"}]


def test_a_list_is_put_together_until_the_last_part(played: Played) -> None:
    played.answers = lambda _: [{"things": [1, 2]}, {"things": [3]}, {"things": [], "last": True}]
    with played.open() as client:
        assert client.ask_list("GetThings", "things", type="PHONE") == [1, 2, 3]
    assert played.got == [{"mt": "GetThings", "type": "PHONE", "src": "src0"}]


def test_an_error_ends_a_list(played: Played) -> None:
    played.answers = lambda _: [{"error": "not for you"}]
    with played.open() as client, pytest.raises(RefusedError, match="not for you"):
        client.ask_list("GetThings", "things")


def test_what_is_not_waited_for_yet_is_kept(played: Played) -> None:
    played.answers = lambda _: [
        {"mt": "DeviceProvisioned", "src": "src8"},
        {"mt": "DeviceProvisioned", "src": "src9"},
        {"code": "1"},
    ]
    with played.open() as client:
        assert client.ask("GetProvisioningCode")["code"] == "1"
        assert client.wait_for("DeviceProvisioned", src="src9")["src"] == "src9"
        assert client.wait_for_any()["src"] == "src8"
        with pytest.raises(TimeoutError):
            client.wait_for("DeviceProvisioned", 0.01)


def test_a_long_message_goes_in_frames_that_are_small_enough(played: Played) -> None:
    long = "ü" * MAX_FRAME_BYTES
    with played.open() as client:
        client.send({"mt": "Long", "text": long})
        eventually(lambda: played.got)
    assert played.got[0]["text"] == long


def test_an_end_is_told(played: Played) -> None:
    with played.open() as client:
        connection_id = played.server.connection_id()
        played.management.delete_connection(ConnectionId=connection_id)
        with pytest.raises(ConnectionClosed):
            client.wait_for_any(5)


def test_a_refused_upgrade_is_told(played: Played) -> None:
    played.server.connect = lambda _: {"statusCode": 403}
    with pytest.raises(InvalidStatus):
        played.open()


def test_the_command_line_logs_in_asks_and_prints_what_is_told(
    played: Played, capsys: pytest.CaptureFixture[str]
) -> None:
    """It ends when the service does."""
    answers: dict[str, dict[str, Any]] = {
        "AppChallenge": {"challenge": CHALLENGE},
        "AppLogin": {"ok": True},
        "GetProvisioningCategories": {
            "categories": [{"name": "Office"}, {"name": "Reception"}],
            "last": True,
        },
        "GetProvisioningCode": {"code": "123456789012"},
    }
    played.answers = lambda message: [answers[message["mt"]]]
    arguments = ["--url", f"{played.server.url}/ws", "--category", "Reception", "--sip", "user2"]
    ended: list[int] = []
    thread = threading.Thread(target=lambda: ended.append(main(arguments)))
    thread.start()
    eventually(lambda: played.answered_count == 4)
    played.tell({"mt": "DeviceProvisioned", "code": "123456789012"})
    connection_id = played.server.connection_id()
    played.management.delete_connection(ConnectionId=connection_id)
    thread.join()
    assert ended == [2]
    printed = capsys.readouterr().out
    assert "categories: Office, Reception" in printed
    assert "code: 1234 5678 9012" in printed
    assert re.search(r'^\{"mt":"DeviceProvisioned"', printed, re.MULTILINE)
    assert played.got[3] == {
        "mt": "GetProvisioningCode",
        "category": "Reception",
        "sip": "user2",
        "src": "src3",
    }


@pytest.mark.parametrize(
    ("refused", "said"),
    [
        ("AppLogin", "The login was refused"),
        ("GetProvisioningCategories", "No categories: not for you"),
        ("GetProvisioningCode", "No code: not for you"),
    ],
)
def test_the_command_line_says_what_was_refused(
    played: Played, capsys: pytest.CaptureFixture[str], refused: str, said: str
) -> None:
    def answers(message: dict[str, Any]) -> list[dict[str, Any]]:
        if message["mt"] == refused:
            return [{"error": "not for you"}]
        return [{"challenge": CHALLENGE, "ok": True, "last": True}]

    played.answers = answers
    assert main(["--url", f"{played.server.url}/ws"]) == 1
    assert said in capsys.readouterr().out


def test_the_command_line_says_that_nobody_is_there(
    played: Played, capsys: pytest.CaptureFixture[str]
) -> None:
    played.server.connect = lambda _: {"statusCode": 503}
    assert main(["--url", f"{played.server.url}/ws"]) == 2
    assert main(["--url", "ws://127.0.0.1:1/ws"]) == 2
    assert capsys.readouterr().out.count("The service is not there") == 2
