"""Frames: the text messages of AppWebsocket, read and written.

It must not know what a message asks for, nor send one.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from chalicelib import documents
from chalicelib.core.errors import (
    DialtoneError,
    Fault,
    InvalidRequestError,
    LimitReachedError,
    NotFoundError,
    StoreUnavailableError,
)

if TYPE_CHECKING:
    from pydantic import BaseModel

MAX_MESSAGE_BYTES = 32_000
"""API Gateway carries 32 KB in a frame, and what we send is one frame each."""

_SURROGATE = re.compile("[\ud800-\udfff]")
_MAX_NAME_LENGTH = 100
_MAX_SRC_LENGTH = 200
_Model = TypeVar("_Model", bound="BaseModel")


@dataclass(frozen=True)
class Message:
    """A message that came in.

    Args:
        name: its `mt`.
        members: all of them.
        text: as it was received.
        now: the server's clock.
    """

    name: str
    members: Mapping[str, Any]
    text: str
    now: datetime

    @property
    def src(self) -> str:
        """What its sender marked it with, empty for nothing."""
        return str(self.members["src"]) if self._is_text("src") else ""

    def read(self, model: type[_Model]) -> _Model:
        """Read its members.

        Raises:
            InvalidRequestError: they are not of this shape; with every fault, by field.
        """
        return documents.read(self.text, model)

    def result(self, **members: Any) -> str:  # noqa: ANN401 - any JSON
        """Write the answer to it."""
        echoed = {name: self.members[name] for name in ("api", "src") if self._is_text(name)}
        return written(f"{self.name}Result", **echoed, **members)

    def results(self, name: str, items: Iterable[object]) -> Iterator[str]:
        """Write a list in as many answers as it takes; the last one says that it is.

        Args:
            items: any JSON each.
        """
        part: list[object] = []
        room = MAX_MESSAGE_BYTES - len(self.result(**{name: [], "last": True}).encode())
        used = 0
        for item in items:
            size = len(_text(item).encode()) + 1
            if part and used + size > room:
                yield self.result(**{name: part})
                part, used = [], 0
            part.append(item)
            used += size
        yield self.result(**{name: part, "last": True})

    def refused(self, error: DialtoneError) -> str:
        """Write why it is not done; says no more than a person over HTTP would hear."""
        members: dict[str, Any] = {"error": reason_of(error)}
        if isinstance(error, InvalidRequestError):
            members["faults"] = documents.faults(error.faults)
        if isinstance(error, LimitReachedError | StoreUnavailableError):
            members["retryAfter"] = error.retry_after_seconds
        return self.result(**members)

    def _is_text(self, name: str) -> bool:
        text = self.members.get(name)
        return isinstance(text, str) and len(text) <= _MAX_SRC_LENGTH


def read(text: str, now: datetime) -> Message:
    """Read a message.

    Raises:
        InvalidRequestError: it is no JSON object with an `mt`.
    """
    try:
        members = json.loads(text)
    except (ValueError, RecursionError):
        raise InvalidRequestError(Fault("", "no JSON")) from None
    if not isinstance(members, dict):
        raise InvalidRequestError(Fault("", "no JSON object"))
    name = members.get("mt")
    if not isinstance(name, str) or not 0 < len(name) <= _MAX_NAME_LENGTH:
        raise InvalidRequestError(Fault("mt", "a message type is needed"))
    return Message(name, members, text, now)


def reason_of(error: DialtoneError) -> str:
    """Tell in a few words why something was not done."""
    if isinstance(error, InvalidRequestError):
        return "malformed"
    if isinstance(error, NotFoundError):
        return str(error)
    if isinstance(error, LimitReachedError):
        return f"too many, again in {error.retry_after_seconds} seconds"
    if isinstance(error, StoreUnavailableError):
        return "not available for a moment"
    return "not allowed"


def written(name: str, **members: Any) -> str:  # noqa: ANN401 - any JSON
    """Write a message."""
    return _text({"mt": name, **members})


def _text(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=documents.plain)
    if text.isascii() or not _SURROGATE.search(text):
        return text
    # half a character, which JSON can escape and UTF-8 cannot carry: echoed as it came
    return _SURROGATE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
