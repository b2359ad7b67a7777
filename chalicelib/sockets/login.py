"""The handshake: challenge, login and what a PBX asks of an app before it uses it.

It must not know what a Users instance asks for afterwards.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from chalicelib import settings
from chalicelib.roles import logins

if TYPE_CHECKING:
    from chalicelib.sockets.frames import Message
    from chalicelib.storage.connections import Connection

SERVICE = "com.innovaphone.devices"
"""Under this name Users finds Devices. Source: the vendor's description of service APIs."""


def check_build(message: "Message", _: "Connection") -> Iterable[str]:
    """Tell a page that it is the right build: ours have one URL, and no build in it."""
    return [message.result()]


def challenge(message: "Message", known: "Connection") -> Iterable[str]:
    """Hand out what the next login must be computed with."""
    return [message.result(challenge=logins.challenge(known))]


def app_login(message: "Message", known: "Connection") -> Iterable[str]:
    """Log a Users instance in."""
    from chalicelib.sockets import schemas

    login = message.read(schemas.AppLogin).login(message.text)
    logins.log_in(known, login, message.now)
    domain = settings.current().instance_domain
    return [message.result(ok=True, app=login.app, domain=domain)]


def user_login(message: "Message", known: "Connection") -> Iterable[str]:
    """Sign a person in."""
    from chalicelib.sockets import schemas

    told = message.read(schemas.UserLogin)
    _, person = logins.sign_in(known, told.token, message.now)
    until = person.signed_in_until
    return [message.result(ok=True, sip=person.sip, domain=person.domain, until=until)]


def keep_alive(message: "Message", _: "Connection") -> Iterable[str]:
    """Answer, for clients wait for any message to know that we are there."""
    return [message.result()]


def pbx_info(message: "Message", _: "Connection") -> Iterable[str]:
    """Take note that a PBX is at the other end; nothing depends on it."""
    return [message.result()]


def app_info(message: "Message", _: "Connection") -> Iterable[str]:
    """Tell a PBX which service it finds here."""
    from chalicelib.sockets import schemas

    app = message.read(schemas.AppInfo).app
    apis: dict[str, Any] = {"apis": {SERVICE: {}}}
    return [message.result(app=app, info={}, serviceInfo=apis)]
