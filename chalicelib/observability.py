"""Logs and metrics, and the last line of defence against secrets in them.

It must not know what is logged; whoever logs passes names and handles, never a code or a token,
and the redaction here is for what nobody thought of.
"""

import logging
import re
import threading
import uuid
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from chalicelib import settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from aws_lambda_powertools import Logger

SERVICE = "dialtone"
MASK = "***"

_SHORTEST_SECRET = 8
"""`request`, the message of nearly every line, is shorter than anything worth masking."""

_FREE_TEXT = ("message", "exception")

_REQUEST_ID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[A-Za-z0-9_-]{15}="
"""As API Gateway draws them: a UUID for a request, 16 characters for a websocket's message."""


@cache
def _secrets() -> tuple[tuple[re.Pattern[str], str], ...]:
    """Compile what to look for, at first use: it is slow, and most processes never need it."""
    return (
        (re.compile(r"(?i)\b(bearer\s+)[A-Za-z0-9._~+/-]+=*"), r"\1" + MASK),
        (re.compile(r"\beyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*"), MASK),
        # a device's token is 43 characters of base64, whatever stands before it
        (re.compile(r"(?<![\w-])[A-Za-z0-9_-]{43}(?![\w-])"), MASK),
        # a parameter of a URL, URL-encoded up to twice: it ends at the separator of its own
        # level, for a value may contain the others; what stands for no code may stay
        *(
            (
                re.compile(
                    r"(?i)(?:(?<![a-z_-])|(?<=%3f)|(?<=%253f)|(?<=%26)|(?<=%2526))"
                    r"((?:device_token|token|password|provisioning-?code|code)" + equals + ")"
                    r"(?!prompt\b)(?:(?!" + end + r")[^&\s\"'])+"
                ),
                r"\1" + MASK,
            )
            for equals, end in (("=", "&"), ("%3d", "%26"), ("%253d", "%26|%2526"))
        ),
        # options of configuration lines
        (re.compile(r"(/pwd\s+)\S+"), r"\1" + MASK),
        (re.compile(r"(?i)(/user\s+[^,%\s]+(?:,|%2c))\S+"), r"\1" + MASK),
        (re.compile(r"(?<![0-9A-Fa-f.:-])\d{4}([ -]?)\d{4}\1\d{4}(?![0-9A-Fa-f])"), MASK),
    )


def redact(text: str) -> str:
    """Mask whatever looks like a code, a token or a password in free text."""
    if len(text) < _SHORTEST_SECRET:
        return text
    for pattern, masked in _secrets():
        text = pattern.sub(masked, text)
    return text


_lock = threading.Lock()


def logger() -> "Logger":
    """Return the logger: one JSON object a line on standard output, free text redacted."""
    with _lock:
        # Powertools' is not to be made by two threads at once
        return _logger()


@cache
def _logger() -> "Logger":
    from aws_lambda_powertools import Logger
    from aws_lambda_powertools.logging.formatter import LambdaPowertoolsFormatter

    class RedactingFormatter(LambdaPowertoolsFormatter):
        """Powertools' JSON lines, free text masked."""

        def serialize(self, log: Any) -> str:  # noqa: ANN401 - Powertools' own type
            """Mask the free text of a line, then write it."""
            for name in _FREE_TEXT:
                if isinstance(log.get(name), str):
                    log[name] = redact(log[name])
            return super().serialize(log)

    return Logger(
        service=SERVICE,
        level=settings.current().log_level,
        logger_formatter=RedactingFormatter(serialize_stacktrace=False),
    )


def correlation_of(request_id: object) -> str:
    """Tell the id under which everything is logged that a request causes, until the last push.

    It is API Gateway's own, so that its access log has it, too. Over HTTP whoever calls may choose
    another, which could be anything, a code included: what API Gateway would not draw is replaced.

    Args:
        request_id: of the request or message; None for none.
    """
    told = str(request_id)
    return told if re.fullmatch(_REQUEST_ID, told) else str(uuid.uuid4())


@contextmanager
def correlated(caused_by: str) -> "Iterator[None]":
    """Say under which id everything in this block is logged, empty for none."""
    before = correlation_id()
    logger().thread_safe_append_keys(correlation_id=caused_by or None)
    try:
        yield
    finally:
        logger().thread_safe_append_keys(correlation_id=before or None)


def under_each(causes: "Sequence[str]") -> "Iterator[None]":
    """Log the same under each of these ids, once without if there is none."""
    for caused_by in causes or ("",):
        with correlated(caused_by):
            yield


def correlation_id() -> str:
    """Tell the id under which this is logged, empty for none."""
    return str(logger().thread_safe_get_current_keys().get("correlation_id") or "")


def forget() -> None:
    """Drop the logger, so that the next line reads the settings again; for tests and servers."""
    _logger.cache_clear()
    logging.Logger.manager.loggerDict.pop(SERVICE, None)


def count(metric: str, times: int = 1, /, **dimensions: str) -> None:
    """Count events as an embedded metric; docs/operations.md lists them all.

    Args:
        times: how many events.
        dimensions: a few values each, never a name, an address or an id.
    """
    _write(metric, times, dimensions)


def measure(metric: str, value: float, /) -> None:
    """Write how large something is at this moment, as an embedded metric."""
    _write(metric, value, {})


def _write(metric: str, value: float, dimensions: "Mapping[str, str]") -> None:
    used = settings.current()
    if not used.emit_metrics:
        return
    from aws_lambda_powertools.metrics import MetricUnit, single_metric

    named = used.metrics_namespace
    with single_metric(metric, MetricUnit.Count, value, namespace=named) as written:
        for name, said in dimensions.items():
            written.add_dimension(name, said)
        caused_by = correlation_id()
        if caused_by:
            # no dimension, which would be a metric for each: it is in the line alone
            written.add_metadata("correlation_id", caused_by)
