"""What admitting a phone by its domain's security token reads: all of it in one call.

It must not decide who is admitted (roles/registrations.py), nor unseal the token.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from chalicelib.core.auto_provisioning import Claim
from chalicelib.core.devices import Device
from chalicelib.storage import devices, domains, limits
from chalicelib.storage.connection import batch_get


@dataclass(frozen=True)
class Found:
    """What a claim leads to.

    Args:
        is_domain: whether the domain is served here.
        token: its security token, sealed; None while automatic provisioning is off.
        category: of the claim, None if there is none.
        phone_apps: the domain's.
        device: the phone that presents the claim, None if it was never seen.
        bucket: the failures of its source, None for none.
    """

    is_domain: bool
    token: domains.SecurityToken | None
    category: domains.Category | None
    phone_apps: Sequence[str]
    device: Device | None
    bucket: limits.LimitItem | None


def read(claim: Claim, hw_id: str, bucket_key: tuple[str]) -> Found:
    """Read everything consistently.

    Raises:
        StoreUnavailableError: throttled or unreachable.
    """
    wanted = [
        domains.settings_key(claim.domain),
        domains.token_key(claim.domain),
        domains.category_key(claim.domain, claim.category),
    ]
    found = batch_get(
        (domains.DomainItem, wanted),
        (devices.DeviceItem, [(hw_id,)]),
        (limits.LimitItem, [bucket_key]),
    )
    settings, categories = domains.read(found[domains.DomainItem])
    device = next(iter(found[devices.DeviceItem]), None)
    return Found(
        is_domain=settings is not None,
        token=domains.read_token(found[domains.DomainItem]),
        category=categories.get(claim.category),
        phone_apps=settings.phone_apps if settings else (),
        device=device and device.to(Device),
        bucket=next(iter(found[limits.LimitItem]), None),
    )
