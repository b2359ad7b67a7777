"""API Gateway on one machine: turns HTTP requests into the events that Lambda gets.

Peer address, request id, stage, domain name and text body are as API Gateway makes them, its
limits are kept, and the very functions are called that Lambda calls. It must not know any route.
"""

import asyncio
import base64
import gzip
import json
import re
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from chalice.app import Chalice, CORSConfig
from chalice.local import LocalChalice

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

MAX_BODY_BYTES = 10 * 1024 * 1024
MAX_EVENT_BYTES = 6 * 1024 * 1024
"""What an event of Lambda may have; counted here is its body, by far the most of it."""

MIN_COMPRESSED_BYTES = 1024
"""As `minimum_compression_size` in .chalice/config.json."""

MAX_WORKERS = 64
STAGE = "api"


@dataclass(frozen=True)
class Context:
    """What Lambda hands to a function beside the event."""

    aws_request_id: str
    function_name: str = "dialtone-local-api_handler"
    memory_limit_in_mb: int = 1024
    invoked_function_arn: str = "arn:aws:lambda:eu-central-1:000000000000:function:local"

    def get_remaining_time_in_millis(self) -> int:
        """Tell the time that is left; here there is no end."""
        return 10_000


def thread_local(app: Chalice) -> Chalice:
    """Let an app serve requests in parallel, as Chalice's own local mode does.

    A plain Chalice keeps the current request once per app and mixes parallel ones up.
    """
    if isinstance(app, LocalChalice):
        return app

    class ThreadLocalApp(LocalChalice, type(app)):  # type: ignore[misc]  # the class is the app's own
        """The app, with a current request per thread."""

    app.__class__ = ThreadLocalApp
    return app


class ApiGateway:
    """The REST stage of an app, as an ASGI application."""

    def __init__(self, app: Chalice, domain_name: str) -> None:
        """Take the app, and the host name that API Gateway would have."""
        self._app = thread_local(app)
        self._domain_name = domain_name
        self._workers = ThreadPoolExecutor(MAX_WORKERS, thread_name_prefix="lambda")
        self._routes = [(_pattern(path), path) for path in sorted(app.routes, key=_generality)]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; its path is below the stage, and not decoded, as API Gateway's."""
        body = await body_of(receive, MAX_BODY_BYTES)
        if body is None:
            await answer(send, 413, *TOO_LARGE)
            return
        event = self._event(scope, body)
        if event is None:
            await answer(send, 404, *problem("not-found", "There is nothing here", 404))
            return
        if event["body"] and len(event["body"]) > MAX_EVENT_BYTES:
            await answer(send, 413, *TOO_LARGE)
            return
        if event["httpMethod"] == "OPTIONS":
            await answer(send, 200, self._preflight(), b"")
            return
        context = Context(event["requestContext"]["requestId"])
        loop = asyncio.get_running_loop()
        result = await loop.run_in_executor(self._workers, self._app, event, context)
        headers = dict(result.get("headers") or {})
        for name, values in (result.get("multiValueHeaders") or {}).items():
            headers[name] = ", ".join(values)
        content = (result.get("body") or "").encode()
        accepted = event["headers"].get("Accept-Encoding", "")
        if "gzip" in accepted and len(content) >= MIN_COMPRESSED_BYTES:
            headers["Content-Encoding"] = "gzip"
            content = gzip.compress(content)
        await answer(send, result["statusCode"], headers, content)

    def close(self) -> None:
        """Let what is running end."""
        self._workers.shutdown()

    def _event(self, scope: Scope, body: bytes) -> dict[str, Any] | None:
        """Write the event of API Gateway's Lambda proxy integration, None for an unknown route."""
        path = scope["path"]
        matches = ((pattern.fullmatch(path), route) for pattern, route in self._routes)
        match, route = next(((match, route) for match, route in matches if match), (None, ""))
        if match is None:
            return None
        request_id = str(uuid.uuid4())
        headers: dict[str, list[str]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.decode("latin-1").title(), []).append(value.decode("latin-1"))
        headers["X-Forwarded-Proto"] = [scope.get("scheme", "http")]
        query: dict[str, list[str]] = {}
        pairs = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        for name, value in pairs:
            query.setdefault(name, []).append(value)
        sent_as = headers.get("Content-Type", [""])[-1].partition(";")[0].strip().lower()
        is_file = bool(body) and sent_as in self._app.api.binary_types
        text = base64.b64encode(body).decode() if is_file else body.decode("utf-8", "replace")
        return {
            "resource": route,
            "path": path,
            "httpMethod": scope["method"],
            "headers": {name: values[-1] for name, values in headers.items()},
            "multiValueHeaders": headers,
            "queryStringParameters": {name: values[-1] for name, values in query.items()} or None,
            "multiValueQueryStringParameters": query or None,
            "pathParameters": match.groupdict() or None,
            "stageVariables": None,
            "requestContext": {
                "resourcePath": route,
                "httpMethod": scope["method"],
                "path": f"/{STAGE}{path}",
                "requestId": request_id,
                "stage": STAGE,
                "domainName": self._domain_name,
                "requestTimeEpoch": int(time.time() * 1000),
                "identity": {"sourceIp": scope["client"][0], "userAgent": ""},
                "protocol": "HTTP/1.1",
            },
            "body": text or None,
            "isBase64Encoded": is_file,
        }

    def _preflight(self) -> dict[str, str]:
        cors = self._app.api.cors
        headers = cors.get_access_control_headers() if isinstance(cors, CORSConfig) else {}
        return {**headers, "Access-Control-Allow-Methods": "GET,POST,PUT,PATCH,DELETE,OPTIONS"}


def _generality(route: str) -> list[bool]:
    """Let a fixed segment win over a parameter in its place, whichever was registered first."""
    return [segment.startswith("{") for segment in route.split("/")]


def _pattern(route: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", route))


async def body_of(receive: Receive, max_bytes: int) -> bytes | None:
    """Read a body, None if it passes a limit."""
    parts, length, more = [], 0, True
    while more:
        message = await receive()
        part = message.get("body", b"")
        length += len(part)
        if length > max_bytes:
            return None
        parts.append(part)
        more = message.get("more_body", False)
    return b"".join(parts)


def problem(slug: str, title: str, status: int, **members: object) -> tuple[dict[str, str], bytes]:
    """Write a gateway response as infra/resources.json defines them."""
    body = {"type": f"urn:dialtone:problem:{slug}", "title": title, "status": status, **members}
    headers = {
        "Content-Type": "application/problem+json",
        "Cache-Control": "no-store",
        "Access-Control-Allow-Origin": "*",
    }
    return headers, json.dumps(body).encode()


TOO_LARGE = problem(
    "too-large",
    "The request is too large",
    413,
    faults=[
        {"field": "body", "message": "at most 4194304 bytes, for a file; less for everything else"}
    ],
)


async def answer(send: Send, status: int, headers: dict[str, str], body: bytes) -> None:
    """Send one whole answer."""
    written = [
        (name.lower().encode(), str(value).encode("latin-1")) for name, value in headers.items()
    ]
    written.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": written})
    await send({"type": "http.response.body", "body": body})
