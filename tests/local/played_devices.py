"""Devices as tests play it, over real websockets on loopback; the central service is beside it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from chalicelib.core import scripts, sysclient_login
from chalicelib.core.errors import MalformedFrameError
from gateway import frames
from gateway.frames import AdminFrame, AdminPassword, Challenge, Frame, Identify, SysclientPassword
from gateway.tunnel import Tunnel, UnexpectedFrameError

CODE = "123456789012"
TOKEN = "sesame & more"
CHALLENGE = "1446931255"
PATH = "/example.com/devices/sysclients"
LIMIT_SECONDS = 30

_Result = TypeVar("_Result")


class Online:
    """The end of Devices of one connection.

    `heard` has all frames of the phone, `identifies` those that say who it is. `is_in`: it was
    admitted, or has proved itself. `is_cut`: it ended without a good-bye.
    """

    def __init__(self, socket: ServerConnection) -> None:
        self.socket = socket
        self.tunnel = Tunnel(socket.send)
        self.heard: list[Frame] = []
        self.identifies: list[Identify] = []
        self.is_in = False
        self.is_over = False
        self.is_cut = False
        assert socket.request
        query = parse_qs(urlsplit(socket.request.path).query)
        self.query = {name: values[-1] for name, values in query.items()}
        self.source = str(socket.remote_address[0])

    async def say(self, frame: AdminFrame | bytes) -> None:
        """Say something in the middle of the connection."""
        await self.socket.send(bytes(frame))

    async def command(self, line: str) -> str:
        """Have the phone run a command → what it did."""
        answer = await self.tunnel.request("GET", f"/!{scripts.option(line)}")
        assert answer.status == 200
        return answer.body.decode().strip()

    async def page(self, path: str) -> str:
        """Get a page of the phone."""
        answer = await self.tunnel.request("GET", path)
        assert answer.status == 200
        return answer.body.decode()


class Devices:
    """Admits phones by one code or one token, and those that it knows by their digest.

    `passwords` are those of the phones that are in the domain, by hardware id, `admin_password`
    is what it sets, empty for none, and `faults` are what it could not understand.
    """

    def __init__(self) -> None:
        self.url = ""
        self.init_url = ""
        self.faults: list[Exception] = []
        self.passwords: dict[str, str] = {}
        self.admin_password = ""
        self.connections: list[Online] = []

    @property
    def last(self) -> Online:
        """The connection that was opened last."""
        return self.connections[-1]

    async def serve(self, socket: ServerConnection) -> None:
        """Serve one connection until it is over."""
        online = Online(socket)
        self.connections.append(online)
        try:
            async for received in socket:
                assert isinstance(received, bytes)
                await self._take(online, frames.parse(received))
        except ConnectionClosed:
            online.is_cut = True
        except (AssertionError, MalformedFrameError) as fault:
            self.faults.append(fault)
        finally:
            online.is_over = True
            online.tunnel.close()

    def answer(self, socket: ServerConnection, request: Request) -> Response | None:
        """Answer `/init` as the central service does; all else is a websocket."""
        parts = urlsplit(request.path)
        if parts.path != "/init":
            return None
        typed = parse_qs(parts.query).get("PROVISIONING-CODE", ["prompt"])[-1]
        is_typed = typed.replace(" ", "") == CODE
        script = scripts.to_devices(self.url) if is_typed else scripts.code_form(None)
        return socket.respond(HTTPStatus.OK, script)

    async def _take(self, online: Online, frame: Frame) -> None:
        online.heard.append(frame)
        if isinstance(frame, Identify):
            online.identifies.append(frame)
            await self._identify(online, frame)
        elif isinstance(frame, frames.TunnelFrame):
            with suppress(UnexpectedFrameError):  # of a session that a test has made by hand
                online.tunnel.take(frame)

    async def _identify(self, online: Online, said: Identify) -> None:
        known = self.passwords.get(said.hw_id)
        if said.digest:
            wanted = sysclient_login.digest(
                said.id, said.product, said.version, CHALLENGE, known or "nobody's"
            )
            if said.digest != wanted:
                await online.socket.close()
                return
        elif known:
            await online.say(Challenge(CHALLENGE))
            return
        elif said.provisioning_code.replace(" ", "") == CODE or online.query.get("token") == TOKEN:
            known = self.passwords[said.hw_id] = f"{said.hw_id:!<32}"
            await online.say(SysclientPassword(known))
        else:
            return
        if self.admin_password:
            await self.set_admin_password(online, known or "")
        online.is_in = True

    async def set_admin_password(self, online: Online, password: str) -> None:
        """Set the administrator's password of a phone."""
        seed = "wJQog70GUK!GPTN2"
        pwd = sysclient_login.encrypt(self.admin_password, seed, password)
        await online.say(AdminPassword(seed, pwd))


@asynccontextmanager
async def serving() -> AsyncIterator[Devices]:
    """Serve on a free loopback port."""
    devices = Devices()
    async with serve(
        devices.serve, "127.0.0.1", 0, process_request=devices.answer, close_timeout=1
    ) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        devices.url = f"ws://127.0.0.1:{port}{PATH}"
        devices.init_url = f"http://127.0.0.1:{port}/init"
        yield devices
    assert devices.faults == []


async def until(is_so: Callable[[], object]) -> None:
    """Wait for a condition."""
    while not is_so():  # noqa: ASYNC110 - what a phone keeps tells nobody that it has changed
        await asyncio.sleep(0.005)


def play(played: Coroutine[Any, Any, _Result]) -> _Result:
    """Run a test; what would wait for ever fails."""

    async def limited() -> _Result:
        async with asyncio.timeout(LIMIT_SECONDS):
            return await played

    return asyncio.run(limited())
