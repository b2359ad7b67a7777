from dataclasses import replace
from datetime import timedelta

import pytest

from chalicelib.core import sysclient_login
from chalicelib.core.devices import UNUSED_TOKEN_SECONDS
from chalicelib.core.errors import NotSignedInError
from chalicelib.roles import assignments, devices, sysclients
from chalicelib.storage import devices as device_table
from tests import world
from tests.conftest import NOW
from tests.world import DOMAIN, FACTS, HW_ID

HERE = "10.0.3.7:8080#1"
ELSEWHERE = "10.0.4.9:8080#2"
pytestmark = pytest.mark.engine


@pytest.fixture(autouse=True)
def seeded(table_names: dict[str, str]) -> None:
    """Write the demo data."""
    assert table_names
    world.seed()


def registered() -> sysclients.Credentials:
    """Register a phone of user1."""
    return sysclients.credentials(world.redeem(world.issue().digits).device)


def test_a_device_is_known_to_its_domain_alone() -> None:
    """Elsewhere it is a phone like any other."""
    assert sysclients.find_known(HW_ID, DOMAIN, NOW) is None
    registered()
    found = sysclients.find_known(HW_ID, DOMAIN, NOW)
    assert found is not None
    assert found.hw_id == HW_ID
    assert sysclients.find_known(HW_ID, "other.example", NOW) is None


def test_who_is_free_is_not_known() -> None:
    """Released, or never back within a day."""
    registered()
    later = NOW + timedelta(seconds=UNUSED_TOKEN_SECONDS)
    assert sysclients.find_known(HW_ID, DOMAIN, later) is None
    assignments.release(world.admin(), DOMAIN, HW_ID)
    assert sysclients.find_known(HW_ID, DOMAIN, NOW) is None


def test_a_device_has_its_password_once_it_has_arrived() -> None:
    """Before, its connection may have been lost."""
    own = registered()
    found = sysclients.find_known(HW_ID, DOMAIN, NOW)
    assert found is not None
    assert not sysclients.has_its_password(found)
    devices.arrive(HW_ID, own.token, FACTS, NOW, connection=HERE)
    found = sysclients.find_known(HW_ID, DOMAIN, NOW)
    assert found is not None
    assert sysclients.has_its_password(found)


def test_the_digest_proves_the_password() -> None:
    """With everything that it covers, in capitals, too."""
    own = registered()
    right = sysclient_login.digest(HW_ID, "IP232", "13r1", "17", own.password)
    proof = sysclients.Proof(HW_ID, "IP232", "13r1", "17", right)
    assert sysclients.is_proven(proof, own.password)
    assert sysclients.is_proven(replace(proof, digest=right.upper()), own.password)
    for wrong in (
        replace(proof, challenge="18"),
        replace(proof, version="13r2"),
        replace(proof, digest=""),
        replace(proof, digest="ü"),
    ):
        assert not sysclients.is_proven(wrong, own.password)
    assert not sysclients.is_proven(proof, "another")


def test_arriving_tells_what_is_open_and_who_holds_the_websocket() -> None:
    """What the phone says of itself is kept."""
    own = registered()
    facts = replace(FACTS, version="14r1")
    plan = devices.arrive(HW_ID, own.token, facts, NOW, connection=HERE)
    assert [job.job_type for job in plan.jobs] == ["software", "update-client", "expert"]
    kept = device_table.find(HW_ID)
    assert kept is not None
    assert (kept.connection, kept.version, kept.last_seen_at) == (HERE, "14r1", NOW)
    devices.arrive(HW_ID, own.token, facts, NOW + timedelta(hours=1))
    kept = device_table.find(HW_ID)
    assert kept is not None
    assert (kept.connection, kept.last_seen_at) == (HERE, NOW + timedelta(hours=1))


def test_only_its_own_token_lets_a_device_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does one that is released at this moment."""
    own = registered()
    with pytest.raises(NotSignedInError):
        devices.arrive(HW_ID, "another", FACTS, NOW)
    monkeypatch.setattr(device_table, "report", lambda *_: False)
    with pytest.raises(NotSignedInError):
        devices.arrive(HW_ID, own.token, FACTS, NOW)


def test_the_end_of_an_older_connection_changes_nothing() -> None:
    """The phone is connected elsewhere by then."""
    own = registered()
    devices.arrive(HW_ID, own.token, FACTS, NOW, connection=HERE)
    devices.arrive(HW_ID, own.token, FACTS, NOW, connection=ELSEWHERE)
    sysclients.disconnect(HW_ID, HERE, NOW)
    kept = device_table.find(HW_ID)
    assert kept is not None
    assert (kept.connection, kept.disconnected_at) == (ELSEWHERE, None)
    sysclients.disconnect(HW_ID, ELSEWHERE, NOW)
    kept = device_table.find(HW_ID)
    assert kept is not None
    assert (kept.connection, kept.disconnected_at) == ("", NOW)
