"""The connection of a sysclient: a binary websocket to the URL in force, opened again and again.

It is cut when the phone restarts, and ended when the configuration names another URL, both as soon
as no session of the tunnel is open; all else that ends it is followed by a pause that grows. Which
frames are said, and what is kept, is local/sysclient.py's.
"""

import asyncio
import ssl
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.frames import CloseCode

from chalicelib.core.errors import MalformedFrameError
from chalicelib.observability import redact
from gateway.frames import MAX_FRAME_BYTES
from gateway.tunnel import UnexpectedFrameError
from local.sysclient import Conversation, Sysclient

OPEN_SECONDS = 10.0
CLOSE_SECONDS = 2.0
PING_SECONDS = 30.0


@dataclass(frozen=True)
class Pace:
    """How long a phone takes, in seconds; all of it inferred.

    Args:
        first_pause, longest_pause: before it connects again, at most; doubled each time.
        steady: a connection that lasted so long lets the pauses begin anew.
        idle: no session must have been open for so long before it restarts.
        restart: until it is back.
    """

    first_pause: float = 2.0
    longest_pause: float = 60.0
    steady: float = 10.0
    idle: float = 1.0
    restart: float = 2.0

    def pause(self, failed_count: int, random: Random) -> float:
        """Tell how long to wait after so many connections that did not last, 0 or more."""
        doubled = self.first_pause * 2 ** min(failed_count, 30)
        return random.uniform(0, min(doubled, self.longest_pause))


class SysclientConnection:
    """Keeps one sysclient connected.

    Args:
        sysclient: whose connection it is.
        source: a loopback address to connect from, None for whichever.
        pace: how long it waits for what.
        random: for the jitter of its pauses.
    """

    def __init__(
        self,
        sysclient: Sysclient,
        source: str | None = None,
        pace: Pace | None = None,
        random: Random | None = None,
    ) -> None:
        self.sysclient = sysclient
        self.opened_count = 0
        self.restart_count = 0
        self._source = source
        self._pace = pace or Pace()
        self._random = random or Random()  # noqa: S311 - jitter
        self._heard = asyncio.Event()

    @property
    def is_settled(self) -> bool:
        """Tell whether it is registered, and nothing is under way."""
        conversation = self.sysclient.conversation
        return (
            conversation is not None
            and conversation.is_registered
            and not conversation.is_busy
            and not conversation.wants_to_end
        )

    async def settle(self, quiet_seconds: float, patience_seconds: float) -> bool:
        """Wait until it is settled and nothing more has come for some seconds.

        Args:
            patience_seconds: how long nothing may come before that.

        Returns:
            Whether it is; else the patience is over.
        """
        while True:
            self._heard.clear()
            try:
                async with asyncio.timeout(quiet_seconds if self.is_settled else patience_seconds):
                    await self._heard.wait()
            except TimeoutError:
                return self.is_settled

    async def run(self) -> None:
        """Stay connected until the configuration in force has no URL any more."""
        client = self.sysclient.client
        failed_count = 0
        while url := client.sysclient_url:
            lasted_seconds = await self._connect(url)
            if client.wants_reset:
                await self._restart()
            elif client.sysclient_url == url:
                failed_count = 0 if lasted_seconds >= self._pace.steady else failed_count
                pause = self._pace.pause(failed_count, self._random)
                self.sysclient.say(f"    connects again in {pause:.1f} s")
                await asyncio.sleep(pause)
                failed_count += 1
                continue
            failed_count = 0
        self.sysclient.say("    there is no sysclient URL in force")

    async def _restart(self) -> None:
        self.sysclient.say("    restarts")
        await asyncio.sleep(self._pace.restart)
        self.sysclient.restart()
        self.restart_count += 1

    async def _connect(self, url: str) -> float:
        """Connect once → how long that lasted, in seconds."""
        self.sysclient.say(f"→ connect {redact(url)}")
        try:
            socket = await connect(url, **self._options(url))
        except (OSError, WebSocketException) as error:
            self.sysclient.say(f"← no connection: {redact(str(error))}")
            return 0.0
        self.opened_count += 1
        now = asyncio.get_running_loop().time
        opened_at = now()
        try:
            await self._converse(socket)
        except ConnectionClosed:
            code = socket.close_code
            self.sysclient.say(f"← the connection has ended ({code})")
        finally:
            self.sysclient.conversation = None
            await socket.close(CloseCode.GOING_AWAY)
        return now() - opened_at

    def _options(self, url: str) -> dict[str, Any]:
        return {
            "ssl": _tls() if url.startswith("wss:") else None,
            "local_addr": (self._source, 0) if self._source else None,
            "proxy": None,
            "compression": None,  # what is said is short, and the windows are not
            "max_size": MAX_FRAME_BYTES,
            "open_timeout": OPEN_SECONDS,
            "close_timeout": CLOSE_SECONDS,
            "ping_interval": PING_SECONDS,
            "ping_timeout": PING_SECONDS,
        }

    async def _converse(self, socket: ClientConnection) -> None:
        """Say and hear what there is, until the phone ends it.

        Raises:
            ConnectionClosed: Devices ended it, or it was lost.
        """
        conversation = Conversation(self.sysclient)
        self.sysclient.conversation = conversation
        await socket.send(bytes(conversation.begin()))
        while (received := await self._next(socket, conversation)) is not None:
            if isinstance(received, str):
                self.sysclient.say("← a text, where frames are binary")
                await socket.close(CloseCode.UNSUPPORTED_DATA)
                return
            try:
                said = conversation.take(received)
            except (MalformedFrameError, UnexpectedFrameError) as error:
                self.sysclient.say(f"← {error}")
                await socket.close(CloseCode.PROTOCOL_ERROR)
                return
            if self.sysclient.client.wants_reset_now:
                break
            for frame in said:
                await socket.send(bytes(frame))
            self._heard.set()
        if self.sysclient.client.wants_reset:
            socket.transport.abort()  # a phone that restarts says no good-bye

    async def _next(
        self, socket: ClientConnection, conversation: Conversation
    ) -> str | bytes | None:
        """Wait for the next message; None once the phone wants to end and has been idle."""
        is_idle = conversation.wants_to_end and not conversation.is_busy
        try:
            async with asyncio.timeout(self._pace.idle if is_idle else None):
                return await socket.recv()
        except TimeoutError:
            return None


@cache
def _tls() -> ssl.SSLContext:
    """Make what a thousand phones can share."""
    return ssl.create_default_context()
