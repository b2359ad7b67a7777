"""Assignments: which devices a domain has, and an administrator's hand on them.

It must not talk to a phone: what is changed here reaches it with its next poll.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from chalicelib import observability
from chalicelib.core.codes import Code, Lifetime
from chalicelib.core.devices import Device, State
from chalicelib.core.errors import (
    ConflictError,
    DeviceElsewhereError,
    Fault,
    InvalidRequestError,
    NotFoundError,
    Refusal,
)
from chalicelib.roles import analogue_phones, issuing
from chalicelib.storage import audit, devices, domains, notifications, redemptions
from chalicelib.storage.connection import Refused, Transaction
from chalicelib.storage.lists import Page

if TYPE_CHECKING:
    from collections.abc import Callable

    from chalicelib.roles.asking import Asking

_CHANGED_HANDS = "the device changed hands at this moment"


@dataclass(frozen=True)
class Replacement:
    """A phone in place of another.

    Args:
        device: the new one.
        issued: its code if it is not registered here yet, else None.
    """

    device: Device
    issued: issuing.IssuedCode | None


def list_all(  # noqa: PLR0913 - a list and its filters
    asking: "Asking",
    domain: str,
    limit: int,
    after: str | None,
    *,
    category: str,
    state: State | None,
) -> Page[Device]:
    """List a domain's devices by category and hw_id; the list may lag a second behind.

    Args:
        category: of one category alone, empty for every one.
        state: of one state alone, None for every one.

    Raises:
        NotAllowedError: this person does not administer the domain's devices.
    """
    asking.demand_admin_of(domain)
    return devices.list_all(domain, category, state, limit, after)


def show(asking: "Asking", domain: str, hw_id: str) -> Device:
    """Show one of a domain's devices.

    Raises:
        NotAllowedError: this person does not administer the domain's devices.
        NotFoundError: there is no such device in it.
    """
    asking.demand_admin_of(domain)
    device = devices.find(hw_id)
    if device is None or device.domain != domain:
        raise NotFoundError("device")
    return device


def change(
    asking: "Asking", domain: str, hw_id: str, name: str | None, category: str | None
) -> Device:
    """Rename a device, or move it to another category, whose jobs its next poll brings.

    Args:
        name, category: the new ones, None for no change.

    Raises:
        NotAllowedError: this person does not administer the domain's devices.
        NotFoundError: there is no such device or category in it.
        ConflictError: it changed hands at this moment.
    """
    device = show(asking, domain, hw_id)
    if category is not None and domains.find_category(domain, category) is None:
        raise NotFoundError("category")
    changed = replace(
        device,
        name=device.name if name is None else name,
        category=device.category if category is None else category,
    )
    if changed == device:
        return device
    moved = f"moved to {changed.category}" if changed.category != device.category else "renamed"
    entry = asking.entry("device changed", hw_id, domain=domain, detail=moved).of_device(device)
    fact = notifications.Fact(domain, changed.user, hw_id=hw_id, rollout_id=changed.rollout_id)

    def also(write: Transaction) -> None:
        notifications.add_fact(write, fact, asking.now)
        audit.add(write, entry)

    if not devices.report(changed, device, also):
        raise ConflictError(_CHANGED_HANDS)
    return changed


def release(asking: "Asking", domain: str, hw_id: str) -> None:
    """Release a device: its token dies, it shows the code form, any good code may have it.

    With a gateway go the analogue phones at it.

    Raises:
        NotAllowedError: this person does not administer the domain's devices.
        NotFoundError: there is no such device in it.
        ConflictError: it changed hands at this moment.
    """
    device = show(asking, domain, hw_id)
    entry = asking.entry("device released", hw_id, domain=domain)
    with _changing_hands(), analogue_phones.going_with(device, entry):
        redemptions.release(device, entry)
    observability.count("DeviceReleased")


def remove(asking: "Asking", domain: str, hw_id: str) -> None:
    """Forget a device altogether; if it is still there, it shows the code form.

    With a gateway go the analogue phones at it.

    Raises:
        NotAllowedError: this person does not administer the domain's devices.
        NotFoundError: there is no such device in it.
        ConflictError: it changed hands at this moment.
    """
    device = show(asking, domain, hw_id)
    entry = asking.entry("device removed", hw_id, domain=domain)
    with _changing_hands(), analogue_phones.going_with(device, entry):
        redemptions.remove(device, entry)


def put_in_place(asking: "Asking", domain: str, hw_id: str, new_hw_id: str) -> Replacement:
    """Put another phone in a device's place: it takes name, user, category and app.

    The old one is released, and with a gateway the analogue phones at it. A new one that is
    registered in the domain goes on with its own token; any other is expected, and gets a code of
    seven days.

    Args:
        new_hw_id: 12 lower-case hex digits.

    Raises:
        NotAllowedError: this person does not administer the domain's devices.
        NotFoundError: there is no such device in it.
        InvalidRequestError: it would replace itself.
        DeviceElsewhereError: the new one is another domain's, or somebody else's.
        ConflictError: one of them changed hands at this moment.
    """
    old = show(asking, domain, hw_id)
    if new_hw_id == hw_id:
        raise InvalidRequestError(Fault("hw_id", "another device than the one it replaces"))
    seen = devices.find(new_hw_id)
    why = _refusal_to_replace(asking, old, seen)
    if why is not None:
        raise DeviceElsewhereError(why)
    is_here = seen is not None and not seen.is_free(asking.now)
    known = seen or Device(new_hw_id, State.REGISTERED)
    kept = known if is_here else Device(new_hw_id, State.REGISTERED, product=known.product)
    entry = asking.entry("device replaced", hw_id, domain=domain, detail=f"by {new_hw_id}")
    device = replace(
        kept,
        domain=domain,
        category=old.category,
        app=old.app,
        user=old.user,
        name=old.name,
    )

    def swap(write: Transaction) -> None:
        devices.release(write, old)
        redemptions.leave(write, old, asking.now)
        if is_here:
            redemptions.assign(write, device, seen, asking.now)
        else:
            devices.assign(write, device, seen)
            if seen is not None:
                redemptions.drop(write, seen, asking.now)
        audit.add(write, entry.of_device(old))
        redemptions.tell_former(write, device, seen, entry)

    with _changing_hands(), analogue_phones.going_with(old, entry):
        if not is_here:
            return Replacement(device, _issue(asking, device, swap))
        transaction = Transaction()
        swap(transaction)
        transaction.commit()
    return Replacement(device, None)


@contextmanager
def _changing_hands() -> Iterator[None]:
    """Tell whoever is beaten by somebody else."""
    try:
        yield
    except Refused:
        raise ConflictError(_CHANGED_HANDS) from None


def _refusal_to_replace(asking: "Asking", old: Device, seen: Device | None) -> Refusal | None:
    if seen is None or seen.is_free(asking.now):
        return None
    if seen.domain != old.domain:
        return Refusal.DEVICE_OF_ANOTHER_DOMAIN
    return None if seen.user in {"", old.user} else Refusal.DEVICE_OF_ANOTHER_USER


def _issue(
    asking: "Asking", device: Device, swap: "Callable[[Transaction], None]"
) -> issuing.IssuedCode:
    domain = domains.find(device.domain)
    order = issuing.Order(
        Lifetime.ROLLOUT,
        devices_url=(domain.devices_url if domain else "") or asking.update_url,
        domain=device.domain,
        category=device.category,
        app=device.app,
        owner=device.user,
    )

    def also(write: Transaction, code: Code) -> None:
        swap(write)
        entry = asking.entry("code issued", code.code_id, domain=device.domain)
        audit.add(write, entry.of_code(code))

    return issuing.issue(order, asking.now, also)
