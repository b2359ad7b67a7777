"""The demo data: fixed, so that scripts and tests can rely on them."""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from chalicelib.core.jobs import SOFTWARE, Job
from chalicelib.storage import domains, jobs, users
from chalicelib.storage.ids import new_id
from local.identity import DemoPerson

if TYPE_CHECKING:
    from collections.abc import Mapping

DOMAIN = "example.com"
INSTANCE_DOMAIN = "platform.example"
FIRMWARE_BUILD = "134250"
BOOT_BUILD = "131286"
POLL_MINUTES = 5
EXPERT_LINES = [
    "config add UP1 /disc",
    "config add UP1 /poll-fast 1",
]

PEOPLE = (
    *(DemoPerson(f"user{number}", f"User {number}", DOMAIN) for number in range(1, 21)),
    DemoPerson("admin", "Administrator", DOMAIN, ("users-admin", "devices-admin")),
    DemoPerson("platform", "Platform", INSTANCE_DOMAIN, ("platform-admin",)),
)

_FIRMWARE_URL = "https://firmware.example.com"
FIRMWARE = {
    product: {
        "prot": {"build": FIRMWARE_BUILD, "url": f"{_FIRMWARE_URL}/{FIRMWARE_BUILD}/{file}.bin"},
        "boot": {"build": BOOT_BUILD, "url": f"{_FIRMWARE_URL}/{BOOT_BUILD}/boot{file[2:]}.bin"},
    }
    for product, file in {"IP222": "ip222", "IP232": "ip232", "IP112": "ip112"}.items()
}


def seed(now: datetime) -> None:
    """Write the demo domains, categories, people and jobs."""
    domains.put(domains.Domain(DOMAIN, phone_apps=["phone"]))
    domains.put(domains.Domain(INSTANCE_DOMAIN))
    for name in ("Office", "Reception"):
        domains.put_category(
            domains.Category(DOMAIN, name, provisioning=True, device_types=["PHONE"])
        )
    domains.put_category(domains.Category(DOMAIN, "Gateways", device_types=["GW"]))
    for person in PEOPLE:
        users.put(users.User(person.domain, person.sip, name=person.name))
    made: tuple[tuple[str, Mapping[str, Any]], ...] = (
        (SOFTWARE, FIRMWARE),
        ("update-client", {"poll_minutes": POLL_MINUTES}),
        ("expert", {"lines": EXPERT_LINES}),
    )
    for position, (job_type, parameters) in enumerate(made):
        at = now + timedelta(milliseconds=position)
        jobs.put(Job(new_id(at), DOMAIN, "Office", job_type, parameters, at, "admin"))
