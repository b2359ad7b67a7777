"""Public ids: ULIDs, which sort by the time at which they were made."""

from datetime import datetime

ID_LENGTH = 26


def new_id(at: datetime) -> str:
    """Make an id; a later one is greater, to the millisecond."""
    from ulid import ULID

    return str(ULID.from_datetime(at))


def time_of(known_id: str) -> datetime:
    """Tell when an id was made, to the millisecond."""
    from ulid import ULID

    return ULID.from_str(known_id).datetime
