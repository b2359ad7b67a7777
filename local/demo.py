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
FIRST_NUMBER = 101
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
    places = Transaction()
    for name, password, apps in (
        (DOMAIN, "dialtone", ["phone"]),
        (INSTANCE_DOMAIN, "platform", []),
    ):
        sealed = vault.seal(password, f"websocket password {name}")
        domain = domains.Domain(name, phone_apps=apps, sealed_websocket_password=sealed)
        add_domain(places, domain)
    for name in ("Office", "Reception"):
        add_category(places, DOMAIN, name, provisioning=True, device_types=["PHONE"])
    add_category(places, DOMAIN, "Gateways", provisioning=False, device_types=[])
    domains.put_firmware(places, DOMAIN, FIRMWARE)
    places.commit()
    users.put_all(_user(position, person) for position, person in enumerate(PEOPLE))
    made: tuple[tuple[str, Mapping[str, Any]], ...] = (
        (SOFTWARE, FIRMWARE),
        ("update-client", {"poll_minutes": POLL_MINUTES}),
        ("expert", {"lines": EXPERT_LINES}),
    )
    for position, (job_type, parameters) in enumerate(made):
        at = now + timedelta(milliseconds=position)
        jobs.put(Job(new_id(at), DOMAIN, "Office", job_type, parameters, at, "admin"))


def _user(position: int, person: DemoPerson) -> users.User:
    return users.User(
        person.domain,
        person.sip,
        name=person.name,
        number=str(FIRST_NUMBER + position),
        email=f"{person.sip}@{person.domain}",
    )


def add_domain(write: Transaction, domain: domains.Domain) -> None:
    """Add a new domain to a transaction."""
    domains.create(write, replace(domain, number=domains.new_number()))


def add_category(
    write: Transaction, domain: str, name: str, *, provisioning: bool, device_types: list[str]
) -> None:
    """Add a new category to a transaction."""
    number = domains.new_number()
    domains.put_category(
        write, domains.Category(domain, name, number, provisioning, device_types), None
    )
