"""Issuing codes: whoever issues one does it here, in one transaction that overwrites no open code.

The digits are ours, or those of a foreign central service if the settings name one. It must not
decide who may have a code.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from chalicelib import central, observability, settings
from chalicelib.core.codes import Code, Lifetime, State
from chalicelib.core.errors import CentralUnavailableError, StoreUnavailableError
from chalicelib.storage import codes, holdings, notifications, vault
from chalicelib.storage.connection import Refused, Transaction
from chalicelib.storage.ids import new_id

MAX_COLLISIONS = 5


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
    rollout_id: str = ""
    asker: str = ""
    asking_connection: str = ""
    asking_src: str = ""


@dataclass(frozen=True)
class Drawn:
    """A code that nobody has yet.

    Args:
        older_fingerprints: of the same digits under older versions of the key.
    """

    code: Code
    digits: str = field(repr=False)
    older_fingerprints: Sequence[str]


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
    for _ in range(MAX_COLLISIONS):
        drawn = draw(order, now)
        code = drawn.code
        transaction = Transaction()
        codes.issue(transaction, code, drawn.older_fingerprints, now)
        if code.owner:
            holdings.put_code(transaction, code)
            fact = notifications.Fact(code.domain, code.owner, code.fingerprint)
            notifications.add_fact(transaction, fact, now)
        also(transaction, code)
        try:
            transaction.commit()
        except Refused as refused:
            if "code" not in refused.items:
                raise
            observability.count("CodeCollided")
            continue
        observability.count("CodeIssued", lifetime=order.lifetime)
        return IssuedCode(code, drawn.digits)
    raise StoreUnavailableError("no free code")


def draw(order: Order, now: datetime) -> Drawn:
    """Draw a code, which is nobody's until it is written; somebody may have the same digits.

    Raises:
        CentralUnavailableError: the foreign central service did not answer as agreed.
        StoreUnavailableError: the keys cannot be read.
    """
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
        rollout_id=order.rollout_id,
        asker=order.asker,
        asking_connection=order.asking_connection,
        asking_src=order.asking_src,
        devices_url=order.devices_url,
        issued_at=now,
        expires_at=expires_at,
        purge_at=expires_at,
        sealed_code=vault.seal(digits, sealing_purpose(code_id)) if order.domain else None,
    )
    return Drawn(code, digits, older)


def sealing_purpose(code_id: str) -> str:
    """Say what the seal of a code's digits is for."""
    return f"code {code_id}"


def _draw(order: Order, now: datetime) -> tuple[str, datetime]:
    expires_at = now + timedelta(seconds=order.lifetime.seconds)
    if not (settings.current().central_url and order.domain):
        return vault.new_code(), expires_at
    drawn = central.new_code(order.devices_url, order.lifetime)
    if drawn.expires_at <= now:
        raise CentralUnavailableError("a code that has expired already")
    return drawn.digits, min(expires_at, drawn.expires_at)
