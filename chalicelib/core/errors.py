"""Every failure the service can name; rendered for HTTP in api/problems.py and nowhere else.

    DialtoneError
    ├── InvalidRequestError        what came in is malformed: every fault, by field
    │   ├── RequestTooLargeError   refused before any work
    │   └── MalformedFrameError    a frame of a phone's websocket is none, or too large
    ├── NotSignedInError           no identity, or one that does not hold
    ├── NotAllowedError            a known caller without the right
    ├── NotFoundError              nothing of that name for this caller
    ├── CodeNotRedeemableError     unknown, expired, revoked or used: one answer for all
    ├── ConflictError              it is not, or no longer, in the state that this needs
    │   ├── PbxRefusedError        a domain's PBX does not take one user's phones: says why
    │   ├── InUseError             it cannot go, for others depend on it: says which
    │   └── InProgressError        the same write is being done at this moment: come back
    ├── DeviceElsewhereError       the device belongs to another domain or user
    ├── LimitReachedError          too many attempts: come back later
    └── StoreUnavailableError      the database or the vault is throttled or unreachable
        ├── CentralUnavailableError  the foreign central service does not answer as agreed
        ├── PbxUnavailableError    a domain's PBX cannot be spoken to: says why
        └── NotDeliveredError      a message could not be handed to a connection: try again

It must not know HTTP, DynamoDB or the phone's script language.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class DialtoneError(Exception):
    """The root: everything below is expected, and mapped; everything else is a defect."""


@dataclass(frozen=True)
class Fault:
    """One thing wrong with a request.

    Args:
        field: where it is, as the caller spelt it (`platform.type`); empty for the whole.
        message: what is wrong with it, without repeating the value.
    """

    field: str
    message: str


class InvalidRequestError(DialtoneError):
    """What came in is malformed; carries every fault at once."""

    def __init__(self, *faults: Fault) -> None:
        """Take the faults, at least one."""
        super().__init__("; ".join(f"{fault.field}: {fault.message}" for fault in faults))
        self.faults = faults


class RequestTooLargeError(InvalidRequestError):
    """The query or the body passes its limit; refused before it is read."""


class MalformedFrameError(InvalidRequestError):
    """What came in over a phone's websocket is no frame; a fault's field is where in it."""


class NotSignedInError(DialtoneError):
    """There is no identity, or it does not hold; the text says why, never what."""


class NotAllowedError(DialtoneError):
    """The caller is known and lacks the right."""


class NotFoundError(DialtoneError):
    """There is nothing of that name for this caller.

    Args:
        kind: the thing in the glossary's word (`category`, `code`, `device`, `domain`, `job`).
    """

    def __init__(self, kind: str) -> None:
        """Remember the kind of thing; its name stays with the caller who sent it."""
        super().__init__(f"unknown {kind}")
        self.kind = kind


class Refusal(StrEnum):
    """Why a code was not redeemed: for its owner, the audit and metrics, never for the phone."""

    MALFORMED = "malformed"
    UNKNOWN = "unknown"
    EXPIRED = "expired"
    REVOKED = "revoked"
    ALREADY_USED = "already used"
    REPEATED_ELSEWHERE = "repeated from elsewhere"
    DEVICE_OF_ANOTHER_USER = "device of another user"
    DEVICE_OF_ANOTHER_DOMAIN = "device of another domain"
    CODE_OF_ANOTHER_DOMAIN = "code of another domain"
    DEVICE_THERE_ALREADY = "device there already"
    WRONG_TOKEN = "wrong token"  # noqa: S105 - a reason
    NO_PROVISIONING_CATEGORY = "no provisioning category"


class CodeNotRedeemableError(DialtoneError):
    """The code is unknown, expired, revoked or used: the phone learns no more than that."""

    def __init__(self, refusal: Refusal) -> None:
        """Keep the precise reason for those who may know it."""
        super().__init__("the code cannot be redeemed")
        self.refusal = refusal


class ConflictError(DialtoneError):
    """The thing is not, or no longer, in the state that this needs; the text says which."""


class InUseError(ConflictError):
    """It cannot go while others depend on it.

    Args:
        used_by: kind of thing → how many; counting may have stopped at a bound.
    """

    def __init__(self, used_by: Mapping[str, int]) -> None:
        """Say what uses it."""
        told = ", ".join(f"{kind} ({count})" for kind, count in used_by.items())
        super().__init__(f"in use by {told}")
        self.used_by = used_by


class InProgressError(ConflictError):
    """The same write, under the same key of the same caller, is being done at this moment."""

    def __init__(self, retry_after_seconds: int) -> None:
        """Say when to ask again."""
        super().__init__("the same request is still being worked on")
        self.retry_after_seconds = retry_after_seconds


class DeviceElsewhereError(DialtoneError):
    """The code is good, but the device belongs to another domain or to another user."""

    def __init__(self, refusal: Refusal) -> None:
        """Keep the precise reason for those who may know it."""
        super().__init__("the device belongs elsewhere")
        self.refusal = refusal


class LimitReachedError(DialtoneError):
    """Too many attempts.

    Args:
        limit: which limit, by its name in core/rate_limits.py.
        retry_after_seconds: whole seconds until an attempt can succeed.
    """

    def __init__(self, limit: str, retry_after_seconds: int) -> None:
        """Name the limit and the pause."""
        super().__init__(f"limit {limit} reached")
        self.limit = limit
        self.retry_after_seconds = retry_after_seconds


class StoreUnavailableError(DialtoneError):
    """The database or the vault is throttled or unreachable; nothing is known to be lost."""

    def __init__(self, what: str, retry_after_seconds: int = 5) -> None:
        """Name what failed (an AWS error code or exception name, never its text)."""
        super().__init__(f"store unavailable: {what}")
        self.what = what
        self.retry_after_seconds = retry_after_seconds


class CentralUnavailableError(StoreUnavailableError):
    """The foreign central service does not answer, or not as agreed; no code was issued."""


class NotDeliveredError(StoreUnavailableError):
    """A message could not be handed to a connection, which may still be there."""


class PbxUnavailableError(StoreUnavailableError):
    """A domain's PBX cannot be spoken to, so nothing of the domain goes on there.

    Args:
        trouble: why, a member of core/user_objects.py `Trouble`.
    """

    def __init__(self, trouble: str) -> None:
        """Keep why."""
        super().__init__(trouble)
        self.trouble = trouble


class PbxRefusedError(ConflictError):
    """A domain's PBX does not take one user's phones; others go on.

    Args:
        reason: why, in words for an administrator.
    """

    def __init__(self, reason: str) -> None:
        """Keep why."""
        super().__init__("the PBX does not take it")
        self.reason = reason
