import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from chalicelib import settings
from chalicelib.core.auto_provisioning import Claim
from chalicelib.core.sysclient_login import digest
from gateway import frames, passthrough, phones, server
from gateway.frames import MAX_FRAME_BYTES, Challenge, Identify, Platform, SysclientPassword
from gateway.session import Arrival, LostError, Socket
from tests import world
from tests.conftest import NOW, use
from tests.world import DOMAIN, HW_ID

HOST = "127.0.0.1"
PATH = f"/{DOMAIN}/devices/sysclients"
SECRET = "the secret of the edge"
WHO: dict[str, Any] = {
    "id": HW_ID,
    "product": "IP232",
    "version": "13r1",
    "platform": Platform("PHONE"),
    "fw_build": "130100",
    "bc_build": "130100",
}


@pytest.fixture(autouse=True)
def seeded(table_names: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Write the demo data; whoever comes, comes at that time."""
    assert table_names
    world.seed()
    monkeypatch.setattr(phones, "_now", lambda: NOW)
    monkeypatch.setattr(phones.Phones.__init__, "__defaults__", (lambda: NOW,))


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[int, phones.Phones]]:
    """Serve phones on a free port."""
    async with server.serving(HOST, 0) as (listening, known):
        yield next(iter(listening.sockets)).getsockname()[1], known


async def got(port: int, path: str, **headers: str) -> tuple[int, dict[str, str], Any]:
    """Make an HTTP request; returns status, headers and JSON."""

    def ask() -> tuple[int, dict[str, str], Any]:
        asked = Request(f"http://{HOST}:{port}{path}", headers=headers)
        try:
            with urlopen(asked, timeout=10) as answer:  # noqa: S310 - of this machine
                return answer.status, dict(answer.headers), json.loads(answer.read())
        except HTTPError as error:
            with error:
                return error.code, dict(error.headers), json.loads(error.read())

    return await asyncio.get_running_loop().run_in_executor(None, ask)


async def told(connection: ClientConnection) -> frames.Frame:
    """Hear the next frame."""
    received = await asyncio.wait_for(connection.recv(), 10)
    assert isinstance(received, bytes)
    return frames.parse(received)


async def closed(connection: ClientConnection) -> tuple[int, str]:
    """Wait until Devices hangs up; returns code and reason."""
    with pytest.raises(ConnectionClosed):
        await asyncio.wait_for(connection.recv(), 10)
    return connection.close_code or 0, connection.close_reason or ""


def test_a_phone_registers_and_returns_over_a_real_websocket() -> None:
    """After the service has started anew, with nothing but its password."""
    code = world.issue().digits

    async def register() -> str:
        async with serving() as (port, known), connect(f"ws://{HOST}:{port}{PATH}") as phone:
            await phone.send(bytes(Identify(**WHO, provisioning_code=code)))
            frame = await told(phone)
            assert isinstance(frame, SysclientPassword)
            assert isinstance(await told(phone), frames.Send)
            assert known.find(HW_ID) is not None
            return frame.password

    async def come_back(password: str) -> None:
        async with serving() as (port, known), connect(f"ws://{HOST}:{port}{PATH}") as phone:
            await phone.send(bytes(Identify(**WHO)))
            challenge = await told(phone)
            assert isinstance(challenge, Challenge)
            proof = digest(HW_ID, "IP232", "13r1", challenge.challenge, password)
            await phone.send(bytes(Identify(**WHO, digest=proof)))
            assert isinstance(await told(phone), frames.Send)
            assert known.find(HW_ID) is not None

    asyncio.run(come_back(asyncio.run(register())))


@pytest.mark.parametrize(
    ("said", "code"),
    [("a text", 1003), (b"", 1002), (b"\x01" * (MAX_FRAME_BYTES + 1), 1009)],
)
def test_what_is_no_frame_closes(said: str | bytes, code: int) -> None:
    """A text, nothing, and more than a frame may have."""

    async def play() -> None:
        async with serving() as (port, known), connect(f"ws://{HOST}:{port}{PATH}") as phone:
            await phone.send(said)
            assert (await closed(phone))[0] == code
            for _ in range(100):
                if not known.count:
                    break
                await asyncio.sleep(0.05)
            assert known.count == 0

    asyncio.run(play())


def test_health_says_whether_phones_may_come() -> None:
    """While they are sent away, none may; they are told to come back."""

    async def play() -> None:
        async with serving() as (port, known), connect(f"ws://{HOST}:{port}{PATH}") as phone:
            status, headers, health = await got(port, "/health")
            assert (status, health) == (200, {"status": "ok"})
            assert headers["Content-Type"] == "application/json"
            assert headers["Cache-Control"] == "no-store"
            await known.drain(0)
            assert await closed(phone) == (1012, "service restart")
            status, headers, _ = await got(port, "/health")
            assert (status, headers["Retry-After"]) == (503, "30")
            with pytest.raises(InvalidStatus) as refused:
                await connect(f"ws://{HOST}:{port}{PATH}")
            assert refused.value.response.status_code == 503
            assert refused.value.response.headers["Retry-After"] == "30"

    asyncio.run(play())


@pytest.mark.parametrize("path", ["/", "/a/b", "//devices/sysclients", f"{PATH}/", f"/x{PATH}"])
def test_there_is_nothing_elsewhere(path: str) -> None:
    """Neither for a browser nor for a phone."""

    async def play() -> None:
        async with serving() as (port, _):
            status, headers, problem = await got(port, path)
            assert (status, headers["Content-Type"]) == (404, "application/problem+json")
            assert problem["status"] == 404
            with pytest.raises(InvalidStatus):
                await connect(f"ws://{HOST}:{port}{path}")

    asyncio.run(play())


@pytest.mark.parametrize(
    ("proxies", "told_of", "source"),
    [
        ((), "198.51.100.7", HOST),
        (("127.0.0.0/8",), "198.51.100.7", "198.51.100.7"),
        (("127.0.0.0/8",), "203.0.113.9, 198.51.100.7", "198.51.100.7"),
        (("10.0.0.0/8",), "198.51.100.7", HOST),
        (("127.0.0.0/8",), "", HOST),
    ],
)
def test_a_caller_is_who_the_load_balancer_says(
    proxies: tuple[str, ...], told_of: str, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last one it names, and only if it is the load balancer that says so."""
    use(replace(settings.current(), gateway_proxies=proxies), monkeypatch)
    arrivals: list[Arrival] = []

    async def arrived(_: object, socket: Socket, arrival: Arrival) -> None:
        arrivals.append(arrival)
        await socket.close(1000, "")

    monkeypatch.setattr(phones.Phones, "serve", arrived)
    headers = {"X-Forwarded-For": told_of} if told_of else {}

    async def play() -> None:
        async with (
            serving() as (port, _),
            connect(f"ws://{HOST}:{port}{PATH}", additional_headers=headers) as phone,
        ):
            await closed(phone)

    asyncio.run(play())
    (arrival,) = arrivals
    assert arrival.source == source


def test_behind_the_edge_nobody_comes_past_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever shows its secret is who it says; anybody may ask for health."""
    hashes = (sha256(SECRET.encode()).hexdigest(),)
    use(replace(settings.current(), edge_hashes=hashes), monkeypatch)
    arrivals: list[Arrival] = []

    async def arrived(_: object, socket: Socket, arrival: Arrival) -> None:
        arrivals.append(arrival)
        await socket.close(1000, "")

    monkeypatch.setattr(phones.Phones, "serve", arrived)
    headers = {"X-Dialtone-Edge": SECRET, "CloudFront-Viewer-Address": "198.51.100.7:443"}

    async def play() -> None:
        async with serving() as (port, _):
            assert (await got(port, "/health"))[0] == 200
            with pytest.raises(InvalidStatus) as refused:
                await connect(f"ws://{HOST}:{port}{PATH}")
            assert refused.value.response.status_code == 403
            address = f"ws://{HOST}:{port}{PATH}"
            async with connect(address, additional_headers=headers) as phone:
                await closed(phone)

    asyncio.run(play())
    assert [arrival.source for arrival in arrivals] == ["198.51.100.7"]


def test_the_address_says_whose_phone_it_is_and_what_it_claims() -> None:
    """Decoded once; a claim is whole or none."""
    path = "/two%20words/devices/sysclients"
    assert server.arrival_of(path, "s") == Arrival("two words", "s")
    claimed = server.arrival_of(f"{path}?domain=d&token=a%23b&category=c%20d", "s")
    assert claimed == Arrival("two words", "s", Claim("d", "a#b", "c d"))
    assert server.arrival_of(f"{path}?domain=d&token=t", "s") == Arrival("two words", "s")
    assert server.arrival_of("/d/devices", "s") is None


def test_the_process_serves_until_it_is_told_to_end(tmp_path: Path) -> None:
    """It lets its phones go and ends well."""
    used = settings.current()
    with (tmp_path / "out.txt").open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "gateway"],
            env={
                **os.environ,
                **{f"{name.upper()}_TABLE": table for name, table in used.tables.items()},
                "DYNAMODB_ENDPOINT": used.dynamodb_endpoint,
                "KEYS_FILE": used.keys_file,
                "GATEWAY_PORT": str(port := _free_port()),
                "GATEWAY_DRAIN_SECONDS": "0",
            },
            stdout=output,
            stderr=output,
        )

    async def play() -> None:
        for _ in range(200):
            try:
                phone = await connect(f"ws://{HOST}:{port}{PATH}")
                break
            except OSError:
                await asyncio.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        assert await closed(phone) == (1012, "service restart")

    try:
        asyncio.run(play())
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
    printed = (tmp_path / "out.txt").read_text()
    assert "PhonesConnected" in printed
    assert json.loads(printed.splitlines()[-1])["message"] == "ended"


def test_it_ends_when_it_is_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """After it has let its phones go."""
    used = replace(settings.current(), gateway_port=_free_port(), gateway_drain_seconds=0)
    use(used, monkeypatch)
    said: list[str] = []

    def ready(text: str) -> None:
        said.append(text)
        os.kill(os.getpid(), signal.SIGTERM)

    asyncio.run(server.main(ready))
    assert said == [f"phones may come to port {used.gateway_port}"]


def test_a_defect_at_a_request_is_one_answer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is written down; what was asked is not."""

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(passthrough, "read", fail)

    async def play() -> None:
        async with serving() as (port, _):
            assert (await got(port, "/the-secret"))[0] == 500

    asyncio.run(play())
    printed = capsys.readouterr()
    assert "request failed" in printed.out
    assert "the-secret" not in printed.out + printed.err


def test_a_phone_that_is_gone_is_told_nothing() -> None:
    """Neither a frame nor a ping reaches it."""
    lost: list[str] = []

    async def served(_: object, socket: Socket, __: Arrival) -> None:
        assert await socket.receive() is None
        for name, told in (("send", socket.send(b"x")), ("settle", socket.settle())):
            try:
                await told
            except LostError:
                lost.append(name)

    async def play() -> None:
        async with serving() as (port, known):
            known.serve = served.__get__(known)  # type: ignore[method-assign]
            async with connect(f"ws://{HOST}:{port}{PATH}") as phone:
                await phone.close()
            for _ in range(100):
                if len(lost) > 1:
                    break
                await asyncio.sleep(0.05)

    asyncio.run(play())
    assert lost == ["send", "settle"]


@asynccontextmanager
async def deaf(port: int) -> AsyncIterator[socket.socket]:
    """Open a websocket that nobody reads from."""
    asked = (
        f"GET {PATH} HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    loop = asyncio.get_running_loop()
    with socket.socket() as opened:
        opened.settimeout(0)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        await loop.sock_connect(opened, (HOST, port))
        await loop.sock_sendall(opened, asked.encode())
        await loop.sock_recv(opened, 16)
        yield opened


def test_who_sends_pings_and_reads_nothing_is_cut() -> None:
    """The answers that wait for it do not grow without end."""
    pings = (bytes([0x89, 0x80 | 125]) + bytes(4 + 125)) * 250_000

    async def play() -> None:
        async with serving() as (port, _), deaf(port) as phone:
            with pytest.raises(ConnectionError):
                await asyncio.get_running_loop().sock_sendall(phone, pings)

    asyncio.run(play())


def test_nobody_waits_for_ever_for_who_reads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither to send it something nor to close its connection."""
    monkeypatch.setattr(server, "TAKE_SECONDS", 0.5)

    async def play() -> None:
        closed = asyncio.Event()

        async def served(_: object, socket: Socket, __: Arrival) -> None:
            with suppress(TimeoutError):
                while True:
                    await asyncio.wait_for(socket.send(bytes(MAX_FRAME_BYTES)), 0.2)
            await socket.close(1000, "")
            closed.set()

        monkeypatch.setattr(phones.Phones, "serve", served)
        async with serving() as (port, _), deaf(port):
            await asyncio.wait_for(closed.wait(), 10)

    asyncio.run(play())


def test_who_reads_late_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """What lay there for a while counts no more once it is taken."""
    monkeypatch.setattr(server, "TAKE_SECONDS", 1.0)

    async def play() -> None:
        waits, is_over = asyncio.Event(), asyncio.Event()

        async def served(_: object, socket: Socket, __: Arrival) -> None:
            with suppress(TimeoutError):
                while True:
                    await asyncio.wait_for(socket.send(bytes(MAX_FRAME_BYTES)), 0.2)
            waits.set()
            await asyncio.sleep(1.5)
            await socket.send(b"still here")
            await is_over.wait()

        monkeypatch.setattr(phones.Phones, "serve", served)
        async with serving() as (port, _), deaf(port) as phone, asyncio.timeout(20):
            await waits.wait()
            told = b""
            while not told.endswith(b"still here"):
                told = told[-10:] + await asyncio.get_running_loop().sock_recv(phone, 65_536)
            is_over.set()

    asyncio.run(play())


def _free_port() -> int:
    with socket.socket() as free:
        free.bind((HOST, 0))
        return int(free.getsockname()[1])


@pytest.mark.parametrize("host", sorted(server.EVERY_ADDRESS))
def test_other_processes_reach_it_at_its_own_address(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not at every one."""
    monkeypatch.setattr(socket, "gethostbyname", lambda _: "10.0.3.7")
    assert server._reached_at(host) == "10.0.3.7"  # noqa: SLF001 - what a port of a test never shows
    assert server._reached_at(HOST) == HOST  # noqa: SLF001 - see above
