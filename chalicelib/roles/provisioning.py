"""The central provisioning service: asks a new phone for its code and sends it to its Devices.

It consumes nothing: a code is redeemed at Devices (roles/devices.py).
"""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from chalicelib import observability
from chalicelib.core import scripts
from chalicelib.core.codes import Entry
from chalicelib.core.devices import Facts
from chalicelib.core.errors import CodeNotRedeemableError
from chalicelib.loading import on_use
from chalicelib.storage import sightings

if TYPE_CHECKING:
    from chalicelib.roles import guesses
    from chalicelib.roles.asking import Asking
    from chalicelib.storage.lists import Page
else:
    guesses = on_use("chalicelib.roles.guesses")


@dataclass(frozen=True)
class Inquiry:
    """A phone that asks where it belongs.

    Args:
        hw_id: 12 lower-case hex digits.
        entry: what was typed, None for no code yet.
        source: in the form of rate_limits.source_of.
        secure_url: our https /init if the phone came in clear, else None.
    """

    hw_id: str
    facts: Facts
    entry: Entry | None
    source: str
    secure_url: str | None = None


def list_sightings(
    asking: "Asking", day: str, limit: int, after: str | None
) -> "Page[sightings.Seen]":
    """List the phones that the central service last saw on a day, by hw_id.

    Args:
        day: `2026-11-24`, UTC.

    Raises:
        NotAllowedError: this person does not administer the platform.
    """
    asking.demand_platform_admin()
    return sightings.list_day(day, limit, after)


def answer(inquiry: Inquiry, now: datetime) -> str:
    """Answer a new phone: the code form, or the way to its Devices.

    Returns:
        An update script.

    Raises:
        LimitReachedError: the source has nothing left.
        StoreUnavailableError: throttled or unreachable.
    """
    if inquiry.entry is None:
        sightings.note(sightings.Sighting(inquiry.hw_id, inquiry.facts, inquiry.source), now)
        return scripts.code_form(inquiry.secure_url)
    try:
        return scripts.to_devices(_route(inquiry, inquiry.entry, now))
    except CodeNotRedeemableError:
        return scripts.code_form(inquiry.secure_url)


def _route(inquiry: Inquiry, entry: Entry, now: datetime) -> str:
    guess = guesses.Guess(entry, inquiry.hw_id, inquiry.source)
    with guesses.charged(guess, now) as found:
        code = guesses.accept(found, guess, now)
        seen = sightings.Sighting(inquiry.hw_id, inquiry.facts, inquiry.source, code.fingerprint)
        sightings.note(seen, now)
    observability.count("PhoneRouted")
    return code.devices_url
