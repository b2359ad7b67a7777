"""Analogue phones: registered at the interface of a gateway, by the code that was typed on them.

Such a phone says nothing itself: its gateway, which is in a domain and has proved it, speaks for
it. So it has no token and no jobs, and goes when its gateway goes (docs/decisions/0024). It must
not know how the gateway is connected.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from functools import partial

from chalicelib import observability
from chalicelib.core.codes import Code, Entry
from chalicelib.core.devices import Device, State, hw_id_at, is_interface
from chalicelib.core.errors import (
    ConflictError,
    Fault,
    InvalidRequestError,
    NotFoundError,
    StoreUnavailableError,
)
from chalicelib.roles import guesses, registrations
from chalicelib.storage import audit, devices, holdings, redemptions
from chalicelib.storage.connection import Refused
from chalicelib.storage.ids import new_id


def register(gateway: Device, interface: str, entry: Entry, source: str, now: datetime) -> None:
    """Register the phone at an interface; the same interface may repeat its code for an hour.

    Args:
        gateway: as it was when it proved that it is in its domain.
        interface: as the gateway spells it, `TEL1`.
        entry: the code that was typed.
        source: of the gateway, in the form of rate_limits.source_of.

    Raises:
        InvalidRequestError: this can be no interface; costs nothing.
        CodeNotRedeemableError: the code is unknown, expired, revoked, used, or of another domain.
        DeviceElsewhereError: it is good, but the interface has somebody else's phone.
        LimitReachedError: the source has nothing left.
        NotSignedInError: the gateway is no longer in its domain, or was registered anew.
        StoreUnavailableError: throttled or unreachable; a repeat finishes what was begun.

    Source: docs/sysclient.md, `0004`.
    """
    if not is_interface(interface):
        raise InvalidRequestError(Fault("id", "an interface: one short word"))
    hw_id = hw_id_at(gateway.hw_id, interface)
    guess = guesses.Guess(entry, hw_id, source, gateway.domain)
    with guesses.charged(guess, now) as found:
        make = partial(_made, gateway, guess, now)
        registrations.redeem(found, guess, make, now, gateway)


def list_at(gateway: Device) -> list[Device]:
    """List the phones of a gateway, by interface, TEL2 before TEL10.

    Raises:
        StoreUnavailableError: throttled or unreachable.
    """
    interfaces = holdings.list_interfaces(gateway.hw_id)
    found = devices.find_all(hw_id_at(gateway.hw_id, interface) for interface in interfaces)
    # what a gateway left behind in a domain that it was in before is none of its phones now
    here = [phone for phone in found if phone.domain == gateway.domain]
    return sorted(here, key=lambda phone: (len(phone.interface), phone.interface))


def remove(gateway: Device, interface: str, entry: audit.Entry) -> None:
    """Forget the phone at an interface; the next code that is typed there registers it anew.

    Args:
        entry: who does it; of the phone it says the rest.

    Raises:
        NotFoundError: there is none.
        ConflictError: it changed hands at this moment.
        StoreUnavailableError: throttled or unreachable.
    """
    phone = devices.find(hw_id_at(gateway.hw_id, interface))
    if phone is None or not phone.domain or phone.domain != gateway.domain:
        raise NotFoundError("device")
    try:
        redemptions.remove(phone, replace(entry, subject=phone.hw_id))
    except Refused:
        raise ConflictError("the device changed hands at this moment") from None


@contextmanager
def going_with(gateway: Device, entry: audit.Entry) -> Iterator[None]:
    """Release a gateway's phones, let the gateway go, and release what came to it meanwhile.

    Before, so that whoever is interrupted in the middle finds the gateway still there, and does
    it again; after, for no phone comes to a gateway that has gone.

    Args:
        gateway: any device; one that is no gateway has no phones.
        entry: why it goes.

    Raises:
        StoreUnavailableError: throttled or unreachable, before the gateway went; what was released
            stays so.
    """
    _release_all(gateway, entry)
    yield
    try:
        _release_all(gateway, entry)
    except StoreUnavailableError as error:
        # it has gone: that has an answer, which may hold a code that is told this once
        observability.logger().warning("a gateway's phones not released", extra={"why": error.what})


def _release_all(gateway: Device, entry: audit.Entry) -> None:
    if gateway.gateway:
        return  # an analogue phone, which has none of its own
    for phone in list_at(gateway):
        why = replace(
            entry, action="device released", subject=phone.hw_id, detail="with its gateway"
        )
        try:
            redemptions.release(phone, why)
        except Refused:
            # somebody released it at this moment, or it was registered anew: then there is still
            # a gateway, and the second time finds it
            continue
        observability.count("DeviceReleased")


def _made(
    gateway: Device, guess: guesses.Guess, now: datetime, code: Code, seen: Device | None
) -> Device:
    """Make the phone: there is nothing that it could still get, so it is up to date at once."""
    return Device(
        hw_id=guess.hw_id,
        state=State.CURRENT,
        product=gateway.product,
        registration_id=new_id(now),
        registered_at=now,
        registered_from=guess.source,
        **registrations.assignment(code, seen, ""),
    )
