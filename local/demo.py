"""The demo data: fixed, so that scripts and tests can rely on them."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from chalicelib.core.jobs import SOFTWARE, Job
from chalicelib.storage import domains, jobs, users, vault
from chalicelib.storage.connection import Transaction
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
    """Write the demo domains, categories, people, firmware and jobs; once is enough."""
    if domains.find(DOMAIN) is not None:
        return
    for name, password, apps in (
        (DOMAIN, "dialtone", ["phone"]),
        (INSTANCE_DOMAIN, "platform", []),
    ):
        sealed = vault.seal(password, f"websocket password {name}")
        write_domain(domains.Domain(name, phone_apps=apps, sealed_websocket_password=sealed))
    for name in ("Office", "Reception"):
        write_category(DOMAIN, name, provisioning=True, device_types=["PHONE"])
    write_category(DOMAIN, "Gateways", provisioning=False, device_types=[])
    firmware = Transaction()
    domains.put_firmware(firmware, DOMAIN, FIRMWARE)
    firmware.commit()
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


def write_domain(domain: domains.Domain) -> None:
    """Write a new domain."""
    transaction = Transaction()
    domains.create(transaction, replace(domain, number=domains.new_number()))
    transaction.commit()


def write_category(domain: str, name: str, *, provisioning: bool, device_types: list[str]) -> None:
    """Write a new category."""
    number = domains.new_number()
    category = domains.Category(domain, name, number, provisioning, device_types)
    transaction = Transaction()
    domains.put_category(transaction, category, None)
    transaction.commit()
