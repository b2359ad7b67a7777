"""The idempotency table: what a repeated write is answered, for 24 hours, by Powertools.

Powertools would key an item by what the caller sent and keep the answer in clear; here both names
and answers need the vault key. It must not know what is written, nor HTTP.
"""

import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

from aws_lambda_powertools.utilities.idempotency import (
    DynamoDBPersistenceLayer,
    IdempotencyConfig,
    idempotent_function,
)
from aws_lambda_powertools.utilities.idempotency.exceptions import (
    IdempotencyAlreadyInProgressError,
    IdempotencyInconsistentStateError,
    IdempotencyPersistenceLayerError,
    IdempotencyValidationError,
)
from aws_lambda_powertools.utilities.idempotency.serialization.custom_dict import (
    CustomDictSerializer,
)

from chalicelib import observability
from chalicelib.core.errors import ConflictError, InProgressError, StoreUnavailableError
from chalicelib.storage import connection, vault

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext
    from mypy_boto3_dynamodb import DynamoDBClient

KEEP_SECONDS = 86_400
RETRY_AFTER_SECONDS = 2
MAX_SEALED_LENGTH = 390_000
"""An item holds 400 KB, and a few hundred bytes of it are not the answer."""

_PREFIX = "write"


@dataclass(frozen=True)
class Write:
    """A write that its caller may repeat.

    Args:
        caller: everything that tells one caller from another.
        operation: what is written, and where.
        key: the caller's own name for it.
        content: what is said; under the same key it must be the same.
    """

    caller: Sequence[str]
    operation: Sequence[str]
    key: str = field(repr=False)
    content: bytes = field(repr=False)


@dataclass(frozen=True)
class Answer:
    """What a write was answered."""

    status: int
    headers: Mapping[str, str]
    body: str = field(repr=False)


def once(write: Write, work: Callable[[], Answer], remaining_ms: int) -> Answer:
    """Do a write, or tell what came of it when it was done under the same key.

    What fails is not kept: the next one tries anew. An answer that cannot be kept is told all the
    same, for the work is done.

    Args:
        remaining_ms: how long this process has for it; then another may take it up.

    Raises:
        ConflictError: the key came with other content, or its answer was too large to keep.
        InProgressError: the same write is being done at this moment.
        StoreUnavailableError: throttled or unreachable; nothing was begun.
    """
    named = vault.keyed_hash("name", *write.caller, *write.operation, write.key)
    content = vault.keyed_hash("content", write.content.decode("latin-1"))
    attempt = _Attempt(work)
    done: Callable[..., Answer] = idempotent_function(
        attempt.run,
        data_keyword_argument="write",
        persistence_store=_layer(connection.shared().client, connection.table_name("idempotency")),
        config=_config(remaining_ms),
        output_serializer=CustomDictSerializer(
            lambda answer: _seal(answer, named), lambda kept: _unseal(kept, named)
        ),
        key_prefix=_PREFIX,
    )
    try:
        return done(write={"name": named, "content": content})
    except IdempotencyValidationError:
        raise ConflictError("the Idempotency-Key came with another request before") from None
    except IdempotencyAlreadyInProgressError:
        raise InProgressError(RETRY_AFTER_SECONDS) from None
    except IdempotencyInconsistentStateError as error:
        raise StoreUnavailableError(type(error).__name__) from None
    except IdempotencyPersistenceLayerError as error:
        return attempt.outcome(error)


class _Attempt:
    """The work, and what came of it, whatever becomes of the item."""

    def __init__(self, work: Callable[[], Answer]) -> None:
        self._work = work
        self._answer: Answer | None = None
        self._error: Exception | None = None

    def run(self, *, write: Mapping[str, str]) -> Answer:  # noqa: ARG002 - Powertools reads it
        try:
            self._answer = self._work()
        except Exception as error:
            self._error = error
            raise
        return self._answer

    def outcome(self, failure: IdempotencyPersistenceLayerError) -> Answer:
        """Tell the outcome when the item could not be written."""
        cause = failure.__cause__
        ours = connection.as_ours(cause) if isinstance(cause, Exception) else failure
        if self._error is not None:
            raise self._error from None
        if self._answer is None:
            raise ours from failure
        observability.logger().warning("answer not kept", extra={"error": type(ours).__name__})
        observability.count("AnswerNotKept", reason="store")
        return self._answer


class _Remaining:
    """What Powertools asks of Lambda's context."""

    def __init__(self, milliseconds: int) -> None:
        self._milliseconds = milliseconds

    def get_remaining_time_in_millis(self) -> int:
        return self._milliseconds


def _config(remaining_ms: int) -> IdempotencyConfig:
    return IdempotencyConfig(
        event_key_jmespath="name",
        payload_validation_jmespath="content",
        expires_after_seconds=KEEP_SECONDS,
        hash_function="sha256",
        lambda_context=cast("LambdaContext", _Remaining(remaining_ms)),
    )


@lru_cache(maxsize=1)
def _layer(client: "DynamoDBClient", table_name: str) -> DynamoDBPersistenceLayer:
    """Make Powertools' layer over our client, once: each marks the client's requests."""
    layer = DynamoDBPersistenceLayer(table_name, expiry_attr="purge_at", boto3_client=client)
    # now, before two threads can meet one that is configured in part
    layer.configure(_config(0), key_prefix=_PREFIX)
    return layer


def _seal(answer: Answer, named: str) -> dict[str, Any]:
    written = json.dumps([answer.status, dict(answer.headers), answer.body]).encode()
    sealed = vault.seal_bytes(zlib.compress(written), _purpose(named))
    if len(sealed) > MAX_SEALED_LENGTH:
        observability.count("AnswerNotKept", reason="too large")
        return {"sealed": None}
    return {"sealed": sealed}


def _unseal(kept: Mapping[str, Any], named: str) -> Answer:
    if kept["sealed"] is None:
        raise ConflictError("it is done already, and its answer was too large to keep")
    status, headers, body = json.loads(
        zlib.decompress(vault.unseal_bytes(kept["sealed"], _purpose(named)))
    )
    return Answer(status, headers, body)


def _purpose(named: str) -> str:
    return f"answer#{named}"
