"""Turns: one at a time does a domain's work of a kind, and whoever comes meanwhile is not lost.

It must not know what the work is.
"""

import secrets
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from chalicelib import observability
from chalicelib.core.errors import StoreUnavailableError
from chalicelib.storage import leases
from chalicelib.storage.leases import Lease

MINUTE_SECONDS = 55
"""How much a function may use of the minute that it has."""

Clock = Callable[[], datetime]
Work = Callable[[Lease], Lease | None]
"""Does the work under a lease; returns the lease as it is then, None if it was lost."""


def take(domain: str, name: str, seconds: int, clock: Clock, work: Work) -> bool:
    """Do a domain's work, unless another is at it, who then looks once more.

    Args:
        name: of the lease.
        seconds: how long a worker that dies holds the domain up.

    Returns:
        False if another is at it and could not be waited for; what is left then stays for the
        schedule.

    Raises:
        StoreUnavailableError: throttled or unreachable.
    """
    lease = _acquire(domain, name, seconds, clock)
    if lease is None:
        # whoever holds it looks once more before giving it back; unless it has just done so
        leases.want(domain, name)
        lease = _acquire(domain, name, seconds, clock)
    if lease is None:
        return False
    again: Lease | None = lease
    while again is not None:
        held = work(again)
        if held is None:
            return True
        again = leases.give_back(held)
    return True


def one_by_one(
    wanted: Sequence[str],
    tell: Callable[[str], bool],
    has_time: Callable[[], bool],
    pause: Callable[[], None],
) -> None:
    """Go through domains as long as there is time, and once more through those that were held."""
    held = [domain for domain in wanted if has_time() and not tell(domain)]
    if held and has_time():
        pause()
    for domain in held:
        if has_time():
            tell(domain)


def attempt(work: Callable[[], bool], put_off: str) -> bool:
    """Do one domain's work; whatever is wrong is logged, for the schedule comes back to it.

    Args:
        put_off: what the log says if the store is in trouble.

    Returns:
        What the work did, True if it failed.
    """
    try:
        return work()
    except StoreUnavailableError as error:
        observability.logger().warning(put_off, extra={"why": error.what})
    except Exception:  # noqa: BLE001 - one domain must not keep the others from their turn
        observability.logger().exception("defect")
    return True


def _acquire(domain: str, name: str, seconds: int, clock: Clock) -> Lease | None:
    now = clock()
    until = now + timedelta(seconds=seconds)
    return leases.acquire(domain, name, secrets.token_hex(8), now, until)
