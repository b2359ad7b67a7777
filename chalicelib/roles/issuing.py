"""Issuing codes: whoever issues one does it here, in one transaction that overwrites no open code.

The digits are ours, or those of a foreign central service if the settings name one. It must not
decide who may have a code.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from chalicelib import central, observability, settings
from chalicelib.core.codes import Code, Lifetime, State
from chalicelib.core.errors import CentralUnavailableError, StoreUnavailableError
from chalicelib.storage import codes, holdings, notifications, vault
from chalicelib.storage.connection import Refused, Transaction
from chalicelib.storage.ids import new_id

_MAX_COLLISIONS = 5


@dataclass(frozen=True)
class Order:
    """What a code shall stand for.

    Args:
        devices_url: where the central service sends the phone.
        domain, category, app, owner: empty for a code of a foreign installation.
        asker, asking_connection, asking_src: the Users instance that hears of its phone.
    """

    lifetime: Lifetime
    devices_url: str
    domain: str = ""
    category: str = ""
    app: str = ""
    owner: str = ""
    asker: str = ""
    asking_connection: str = ""
    asking_src: str = ""


@dataclass(frozen=True)
class IssuedCode:
    """A new code, the only time that its digits are told to whoever asked."""

    code: Code
    digits: str = field(repr=False)


def issue(
    order: Order, now: datetime, also: Callable[[Transaction, Code], None] = lambda *_: None
) -> IssuedCode:
    """Issue a code.

    Args:
        also: adds what must happen with it to the same transaction.

    Raises:
        Refused: a condition of what else should happen failed; no code was issued.
        CentralUnavailableError: the foreign central service did not answer as agreed.
        StoreUnavailableError: throttled or unreachable.
    """
    for _ in range(_MAX_COLLISIONS):
        digits, expires_at = _draw(order, now)
        fingerprint, *older = vault.fingerprints(digits)
        code_id = new_id(now)
        code = Code(
            fingerprint=fingerprint,
            code_id=code_id,
            state=State.PENDING,
            domain=order.domain,
            category=order.category,
            app=order.app,
            lifetime=order.lifetime,
            owner=order.owner,
            asker=order.asker,
            asking_connection=order.asking_connection,
            asking_src=order.asking_src,
            devices_url=order.devices_url,
            issued_at=now,
            expires_at=expires_at,
            purge_at=expires_at,
            sealed_code=vault.seal(digits, f"code {code_id}") if order.domain else None,
        )
        transaction = Transaction()
        codes.issue(transaction, code, older, now)
        if code.owner:
            holdings.put_code(transaction, code)
            fact = notifications.Fact(code.domain, code.owner, fingerprint)
            notifications.add_fact(transaction, fact, now)
        also(transaction, code)
        try:
            transaction.commit()
        except Refused as refused:
            if not {"code", "older code"} & set(refused.items):
                raise
            observability.count("CodeCollided")
            continue
        observability.count("CodeIssued", lifetime=order.lifetime)
        return IssuedCode(code, digits)
    raise StoreUnavailableError("no free code")


def _draw(order: Order, now: datetime) -> tuple[str, datetime]:
    expires_at = now + timedelta(seconds=order.lifetime.seconds)
    if not (settings.current().central_url and order.domain):
        return vault.new_code(), expires_at
    drawn = central.new_code(order.devices_url, order.lifetime)
    if drawn.expires_at <= now:
        raise CentralUnavailableError("a code that has expired already")
    return drawn.digits, min(expires_at, drawn.expires_at)
