from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from chalicelib.core.errors import StoreUnavailableError
from chalicelib.storage import connection, connections
from chalicelib.storage.connection import Refused
from chalicelib.storage.connections import Connection, Role
from tests import faults, world
from tests.conftest import NOW

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("table_names")]
DEADLINE = NOW + timedelta(seconds=60)
INSTANCES = connections.users_instances(world.DOMAIN)


def opened(name: str = "c1", now: datetime = NOW) -> Connection:
    """Open a connection."""
    made = Connection(name, now, world.HOME, audiences=[], ends_at=now + timedelta(seconds=60))
    connections.open_(made)
    return made


def instance(before: Connection, domain: str = world.DOMAIN, now: datetime = NOW) -> Connection:
    """Make a connection over which a Users instance has logged in."""
    return replace(
        before,
        role=Role.USERS_INSTANCE,
        challenge="",
        domain=domain,
        app="users",
        audiences=[connections.users_instances(domain), connections.ALL_USERS_INSTANCES],
        logged_in_at=now,
        ends_at=None,
    )


def log_in(before: Connection, after: Connection) -> None:
    """Log a connection in."""
    transaction = connection.Transaction()
    connections.log_in(transaction, before, after)
    transaction.commit()


def listens(name: str, domain: str = world.DOMAIN, now: datetime = NOW) -> Connection:
    """Open a connection and log in over it."""
    before = opened(name, now)
    after = instance(before, domain, now)
    log_in(before, after)
    return after


def names(found: list[Connection]) -> list[str]:
    """Tell connections by name."""
    return [known.connection_id for known in found]


def test_a_connection_is_found_as_it_was_opened() -> None:
    """And none that was not."""
    made = opened()
    assert connections.find("c1") == made
    assert connections.find("c2") is None


def test_a_challenge_voids_the_one_before() -> None:
    """There is one at a time, and none before the first."""
    opened()
    assert connections.take_challenge("c1") == ""
    connections.challenge("c1", "1" * 16)
    connections.challenge("c1", "2" * 16)
    assert connections.take_challenge("c1") == "2" * 16
    assert connections.take_challenge("c1") == ""


def test_no_challenge_after_the_login_and_none_for_who_has_gone() -> None:
    """It is refused, and leaves nothing behind."""
    listens("c1")
    for name in ("c1", "gone"):
        with pytest.raises(Refused):
            connections.challenge(name, "1" * 16)
        assert connections.take_challenge(name) == ""
    assert connections.find("gone") is None


def test_a_challenge_is_taken_exactly_once() -> None:
    """However many try at the same moment."""
    opened()
    connections.challenge("c1", "1" * 16)
    with ThreadPoolExecutor(16) as pool:
        taken = list(pool.map(connections.take_challenge, ["c1"] * 16))
    assert sorted(taken) == [""] * 15 + ["1" * 16]


def test_a_challenge_is_not_taken_when_the_table_does_not_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """That is an error, not a login without a challenge."""
    opened()
    connections.challenge("c1", "1" * 16)
    error = faults.client_error("ValidationException", "UpdateItem")
    with (
        faults.failing(monkeypatch, "UpdateItem", error),
        pytest.raises(type(error), match="Validation"),
    ):
        connections.take_challenge("c1")
    with (
        faults.failing(monkeypatch, "UpdateItem", *[faults.timeout()] * 10),
        pytest.raises(StoreUnavailableError),
    ):
        connections.take_challenge("c1")
    assert connections.take_challenge("c1") == "1" * 16


def test_a_login_joins_its_audiences() -> None:
    """And is not found in any other; its challenge and its deadline are no more."""
    before = opened()
    after = replace(instance(before), challenge="1" * 16)
    log_in(before, after)
    assert connections.find("c1") == after
    listed = replace(after, challenge="")
    assert connections.listening(INSTANCES, NOW) == [listed]
    assert connections.listening(connections.ALL_USERS_INSTANCES, NOW) == [listed]
    for other in (
        connections.users_instances("other.example"),
        connections.user(world.DOMAIN, "user1"),
        connections.admins(world.DOMAIN),
    ):
        assert connections.listening(other, NOW) == []
    assert connections.overdue(DEADLINE) == []


def test_a_person_has_a_deadline_of_its_own() -> None:
    """The end of the token replaces the time to log in."""
    before = opened()
    ends_at = NOW + timedelta(hours=1)
    audience = connections.user(world.DOMAIN, "user1")
    after = replace(
        before,
        role=Role.PERSON,
        domain=world.DOMAIN,
        sip="user1",
        audiences=[audience],
        logged_in_at=NOW,
        ends_at=ends_at,
    )
    log_in(before, after)
    last = ends_at - timedelta(milliseconds=1)
    assert connections.overdue(last) == []
    assert connections.overdue(ends_at) == [after]
    assert connections.listening(audience, last) == [after]
    assert connections.listening(audience, ends_at) == []


def test_a_token_may_end_when_the_time_to_log_in_would_have() -> None:
    """The deadline stays, and the login is no less one."""
    before = opened()
    after = replace(before, role=Role.PERSON, domain=world.DOMAIN, sip="user1", logged_in_at=NOW)
    log_in(before, after)
    assert connections.overdue(DEADLINE) == [after]


def test_one_login_wins_a_connection() -> None:
    """However many try at the same moment, and nobody else is listed."""
    before = opened()

    def attempt(number: int) -> bool:
        try:
            log_in(before, instance(before, f"d{number}.example"))
        except (Refused, StoreUnavailableError):
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(attempt, range(8)))
    assert sum(won) == 1
    assert connections.domains_listening() == [f"d{won.index(True)}.example"]


def test_nobody_logs_in_over_what_has_gone_or_is_another() -> None:
    """A connection that was closed, or whose name was given again."""
    before = opened()
    connections.close(before)
    with pytest.raises(Refused):
        log_in(before, instance(before))
    opened(now=NOW + timedelta(seconds=1))
    with pytest.raises(Refused):
        log_in(before, instance(before))
    assert connections.listening(INSTANCES, NOW) == []


@pytest.mark.parametrize("is_logged_in", [False, True])
def test_nothing_is_left_of_what_was_closed(
    client: "DynamoDBClient", table_names: dict[str, str], *, is_logged_in: bool
) -> None:
    """Wherever it was listed; a second time changes nothing."""
    closed = listens("c1") if is_logged_in else opened()
    connections.close(closed)
    connections.close(closed)
    assert client.scan(TableName=table_names["connections"])["Items"] == []


def test_every_item_goes_by_itself(client: "DynamoDBClient", table_names: dict[str, str]) -> None:
    """Ten minutes after API Gateway would have ended the connection."""
    listens("c1")
    opened("c2")
    items = client.scan(TableName=table_names["connections"])["Items"]
    purge_at = int(NOW.timestamp()) + connections.KEEP_SECONDS
    assert [int(item["purge_at"]["N"]) for item in items] == [purge_at] * 5


def test_the_newest_login_is_told_first() -> None:
    """Whatever the names of the connections."""
    for seconds, name in enumerate(("b", "c", "a")):
        listens(name, now=NOW + timedelta(seconds=seconds))
    assert names(connections.listening(INSTANCES, NOW)) == ["a", "c", "b"]


def test_domains_that_listen_are_listed_once_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """In their order, with pages of any size."""
    assert connections.domains_listening() == []
    for number, domain in enumerate(("b.example", "a.example", "b.example")):
        listens(f"c{number}", domain)
    opened("nobody")
    for size in (1, 2, 10):
        monkeypatch.setattr(connections, "MAX_LISTENERS", size)
        assert connections.domains_listening() == ["a.example", "b.example"]


def test_a_connection_is_overdue_from_its_deadline_on() -> None:
    """At it and after it, not before; the earliest first of those that fit."""
    opened("a")
    opened("b", NOW + timedelta(seconds=1))
    assert connections.overdue(DEADLINE - timedelta(milliseconds=1)) == []
    assert names(connections.overdue(DEADLINE)) == ["a"]
    assert sorted(names(connections.overdue(DEADLINE + timedelta(seconds=1)))) == ["a", "b"]
    assert sorted(names(connections.overdue(DEADLINE + timedelta(days=1)))) == ["a", "b"]


def test_a_deadline_of_what_has_gone_is_passed_over() -> None:
    """TTL may take the two in any order."""
    made = opened("a")
    opened("b")
    connections.ConnectionItem(f"connection#{made.connection_id}", made.connection_id).delete()
    assert names(connections.overdue(DEADLINE)) == ["b"]


def test_a_connection_does_not_show_its_challenge() -> None:
    """It is over at its end, and never without one."""
    made = replace(opened(), challenge="1" * 16)
    assert "1" * 16 not in repr(made)
    assert (made.is_over(NOW), made.is_over(DEADLINE)) == (False, True)
    assert not replace(made, ends_at=None).is_over(DEADLINE)
