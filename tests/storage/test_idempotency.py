"""Promise 10 at the table: Powertools' items, named and sealed with the vault key."""

import json
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from chalicelib import observability, settings
from chalicelib.core.errors import ConflictError, InProgressError, StoreUnavailableError
from chalicelib.storage import connection, idempotency, vault
from chalicelib.storage.idempotency import Answer, Write, once
from local import tables
from tests import faults, world
from tests.conftest import use

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("table_names")]

WRITE = Write(
    caller=("https://issuer.example", "sub", "example.com", "user1"),
    operation=("POST", "/me/codes"),
    key="a key of the caller",
    content=b'{"category": "Office", "password": "of a phone"}',
)
OTHERS = [
    replace(WRITE, caller=("https://other.example", "sub", "example.com", "user1")),
    replace(WRITE, caller=("https://issuer.example", "sub2", "example.com", "user1")),
    replace(WRITE, caller=("https://issuer.example", "sub", "other.example", "user1")),
    replace(WRITE, caller=("https://issuer.example", "sub", "example.com", "user2")),
    replace(WRITE, operation=("POST", "/domains")),
    replace(WRITE, operation=("POST", "/me/codes", "more")),
    replace(WRITE, key="another key of the caller"),
]
REMAINING_MS = 10_000


class DiedError(BaseException):
    """A process that ends at once: nothing of ours runs any more."""


class Work:
    """Work that can be told apart from the same work done again."""

    def __init__(self, *errors: BaseException) -> None:
        self.done: list[Answer] = []
        self._errors = list(errors)

    def __call__(self) -> Answer:
        """Do it once more; the first ones fail after they were done."""
        count = len(self.done) + 1
        answer = Answer(201, {"Content-Type": "application/json"}, json.dumps({"count": count}))
        self.done.append(answer)
        if self._errors:
            raise self._errors.pop(0)
        return answer


def items(client: "DynamoDBClient") -> list[dict[str, Any]]:
    """Read every item."""
    return client.scan(TableName=connection.table_name("idempotency"))["Items"]


def change(client: "DynamoDBClient", **attributes: int) -> None:
    """Let time pass for the one item there is: change when it ends."""
    (item,) = items(client)
    for name, value in attributes.items():
        assert "N" in item[name]
        item[name] = {"N": str(value)}
    client.put_item(TableName=connection.table_name("idempotency"), Item=item)


def test_promise_10_a_repeated_write_is_done_once() -> None:
    """The same answer, status, headers and body; two calls more, and one for a repeat."""
    work = Work()
    with world.calls() as made:
        first = once(WRITE, work, REMAINING_MS)
    assert made == ["PutItem", "UpdateItem"]
    with world.calls() as made:
        assert [once(WRITE, work, REMAINING_MS) for _ in range(3)] == [first] * 3
    assert made == ["PutItem"] * 3
    assert work.done == [first]


@pytest.mark.parametrize("other", OTHERS)
def test_promise_10_whatever_tells_two_writes_apart_does(other: Write) -> None:
    """Another issuer, person, domain, operation, parameter or key: another write."""
    work = Work()
    assert once(WRITE, work, REMAINING_MS) != once(other, work, REMAINING_MS)


def test_promise_10_other_content_under_the_same_key_is_a_conflict() -> None:
    """Neither is it done, nor does it spoil the first."""
    work = Work()
    first = once(WRITE, work, REMAINING_MS)
    with pytest.raises(ConflictError, match="another request") as refused:
        once(replace(WRITE, content=WRITE.content + b" "), work, REMAINING_MS)
    assert not isinstance(refused.value, InProgressError)
    assert once(WRITE, work, REMAINING_MS) == first
    assert work.done == [first]


def test_promise_10_what_fails_is_not_kept(client: "DynamoDBClient") -> None:
    """The next one tries anew, and what it is answered is kept."""
    work = Work(StoreUnavailableError("X"), ConflictError("not now"))
    for kind in (StoreUnavailableError, ConflictError):
        with world.calls() as made, pytest.raises(kind):
            once(WRITE, work, REMAINING_MS)
        assert made == ["PutItem", "DeleteItem"]
        assert items(client) == []
    assert once(WRITE, work, REMAINING_MS) == once(WRITE, work, REMAINING_MS) == work.done[-1]
    assert len(work.done) == 3


def test_promise_10_a_day_is_the_time_that_an_answer_is_kept(client: "DynamoDBClient") -> None:
    """From when it was done; an item that TTL has not taken yet counts as gone."""
    work = Work()
    before = int(time.time())
    once(WRITE, work, REMAINING_MS)
    (item,) = items(client)
    after = int(time.time())
    assert before <= int(item["purge_at"]["N"]) - 86_400 <= after
    change(client, purge_at=int(time.time()) + 60)
    assert once(WRITE, work, REMAINING_MS) == work.done[0]
    change(client, purge_at=int(time.time()) - 1)
    assert once(WRITE, work, REMAINING_MS) == work.done[1]
    assert once(WRITE, work, REMAINING_MS) == work.done[1]


def test_an_expired_key_is_free_for_other_content(client: "DynamoDBClient") -> None:
    """What has passed is compared with nothing."""
    work = Work()
    once(WRITE, work, REMAINING_MS)
    change(client, purge_at=int(time.time()) - 1)
    other = replace(WRITE, content=b"{}")
    assert once(other, work, REMAINING_MS) == once(other, work, REMAINING_MS) == work.done[1]


def test_promise_10_a_process_that_died_blocks_its_key_as_long_as_it_could_have_lived(
    client: "DynamoDBClient",
) -> None:
    """Done and not kept: refused while it might still run, done anew after that."""
    work = Work(DiedError())
    with pytest.raises(DiedError):
        once(WRITE, work, REMAINING_MS)
    (item,) = items(client)
    assert item["status"] == {"S": "INPROGRESS"}
    left_ms = int(item["in_progress_expiration"]["N"]) - time.time() * 1000
    assert left_ms <= REMAINING_MS
    with pytest.raises(InProgressError) as refused:
        once(WRITE, work, REMAINING_MS)
    assert refused.value.retry_after_seconds == idempotency.RETRY_AFTER_SECONDS
    change(client, in_progress_expiration=int(time.time() * 1000) - 1)
    second = once(WRITE, work, REMAINING_MS)
    assert work.done[1:] == [second]
    assert once(WRITE, work, REMAINING_MS) == second


def test_a_write_that_is_being_done_is_not_done_beside(client: "DynamoDBClient") -> None:
    """The second is told to come back, and then gets the answer of the first."""
    begun, go_on = threading.Event(), threading.Event()
    work = Work()

    def slowly() -> Answer:
        begun.set()
        assert go_on.wait(60)
        return work()

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(once, WRITE, slowly, 60_000)
        assert begun.wait(60)
        try:
            with pytest.raises(InProgressError):
                once(WRITE, work, REMAINING_MS)
        finally:
            go_on.set()
        assert first.result() == work.done[0]
    assert once(WRITE, work, REMAINING_MS) == work.done[0]
    assert len(work.done) == 1


def test_promise_10_of_many_at_once_one_is_done() -> None:
    """Everybody gets its answer, or is told that it is being done."""
    work = Work()

    def attempt(_: int) -> Answer | None:
        try:
            return once(WRITE, work, 60_000)
        except InProgressError:
            return None

    with ThreadPoolExecutor(16) as pool:
        answers = set(map(repr, filter(None, pool.map(attempt, range(32)))))
    assert len(work.done) == len(answers) == 1


@pytest.mark.parametrize(
    "error",
    [
        faults.client_error("ThrottlingException", "PutItem"),
        faults.client_error("InternalServerError", "PutItem"),
        faults.timeout(),
    ],
)
def test_a_store_that_is_not_available_is_known_before_the_work(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Nothing was begun, so the caller may come back with the same key."""
    work = Work()
    with (
        faults.failing(monkeypatch, "PutItem", error),
        pytest.raises(StoreUnavailableError),
    ):
        once(WRITE, work, REMAINING_MS)
    assert work.done == []
    assert once(WRITE, work, REMAINING_MS) == work.done[0]


def test_a_lost_answer_of_the_store_costs_no_more_than_the_time_of_one_process(
    monkeypatch: pytest.MonkeyPatch, client: "DynamoDBClient"
) -> None:
    """The key was taken without our knowing it: refused for so long, then done."""
    work = Work()
    with (
        faults.failing(monkeypatch, "PutItem", faults.timeout(), after_commit=True),
        pytest.raises(StoreUnavailableError),
    ):
        once(WRITE, work, REMAINING_MS)
    with pytest.raises(InProgressError):
        once(WRITE, work, REMAINING_MS)
    change(client, in_progress_expiration=int(time.time() * 1000) - 1)
    with faults.failing(monkeypatch, "UpdateItem", faults.timeout(), after_commit=True):
        assert once(WRITE, work, REMAINING_MS) == work.done[0]
    assert once(WRITE, work, REMAINING_MS) == work.done[0]
    assert len(work.done) == 1


def test_a_call_that_dynamodb_does_not_understand_is_a_defect(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It stays what it is, and nothing is done."""
    work, error = Work(), faults.client_error("ValidationException", "PutItem")
    with faults.failing(monkeypatch, "PutItem", error), pytest.raises(ClientError) as raised:
        once(WRITE, work, REMAINING_MS)
    assert raised.value is error
    assert work.done == []


def test_keys_that_cannot_be_read_are_known_before_the_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An answer that could not be sealed must not be asked for."""

    def fail(_: str) -> dict[str, str]:
        raise StoreUnavailableError("secret")

    monkeypatch.setattr(vault, "_keys", fail)
    work = Work()
    with pytest.raises(StoreUnavailableError):
        once(WRITE, work, REMAINING_MS)
    assert work.done == []


def counted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, str]]]:
    """Watch what is counted."""
    found: list[tuple[str, dict[str, str]]] = []
    monkeypatch.setattr(
        observability, "count", lambda name, **dimensions: found.append((name, dimensions))
    )
    return found


def test_an_answer_that_could_not_be_kept_is_told_all_the_same(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The work is done: an error would only bring it about once more. It is counted and logged."""
    counts, work = counted(monkeypatch), Work()
    observability.forget()
    error = faults.client_error("ThrottlingException", "UpdateItem")
    with faults.failing(monkeypatch, "UpdateItem", error):
        assert once(WRITE, work, REMAINING_MS) == work.done[0]
    assert counts == [("AnswerNotKept", {"reason": "store"})]
    assert "answer not kept" in capsys.readouterr().out
    observability.forget()
    with pytest.raises(InProgressError):
        once(WRITE, work, REMAINING_MS)


def test_an_answer_that_could_not_be_sealed_is_told_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The vault was there before the work, and is not after it."""
    counts, work = counted(monkeypatch), Work()

    def fail(*_: object) -> str:
        raise StoreUnavailableError("secret")

    monkeypatch.setattr(vault, "seal_bytes", fail)
    assert once(WRITE, work, REMAINING_MS) == work.done[0]
    assert counts == [("AnswerNotKept", {"reason": "store"})]


def test_an_error_stays_itself_when_the_key_cannot_be_freed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The caller hears what is wrong with the write, not with the store."""
    work, error = Work(ConflictError("why")), faults.timeout()
    with (
        faults.failing(monkeypatch, "DeleteItem", error),
        pytest.raises(ConflictError, match="why"),
    ):
        once(WRITE, work, REMAINING_MS)


def test_an_item_that_changes_all_the_time_is_a_store_that_is_not_available(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """There is when it is written, gone when it is read; three times, and nothing is done."""
    refused = [faults.client_error("ConditionalCheckFailedException", "PutItem") for _ in range(3)]
    work = Work()
    with (
        faults.failing(monkeypatch, "PutItem", *refused) as pending,
        pytest.raises(StoreUnavailableError),
    ):
        once(WRITE, work, REMAINING_MS)
    assert (pending, work.done) == ([], [])


def large(length: int, digits: int) -> Callable[[], Answer]:
    """Make work with an answer of so many entries, each with so many digits."""
    drawn = random.Random(1)
    entries = [
        {"sip": f"user{n}", "code": f"{drawn.randrange(10**digits):0{digits}d}"}
        for n in range(length)
    ]
    return lambda: Answer(200, {}, json.dumps({"items": entries}))


def test_an_answer_of_a_megabyte_is_kept() -> None:
    """Compressed before it is sealed, for an item takes 400 KB."""
    work = large(20_000, 12)
    answer = once(WRITE, work, REMAINING_MS)
    assert len(answer.body) > 900_000
    assert once(WRITE, work, REMAINING_MS) == answer


def test_an_answer_that_fits_no_item_is_told_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A repeat does nothing again: it hears that it is done."""
    counts, work = counted(monkeypatch), large(10_000, 100)
    assert once(WRITE, work, REMAINING_MS).status == 200
    assert counts == [("AnswerNotKept", {"reason": "too large"})]
    with pytest.raises(ConflictError, match="done already"):
        once(WRITE, work, REMAINING_MS)


def test_promise_12_an_item_says_nothing_without_the_key(client: "DynamoDBClient") -> None:
    """Its attributes are the documented ones; name, content and answer are not in clear."""
    once(WRITE, Work(), REMAINING_MS)
    (item,) = items(client)
    assert set(item) == {
        "id",
        "status",
        "purge_at",
        "in_progress_expiration",
        "validation",
        "data",
    }
    defined = tables.definitions()["idempotency"]
    assert [key["AttributeName"] for key in defined["KeySchema"]] == ["id"]
    assert defined["TimeToLiveSpecification"]["AttributeName"] == "purge_at"
    page = (tables.RESOURCES.parent.parent / "docs" / "data-model.md").read_text()
    (row,) = [line for line in page.splitlines() if line.startswith("| idempotency |")]
    assert [name for name in item if name not in row] == []
    dump = str(item)
    for secret in (WRITE.key, "Office", "of a phone", "user1", "example.com", "count", "me/codes"):
        assert secret not in dump


def test_promise_12_names_and_contents_cannot_be_guessed_without_the_key(
    client: "DynamoDBClient", monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another vault key: another name and another hash of the same content."""
    once(WRITE, Work(), REMAINING_MS)
    (item,) = items(client)
    monkeypatch.setattr(vault, "_keys", lambda _: {"current": "1", "1": "another"})
    once(WRITE, Work(), REMAINING_MS)
    (other,) = [one for one in items(client) if one["id"] != item["id"]]
    assert other["validation"] != item["validation"]


def test_promise_10_holds_when_the_vault_key_rotates(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new version seals what is new; names stay, and what is sealed opens."""
    work = Work()
    first = once(WRITE, work, REMAINING_MS)
    keys = {"current": "10", "10": "the newest", "1": "vault key of the tests", "9": "another"}
    monkeypatch.setattr(vault, "_keys", lambda _: keys)
    assert once(WRITE, work, REMAINING_MS) == first
    other = replace(WRITE, key="new")
    assert once(other, work, REMAINING_MS) == once(other, work, REMAINING_MS) == work.done[1]


def test_an_answer_of_another_write_does_not_open(client: "DynamoDBClient") -> None:
    """A sealed answer belongs to its item: moved to another, it is none."""
    from cryptography.exceptions import InvalidTag

    other = replace(WRITE, key="another")
    once(WRITE, Work(), REMAINING_MS)
    (item,) = items(client)
    once(other, Work(), REMAINING_MS)
    (theirs,) = [one for one in items(client) if one["id"] != item["id"]]
    theirs["data"] = item["data"]
    client.put_item(TableName=connection.table_name("idempotency"), Item=theirs)
    with pytest.raises(InvalidTag):
        once(other, Work(), REMAINING_MS)


def test_one_client_serves_this_table_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Powertools gets ours, once, and follows it to another engine."""
    once(WRITE, Work(), REMAINING_MS)
    layer = idempotency._layer(connection.shared().client, connection.table_name("idempotency"))  # noqa: SLF001 - what it is made of
    once(replace(WRITE, key="2"), Work(), REMAINING_MS)
    assert idempotency._layer.cache_info().currsize == 1  # noqa: SLF001 - likewise
    assert layer.client is connection.shared().client
    use(replace(settings.current(), dynamodb_endpoint="http://127.0.0.1:9"), monkeypatch)
    with pytest.raises(StoreUnavailableError):
        once(WRITE, Work(), REMAINING_MS)


def test_no_repr_shows_what_was_said_or_answered() -> None:
    """What a traceback with local variables would print."""
    printed = f"{WRITE!r} {Work()()!r}"
    for secret in (WRITE.key, "Office", "of a phone", '"count"'):
        assert secret not in printed
