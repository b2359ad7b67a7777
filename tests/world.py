"""A small world for tests: a domain, its people, and what they do, told in the service's words."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from chalicelib.core.auto_provisioning import Claim
from chalicelib.core.codes import Code, Lifetime, read_entry
from chalicelib.core.devices import Facts
from chalicelib.identity import Person
from chalicelib.roles import devices, issuing, registrations, users
from chalicelib.roles.asking import Asking
from chalicelib.storage import codes, connection, domains
from local import demo
from tests.conftest import NOW

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

DOMAIN = "example.com"
BASE_URL = "https://dialtone.example/api"
UPDATE_URL = f"{BASE_URL}/devices/update"
HW_ID = "009033000001"
HOME = "192.0.2.1"
FACTS = Facts(product="IP232", version="13r1", prot="130100", boot="130100", local_ip="10.0.0.7")


def person(sip: str = "user1", domain: str = DOMAIN, roles: tuple[str, ...] = ()) -> Person:
    """Make a signed-in person."""
    return Person(f"sub-{sip}", sip, sip.title(), domain, frozenset(roles))


def asking(
    sip: str = "user1", now: datetime = NOW, domain: str = DOMAIN, roles: tuple[str, ...] = ()
) -> Asking:
    """Make somebody who asks for something."""
    return Asking(person(sip, domain, roles), HOME, BASE_URL, now)


def admin(now: datetime = NOW, domain: str = DOMAIN) -> Asking:
    """Make the administrator of a domain's devices."""
    return asking("admin", now, domain, ("devices-admin",))


def platform(now: datetime = NOW) -> Asking:
    """Make the administrator of the platform."""
    return asking("platform", now, demo.INSTANCE_DOMAIN, ("platform-admin",))


def seed(now: datetime = NOW) -> None:
    """Write the demo data, and a second domain with a category of its own."""
    demo.seed(now)
    other = connection.Transaction()
    demo.add_domain(other, domains.Domain("other.example"))
    demo.add_category(other, "other.example", "Sales", provisioning=True, device_types=["PHONE"])
    other.commit()


def issue(sip: str = "user1", now: datetime = NOW, category: str = "Office") -> issuing.IssuedCode:
    """Issue a code as Profile does."""
    return users.issue_code(asking(sip, now), category)


def issue_rollout(
    now: datetime = NOW, owner: str = "user2", domain: str = DOMAIN, category: str = "Office"
) -> issuing.IssuedCode:
    """Write a code with the lifetime of a rollout."""
    issued = users.issue_code(asking(owner, now, domain), category)
    lifetime = Lifetime.ROLLOUT
    expires_at = now + (issued.code.expires_at - now) / Lifetime.USER.seconds * lifetime.seconds
    code = replace(issued.code, lifetime=lifetime, expires_at=expires_at, purge_at=expires_at)
    codes.CodeItem.of(code).save()
    return issuing.IssuedCode(code, issued.digits)


def visit(
    typed: str | None,
    hw_id: str = HW_ID,
    source: str = HOME,
    token: str | None = None,
    facts: Facts = FACTS,
) -> devices.Visit:
    """Make a phone that comes to Devices."""
    return devices.Visit(hw_id, facts, read_entry(typed), token, source, UPDATE_URL)


def redeem(
    digits: str, hw_id: str = HW_ID, source: str = HOME, now: datetime = NOW
) -> registrations.Registration:
    """Redeem a code as any phone does."""
    entry = read_entry(digits)
    assert entry is not None
    return registrations.register(visit(digits, hw_id, source), entry, now)


def claiming(
    token: str,
    hw_id: str = HW_ID,
    source: str = HOME,
    domain: str = DOMAIN,
    category: str = "Office",
) -> devices.Visit:
    """Make a phone that comes to Devices with its domain's security token."""
    claim = Claim(domain, token, category)
    return devices.Visit(hw_id, FACTS, None, None, source, UPDATE_URL, claim)


def admit(visited: devices.Visit, now: datetime = NOW) -> registrations.Registration:
    """Register by a domain's security token as any phone does."""
    assert visited.claim is not None
    return registrations.register(visited, visited.claim, now)


def stored(code: Code) -> Code:
    """Read a code as it is now."""
    (found,) = codes.find_all([code.fingerprint])
    return found


def dump(client: "DynamoDBClient", table_names: Mapping[str, str]) -> str:
    """Write out every item of every table, as somebody with a copy of them would read it."""
    return "\n".join(
        str(item) for name in table_names.values() for item in client.scan(TableName=name)["Items"]
    )


@contextmanager
def calls() -> Iterator[list[str]]:
    """Count the calls to DynamoDB that leave this process, by name."""
    made: list[str] = []

    def note(model: Any, **_: Any) -> None:  # noqa: ANN401 - botocore's hook
        made.append(model.name)

    events = connection.shared().client.meta.events
    events.register("before-call.dynamodb", note)
    try:
        yield made
    finally:
        events.unregister("before-call.dynamodb", note)
