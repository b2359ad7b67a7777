"""Handovers: makes users' phones devices of their user objects at the domain's PBX, when it can.

One at a time has its turn at a domain's PBX, whatever woke it (docs/decisions/0025). It must not
know what is done there (roles/pbx_turns.py), nor how a PBX is spoken to.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

from chalicelib import observability
from chalicelib.core.errors import StoreUnavailableError
from chalicelib.roles import pbx_turns, turns
from chalicelib.roles.accesses import Connect
from chalicelib.roles.pbx_turns import BATCH, BUDGET_SECONDS, GRACE_SECONDS, LEASE_SECONDS, PbxTurn
from chalicelib.roles.turns import Clock
from chalicelib.storage import devices, domains, handovers, leases
from chalicelib.storage.connection import Transaction
from chalicelib.storage.handovers import Handover
from chalicelib.storage.leases import Lease

PATIENCE_SECONDS = LEASE_SECONDS + 1
"""Clocks differ: a lease that ends for its holder must have ended for whoever waits, too."""

PUT_OFF = "handover put off"
"""What the log says when the store is in trouble."""

REDRIVE_BATCH = 90
"""With the row that goes on, it is one transaction."""

_LONGEST = timedelta(seconds=BUDGET_SECONDS + GRACE_SECONDS)


def deliver(domain: str, connect: Connect, clock: Clock, newcomers: Sequence[str] = ()) -> bool:
    """Tell a domain's PBX what it must hear, as far as that can be done now.

    Args:
        newcomers: hw_ids of phones that have just come or left; where the PBX cannot be spoken to
            they show why they wait.

    Returns:
        False if another is at it, who looks once more, or has died.

    Raises:
        StoreUnavailableError: throttled or unreachable; what was not done is done later.
    """
    known = domains.find(domain)
    if known is None or not known.pbx_url:
        return True
    ends = clock() + timedelta(seconds=BUDGET_SECONDS)

    def work(lease: Lease) -> Lease | None:
        return PbxTurn(lease, clock, ends).run(connect, newcomers)

    return turns.take(domain, leases.PBX, LEASE_SECONDS, clock, work)


def try_to_deliver(
    domain: str, connect: Connect, clock: Clock, newcomers: Sequence[str] = ()
) -> bool:
    """Deliver; whatever is wrong is logged, for the schedule comes back to it.

    Returns:
        False if another is at it.
    """
    return turns.attempt(lambda: deliver(domain, connect, clock, newcomers), PUT_OFF)


def follow(
    newcomers: Mapping[str, Sequence[str]],
    connect: Connect,
    clock: Clock,
    pause: Callable[[float], None],
    ends: datetime,
) -> None:
    """Tell the PBXes of domains in which something has happened.

    Args:
        newcomers: domain → hw_ids of phones that have just come or left there.
        pause: waits for as many seconds, for a worker that may have died.
        ends: after which nothing may go on; no domain begins that might take longer.
    """
    turns.one_by_one(
        list(newcomers),
        lambda domain: try_to_deliver(domain, connect, clock, newcomers[domain]),
        lambda: clock() + _LONGEST <= ends,
        lambda: pause(PATIENCE_SECONDS),
    )


def remind(connect: Connect, clock: Clock, pause: Callable[[float], None], ends: datetime) -> None:
    """Tell every PBX what it could not be told before: once a minute.

    Args:
        pause, ends: as for `follow`.

    Raises:
        StoreUnavailableError: throttled or unreachable, before the first one.
    """

    def tell(domain: str) -> bool:
        is_due = bool(handovers.list_due(domain, 1, clock()))
        return not is_due or deliver(domain, connect, clock)

    wanted = domains.list_with_pbx()
    # if there is not time enough for all, the next minute begins with others
    random.shuffle(wanted)
    turns.one_by_one(
        wanted,
        lambda domain: turns.attempt(lambda: tell(domain), PUT_OFF),
        lambda: clock() + _LONGEST <= ends,
        lambda: pause(PATIENCE_SECONDS),
    )


def try_to_redrive(domain: str, after: str | None, clock: Clock) -> bool:
    """Redrive; a defect is logged, for it must not hold up everything behind it.

    Returns:
        False if the store is in trouble, and it is to be begun anew.
    """
    try:
        redrive(domain, after, clock)
    except StoreUnavailableError as error:
        observability.logger().warning("redrive put off", extra={"why": error.what})
        return False
    except Exception:  # noqa: BLE001 - somebody's phones must not wait for this domain's
        observability.logger().exception("defect")
    return True


def redrive(domain: str, after: str | None, clock: Clock) -> None:
    """Let all of a domain's phones be handed over, those at once that the PBX did not take.

    Without a PBX, they show nothing of one any more.

    Args:
        after: where it goes on in the list of the domain's devices, None for its beginning.

    Raises:
        StoreUnavailableError: throttled or unreachable; begun anew it does no harm.
    """
    known = domains.find(domain)
    has_pbx = known is not None and bool(known.pbx_url)
    transaction = Transaction()
    if after is None:
        handovers.clear_standing(domain)
        if has_pbx and handovers.hurry(domain, BATCH, clock()):
            # there are more that wait: they come first, with a row of their own
            handovers.add_redrive(transaction, domain, clock())
            transaction.commit()
            return
    page = devices.list_all(domain, "", None, REDRIVE_BATCH, after)
    for device in page.items:
        if not has_pbx:
            pbx_turns.show(device, None, "", clock())
        elif device.user and device.registration_id:
            row = Handover(domain, "", device.user, device.hw_id)
            handovers.put_new(transaction, row, clock())
    if page.next_after is not None:
        handovers.add_redrive(transaction, domain, clock(), page.next_after)
    transaction.commit()
