"""What every view has in common: the call it gets, and what becomes of its errors.

A view parses, makes one call and renders; the clock, the source address, our own URL and the
error table are here, so that no view can forget them.
"""

import functools
import json
import re
import time
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote

from chalice.app import Blueprint, Request, Response

from chalicelib import documents, observability, settings
from chalicelib.api import problems
from chalicelib.core import edge, scripts
from chalicelib.core.errors import (
    DialtoneError,
    Fault,
    InvalidRequestError,
    LimitReachedError,
    NotAllowedError,
    NotSignedInError,
    RequestTooLargeError,
    StoreUnavailableError,
)
from chalicelib.core.rate_limits import source_of
from chalicelib.loading import on_use

if TYPE_CHECKING:
    from pydantic import BaseModel

    from chalicelib.identity import Person
    from chalicelib.roles.asking import Asking
    from chalicelib.storage import idempotency
else:
    # what only people's requests need must not make a phone's cold start wait
    idempotency = on_use("chalicelib.storage.idempotency")

MAX_QUERY_LENGTH = 4_096
MAX_BODY_BYTES = 65_536
MAX_LIST_LIMIT = 100
DEFAULT_LIST_LIMIT = 50
MAX_CURSOR_LENGTH = 400
IDEMPOTENCY_KEY = "Idempotency-Key"
MAX_KEY_LENGTH = 255

View = Callable[..., Response]
_Model = TypeVar("_Model", bound="BaseModel")


@dataclass(frozen=True)
class Call:
    """One request, as views see it.

    Args:
        now: the server's clock.
    """

    request: Request
    now: datetime

    @cached_property
    def arrival(self) -> edge.Arrival:
        """How the request came: through the edge, or straight to API Gateway."""
        headers = self.request.headers
        return edge.arrival(
            headers,
            str(self.request.context.get("identity", {}).get("sourceIp", "")),
            str(headers.get("x-forwarded-proto", "https")),
            settings.current().edge_hashes,
        )

    @cached_property
    def source(self) -> str:
        """Who is calling, for limits: see rate_limits.source_of."""
        return source_of(self.arrival.address)

    @cached_property
    def base_url(self) -> str:
        """Our own URL, from the settings or from API Gateway, never from the Host header."""
        context = self.request.context
        own = f"https://{context.get('domainName')}/{context.get('stage')}"
        return settings.current().public_url or own

    @cached_property
    def came_in_clear(self) -> bool:
        """Tell whether the request came over plain HTTP although we have a secure URL."""
        return self.arrival.scheme == "http" and self.base_url.startswith("https:")

    @cached_property
    def query(self) -> Mapping[str, str]:
        """The query, names in lower case, the last of equal names."""
        given = self.request.query_params
        return {name.lower(): given[name] for name in given} if given else {}

    @property
    def content_type(self) -> str:
        """What the body is, without its parameters."""
        return str(self.request.headers.get("content-type", "")).partition(";")[0].strip().lower()

    @property
    def languages(self) -> str:
        """Which languages the caller reads, the best first: `Accept-Language`."""
        return str(self.request.headers.get("accept-language", ""))

    @cached_property
    def bearer(self) -> str:
        """The token of the Authorization header.

        Raises:
            NotSignedInError: there is none.
        """
        scheme, _, token = str(self.request.headers.get("authorization", "")).partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise NotSignedInError("no bearer token")
        return token.strip()

    @cached_property
    def person(self) -> "Person":
        """The signed-in caller.

        Raises:
            NotSignedInError: there is none.
        """
        from chalicelib import identity

        return identity.check(self.bearer, self.now)

    @cached_property
    def asking(self) -> "Asking":
        """The signed-in caller, as the roles take one.

        Raises:
            NotSignedInError: there is none.
        """
        from chalicelib.roles.asking import Asking

        return Asking(self.person, self.source, self.base_url, self.now)

    @property
    def raw_body(self) -> bytes:
        """The body as it came."""
        raw = self.request.raw_body
        return raw if isinstance(raw, bytes) else raw.encode()

    def body(self, model: type[_Model]) -> _Model:
        """Read the JSON body.

        Raises:
            InvalidRequestError: it is no JSON, or not of this shape; with every fault, by field.
        """
        return documents.read(self.request.raw_body, model)

    def repeat_key(self) -> str:
        """Read the key under which the caller may repeat this write.

        Raises:
            InvalidRequestError: it is malformed.
        """
        key = str(self.request.headers[IDEMPOTENCY_KEY])
        if not re.fullmatch(rf"[ -~]{{1,{MAX_KEY_LENGTH}}}", key):
            wanted = f"1 to {MAX_KEY_LENGTH} printable ASCII characters"
            raise InvalidRequestError(Fault(IDEMPOTENCY_KEY, wanted))
        return key

    def choice(self, name: str, pattern: str, wanted: str) -> str | None:
        """Read a parameter of the query that must match, None if it is not there.

        Args:
            wanted: what would be right, for the fault.

        Raises:
            InvalidRequestError: it does not match.
        """
        value = self.query.get(name)
        if value is not None and not re.fullmatch(pattern, value):
            raise InvalidRequestError(Fault(name, wanted))
        return value

    def is_set(self, name: str) -> bool:
        """Read a switch of the query, off if it is not there.

        Raises:
            InvalidRequestError: it is neither `true` nor `false`.
        """
        return self.choice(name, "true|false", "true or false") == "true"

    def moment(self, name: str) -> datetime | None:
        """Read a time of the query, None if it is not there.

        Raises:
            InvalidRequestError: it is no time, or one without its offset.
        """
        text = self.query.get(name)
        if text is None:
            return None
        try:
            # a plus sign that was not encoded arrives as a blank
            moment = datetime.fromisoformat(text.replace(" ", "+"))
        except ValueError:
            moment = datetime.min  # noqa: DTZ901 - has no offset, and so is refused
        if moment.tzinfo is None:
            raise InvalidRequestError(Fault(name, "a time as 2026-11-24T12:00:00Z"))
        return moment

    def page(
        self, max_limit: int = MAX_LIST_LIMIT, default_limit: int = DEFAULT_LIST_LIMIT
    ) -> tuple[int, str | None]:
        """Read `limit` and `cursor` of a list.

        Raises:
            InvalidRequestError: either is malformed.
        """
        faults = []
        text = self.query.get("limit", str(default_limit))
        is_number = text.isascii() and text.isdecimal() and len(text) <= len(str(max_limit))
        if not is_number or not 1 <= int(text) <= max_limit:
            faults.append(Fault("limit", f"a whole number from 1 to {max_limit}"))
        after = None
        try:
            after = after_of(self.query.get("cursor"))
        except InvalidRequestError as error:
            faults += error.faults
        if faults:
            raise InvalidRequestError(*faults)
        return int(text), after


class Views(Blueprint):
    """A blueprint whose views get a Call and cannot let an error escape."""

    def __init__(
        self, name: str, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        """Name the module; the clock is the server's."""
        super().__init__(name)
        self._clock = clock

    def route(self, path: str, **options: Any) -> Callable[[View], View]:  # noqa: ANN401 - Chalice's
        """Register a view whose errors become problem+json.

        Args:
            options: of Chalice; `max_body_bytes` is ours.
        """
        return self._registered(path, problems.problem_of, options)

    def post(self, path: str, **options: Any) -> Callable[[View], View]:  # noqa: ANN401 - Chalice's
        """Register a POST of a signed-in person, which an Idempotency-Key makes once."""
        return self._once("POST", path, options)

    def draw(self, path: str) -> Callable[[View], View]:
        """Register a PUT that draws what it sets: repeated, it would set something else."""
        return self._once("PUT", path, {})

    def _once(self, method: str, path: str, options: dict[str, Any]) -> Callable[[View], View]:
        register = self.route(path, methods=[method], **options)

        def wrap(view: View) -> View:
            @functools.wraps(view)
            def made_once(call: Call, **parameters: str) -> Response:
                if IDEMPOTENCY_KEY not in call.request.headers:
                    return view(call, **parameters)
                write = _write_of(call, (method, path, *parameters.values()))
                answer = idempotency.once(
                    write,
                    lambda: _to_keep(view(call, **parameters)),
                    int(self.lambda_context.get_remaining_time_in_millis()),
                )
                return Response(answer.body, dict(answer.headers), answer.status)

            return register(made_once)

        return wrap

    def script(self, path: str) -> Callable[[View], View]:
        """Register a view for phones: always 200 and something a phone can live with."""
        return self._registered(path, _script_of, {"methods": ["GET"]})

    def _registered(
        self, path: str, answer_error: Callable[[Exception], Response], options: dict[str, Any]
    ) -> Callable[[View], View]:
        max_body_bytes = options.pop("max_body_bytes", MAX_BODY_BYTES)
        register = super().route(path, **options)

        def wrap(view: View) -> View:
            @functools.wraps(view)
            def answered(**parameters: str) -> Response:
                request, now = self.current_request, self._clock()
                started = time.perf_counter()
                caused_by = observability.correlation_of(request.context.get("requestId"))
                with observability.correlated(caused_by):
                    try:
                        _check_size(request, max_body_bytes)
                        call = Call(request, now)
                        _check_way(call)
                        # Chalice hands path parameters on as they were sent, encoded
                        named = {name: unquote(value) for name, value in parameters.items()}
                        answer = view(call, **named)
                    except DialtoneError as error:
                        answer = answer_error(error)
                    except Exception as error:  # noqa: BLE001 - the last line: logged, and a fixed text
                        observability.logger().exception("defect")
                        answer = answer_error(error)
                    _log(request, answer, time.perf_counter() - started)
                return answer

            registered: View = register(answered)
            return registered

        return wrap


def document(body: Mapping[str, Any], status: int = 200) -> Response:
    """Answer with JSON; times become RFC 3339."""
    return Response(
        body=json.dumps(body, default=documents.plain),
        status_code=status,
        headers={"Content-Type": "application/json", "Cache-Control": "no-store"},
    )


def nothing() -> Response:
    """Answer that it is done."""
    return Response(body="", status_code=204, headers={"Cache-Control": "no-store"})


def script(text: str) -> Response:
    """Answer with an update script."""
    return Response(
        body=text,
        status_code=200,
        headers={"Content-Type": "text/plain; charset=utf-8", "Cache-Control": "no-store"},
    )


def listing(items: list[dict[str, Any]], next_after: str | None) -> Response:
    """Answer with a page of a list."""
    return document({"items": items, "next": cursor_to(next_after)})


def cursor_to(next_after: str | None) -> str | None:
    """Write where a list goes on, None at its end."""
    return urlsafe_b64encode(next_after.encode()).decode() if next_after else None


def after_of(cursor: str | None) -> str | None:
    """Read where a list is to go on, None for its beginning.

    Raises:
        InvalidRequestError: no list of ours wrote that.
    """
    if cursor is None:
        return None
    try:
        after = b64decode(cursor, b"-_", validate=True).decode()
    except ValueError:
        after = ""
    if not 0 < len(after) <= MAX_CURSOR_LENGTH:
        raise InvalidRequestError(Fault("cursor", "not a cursor of this list"))
    return after


def _write_of(call: Call, operation: Sequence[str]) -> "idempotency.Write":
    """Tell a write by all that makes it this one; nobody learns of a key who is not signed in."""
    person = call.person
    query = json.dumps(sorted(call.query.items()))
    return idempotency.Write(
        caller=(settings.current().issuer, person.sub, person.domain, person.sip),
        operation=operation,
        key=call.repeat_key(),
        content=query.encode() + call.raw_body,
    )


def _to_keep(answer: Response) -> "idempotency.Answer":
    headers = {name: str(value) for name, value in answer.headers.items()}
    return idempotency.Answer(answer.status_code, headers, answer.body)


def _script_of(error: Exception) -> Response:
    if isinstance(error, LimitReachedError):
        return script(scripts.comment("too many attempts, come back later"))
    if isinstance(error, StoreUnavailableError):
        return script(scripts.comment("not available for a moment, come back later"))
    if isinstance(error, NotAllowedError):
        return script(scripts.comment("not at this address"))
    if isinstance(error, InvalidRequestError):
        return script(scripts.comment("not understood: " + "; ".join(_texts(error))))
    return script(scripts.comment("something went wrong on our side, come back later"))


def _texts(error: InvalidRequestError) -> list[str]:
    return [f"{fault.field} {fault.message}" for fault in error.faults]


def _check_size(request: Request, max_body_bytes: int) -> None:
    query: Mapping[str, str] = request.query_params or {}
    if sum(len(name) + len(query[name]) for name in query) > MAX_QUERY_LENGTH:
        raise RequestTooLargeError(Fault("query", f"at most {MAX_QUERY_LENGTH} characters"))
    if len(request.raw_body) > max_body_bytes:
        raise RequestTooLargeError(Fault("body", f"at most {max_body_bytes} bytes"))


def _check_way(call: Call) -> None:
    if settings.current().demands_edge and not call.arrival.came_by_edge:
        raise NotAllowedError("past the edge")


def _log(request: Request, answer: Response, seconds: float) -> None:
    observability.logger().info(
        "request",
        extra={
            "route": request.context.get("resourcePath"),
            "method": request.method,
            "status": answer.status_code,
            "milliseconds": round(seconds * 1000, 1),
        },
    )
