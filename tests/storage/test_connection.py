import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ClientError
from pynamodb.exceptions import VerboseClientError

from chalicelib import observability
from chalicelib.core.devices import Device
from chalicelib.core.devices import State as Standing
from chalicelib.core.errors import StoreUnavailableError
from chalicelib.core.rollouts import Registration, State
from chalicelib.storage import (
    codes,
    connection,
    devices,
    domains,
    jobs,
    registrations,
    sightings,
    users,
)
from tests import faults, world
from tests.conftest import NOW

pytestmark = pytest.mark.usefixtures("table_names")

THROTTLES = [
    "ProvisionedThroughputExceededException",
    "ThrottlingException",
    "RequestLimitExceeded",
    "InternalServerError",
    "ServiceUnavailable",
    "TransactionInProgressException",
]


@pytest.mark.parametrize("code", THROTTLES)
def test_a_throttled_store_is_not_available(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Whatever DynamoDB calls it, the caller may come back."""
    error = faults.client_error(code, "BatchGetItem")
    with (
        faults.failing(monkeypatch, "BatchGetItem", error),
        pytest.raises(StoreUnavailableError) as raised,
    ):
        codes.find_all(["f"])
    assert raised.value.what == code


def test_a_throttled_transaction_is_not_available(monkeypatch: pytest.MonkeyPatch) -> None:
    """One throttled item cancels the whole; nothing was written."""
    world.seed()
    reasons = ["None", "ThrottlingError"]
    error = faults.client_error("TransactionCanceledException", "TransactWriteItems", reasons)
    with (
        faults.failing(monkeypatch, "TransactWriteItems", error),
        pytest.raises(StoreUnavailableError),
    ):
        world.issue()


def test_a_refused_condition_beside_a_conflict_is_a_refusal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Trying again cannot help: a condition has failed."""
    reasons = ["TransactionConflict", "ConditionalCheckFailed"]
    error = faults.client_error("TransactionCanceledException", "TransactWriteItems", reasons)
    transaction = connection.Transaction()
    transaction.put("first", users.UserItem("d", "a"))
    transaction.put("second", users.UserItem("d", "b"))
    with (
        faults.failing(monkeypatch, "TransactWriteItems", error),
        pytest.raises(connection.Refused) as refused,
    ):
        transaction.commit()
    assert refused.value.items == {"second": None}


def test_a_refusal_names_its_writes_whatever_their_order() -> None:
    """PynamoDB regroups a transaction's items; the names do not care."""
    users.put_all([users.User("d", "old", name="Old")])
    transaction = connection.Transaction()
    transaction.update("update", users.UserItem("d", "x"), [users.UserItem.name.set("X")])
    transaction.put("put", users.UserItem("d", "old"), users.UserItem.sip.does_not_exist())
    transaction.delete("delete", users.UserItem("d", "y"), users.UserItem.sip.exists())
    transaction.check("check", codes.CodeItem, ("f",), codes.CodeItem.fingerprint.exists())
    with pytest.raises(connection.Refused) as refused:
        transaction.commit()
    assert set(refused.value.items) == {"put", "delete", "check"}
    old = refused.value.items["put"]
    assert old is not None
    assert old["name"] == {"S": "Old"}


def test_keys_that_were_not_processed_are_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """DynamoDB may answer a part; forever a part is a store that is not available."""
    for n in range(3):
        users.put_all([users.User("d", f"user{n}")])
    real, parts = connection.call, []

    def partly(operation: str, **arguments: Any) -> dict[str, Any]:  # noqa: ANN401 - DynamoDB's JSON
        (name, request) = next(iter(arguments["RequestItems"].items()))
        first, rest = request["Keys"][:1], request["Keys"][1:]
        answer = real(operation, RequestItems={name: {**request, "Keys": first}})
        parts.append(len(first))
        if rest:
            answer["UnprocessedKeys"] = {name: {**request, "Keys": rest}}
        return answer

    monkeypatch.setattr(connection, "call", partly)
    keys = [("d", f"user{n}") for n in range(3)]
    assert len(connection.batch_get((users.UserItem, keys))[users.UserItem]) == 3
    assert parts == [1, 1, 1]
    monkeypatch.setattr(
        connection,
        "call",
        lambda *_, **given: {"Responses": {}, "UnprocessedKeys": given["RequestItems"]},
    )
    with pytest.raises(StoreUnavailableError):
        connection.batch_get((users.UserItem, keys))


def test_more_than_a_hundred_keys_are_read_in_parts() -> None:
    """Each key once, however often it is asked for."""
    keys = [("d", f"user{n}") for n in range(150)]
    with world.calls() as made:
        assert connection.batch_get((users.UserItem, keys + keys))[users.UserItem] == []
    assert made == ["BatchGetItem", "BatchGetItem"]


@pytest.mark.engine
def test_of_many_items_only_what_is_asked_for_is_read() -> None:
    """Words that DynamoDB keeps for itself may be asked for, too."""
    users.put_all([users.User("d", f"user{n}", name=f"User {n}", number="1") for n in range(150)])
    keys = [("d", f"user{n}") for n in range(150)]
    found = connection.batch_get((users.UserItem, keys), only=("sip", "name"))[users.UserItem]
    assert {item.sip: item.name for item in found} == {f"user{n}": f"User {n}" for n in range(150)}
    assert {item.number for item in found} == {None}


@pytest.mark.parametrize(
    ("item", "facts"),
    [
        (users.UserItem, users.User("d", "s")),
        (users.UserItem, users.User("d", "s", "Name", "1", "s@d", may_add_phones=False)),
        (
            registrations.RegistrationItem,
            Registration(
                rollout_id="r",
                sip="s",
                fingerprint="f",
                code_id="c",
                state=State.PENDING,
                expires_at=NOW,
                since=NOW,
                changed_at=NOW,
                purge_at=NOW,
            ),
        ),
        (devices.DeviceItem, Device("0090330000aa", Standing.CURRENT, confirmed={"expert": "J"})),
    ],
)
def test_what_is_read_at_once_is_what_an_item_would_tell(
    item: type[connection.Item], facts: object
) -> None:
    """There and back, with everything and with nothing that may be left out."""
    raw = item.of(facts).serialize()
    assert item.read(raw, type(facts)) == item.from_raw_data(raw).to(type(facts)) == facts


def test_what_fails_in_a_part_fails_as_a_whole() -> None:
    """Parts run in threads, and their errors do not stay there."""

    def work(part: int) -> int:
        if part == 2:
            raise StoreUnavailableError("part")
        return part * 10

    assert connection.at_once(work, [0, 1]) == [0, 10]
    with pytest.raises(StoreUnavailableError):
        connection.at_once(work, [0, 1, 2, 3])


@pytest.mark.engine
def test_many_items_are_written_in_parts() -> None:
    """As many as one call takes, and all of them; nothing to write is no call."""
    people = [users.User("d", f"user{n:02}", name="Somebody") for n in range(60)]
    with world.calls() as made:
        users.put_all(people)
        users.put_all([])
    assert made == ["BatchWriteItem"] * 3
    assert users.list_all("d", 100, None).items == people


def test_what_was_not_written_is_written_as_long_as_it_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One partition takes a thousand writes a second: the others wait, if any got through."""
    pauses: list[float] = []
    monkeypatch.setattr(connection.SharedConnection, "pause", staticmethod(pauses.append))
    real = connection.call

    def partly(operation: str, **arguments: Any) -> dict[str, Any]:  # noqa: ANN401 - DynamoDB's JSON
        ((name, puts),) = arguments["RequestItems"].items()
        answer = real(operation, RequestItems={name: puts[:1]})
        return {**answer, "UnprocessedItems": {name: puts[1:]} if puts[1:] else {}}

    monkeypatch.setattr(connection, "call", partly)
    people = [users.User("d", f"user{n:02}") for n in range(20)]
    users.put_all(people)
    assert len(pauses) == 19
    monkeypatch.setattr(
        connection, "call", lambda *_, **given: {"UnprocessedItems": given["RequestItems"]}
    )
    with pytest.raises(StoreUnavailableError):
        users.put_all(people[:1])


def test_who_writes_much_waits_for_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """A throttled transaction wrote nothing, so it is made again; a lost answer may have."""
    pauses: list[float] = []
    monkeypatch.setattr(connection.SharedConnection, "pause", staticmethod(pauses.append))

    def throttled() -> ClientError:
        reasons = ["None", "ThrottlingError"]
        return faults.client_error("TransactionCanceledException", "TransactWriteItems", reasons)

    def commit(sip: str, *errors: Exception) -> None:
        transaction = connection.Transaction()
        transaction.put("it", users.UserItem("d", sip), users.UserItem.sip.does_not_exist())
        with faults.failing(monkeypatch, "TransactWriteItems", *errors):
            transaction.commit_patiently()

    commit("soon", throttled(), throttled())
    assert len(pauses) == 2
    with pytest.raises(connection.Refused):
        commit("soon")
    with pytest.raises(StoreUnavailableError):
        commit("never", *(throttled() for _ in range(connection.MAX_CONFLICT_RETRIES + 1)))
    pauses.clear()
    with pytest.raises(StoreUnavailableError):
        commit("lost", faults.timeout())
    assert not pauses
    assert [user.sip for user in users.list_all("d", 10, None).items] == ["soon"]


@pytest.mark.engine
def test_what_dynamodb_would_not_take_as_a_key_is_not_there() -> None:
    """A made-up name, filter or cursor is no defect of ours, however long; nothing is asked."""
    with world.calls() as made:
        assert domains.find("x" * 2_049) is None
        assert domains.find("") is None
        assert domains.find_category(world.DOMAIN, "\u00fc" * 509) is None
        for partition, category, after in (
            ("x" * 2_049, "", None),
            (world.DOMAIN, "\u00fc" * 512, None),
            (world.DOMAIN, "", "\u00fc" * 513),
            (world.DOMAIN, "", "Office#"),
        ):
            page = devices.list_all(partition, category, None, 10, after)
            assert (page.items, page.next_after) == ([], None)
    assert made == []
    assert domains.find_category(world.DOMAIN, "\u00fc" * 507) is None
    assert devices.list_all(world.DOMAIN, "", None, 10, "Office").items == []


def test_threads_share_one_client() -> None:
    """Making a client costs more than a call, and is not safe in threads."""
    connection.forget()
    barrier = threading.Barrier(8)

    def client(_: int) -> object:
        barrier.wait()
        devices.find("0" * 12)
        return connection.shared().client

    with ThreadPoolExecutor(8) as pool:
        assert len({id(found) for found in pool.map(client, range(8))}) == 1


def test_a_direct_call_raises_what_botocore_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the refused item in it; an error without a cause stays what it is."""
    with pytest.raises(ClientError):
        connection.call("GetItem", TableName="nonsense", Key={"x": {"S": "y"}})
    lonely = VerboseClientError({"Error": {"Code": "Odd"}}, "GetItem")

    def raising(*_: object) -> None:
        raise lonely

    monkeypatch.setattr(connection.shared(), "dispatch", raising)
    with pytest.raises(VerboseClientError):
        connection.call("GetItem", TableName="nonsense")


def test_unexpected_failures_of_single_writes_are_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a refused condition is an answer to a conditional write."""
    from dataclasses import replace

    from pynamodb.exceptions import UpdateError

    from chalicelib.core.devices import Facts

    odd = faults.client_error("ValidationException", "any")
    device = Device("a" * 12, Standing.REGISTERED, registration_id="R")
    with faults.failing(monkeypatch, "UpdateItem", odd), pytest.raises(UpdateError):
        devices.report(replace(device, prot="1"), device)
    with faults.failing(monkeypatch, "UpdateItem", odd), pytest.raises(UpdateError):
        sightings.note(sightings.Sighting("a" * 12, Facts(), "192.0.2.1"), NOW)


def test_a_late_job_does_not_replace_a_later_one() -> None:
    """Two administrators at once: the later job is the latest, both are history."""
    from chalicelib.core.jobs import Job

    for job_id in ("2", "1"):
        jobs.put(Job(job_id, "d", "Office", "update-client", {"poll_minutes": 5}, NOW))
    assert [job.job_id for job in jobs.find_matching("d", "Office")] == ["2"]
    history = list(jobs.JobItem.query("d", jobs.JobItem.item.startswith("history#")))
    assert [item.job_id for item in history] == ["1", "2"]


def test_a_process_forgets_phones_and_sources_beyond_a_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its memory is bounded, whatever a flood invents."""
    from chalicelib.core.devices import Facts

    monkeypatch.setattr(sightings, "MAX_REMEMBERED", 2)
    for n in range(4):
        sightings.note(sightings.Sighting(f"{n:012x}", Facts(), f"192.0.2.{n}"), NOW)
    memory = sightings._memory  # noqa: SLF001 - the bound is what is tested
    assert (len(memory.seen), len(memory.arrivals_ms)) == (2, 2)


def test_what_is_done_at_once_has_the_id_of_whoever_waits() -> None:
    """Threads log, and write rows, under the id of the request that began them."""
    with observability.correlated("an id"):
        found = connection.at_once(lambda _: observability.correlation_id(), range(20))
    assert found == ["an id"] * 20
    assert connection.at_once(lambda _: observability.correlation_id(), range(20)) == [""] * 20


def test_a_transaction_of_nothing_is_no_call(table_names: dict[str, str]) -> None:
    """Which DynamoDB would refuse, and moto takes."""
    with world.calls() as made:
        connection.Transaction().commit()
    assert made == []
