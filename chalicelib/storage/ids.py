"""Public ids: ULIDs, which sort by the time at which they were made."""

from datetime import datetime

ID_LENGTH = 26


def new_id(at: datetime) -> str:
    """Make an id; a later one is greater, to the millisecond."""
    from ulid import ULID

    return str(ULID.from_datetime(at))
