"""Passthrough: a Users instance reads the pages of a phone that is connected to any gateway.

    GET /{domain}/devices/passthrough/{hw_id}/{key}/{path}

The key is that of its AppWebsocket session, and worth nothing once that has ended: of all its
devices, or of this one alone as in the device object. Only under the latter may a page run scripts,
which can read their address. A phone that another process holds is asked there, once. Nobody may
sign in to these pages as to ours: they come from a phone, so a browser gets them in a sandbox,
without cookies of ours or its own. It must not log a path, which holds the key.
"""

import asyncio
import http.client
from collections.abc import Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus
from urllib.parse import unquote
from weakref import WeakValueDictionary

from chalicelib import observability
from chalicelib.core.devices import Device, parse_hw_id
from chalicelib.core.errors import InvalidRequestError, NotFoundError, StoreUnavailableError
from chalicelib.roles import instances
from gateway.phones import Phones
from gateway.tunnel import BadAnswerError, NoAnswerError, TunnelClosedError

HOP = "x-dialtone-hop"
"""A request that another process has sent on is not sent on again."""

FORWARD_SECONDS = 35
"""Longer than a phone may take, so that it is the phone's own process that says so."""

_FORWARDS, _FORWARDS_OF_DOMAIN = 64, 8
"""How many pages may be on their way from other processes, in all and of one domain."""

_KEPT = ("content-type", "content-encoding", "content-disposition", "location", "www-authenticate")
_PASSED_ON = ("accept", "accept-encoding", "accept-language", "authorization", "if-none-match")
_SAFE = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_MAX_BYTES = 2_097_152


_ERRORS: Mapping[type[Exception], tuple[HTTPStatus, str]] = {
    NotFoundError: (HTTPStatus.NOT_FOUND, "There is nothing here"),
    InvalidRequestError: (HTTPStatus.BAD_REQUEST, "No phone can be asked that"),
    BadAnswerError: (HTTPStatus.BAD_GATEWAY, "What the phone answers cannot be read"),
    TunnelClosedError: (HTTPStatus.SERVICE_UNAVAILABLE, "The phone is not connected"),
    StoreUnavailableError: (HTTPStatus.SERVICE_UNAVAILABLE, "Try again later"),
    NoAnswerError: (HTTPStatus.GATEWAY_TIMEOUT, "The phone does not answer"),
}


@dataclass(frozen=True)
class Asked:
    """A request for a page of a phone.

    Args:
        hw_id: 12 lower-case hex digits.
        path: at the phone, with its query, as it was sent.
        headers: names in lower case.
    """

    domain: str
    hw_id: str
    key: str = field(repr=False)
    path: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    target: str = field(repr=False)


@dataclass(frozen=True)
class Page:
    """An answer; without a body of its own it is an error of ours, which `title` tells."""

    status: HTTPStatus | int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    title: str = ""


def read(target: str, headers: Mapping[str, str]) -> Asked | None:
    """Read a request, None if it is not for a page of a phone.

    Args:
        target: path and query, as they were sent.
        headers: names in lower case.
    """
    path, question, query = target.partition("?")
    match path.split("/", 6):
        case ["", domain, "devices", "passthrough", hw_id, key, rest] if domain:
            known = parse_hw_id(hw_id)
            if known is not None:
                below = f"/{rest}{question}{query}"
                return Asked(unquote(domain), known, key, below, headers, target)
    return None


async def answer(asked: Asked, phones: Phones, now: datetime) -> Page:
    """Bring a page of a phone."""
    try:
        return await _page(asked, phones, now)
    except tuple(_ERRORS) as error:
        status, title = _ERRORS[type(error)]
        return Page(status, title=title)


async def _page(asked: Asked, phones: Phones, now: datetime) -> Page:
    reached = await asyncio.to_thread(
        instances.find_reached, asked.key, asked.domain, asked.hw_id, now
    )
    device = reached.device
    observability.count("PageAsked")
    session = phones.find(asked.hw_id)
    if session is None or session.connection != device.connection:
        # what this process holds may be of a domain that has released the phone, or dead
        return await _forwarded(asked, device, phones.address)
    passed_on = [(name, asked.headers[name]) for name in _PASSED_ON if name in asked.headers]
    told = await session.tunnel.request("GET", asked.path, passed_on)
    headers = _safe(dict(told.headers), may_run=reached.is_of_device)
    return Page(told.status, headers, told.body)


async def _forwarded(asked: Asked, device: Device, here: str) -> Page:
    """Ask the process that holds the phone, if that is another one."""
    address = device.connection.partition("#")[0]
    if address in {"", here} or HOP in asked.headers:
        raise TunnelClosedError
    loop = asyncio.get_running_loop()
    turn = _turns.setdefault(asked.domain, asyncio.Semaphore(_FORWARDS_OF_DOMAIN))
    try:
        async with turn:
            return await loop.run_in_executor(_forwarding, _ask, address, asked)
    except (OSError, http.client.HTTPException) as error:
        why = type(error).__name__
        observability.logger().warning("page not forwarded", extra={"why": why})
        raise TunnelClosedError from error


_forwarding = ThreadPoolExecutor(_FORWARDS, "forward")
"""Threads of their own, so that calls to the database never wait for a phone."""

_turns: MutableMapping[str, asyncio.Semaphore] = WeakValueDictionary()
"""Of each domain that waits: phones that do not answer hold up no other domain's."""


def _ask(address: str, asked: Asked) -> Page:
    connection = http.client.HTTPConnection(address, timeout=FORWARD_SECONDS)
    try:
        connection.request("GET", asked.target, headers={**asked.headers, HOP: "1"})
        told = connection.getresponse()
        body = told.read(_MAX_BYTES)
        headers = {name.lower(): value for name, value in told.getheaders()}
        # the other process says whether scripts may run
        policy = headers.get("content-security-policy", "")
        return Page(told.status, _safe(headers, may_run="allow-scripts" in policy), body)
    finally:
        connection.close()


def _safe(headers: Mapping[str, str], *, may_run: bool) -> dict[str, str]:
    """Keep what a page needs, and add what keeps it to itself.

    Args:
        may_run: whether its scripts may; they can read the address, and so the key in it.
    """
    sandbox = "sandbox allow-scripts allow-forms" if may_run else "sandbox allow-forms"
    kept = {name: headers[name] for name in _KEPT if name in headers}
    return {**kept, **_SAFE, "Content-Security-Policy": sandbox}
