"""The demo data: fixed, so that scripts and tests can rely on them."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from chalicelib.core import auto_provisioning
from chalicelib.core.jobs import SOFTWARE, Job
from chalicelib.identity import Person
from chalicelib.roles import pbxes, updates
from chalicelib.roles.asking import Asking
from chalicelib.storage import domains, jobs, users, vault
from chalicelib.storage.connection import Transaction
from chalicelib.storage.ids import new_id
from local.identity import DemoPerson

if TYPE_CHECKING:
    from collections.abc import Mapping

DOMAIN = "example.com"
INSTANCE_DOMAIN = "platform.example"
SYSCLIENT_DOMAIN = "sysclient.example"
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

SYSCLIENT_PEOPLE = (
    DemoPerson("sysuser1", "Sysclient User 1", SYSCLIENT_DOMAIN),
    DemoPerson("sysuser2", "Sysclient User 2", SYSCLIENT_DOMAIN),
    DemoPerson("sysadmin", "Sysadmin", SYSCLIENT_DOMAIN, ("users-admin", "devices-admin")),
)
SECURITY_TOKEN = "demo-security-token"  # noqa: S105 - of a domain that is on one machine alone

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


def seed_sysclients(now: datetime, host: str) -> None:
    """Write the domain whose phones keep a websocket, with a job of each kind; once is enough.

    Args:
        host: and port of this server, where its phones find Devices.
    """
    if domains.find(SYSCLIENT_DOMAIN) is not None:
        return
    places = Transaction()
    domain = domains.Domain(
        SYSCLIENT_DOMAIN,
        devices_url=_sysclient_url(host),
        phone_apps=["phone"],
        sealed_websocket_password=vault.seal("dialtone", f"websocket password {SYSCLIENT_DOMAIN}"),
    )
    add_domain(places, domain)
    devices = ["PHONE", "ANALOG_PHONE"]
    add_category(places, SYSCLIENT_DOMAIN, "Office", provisioning=True, device_types=devices)
    domains.put_firmware(places, SYSCLIENT_DOMAIN, FIRMWARE)
    token = vault.seal(SECURITY_TOKEN, f"security token {SYSCLIENT_DOMAIN}")
    domains.put_token(places, domains.SecurityToken(SYSCLIENT_DOMAIN, token, now), None)
    places.commit()
    users.put_all(_user(position, person) for position, person in enumerate(SYSCLIENT_PEOPLE))
    admin = SYSCLIENT_PEOPLE[-1]
    person = Person("demo", admin.sip, admin.name, admin.domain, frozenset(admin.roles))
    asking = Asking(person, host, f"http://{host}", now)
    updates.make_software_job(asking, SYSCLIENT_DOMAIN, "Office")
    for job_type, parameters in (
        ("ntp", {"server": "time.example.com"}),
        ("phone", {"pbx": "pbx.example.com", "password": "demo-registration"}),
        ("admin-password", {"password": "demo-admin"}),
    ):
        updates.make_configuration_job(asking, SYSCLIENT_DOMAIN, "Office", job_type, parameters)


def seed_pbx(now: datetime, address: str, app_object: str, password: str) -> None:
    """Give the demo domain a PBX; once is enough, as long as it is where it was."""
    known = domains.find(DOMAIN)
    if known is None or known.pbx_url == address:
        return
    admin = next(person for person in PEOPLE if "devices-admin" in person.roles)
    person = Person("demo", admin.sip, admin.name, admin.domain, frozenset(admin.roles))
    asking = Asking(person, address, address, now)
    wanted = {"address": address, "app_object": app_object, "password": password}
    pbxes.put(asking, DOMAIN, {**wanted, "flags": ["reverse_proxy"]})


def provisioning_url(host: str) -> str:
    """Tell the address of automatic provisioning for the phones of that domain."""
    claim = auto_provisioning.Claim(SYSCLIENT_DOMAIN, SECURITY_TOKEN, "Office")
    return auto_provisioning.url(_sysclient_url(host), claim)


def _sysclient_url(host: str) -> str:
    return f"ws://{host}/{SYSCLIENT_DOMAIN}/devices/sysclients"


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
