"""Connections: opened, spoken to, closed; the three events that API Gateway makes of a websocket.

Every message is answered or its connection closed, whatever it brings, and no other connection
notices. It must not know what any message means.
"""

import functools
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime

from chalice.app import Response, WebsocketEvent

from chalicelib import observability, sending, settings
from chalicelib.core import edge
from chalicelib.core.errors import (
    DialtoneError,
    Fault,
    InvalidRequestError,
    NotAllowedError,
    NotSignedInError,
    StoreUnavailableError,
)
from chalicelib.core.rate_limits import source_of
from chalicelib.roles import logins
from chalicelib.sockets import devices_service, frames, login
from chalicelib.storage.connections import Connection, Role

Answer = Callable[[frames.Message, Connection], Iterable[str]]
Entry = Callable[[WebsocketEvent], Response]

BEFORE_LOGIN: Mapping[str, Answer] = {
    "CheckBuild": login.check_build,
    "AppChallenge": login.challenge,
    "AppLogin": login.app_login,
    "UserLogin": login.user_login,
    "KeepAlive": login.keep_alive,
}

LOGINS = frozenset({"AppLogin", "UserLogin"})
"""Whoever fails here is told and hung up."""

OF_INSTANCES: Mapping[str, Answer] = {
    "PbxInfo": login.pbx_info,
    "AppInfo": login.app_info,
    "GetLoginInfo": devices_service.login_info,
    "GetUserInfo": devices_service.login_info,
    "GetDomains": devices_service.list_domains,
    "GetDevices": devices_service.list_devices,
    "GetProvisioningCategories": devices_service.list_categories,
    "GetProvisioningCode": devices_service.issue_code,
    "GetProvisionedDevice": devices_service.provisioned_device,
    "GetDevicePhones": devices_service.list_phones,
    "RemoveDevicePhone": devices_service.remove_phone,
}


def _correlated(entry: Entry) -> Entry:
    """Let everything that an event causes be logged under one id, until the last push."""

    @functools.wraps(entry)
    def entered(event: WebsocketEvent) -> Response:
        request_id = event.to_dict()["requestContext"].get("requestId")
        with observability.correlated(observability.correlation_of(request_id)):
            return entry(event)

    return entered


@_correlated
def opened(event: WebsocketEvent) -> Response:
    """Take note of a connection; without a note of it, it is refused."""
    came = _arrival(event)
    if settings.current().demands_edge and not came.came_by_edge:
        return Response("", status_code=403)
    try:
        logins.open_connection(event.connection_id, source_of(came.address), now())
    except StoreUnavailableError as error:
        observability.logger().warning("connection refused", extra={"why": error.what})
        return Response("", status_code=503)
    return _done()


@_correlated
def received(event: WebsocketEvent) -> Response:
    """Answer a message."""
    try:
        known = logins.attend(event.connection_id, now())
    except NotSignedInError:
        logins.hang_up(event.connection_id)
        return _done()
    except DialtoneError as error:
        _send(event.connection_id, [frames.written("Error", error=frames.reason_of(error))])
        return _done()
    try:
        message = frames.read(str(event.body or ""), now())
    except InvalidRequestError as error:
        _send(event.connection_id, [frames.written("Error", error=str(error))])
        return _done()
    _answer(message, known)
    return _done()


@_correlated
def closed(event: WebsocketEvent) -> Response:
    """Forget a connection; what is left of it in trouble goes with its time to live."""
    try:
        logins.close_connection(event.connection_id)
    except StoreUnavailableError as error:
        observability.logger().warning("connection not forgotten", extra={"why": error.what})
    return _done()


def now() -> datetime:
    """Tell the server's clock."""
    return datetime.now(UTC)


def _arrival(event: WebsocketEvent) -> edge.Arrival:
    """Tell how a connection was opened; its headers are in this event and in no later one."""
    whole = event.to_dict()
    headers = {name.lower(): str(value) for name, value in (whole.get("headers") or {}).items()}
    address = str(whole["requestContext"].get("identity", {}).get("sourceIp", ""))
    return edge.arrival(headers, address, "https", settings.current().edge_hashes)


def _answer(message: frames.Message, known: Connection) -> None:
    try:
        _send(known.connection_id, _answer_to(message, known)(message, known))
    except DialtoneError as error:
        _send(known.connection_id, [message.refused(error)])
        if message.name in LOGINS and isinstance(error, NotSignedInError | NotAllowedError):
            logins.hang_up(known.connection_id)
    except Exception:  # noqa: BLE001 - the last line of defence, as in api/views.py
        # a defect of ours: it is written down, and this one message has a defined end
        observability.logger().exception("message failed", extra={"name_of_message": message.name})
        observability.count("MessageFailed")
        _send(known.connection_id, [message.result(error="something went wrong on our side")])


def _answer_to(message: frames.Message, known: Connection) -> Answer:
    """Find who answers.

    Raises:
        NotAllowedError: this is for a Users instance that has logged in.
        InvalidRequestError: nobody knows such a message.
    """
    if message.name in BEFORE_LOGIN:
        return BEFORE_LOGIN[message.name]
    if message.name not in OF_INSTANCES:
        raise InvalidRequestError(Fault("mt", "unknown"))
    if known.role is not Role.USERS_INSTANCE:
        raise NotAllowedError("log in first")
    return OF_INSTANCES[message.name]


def _send(connection_id: str, messages: Iterable[str]) -> None:
    """Send answers; whoever is gone needs none, whoever does not take one asks again."""
    for message in messages:
        try:
            if not sending.post(connection_id, message):
                return
        except StoreUnavailableError as error:
            observability.logger().warning("answer not sent", extra={"why": error.what})
            return


def _done() -> Response:
    """Say so: anything else but a status would mean the same to API Gateway, trouble included."""
    return Response("", status_code=200)
