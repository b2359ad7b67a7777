"""What is kept of a PBX's users: at whom it has which phone, and what came of reading them."""

from datetime import timedelta

import pytest

from chalicelib.storage import connection, holdings, replications
from chalicelib.storage.replications import Replication
from tests import faults, world
from tests.conftest import NOW

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("table_names")]

DOMAIN = world.DOMAIN
HOUR = timedelta(hours=1)
MADE = Replication(DOMAIN, NOW + HOUR, NOW, "no answer", 2, {"read": 3})


def hurry() -> None:
    """Ask for one at once."""
    transaction = connection.Transaction()
    replications.add_hurry(transaction, DOMAIN, NOW + HOUR / 2)
    transaction.commit()


def forget() -> None:
    """Take the PBX away."""
    transaction = connection.Transaction()
    replications.add_forget(transaction, DOMAIN)
    transaction.commit()


def test_phones_are_kept_with_who_has_them() -> None:
    """Each domain's for itself; one that is nobody's any more stays until its time is over."""
    holdings.put_at_pbx(DOMAIN, {"009033000001": "user1", "009033000002": "user2"}, NOW)
    holdings.put_at_pbx("other.example", {"009033000001": "zoe"}, NOW)
    holdings.put_at_pbx(DOMAIN, {"009033000002": "user3"}, NOW)
    asked = ["009033000001", "009033000002", "009033000003"]
    assert holdings.find_at_pbx(DOMAIN, asked) == {
        "009033000001": "user1",
        "009033000002": "user3",
    }
    assert holdings.find_at_pbx(DOMAIN, []) == {}


def test_what_is_as_it_was_is_not_written_before_it_grows_old(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Page by page; after a fortnight it is written anew, so that it does not go."""
    monkeypatch.setattr(holdings, "_MAX_PAGE", 2)
    there = {f"00903300000{number}": "user1" for number in range(5)}
    for days, writes in ((0, 1), (14, 0), (16, 1), (17, 0)):
        with world.calls() as made:
            holdings.put_at_pbx(DOMAIN, there, NOW + timedelta(days=days))
        assert made.count("BatchWriteItem") == writes, days


def test_what_came_of_one_is_kept() -> None:
    """Whatever there was before."""
    assert replications.find(DOMAIN) is None
    replications.put(MADE, None, NOW)
    assert replications.find(DOMAIN) == MADE
    better = Replication(DOMAIN, NOW + 2 * HOUR, NOW + HOUR)
    replications.put(better, MADE, NOW)
    assert replications.find_all([DOMAIN, "other.example"]) == [better]


@pytest.mark.parametrize("is_first", [True, False])
def test_one_that_is_asked_for_meanwhile_is_due_at_once(*, is_first: bool) -> None:
    """And what came of the other is kept."""
    if not is_first:
        replications.put(MADE, None, NOW)
    seen = replications.find(DOMAIN)
    hurry()
    replications.put(Replication(DOMAIN, NOW + 2 * HOUR, NOW), seen, NOW + HOUR)
    assert replications.find(DOMAIN) == Replication(DOMAIN, NOW + HOUR, NOW)


def test_to_ask_for_one_keeps_what_came_of_the_last() -> None:
    """Also if there was none."""
    hurry()
    assert replications.find(DOMAIN) == Replication(DOMAIN, NOW + HOUR / 2)
    forget()
    replications.put(MADE, None, NOW)
    hurry()
    found = replications.find(DOMAIN)
    assert found is not None
    assert (found.retry_at, found.counts) == (NOW + HOUR / 2, MADE.counts)


def test_a_pbx_that_is_taken_away_meanwhile_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What came of it concerns nobody."""
    replications.put(MADE, None, NOW)
    with faults.meanwhile(monkeypatch, "TransactWriteItems", forget):
        replications.put(Replication(DOMAIN, NOW, NOW), MADE, NOW)
    assert replications.find(DOMAIN) is None
