"""Placements: puts one user's phones at the user's object at a PBX, and takes none from others.

A list of devices is read and written as a whole, so what others write meanwhile is put back. It
must not know who waits for it, nor what became of it before (roles/pbx_turns.py).
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from chalicelib.core import user_objects
from chalicelib.core.devices import Device
from chalicelib.core.errors import PbxRefusedError
from chalicelib.core.user_objects import FindBy, Flag, Hindrance, UserObject
from chalicelib.storage import holdings, users
from chalicelib.storage.domains import Domain

if TYPE_CHECKING:
    from chalicelib.pbx import Pbx

_MAX_ROUNDS = 5


class Place:
    """A user's object at a domain's PBX.

    Args:
        owner: sip of the user here.
    """

    def __init__(self, pbx: "Pbx", domain: Domain, owner: str) -> None:
        self._pbx = pbx
        self._domain = domain
        self._name = owner if domain.pbx_find_by is FindBy.SIP else _name_of(domain, owner)
        self._found = pbx.find(domain.pbx_find_by, self._name) if self._name else None

    def held_by_others(self, come: Sequence[Device]) -> dict[str, str]:
        """Tell which phones the PBX has at another user, hw_id → that one's SIP name.

        What was read of the PBX names the user, and whether it is still so is asked there.

        Raises:
            PbxUnavailableError: the PBX cannot be spoken to; says why.
        """
        if self._found is None:
            return {}
        new = user_objects.missing(self._found.devices, come)
        named = holdings.find_at_pbx(self._domain.domain, (device.hw_id for device in new))
        others = {sip: self._pbx.find(FindBy.SIP, sip) for sip in sorted(set(named.values()))}
        return {
            device.hw_id: named[device.hw_id]
            for device in new
            if device.hw_id in named and self._is_at(others[named[device.hw_id]], device)
        }

    def write(self, come: Sequence[Device], gone: Sequence[str], hold: Callable[[], None]) -> None:
        """Put phones there and take phones away.

        Args:
            gone: hw_ids.
            hold: called before each write; whatever it raises ends it.

        Raises:
            PbxRefusedError: the PBX does not take it; says why.
            PbxUnavailableError: the PBX cannot be spoken to; says why.
        """
        by = self._domain.pbx_find_by
        flags = [Flag[flag.upper()] for flag in self._domain.pbx_flags]
        found = self._found
        theirs = there = found.devices if found else ()
        for _ in range(_MAX_ROUNDS):
            if found is None:
                if come or by is FindBy.NAME:
                    # by another name, who lost a phone may still have it
                    raise PbxRefusedError(Hindrance.NO_USER)
                return
            wanted = user_objects.merged(theirs, come, gone, flags)
            if wanted == list(there):
                return
            hold()
            before, found = self._pbx.put_devices(by, self._name, found.guid, wanted)
            if before is None or found is None:
                continue
            if list(before.devices) == list(there):
                theirs = found.devices
            else:
                # what somebody else wrote meanwhile has been written over: back with it
                theirs = user_objects.with_others(wanted, there, before.devices)
            there = found.devices
        raise PbxRefusedError(Hindrance.CHANGING)

    def _is_at(self, other: UserObject | None, device: Device) -> bool:
        """Tell whether a phone is at another user's object than this one."""
        if other is None or self._found is None or other.guid == self._found.guid:
            return False
        return not user_objects.missing(other.devices, [device])


def _name_of(domain: Domain, owner: str) -> str:
    return next((user.name for user in users.find_all(domain.domain, [owner])), "")
