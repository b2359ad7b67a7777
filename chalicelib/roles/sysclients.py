"""Sysclients: phones that keep a websocket to Devices, who they are, and what proves it.

It must not know frames, nor what a phone is to do (roles/devices.py).
"""

from dataclasses import dataclass, field
from datetime import datetime

from chalicelib.core import sysclient_login
from chalicelib.core.devices import Device
from chalicelib.storage import devices, vault


@dataclass(frozen=True)
class Credentials:
    """What a registration gives a phone; both are derived from it, so nothing of them is stored.

    Args:
        password: what it proves itself with when it is back.
        token: what it would show as an update client, and what its session shows to the roles.
    """

    password: str = field(repr=False)
    token: str = field(repr=False)


@dataclass(frozen=True)
class Proof:
    """What a phone answers to a challenge.

    Args:
        hw_id, product, version: as its identify message spells them.
        challenge: as it was sent.
        digest: 64 hex digits, empty for none.
    """

    hw_id: str
    product: str
    version: str
    challenge: str
    digest: str = field(repr=False)


def find_known(hw_id: str, domain: str, now: datetime) -> Device | None:
    """Find a device that a domain has, and that has to prove it.

    Args:
        hw_id: 12 lower-case hex digits.
        domain: whose address the phone came to.

    Returns:
        None for a phone that is free, expected, or another domain's.

    Raises:
        StoreUnavailableError: throttled or unreachable.
    """
    device = devices.find(hw_id)
    if device is None or device.domain != domain or device.is_free(now):
        return None
    return device


def has_its_password(device: Device) -> bool:
    """Tell whether a device is known to have got its password.

    One that has just been registered, and has not shown since that it knows, may have lost the
    connection before it heard.
    """
    return device.token_used_at is not None


def credentials(device: Device) -> Credentials:
    """Derive what a device's registration gives it.

    Raises:
        StoreUnavailableError: the keys cannot be read.
    """
    hw_id, registration_id, version = device.hw_id, device.registration_id, device.token_version
    token, _ = vault.device_token(hw_id, registration_id, version)
    return Credentials(vault.sysclient_password(hw_id, registration_id, version), token)


def is_proven(proof: Proof, password: str) -> bool:
    """Tell whether a phone knows its password, in constant time."""
    expected = sysclient_login.digest(
        proof.hw_id, proof.product, proof.version, proof.challenge, password
    )
    return vault.is_same(expected, proof.digest.lower())


def disconnect(hw_id: str, connection: str, now: datetime) -> None:
    """Note that a phone's websocket has ended, unless it has a newer one.

    Args:
        connection: as it was told when the phone arrived.

    Raises:
        StoreUnavailableError: throttled or unreachable; the phone counts as away a little later.
    """
    devices.disconnect(hw_id, connection, now)
