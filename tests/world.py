"""A small world for tests: a domain, its people, and what they do, told in the service's words."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

from chalicelib import settings
from chalicelib.core.auto_provisioning import Claim
from chalicelib.core.codes import Code, read_entry
from chalicelib.core.devices import Facts
from chalicelib.core.rollouts import Registration, Rollout
from chalicelib.identity import Person
from chalicelib.roles import devices, handouts, issuing, registrations, rollouts, users
from chalicelib.roles.asking import Asking
from chalicelib.storage import codes, connection, domains
from chalicelib.storage import registrations as entry_table
from chalicelib.storage import users as user_table
from local import demo
from tests import engine_tables, moto_tables
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


def users_admin(now: datetime = NOW, domain: str = DOMAIN) -> Asking:
    """Make the administrator of a domain's users."""
    return asking("office", now, domain, ("users-admin",))


def platform(now: datetime = NOW) -> Asking:
    """Make the administrator of the platform."""
    return asking("platform", now, demo.INSTANCE_DOMAIN, ("platform-admin",))


_seeded: dict[datetime, moto_tables.Contents] = {}
_seeded_engine: engine_tables.Contents = []
"""As of NOW alone; whoever seeds at another time does so once."""


def seed(now: datetime = NOW) -> None:
    """Write the demo data, and a second domain with a category of its own."""
    names = settings.current().tables
    client = connection.shared().client
    if now in _seeded:
        moto_tables.fill(names, _seeded[now])
        return
    if now == NOW and _seeded_engine:
        engine_tables.fill(client, _seeded_engine)
        return
    _write(now)
    written = moto_tables.contents(names)
    if written:
        _seeded[now] = written
    elif now == NOW:
        _seeded_engine.extend(engine_tables.contents(client, names))


def _write(now: datetime) -> None:
    demo.seed(now)
    other = connection.Transaction()
    demo.add_domain(other, domains.Domain("other.example"))
    demo.add_category(other, "other.example", "Sales", provisioning=True, device_types=["PHONE"])
    other.commit()


def issue(sip: str = "user1", now: datetime = NOW, category: str = "Office") -> issuing.IssuedCode:
    """Issue a code as Profile does."""
    return users.issue_code(asking(sip, now), category)


def hire(*sips: str, domain: str = DOMAIN) -> list[str]:
    """Make users."""
    user_table.put_all([user_table.User(domain, sip, name=sip.title()) for sip in sips])
    return list(sips)


def staff(count: int) -> list[str]:
    """Make many users, in the order of their sips."""
    return hire(*[f"clerk{n:03}" for n in range(count)])


def make_rollout(
    sips: Sequence[str], now: datetime = NOW, domain: str = DOMAIN, category: str = "Office"
) -> Rollout:
    """Roll phones out."""
    made, _ = rollouts.create(
        users_admin(now, domain), name="Autumn", category=category, app="", note="", sips=sips
    )
    return made


def told(rollout: Rollout, now: datetime = NOW) -> dict[str, str]:
    """Export a rollout's codes: sip → digits, of those that are pending."""
    _, found = handouts.export(users_admin(now, rollout.domain), rollout.rollout_id, None)
    return {one.registration.sip: one.digits for one in found if one.digits}


def entry(rollout: Rollout, sip: str) -> Registration:
    """Read a user's entry as it is now."""
    (found,) = entry_table.find_all(rollout.rollout_id, [sip])
    return found


def issue_rollout(
    now: datetime = NOW, owner: str = "user2", domain: str = DOMAIN, category: str = "Office"
) -> issuing.IssuedCode:
    """Issue a code in a rollout of its own."""
    if not user_table.find_all(domain, [owner]):
        hire(owner, domain=domain)
    rollout = make_rollout([owner], now, domain, category)
    (code,) = codes.find_all([entry(rollout, owner).fingerprint])
    return issuing.IssuedCode(code, told(rollout, now)[owner])


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
    typed = read_entry(digits)
    assert typed is not None
    return registrations.register(visit(digits, hw_id, source), typed, now)


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
