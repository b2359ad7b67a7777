"""Sysclients on one machine: the gateway's own sessions, behind the port of the local server.

In AWS they have a server of their own (gateway/server.py). Here is no ping by which a phone would
show that it has got what was sent, so sent counts as got. It must not contain any of the service's
own rules.
"""

from contextlib import suppress

from chalicelib.core.rate_limits import source_of
from gateway import passthrough
from gateway.phones import Phones
from gateway.server import arrival_of
from gateway.session import LostError
from local.api_gateway import Receive, Scope, Send, answer, problem
from local.websocket_gateway import refuse


class _Socket:
    """A phone's websocket, as a session wants it."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send

    async def receive(self) -> bytes | str | None:
        message = await self._receive()
        if message["type"] != "websocket.receive":
            return None
        received: bytes | None = message.get("bytes")
        return str(message["text"]) if received is None else received

    async def send(self, frame: bytes) -> None:
        try:
            await self._send({"type": "websocket.send", "bytes": frame})
        except OSError as error:
            raise LostError from error

    async def settle(self) -> None:
        """Sent counts as got."""

    async def close(self, code: int, reason: str) -> None:
        with suppress(OSError):
            await self._send({"type": "websocket.close", "code": code, "reason": reason})


class SysclientGateway:
    """The phones behind the port.

    Args:
        address: host and port, as in a URL.
    """

    def __init__(self, address: str) -> None:
        self.phones = Phones()
        self.phones.address = address

    def is_served(self, scope: Scope) -> bool:
        """Tell whether a websocket is a phone's."""
        return arrival_of(scope["raw_path"].decode("ascii"), "") is not None

    async def page(self, scope: Scope, send: Send) -> bool:
        """Answer a request if it is for a page of a phone; tells whether it was."""
        raw = f"{scope['raw_path'].decode('ascii')}?{scope['query_string'].decode('latin-1')}"
        headers = {name.decode(): value.decode("latin-1") for name, value in scope["headers"]}
        asked = passthrough.read(raw.removesuffix("?"), headers)
        if asked is None or scope["method"] != "GET":
            return False
        got = await passthrough.answer(asked, self.phones, self.phones.now())
        if got.body is None:
            await answer(send, got.status, *problem("page", got.title, got.status))
        else:
            await answer(send, got.status, dict(got.headers), got.body)
        return True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one websocket."""
        source = source_of(scope["client"][0])
        query = scope["query_string"].decode("latin-1")
        arrival = arrival_of(f"{scope['raw_path'].decode('ascii')}?{query}", source)
        if arrival is None or not self.phones.has_room(source):
            await refuse(send, 503)
            return
        await receive()
        await send({"type": "websocket.accept"})
        await self.phones.serve(_Socket(receive, send), arrival)
