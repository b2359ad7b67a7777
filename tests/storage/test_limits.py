from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from botocore.exceptions import ClientError

from chalicelib.core.errors import LimitReachedError, StoreUnavailableError
from chalicelib.core.rate_limits import Limit, LimitName
from chalicelib.storage import limits
from tests import faults, world
from tests.conftest import NOW

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("table_names")]
LIMIT = Limit(LimitName.GUESSES, burst=3, interval_ms=60_000)


def reserve(subject: str = "192.0.2.1", seconds: int = 0) -> None:
    """Take one attempt without waiting between tries."""
    limits.reserve(LIMIT, subject, NOW + timedelta(seconds=seconds), pause=lambda _: None)


def test_a_bucket_is_exact_under_threads() -> None:
    """Of twenty attempts at once exactly the burst goes through."""

    def attempt(_: int) -> bool:
        try:
            reserve()
        except LimitReachedError:
            return False
        return True

    with ThreadPoolExecutor(20) as pool:
        assert sum(pool.map(attempt, range(20))) == 3


def test_attempts_come_back_one_by_one() -> None:
    """After an interval one, and only one; sources do not share."""
    for _ in range(3):
        reserve()
    with pytest.raises(LimitReachedError) as full:
        reserve()
    assert (full.value.limit, full.value.retry_after_seconds) == ("guesses", 60)
    reserve("192.0.2.2")
    reserve(seconds=60)
    with pytest.raises(LimitReachedError):
        reserve(seconds=60)
    for _ in range(3):
        reserve(seconds=3600)


def test_a_refund_gives_one_back() -> None:
    """A success does not count, and a refund of nothing is nothing."""
    limits.refund(LIMIT, "192.0.2.9")
    for _ in range(3):
        reserve()
    limits.refund(LIMIT, "192.0.2.1")
    reserve()
    with pytest.raises(LimitReachedError):
        reserve()


def test_a_refund_that_fails_is_logged_and_fails_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever it was for has their answer already."""
    reserve()
    with faults.failing(monkeypatch, "UpdateItem", faults.timeout()) as to_come:
        limits.refund(LIMIT, "192.0.2.1")
    assert to_come == []
    assert "attempt not refunded" in capsys.readouterr().out


def test_a_full_bucket_is_tried_three_times() -> None:
    """A refund in between lets the waiting attempt in."""
    for _ in range(3):
        reserve()
    pauses: list[float] = []

    def refund_meanwhile(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            limits.refund(LIMIT, "192.0.2.1")

    limits.reserve(LIMIT, "192.0.2.1", NOW, pause=refund_meanwhile)
    assert len(pauses) == 2


def test_one_call_without_debt_and_two_with_it() -> None:
    """What the budget of every step counts on."""
    with world.calls() as made:
        reserve()
    assert len(made) == 1
    with world.calls() as made:
        reserve()
    assert len(made) == 2


def test_a_bucket_goes_by_ttl_when_it_is_long_unused(
    client: "DynamoDBClient", table_names: dict[str, str]
) -> None:
    """One item, one timestamp, a day after it has been free again."""
    reserve()
    (item,) = client.scan(TableName=table_names["limits"])["Items"]
    assert set(item) == {"bucket", "arrival_ms", "purge_at"}
    assert int(item["purge_at"]["N"]) == int(NOW.timestamp()) + 60 + 86_400


def test_other_errors_are_not_taken_for_a_full_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of ours is raised, a throttle is a store that is not available."""
    odd = faults.client_error("ValidationException", "UpdateItem")
    with faults.failing(monkeypatch, "UpdateItem", odd), pytest.raises(ClientError):
        reserve()
    slow = faults.client_error("ThrottlingException", "UpdateItem")
    with faults.failing(monkeypatch, "UpdateItem", slow), pytest.raises(StoreUnavailableError):
        reserve()


def test_a_bucket_that_changes_all_the_time_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that jumps cannot keep an attempt forever."""
    monkeypatch.setattr(limits, "_write", lambda *_: 0)
    with pytest.raises(StoreUnavailableError):
        reserve()
