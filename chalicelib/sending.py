"""Sends to open websockets, and closes them: API Gateway's management API.

Chalice's own sender takes its address from the first event of a process and never lets go of it;
stream and schedule have no such event. It must not know what it sends, nor to whom.
"""

import threading
from functools import cache
from http import HTTPStatus
from typing import Any

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.session import Session

from chalicelib import settings
from chalicelib.core.errors import NotDeliveredError

TIMEOUT_SECONDS = 2
_lock = threading.Lock()


def post(connection_id: str, message: str) -> bool:
    """Send a text message.

    Args:
        message: at most 32 KB, API Gateway's limit for a frame.

    Returns:
        Whether it was taken; False when the connection is gone.

    Raises:
        NotDeliveredError: it was not, and the connection may still be there.
    """
    return _call("post_to_connection", ConnectionId=connection_id, Data=message.encode())


def close(connection_id: str) -> bool:
    """Close a connection.

    Returns:
        Whether it was there.

    Raises:
        NotDeliveredError: it could not be closed.
    """
    return _call("delete_connection", ConnectionId=connection_id)


def _call(operation: str, **arguments: Any) -> bool:  # noqa: ANN401 - API Gateway's own
    try:
        getattr(_client(), operation)(**arguments)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] == HTTPStatus.GONE:
            return False
        raise NotDeliveredError(error.response["Error"]["Code"]) from None
    except (BotoCoreError, ValueError) as error:
        raise NotDeliveredError(type(error).__name__) from None
    return True


def _client() -> Any:  # noqa: ANN401 - botocore makes its classes itself
    with _lock:
        return _made()


@cache
def _made() -> Any:  # noqa: ANN401 - as above
    return Session().create_client(
        "apigatewaymanagementapi",
        endpoint_url=settings.current().websocket_endpoint or None,
        config=Config(
            connect_timeout=1,
            read_timeout=TIMEOUT_SECONDS,
            retries={"max_attempts": 0},
            max_pool_connections=64,
        ),
    )


def forget() -> None:
    """Drop the client, so that the next use reads the settings again; for tests and servers."""
    with _lock:
        _made.cache_clear()
