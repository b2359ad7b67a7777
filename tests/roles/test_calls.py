"""How many calls to DynamoDB each step may make, counted where they leave the process."""

from datetime import timedelta

import pytest

from chalicelib.core.codes import read_entry
from chalicelib.core.devices import Facts
from chalicelib.roles import devices, handovers, pbxes, provisioning, updates
from tests import world
from tests.conftest import NOW
from tests.played_pbx import PlayedPbx
from tests.roles.test_devices import done_facts
from tests.roles.test_updates import CONFIGURATION

pytestmark = pytest.mark.usefixtures("table_names")
WRITES = {"PutItem", "UpdateItem", "DeleteItem", "TransactWriteItems", "BatchWriteItem"}


@pytest.fixture(autouse=True)
def seeded(table_names: dict[str, str]) -> None:
    world.seed()


def ask(typed: str | None) -> str:
    """Let the phone ask the central service."""
    return provisioning.answer(
        provisioning.Inquiry(world.HW_ID, world.FACTS, read_entry(typed), world.HOME), NOW
    )


def test_init_without_a_code() -> None:
    """One call for a phone that this process did not see, none for one that it did."""
    with world.calls() as made:
        ask(None)
    assert len(made) == 1
    with world.calls() as made:
        ask("prompt")
    assert made == []


def test_init_with_a_code() -> None:
    """Reserve, look up, note, refund."""
    issued = world.issue()
    with world.calls() as made:
        ask(issued.digits)
    assert len(made) <= 4


@pytest.mark.parametrize("kind", ["unknown", "malformed", "used"])
def test_a_refused_code(kind: str) -> None:
    """Reserve, look up, record: at the central service and at Devices."""
    issued = world.issue()
    world.redeem(issued.digits, "0090330000aa", "198.51.100.1")
    typed = {"unknown": "000000000000", "malformed": "1", "used": issued.digits}[kind]
    with world.calls() as made:
        ask(typed)
    assert len(made) <= 3
    with world.calls() as made:
        devices.update_script(world.visit(typed, source="203.0.113.8"), NOW)
    assert len(made) <= 3


def test_issuing() -> None:
    """Who and where in one read, the limit, the transaction."""
    with world.calls() as made:
        world.issue()
    assert len(made) <= 4


def test_redeeming_with_its_script() -> None:
    """Also in debt, and also with a dead token beside the code."""
    issued = world.issue()
    with world.calls() as made:
        devices.update_script(world.visit(issued.digits), NOW)
    assert len(made) <= 6
    again = world.issue("user2")
    ask("000000000000")
    with world.calls() as made:
        devices.update_script(world.visit(again.digits, "0090330000ab"), NOW)
    assert len(made) <= 6 + 1


def test_an_idle_poll() -> None:
    """The device and its jobs, and no write until ten minutes have passed."""
    token = world.redeem(world.issue().digits).token
    facts = done_facts()

    _assert_idle(token, facts)


def test_an_idle_poll_with_a_job_of_every_type() -> None:
    """For the category and for every one: still all jobs in one read."""
    for minutes, category in enumerate(("Office", "*"), 1):
        asking = world.admin(NOW + timedelta(minutes=minutes))
        updates.make_software_job(asking, world.DOMAIN, category)
        for job_type, parameters in CONFIGURATION.items():
            updates.make_configuration_job(asking, world.DOMAIN, category, job_type, parameters)
    registration = world.redeem(world.issue().digits)
    assert len(registration.plan.jobs) == 1 + len(CONFIGURATION)
    _assert_idle(registration.token, done_facts())


def _assert_idle(token: str, facts: Facts) -> None:
    """Let a phone poll that has nothing to do."""

    def poll(seconds: int) -> list[str]:
        with world.calls() as made:
            now = NOW + timedelta(seconds=seconds)
            script = devices.update_script(world.visit(None, token=token, facts=facts), now)
        assert script == "# dialtone: nothing to do\r\n"
        return made

    assert len(poll(60)) == 4  # its state has changed, and its user hears of that
    assert poll(120) == ["BatchGetItem", "BatchGetItem"]
    assert poll(659) == ["BatchGetItem", "BatchGetItem"]
    assert WRITES & set(poll(660))


def test_a_handover() -> None:
    """Settings, the lease, what is due, whose it is, what others have; then one for each phone."""
    wanted = {"address": "wss://pbx.example.com", "app_object": "a", "password": "p"}
    pbxes.put(world.admin(), world.DOMAIN, wanted)
    pbx = PlayedPbx("user1")
    made: dict[int, int] = {}
    for count in (1, 5):
        for number in range(count):
            world.redeem(world.issue().digits, f"0090330{count}{number:04}")
        with world.calls() as calls:
            handovers.deliver(world.DOMAIN, pbx.connect, lambda: NOW)
        made[count] = len(calls)
    assert made == {1: 14, 5: 18}
    with world.calls() as calls:
        handovers.deliver(world.DOMAIN, pbx.connect, lambda: NOW)
    assert len(calls) == 6


def test_a_pbx_that_is_shown() -> None:
    """Its settings, what waits in both its places, the trouble, and what came of its users."""
    wanted = {"address": "wss://pbx.example.com", "app_object": "a", "password": "p"}
    pbxes.put(world.admin(), world.DOMAIN, wanted)
    with world.calls() as calls:
        pbxes.show(world.admin(), world.DOMAIN)
    assert len(calls) == 5
