"""What happens to a call on its way to DynamoDB and back, below botocore and all of its retries.

A call has a number, and its attempts have one, too; a fault says what becomes of an attempt.
"""

import io
import json
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.exceptions import ConnectTimeoutError, ReadTimeoutError

from chalicelib.core.errors import NotDeliveredError
from chalicelib.storage import connection

ALWAYS = 99
READS = frozenset({"GetItem", "BatchGetItem", "Query"})
WRITES = frozenset({"PutItem", "UpdateItem", "DeleteItem", "TransactWriteItems", "BatchWriteItem"})
TRANSACTIONS = frozenset({"TransactWriteItems"})


class Died(BaseException):
    """The process is no more; nothing of ours may catch it."""


class _Body(io.BytesIO):
    def stream(self, **_: object) -> Iterator[bytes]:
        yield self.read()


@dataclass(frozen=True)
class Attempt:
    """One attempt of a call.

    Args:
        call: which call of its operation in this step it is, 1 for the first.
        number: the attempt's own, 1 for the first.
        send: lets it reach the engine; takes what to send instead of its own body.
    """

    call: int
    number: int
    operation: str
    body: dict[str, Any]
    send: Callable[..., Any]


Act = Callable[[Attempt], Any]


@dataclass(frozen=True)
class Fault:
    """What becomes of a call.

    Args:
        operations: those that it can happen to.
        act: answers an attempt, or raises what botocore would.
        attempts: how many of a call's attempts it happens to.
        calls: how many calls in a row it happens to, of the same operation.
        is_hidden: nobody outside may notice anything.
        is_tried_everywhere: at every call, else at one of each step.
    """

    name: str
    operations: frozenset[str]
    act: Act
    attempts: int = ALWAYS
    calls: int = 1
    is_hidden: bool = False
    is_tried_everywhere: bool = False


Place = tuple[str, int]
"""An operation, and which call of it, 1 for the first."""


@dataclass
class Wire:
    """Everything that the service sends to DynamoDB and to connections, step by step.

    A step is what somebody outside does once; when they do it again, for it failed, nothing fails.

    Args:
        fault: what happens; None for nothing.
        chosen: in which steps it happens, to which operation, and to which call of that.
        made: the operations of each step, as it was done first.
        struck: in which steps it has happened.
    """

    fault: Fault | None = None
    chosen: Mapping[str, Place] = field(default_factory=dict)
    made: dict[str, list[str]] = field(default_factory=dict)
    struck: set[str] = field(default_factory=set)
    _step: str = ""
    _is_again: bool = True
    _attempts: dict[str, tuple[int, int]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self, step: str) -> None:
        """Begin a step, or do it again."""
        self._step = step
        self._is_again = step in self.made
        self.made.setdefault(step, [])

    def __enter__(self) -> Self:
        """Take the place of botocore's own way to the network."""
        self._client = connection.shared().client
        self._client.meta.events.register("before-send.dynamodb", self._pass)
        return self

    def __exit__(self, *_: object) -> None:
        """Give it back."""
        self._client.meta.events.unregister("before-send.dynamodb", self._pass)

    def post(self, connection_id: str, send: Callable[[], bool]) -> Any:  # noqa: ANN401 - the act's own
        """Let a message go to a connection, which is a call like any other."""
        attempt = self._attempt("", "post", {"connection": connection_id}, send)
        fault = self._fault_of(attempt)
        return fault.act(attempt) if fault else send()

    def _pass(self, request: AWSPreparedRequest, **_: object) -> Any:  # noqa: ANN401 - botocore takes None, too
        def send(body: dict[str, Any] | None = None) -> AWSResponse:
            if body is not None:
                request.body = json.dumps(body).encode()
                request.headers["Content-Length"] = str(len(request.body))
            session = self._client._endpoint.http_session  # noqa: SLF001 - where botocore itself goes next
            return session.send(request)

        name = request.headers["X-Amz-Target"].decode().partition(".")[2]
        invocation = str(request.headers["amz-sdk-invocation-id"])
        attempt = self._attempt(invocation, name, json.loads(request.body), send)
        fault = self._fault_of(attempt)
        return fault.act(attempt) if fault else None

    def _attempt(
        self, invocation: str, operation: str, body: dict[str, Any], send: Callable[..., Any]
    ) -> Attempt:
        with self._lock:
            call, number = self._attempts.get(invocation, (0, 0))
            if not self._is_again and not number:
                self.made[self._step].append(operation)
                call = self.made[self._step].count(operation)
            if invocation:
                self._attempts[invocation] = call, number + 1
        return Attempt(call, number + 1, operation, body, send)

    def _fault_of(self, attempt: Attempt) -> Fault | None:
        """Tell what happens to an attempt: the first call is the chosen one, others follow."""
        operation, at = self.chosen.get(self._step, ("", 0))
        if self.fault is None or self._is_again or operation != attempt.operation:
            return None
        with self._lock:
            if attempt.call not in range(at, at + self.fault.calls):
                return None
            self.struck.add(self._step)
        return self.fault if attempt.number <= self.fault.attempts else None


def answer(body: dict[str, Any], status: int = 200) -> AWSResponse:
    """Write an answer as DynamoDB does."""
    headers = {"Content-Type": "application/x-amz-json-1.0"}
    raw: Any = _Body(json.dumps(body).encode())
    return AWSResponse("http://127.0.0.1/", status, headers, raw)


def refused(code: str, status: int = 400, **members: object) -> Act:
    """Answer with an error, without a word to the engine."""
    kind = f"com.amazonaws.dynamodb.v20120810#{code}"
    return lambda _: answer({"__type": kind, "message": "as DynamoDB says", **members}, status)


def canceled(code: str) -> Act:
    """Cancel a transaction for one of its items, another one with each call."""

    def act(attempt: Attempt) -> AWSResponse:
        count = len(attempt.body["TransactItems"])
        reasons: list[dict[str, str]] = [{"Code": "None"}] * count
        reasons[attempt.call % count] = {"Code": code, "Message": "as DynamoDB says"}
        return refused("TransactionCanceledException", CancellationReasons=reasons)(attempt)

    return act


def in_conflict(attempt: Attempt) -> Any:  # noqa: ANN401 - botocore's own
    """Refuse to write an item that a transaction is writing, if one ever does."""
    if attempt.body["TableName"] in map(connection.table_name, ("idempotency", "limits")):
        return attempt.send()
    return refused("TransactionConflictException")(attempt)


def lagging(attempt: Attempt) -> Any:  # noqa: ANN401 - botocore's own
    """Let an index, and whatever is not read consistently, know of nothing yet."""
    if attempt.body.get("ConsistentRead"):
        return attempt.send()
    return answer({"Items": [], "Count": 0, "ScannedCount": 0})


def not_sent(attempt: Attempt) -> AWSResponse:
    """Let the network not answer: nothing has arrived."""
    raise ConnectTimeoutError(endpoint_url="http://127.0.0.1", error=attempt.operation)


def answer_lost(attempt: Attempt) -> AWSResponse:
    """Let the call arrive, and its answer not."""
    attempt.send()
    raise ReadTimeoutError(endpoint_url="http://127.0.0.1", error=attempt.operation)


def done_twice(attempt: Attempt) -> AWSResponse:
    """Let another process have written the very same just before."""
    attempt.send()
    return attempt.send({**attempt.body, "ClientRequestToken": str(uuid.uuid4())})


def unprocessed(attempt: Attempt) -> AWSResponse:
    """Let a batch be put off as a whole."""
    left = attempt.body["RequestItems"]
    if attempt.operation == "BatchGetItem":
        return answer({"Responses": {}, "UnprocessedKeys": left})
    return answer({"UnprocessedItems": left})


def gone(_: Attempt) -> bool:
    """Let API Gateway answer 410."""
    return False


def not_taken(_: Attempt) -> bool:
    """Let API Gateway take no message for now."""
    raise NotDeliveredError("LimitExceededException")


def dies_before(_: Attempt) -> AWSResponse:
    """Let the process die before the call is sent."""
    raise Died


def dies_after(attempt: Attempt) -> AWSResponse:
    """Let the process die when the engine has done what it was asked."""
    attempt.send()
    raise Died


def _conflicts() -> Iterator[Fault]:
    for times in range(1, connection.MAX_CONFLICT_RETRIES + 2):
        is_hidden = times <= connection.MAX_CONFLICT_RETRIES
        act = canceled("TransactionConflict")
        name = f"{times} conflicts of transactions"
        yield Fault(name, TRANSACTIONS, act, calls=times, is_hidden=is_hidden)


ALL = READS | WRITES
BATCHES = frozenset({"BatchGetItem", "BatchWriteItem"})
POST = frozenset({"post"})
FAULTS = (
    Fault(
        "throttled",
        ALL,
        refused("ProvisionedThroughputExceededException"),
        is_tried_everywhere=True,
    ),
    Fault("the table's limit", ALL, refused("ProvisionedThroughputExceededException")),
    Fault("throttled once", ALL, refused("ThrottlingException"), attempts=1, is_hidden=True),
    Fault("the account's limit", ALL, refused("RequestLimitExceeded")),
    Fault("500", ALL, refused("InternalServerError", 500)),
    Fault("503 once", ALL, refused("ServiceUnavailable", 503), attempts=1, is_hidden=True),
    Fault("not sent", ALL, not_sent),
    Fault("answer lost", ALL, answer_lost, is_tried_everywhere=True),
    Fault("answer lost once", ALL, answer_lost, attempts=1),
    Fault("batch put off", BATCHES, unprocessed, calls=3, is_hidden=True),
    Fault("batch put off for too long", BATCHES, unprocessed, calls=6),
    Fault(
        "conflict with a transaction",
        WRITES - TRANSACTIONS - BATCHES,
        in_conflict,
        calls=2,
        is_hidden=True,
    ),
    *_conflicts(),
    Fault("transaction throttled", TRANSACTIONS, canceled("ThrottlingError")),
    Fault("transaction's item throttled", TRANSACTIONS, canceled("ProvisionedThroughputExceeded")),
    Fault("transaction in progress", TRANSACTIONS, refused("TransactionInProgressException")),
    Fault("collection too large", TRANSACTIONS, canceled("ItemCollectionSizeLimitExceeded")),
    Fault("transaction malformed", TRANSACTIONS, canceled("ValidationError")),
    Fault("transaction done by another", TRANSACTIONS, done_twice, attempts=1),
    Fault("index lags", frozenset({"Query"}), lagging, is_tried_everywhere=True),
    Fault("connection gone", POST, gone, is_tried_everywhere=True),
    Fault("connection takes nothing", POST, not_taken),
    Fault("dies before", ALL | POST, dies_before, is_tried_everywhere=True),
    Fault("dies after", ALL | POST, dies_after, is_tried_everywhere=True),
)
