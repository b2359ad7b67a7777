from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import cache
from itertools import cycle, islice
from typing import Any

import pytest

from chalicelib import settings
from chalicelib.core.errors import (
    ConflictError,
    InvalidRequestError,
    LimitReachedError,
    NotAllowedError,
    NotFoundError,
)
from chalicelib.core.user_objects import FindBy, Hindrance, Step, Trouble
from chalicelib.roles import accesses, domains, pbxes
from chalicelib.storage import connection, lists
from chalicelib.storage import domains as domain_table
from chalicelib.storage import handovers as table
from chalicelib.storage.notifications import Kind, NotificationItem
from tests import faults, world
from tests.conftest import NOW
from tests.played_pbx import PlayedPbx

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("seeded")]

DOMAIN = world.DOMAIN
PASSWORD = "of the app object"
SETTINGS: dict[str, Any] = {
    "address": "wss://pbx.example.com",
    "app_object": "dialtone",
    "password": PASSWORD,
}


@pytest.fixture
def seeded(table_names: dict[str, str]) -> None:
    """Write the demo data."""
    assert table_names
    world.seed()


def stored() -> domain_table.Domain:
    """Read the domain."""
    found = domain_table.find(DOMAIN)
    assert found is not None
    return found


def redrives() -> int:
    """Count how often all phones are to be handed over."""
    return len(lists.query(NotificationItem, DOMAIN, lists.Span(f"{Kind.REDRIVE}#", 10)).items)


def put(**changes: Any) -> pbxes.Overview:  # noqa: ANN401 - settings
    """Set the PBX."""
    return pbxes.put(world.admin(), DOMAIN, {**SETTINGS, **changes})


def test_a_domain_gets_a_pbx_which_hears_of_all_its_phones() -> None:
    """The password is sealed, and what is not said has its default."""
    seen = put()
    assert (seen.domain.pbx_url, seen.domain.pbx_app) == (SETTINGS["address"], "dialtone")
    assert (seen.domain.pbx_find_by, list(seen.domain.pbx_flags)) == (FindBy.SIP, [])
    assert (seen.standing, seen.waiting_count, seen.waiting) == (None, 0, [])
    assert PASSWORD not in str(stored()) + stored().sealed_pbx_password
    assert accesses.access_of(stored()).password == PASSWORD
    assert (redrives(), domain_table.list_with_pbx()) == (1, [DOMAIN])
    assert pbxes.show(world.admin(), DOMAIN) == seen


def test_a_password_is_kept_for_the_same_address_alone() -> None:
    """What was told for one PBX is not sent to another."""
    with pytest.raises(InvalidRequestError) as raised:
        put(password="")
    assert [fault.field for fault in raised.value.faults] == ["password"]
    put()
    put(password="", find_by=FindBy.NAME, flags=["tls_only"])
    assert accesses.access_of(stored()).password == PASSWORD
    assert (stored().pbx_find_by, list(stored().pbx_flags)) == (FindBy.NAME, ["tls_only"])
    with pytest.raises(InvalidRequestError):
        put(password="", address="wss://elsewhere.example")
    assert stored().pbx_url == SETTINGS["address"]


@pytest.mark.parametrize("address", ["", "pbx.example.com", "https://pbx.example.com", "ws://pbx"])
def test_an_address_must_be_safe(address: str) -> None:
    """All faults at once."""
    with pytest.raises(InvalidRequestError) as raised:
        put(address=address, password="")
    assert [fault.field for fault in raised.value.faults] == ["address", "password"]


def test_one_machine_may_do_without_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    """If it is told so."""
    used = replace(settings.current(), pbx_plain=True)
    monkeypatch.setattr(settings, "current", cache(lambda: used))
    assert put(address="ws://127.0.0.1:8100").domain.pbx_url == "ws://127.0.0.1:8100"


def test_a_pbx_is_taken_away_with_all_that_is_known_of_it() -> None:
    """Doing so twice changes nothing."""
    put(flags=["tls_only"])
    table.put_standing(table.Standing(DOMAIN, Trouble.PASSWORD, NOW, 1, NOW))
    for _ in range(2):
        pbxes.delete(world.admin(), DOMAIN)
        assert stored() == replace(
            stored(), pbx_url="", pbx_app="", sealed_pbx_password="", pbx_flags=()
        )
        assert (domain_table.list_with_pbx(), table.find_standing(DOMAIN)) == ([], None)
    with pytest.raises(NotFoundError):
        pbxes.show(world.admin(), DOMAIN)


def test_domains_with_a_pbx_are_listed_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """In as many pages as they take."""
    put()
    pbxes.put(world.platform(), "other.example", SETTINGS)
    monkeypatch.setattr(domain_table, "_PAGE", 1)
    assert domain_table.list_with_pbx() == [DOMAIN, "other.example"]


def test_a_domain_that_goes_takes_its_pbx_with_it() -> None:
    """The schedule looks for it no more."""
    domains.create(world.platform(), "new.example", {})
    pbxes.put(world.platform(), "new.example", SETTINGS)
    domains.delete(world.platform(), "new.example")
    assert domain_table.list_with_pbx() == []


def test_what_waits_is_shown_with_why() -> None:
    """What the PBX did not take comes first."""
    put()
    transaction = connection.Transaction()
    for number in range(3):
        row = table.Handover(DOMAIN, "", "user1", f"00903300000{number}")
        table.put_new(transaction, row, NOW + timedelta(seconds=number))
    transaction.commit()
    last = table.list_waiting(DOMAIN, 10)[-1]
    table.put_off([last], Hindrance.NO_USER, NOW)
    standing = table.Standing(DOMAIN, Trouble.PASSWORD, NOW, 2, NOW + timedelta(seconds=10))
    table.put_standing(standing)
    seen = pbxes.show(world.admin(), DOMAIN)
    assert (seen.standing, seen.waiting_count) == (standing, 3)
    assert [(one.hw_id[-1], one.attempts, one.reason) for one in seen.waiting] == [
        ("2", 1, Hindrance.NO_USER),
        ("0", 0, ""),
        ("1", 0, ""),
    ]


def test_a_check_tells_how_far_it_goes() -> None:
    """Whether the PBX knows whoever asks shows that it answers."""
    put()
    pbx = PlayedPbx("user1")
    pbx.apis = frozenset({"PbxAdminApi"})
    checked = pbxes.check(world.admin(), DOMAIN, pbx.connect)
    assert (checked.trouble, checked.is_known) == (None, False)
    assert checked.steps[Step.USERS_API] is False
    pbx.hire("admin")
    assert pbxes.check(world.admin(), DOMAIN, pbx.connect).is_known
    pbx.trouble = Trouble.CERTIFICATE
    checked = pbxes.check(world.admin(), DOMAIN, pbx.connect)
    assert (checked.trouble, checked.steps[Step.CERTIFICATE]) == (Trouble.CERTIFICATE, False)


def test_a_domain_lets_us_connect_so_often() -> None:
    """It would be a way to look around in somebody else's network; what is wrong costs nothing."""
    asked = [ACTS[act] for act in ("put", "check", "redrive", "replicate")]
    for act in islice(cycle(asked), 30):
        with pytest.raises(InvalidRequestError):
            pbxes.put(world.admin(), DOMAIN, {**SETTINGS, "address": "none"})
        act(world.admin(), DOMAIN)
    for act in asked:
        with pytest.raises(LimitReachedError):
            act(world.admin(), DOMAIN)
    assert pbxes.show(world.admin(), DOMAIN).waiting_count == 0
    pbxes.delete(world.admin(), DOMAIN)


def test_all_is_told_again_on_demand() -> None:
    """Which is written down."""
    put()
    pbxes.redrive(world.admin(), DOMAIN)
    assert redrives() == 2
    trail = domains.audit_trail(world.admin(), DOMAIN, f"{NOW:%Y-%m}", 10, None).items
    assert sorted(entry.action for entry in trail) == ["PBX set", "PBX told again"]


ACTS: dict[str, Callable[[Any, str], object]] = {
    "show": pbxes.show,
    "put": lambda who, at: pbxes.put(who, at, SETTINGS),
    "delete": pbxes.delete,
    "redrive": pbxes.redrive,
    "replicate": pbxes.replicate,
    "check": lambda who, at: pbxes.check(who, at, PlayedPbx().connect),
}


@pytest.mark.parametrize("act", ACTS)
def test_there_must_be_a_domain_and_mostly_a_pbx(act: str) -> None:
    """Who may do it at all is tried in test_rights.py."""
    with pytest.raises(NotFoundError):
        ACTS[act](world.platform(), "nowhere.example")
    if act not in {"put", "delete"}:
        with pytest.raises(NotFoundError):
            ACTS[act](world.platform(), "other.example")


def test_who_may_add_no_users_lets_no_pbx_do_so() -> None:
    """Neither by turning it on nor by another PBX; what is on already may stay."""
    put()
    both = world.asking("admin", roles=("devices-admin", "users-admin"))
    with pytest.raises(NotAllowedError):
        put(imports_users=True)
    pbxes.put(both, DOMAIN, {**SETTINGS, "imports_users": True})
    assert stored().pbx_imports_users
    put(app_object="another")
    with pytest.raises(NotAllowedError):
        put(address="wss://elsewhere.example")
    pbxes.put(world.platform(), DOMAIN, {**SETTINGS, "address": "wss://elsewhere.example"})
    put(address="wss://elsewhere.example", imports_users=False)
    assert not stored().pbx_imports_users


def test_of_two_who_set_a_pbx_at_once_one_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A password never goes with an address that it was not set for."""
    put()
    elsewhere = {"address": "wss://elsewhere.example", "password": "for that one"}
    with (
        faults.meanwhile(monkeypatch, "TransactWriteItems", lambda: put(**elsewhere)),
        pytest.raises(ConflictError),
    ):
        put(password="")
    assert stored().pbx_url == elsewhere["address"]


def test_a_domain_that_goes_meanwhile_gets_no_pbx(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one that was not there."""
    domains.create(world.platform(), "new.example", {})
    with (
        faults.meanwhile(
            monkeypatch,
            "TransactWriteItems",
            lambda: domains.delete(world.platform(), "new.example"),
        ),
        pytest.raises(NotFoundError),
    ):
        pbxes.put(world.platform(), "new.example", SETTINGS)
    assert domain_table.list_with_pbx() == []
