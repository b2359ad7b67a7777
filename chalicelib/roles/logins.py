"""Logins over AppWebsocket: Users instances prove a password, people bring an ID token.

It must not know what a message looks like, nor what one may ask once it has logged in.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING

from chalicelib import observability, sending, settings
from chalicelib.core import app_login
from chalicelib.core.errors import (
    NotAllowedError,
    NotSignedInError,
    StoreUnavailableError,
)
from chalicelib.core.rate_limits import LimitName
from chalicelib.roles.asking import USERS_ADMIN
from chalicelib.storage import connections, domains, limits, notifications, vault
from chalicelib.storage.connection import Refused, Transaction
from chalicelib.storage.connections import Connection, Role

if TYPE_CHECKING:
    from chalicelib.core.app_login import Login
    from chalicelib.identity import Person

MAX_WOKEN = 10
"""How many other domains a login wakes before it is answered."""

_NO_PASSWORD = "-"  # noqa: S105 - stands in where there is none, so that both cost the same


def open_connection(connection_id: str, source: str, now: datetime) -> None:
    """Take note of a connection, which has a minute to log in.

    Raises:
        StoreUnavailableError: throttled or unreachable.
    """
    ends_at = now + timedelta(seconds=app_login.LOGIN_SECONDS)
    connections.open_(Connection(connection_id, now, source, ends_at=ends_at))


def close_connection(connection_id: str) -> None:
    """Forget a connection that is closed.

    Raises:
        StoreUnavailableError: throttled or unreachable; TTL takes what is left.
    """
    known = connections.find(connection_id)
    if known is not None:
        connections.close(known)


def hang_up(connection_id: str) -> None:
    """Close a connection and forget it, as it is by now; the schedule tries what fails again."""
    try:
        sending.close(connection_id)
        close_connection(connection_id)
    except StoreUnavailableError as error:
        observability.logger().warning("connection not closed", extra={"why": error.what})


def attend(connection_id: str, now: datetime) -> Connection:
    """Tell who is at the other end of a connection that sends a message.

    Raises:
        NotSignedInError: nobody any more: its time to log in, or its token, has ended.
        LimitReachedError: it sends too much.
        StoreUnavailableError: throttled or unreachable.
    """
    known = connections.find(connection_id)
    if known is None or known.is_over(now):
        raise NotSignedInError("the connection is over")
    limits.demand(settings.current().limits[LimitName.MESSAGES], connection_id, now)
    return known


def challenge(known: Connection) -> str:
    """Hand out a challenge for the next login of a connection; the one before is void.

    Raises:
        NotAllowedError: it has logged in already.
        StoreUnavailableError: throttled or unreachable.
    """
    text = vault.new_challenge()
    try:
        connections.challenge(known.connection_id, text)
    except Refused:
        raise NotAllowedError("logged in already") from None
    return text


def log_in(known: Connection, login: "Login", now: datetime) -> Connection:
    """Log a Users instance in, if its digest proves the password of its domain.

    What it missed is looked up at once: with the login itself a wake-up is written, so that
    nobody who reads notifications at this moment can overlook it.

    Args:
        login: an empty domain means the instance's own.

    Returns:
        The connection, logged in.

    Raises:
        NotSignedInError: it does not; says why, for the metric alone.
        LimitReachedError: too many wrong logins from there, or to that domain.
        StoreUnavailableError: throttled or unreachable.
    """
    domain = login.domain or settings.current().instance_domain
    asked_with = connections.take_challenge(known.connection_id)
    if known.role is not Role.NOBODY or not asked_with or not domain:
        raise NotSignedInError("no challenge")
    with _charged(known.source, domain, now):
        found = domains.find(domain)
        sealed = found.sealed_websocket_password if found else ""
        password = vault.unseal(sealed, f"websocket password {domain}") if sealed else _NO_PASSWORD
        is_proven = vault.is_same(app_login.digest(login, asked_with, password), login.digest)
        if not is_proven or not sealed:
            raise NotSignedInError("wrong digest")
    return _logged_in(
        known,
        replace(
            known,
            role=Role.USERS_INSTANCE,
            domain=domain,
            sip=login.sip,
            app=login.app,
            audiences=[connections.users_instances(domain), connections.ALL_USERS_INSTANCES],
            ends_at=None,
        ),
        now,
    )


def sign_in(known: Connection, token: str, now: datetime) -> "tuple[Connection, Person]":
    """Sign a person in, who then hears of their own codes and phones until the token ends.

    Raises:
        NotSignedInError: the token does not hold, or the connection is somebody's already.
        NotAllowedError: it names no user of a domain, or a claim is malformed.
        LimitReachedError: too many wrong tokens from there.
        StoreUnavailableError: throttled or unreachable.
    """
    from chalicelib import identity

    if known.role is not Role.NOBODY:
        raise NotSignedInError("logged in already")
    with _charged(known.source, "", now):
        person = identity.check(token, now)
    audiences = [connections.user(person.domain, person.sip)]
    if USERS_ADMIN in person.roles:
        audiences.append(connections.admins(person.domain))
    after = replace(
        known,
        role=Role.PERSON,
        domain=person.domain,
        sip=person.sip,
        audiences=audiences,
        ends_at=person.signed_in_until,
    )
    return _logged_in(known, after, now), person


def _logged_in(before: Connection, after: Connection, now: datetime) -> Connection:
    after = replace(after, challenge="", logged_in_at=now)
    transaction = Transaction()
    connections.log_in(transaction, before, after)
    if after.role is Role.USERS_INSTANCE:
        notifications.add_wake(transaction, after.domain, now)
    try:
        transaction.commit()
    except Refused:
        raise NotSignedInError("logged in already, or gone") from None
    if after.role is Role.USERS_INSTANCE:
        _wake_abroad(after.domain, now)
    observability.count("LoggedIn", role=after.role)
    return after


def _wake_abroad(asker: str, now: datetime) -> None:
    """Wake other domains that may hold something for it.

    The schedule goes through all of them within a minute: also where this fails, and where there
    are so many that the login would have to wait.
    """
    try:
        abroad = (domain for domain in notifications.domains_of(asker) if domain != asker)
        for domain in islice(abroad, MAX_WOKEN):
            notifications.wake(domain, now)
    except StoreUnavailableError as error:
        observability.logger().warning("domains not woken", extra={"why": error.what})


@contextmanager
def _charged(source: str, domain: str, now: datetime) -> Iterator[None]:
    """Charge a login to its source and its domain, and refund unless it is wrong.

    Refunded too: a login that met trouble of ours, and one to a domain that has nothing left.

    Raises:
        LimitReachedError: nothing left.
        StoreUnavailableError: throttled or unreachable.
    """
    known = settings.current().limits
    charged = [(known[LimitName.LOGINS], source)]
    if domain:
        charged.append((known[LimitName.DOMAIN_LOGINS], domain))
    with ExitStack() as refunds:
        for limit, subject in charged:
            limits.reserve(limit, subject, now)
            refunds.callback(limits.refund, limit, subject)
        try:
            yield
        except (NotSignedInError, NotAllowedError) as error:
            refunds.pop_all()
            observability.count("LoginRefused", reason=str(error))
            raise
