"""The connections table: open websockets, who they are, and who listens to what.

A connection has an item of its own and one in each audience that it belongs to, so either is read
without the other. It must not decide who may log in, nor send anything.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from botocore.exceptions import ClientError
from pynamodb.attributes import ListAttribute, TTLAttribute, UnicodeAttribute, UTCDateTimeAttribute

from chalicelib.storage import connection
from chalicelib.storage.connection import EnumAttribute, Item, Transaction, batch_get
from chalicelib.storage.lists import Span, query

KEEP_SECONDS = 2 * 3600 + 600
"""API Gateway ends a connection after two hours; what is left of one goes ten minutes later."""

MAX_LISTENERS = 200
"""How many connections of an audience are looked at; nobody has so many pages open."""

_OWN = "connection#"
_DEADLINES = "#deadlines"


class Role(StrEnum):
    """What has logged in over a connection."""

    NOBODY = "nobody"
    USERS_INSTANCE = "users-instance"
    PERSON = "person"


@dataclass(frozen=True)
class Connection:
    """An open websocket.

    Args:
        challenge: what its next login must be computed with, empty for none.
        domain, sip: of whoever logged in; empty before.
        app: the application object that logged in, empty for a person.
        audiences: what it listens to.
        ends_at: when it is to be closed: without a login, or when its token ends.
    """

    connection_id: str
    opened_at: datetime
    source: str
    role: Role = Role.NOBODY
    challenge: str = field(default="", repr=False)
    domain: str = ""
    sip: str = ""
    app: str = ""
    audiences: Sequence[str] = ()
    logged_in_at: datetime | None = None
    ends_at: datetime | None = None

    def is_over(self, now: datetime) -> bool:
        """Tell whether its time to log in, or its token, has ended."""
        return self.ends_at is not None and now >= self.ends_at


class ConnectionItem(Item):
    """A connection, or its place in an audience; docs/data-model.md, connections."""

    concept = "connections"
    audience = UnicodeAttribute(hash_key=True)
    connection_id = UnicodeAttribute(range_key=True)
    opened_at = UTCDateTimeAttribute()
    source = UnicodeAttribute()
    role = EnumAttribute(Role)
    challenge = UnicodeAttribute(null=True)
    domain = UnicodeAttribute(null=True)
    sip = UnicodeAttribute(null=True)
    app = UnicodeAttribute(null=True)
    audiences: ListAttribute[str] = ListAttribute(null=True)
    logged_in_at = UTCDateTimeAttribute(null=True)
    ends_at = UTCDateTimeAttribute(null=True)
    purge_at = TTLAttribute()


def users_instances(domain: str) -> str:
    """Name the audience of the Users instances that logged in for a domain."""
    return f"{Role.USERS_INSTANCE}#{domain}"


def user(domain: str, sip: str) -> str:
    """Name the audience of a person."""
    return f"user#{domain}#{sip}"


def admins(domain: str) -> str:
    """Name the audience of those who roll phones out in a domain."""
    return f"admins#{domain}"


ALL_USERS_INSTANCES = "users-instances"
"""The audience of every Users instance: whoever reminds them need not look anywhere else."""


def open_(opened: Connection) -> None:
    """Write a new connection and its deadline."""
    transaction = Transaction()
    transaction.put("connection", _item(opened, _own(opened)))
    _put_deadline(transaction, opened)
    transaction.commit()


def find(connection_id: str) -> Connection | None:
    """Read a connection consistently."""
    key = f"{_OWN}{connection_id}", connection_id
    found = batch_get((ConnectionItem, [key]))[ConnectionItem]
    return found[0].to(Connection) if found else None


def challenge(connection_id: str, text: str) -> None:
    """Keep what the next login of a connection must be computed with; the one before is void.

    Raises:
        Refused: the connection has gone, or has logged in.
    """
    transaction = Transaction()
    transaction.update(
        "connection",
        ConnectionItem(f"{_OWN}{connection_id}", connection_id),
        [ConnectionItem.challenge.set(text)],
        ConnectionItem.role == Role.NOBODY,
    )
    transaction.commit()


def take_challenge(connection_id: str) -> str:
    """Take a connection's challenge away, so that one login alone can be computed with it.

    Returns:
        The challenge, empty if there is none.
    """
    try:
        answer = connection.call(
            "UpdateItem",
            TableName=connection.table_name(ConnectionItem.concept),
            Key=ConnectionItem.key_of(f"{_OWN}{connection_id}", connection_id),
            UpdateExpression="REMOVE challenge",
            ConditionExpression="attribute_exists(challenge)",
            ReturnValues="UPDATED_OLD",
        )
    except ClientError as error:
        if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
            raise
        return ""
    return str(answer["Attributes"]["challenge"]["S"])


def log_in(write: Transaction, before: Connection, after: Connection) -> None:
    """Add a login to a transaction, and with it the connection's place in its audiences.

    The transaction is refused if the connection has gone or has logged in meanwhile.
    """
    same = (ConnectionItem.role == Role.NOBODY) & (ConnectionItem.opened_at == before.opened_at)
    write.put("connection", _item(after, _own(after)), same)
    for audience in after.audiences:
        write.put(audience, _item(after, audience))
    if _deadline(before) != _deadline(after):
        # a transaction takes one write for each item
        _drop_deadline(write, before)
    _put_deadline(write, after)


def close(closed: Connection) -> None:
    """Forget a connection, wherever it is listed."""
    transaction = Transaction()
    for audience in (_own(closed), *closed.audiences):
        transaction.delete(audience, ConnectionItem(audience, closed.connection_id))
    _drop_deadline(transaction, closed)
    transaction.commit()


def listening(audience: str, now: datetime) -> list[Connection]:
    """List an audience, newest login first, consistently; whoever's token has ended is left out."""
    page = query(ConnectionItem, audience, Span("", MAX_LISTENERS))
    found = [ConnectionItem.from_raw_data(item).to(Connection) for item in page.items]
    listed = [known for known in found if not known.is_over(now)]
    return sorted(listed, key=lambda known: known.logged_in_at or known.opened_at, reverse=True)


def domains_listening() -> list[str]:
    """List the domains for which a Users instance is logged in, in their order."""
    domains: set[str] = set()
    after = None
    while True:
        page = query(ConnectionItem, ALL_USERS_INSTANCES, Span("", MAX_LISTENERS, after))
        domains |= {item["domain"]["S"] for item in page.items}
        after = page.next_after
        if after is None:
            return sorted(domains)


def overdue(now: datetime) -> list[Connection]:
    """List connections whose time to log in, or whose token, has ended; at most as many as fit."""
    page = query(ConnectionItem, _DEADLINES, Span("", MAX_LISTENERS))
    due = [item["connection_id"]["S"] for item in page.items]
    keys = [name.partition("#")[2] for name in due if name < f"{now.timestamp():014.3f}~"]
    own = [(f"{_OWN}{key}", key) for key in keys]
    return [item.to(Connection) for item in batch_get((ConnectionItem, own))[ConnectionItem]]


def _own(known: Connection) -> str:
    return f"{_OWN}{known.connection_id}"


def _item(known: Connection, audience: str) -> ConnectionItem:
    item = ConnectionItem.of(known if audience == _own(known) else replace(known, challenge=""))
    item.audience = audience
    item.purge_at = known.opened_at + timedelta(seconds=KEEP_SECONDS)
    return item


def _put_deadline(write: Transaction, known: Connection) -> None:
    if deadline := _deadline(known):
        item = _item(replace(known, challenge=""), _DEADLINES)
        item.connection_id = deadline
        write.put("deadline", item)


def _drop_deadline(write: Transaction, known: Connection) -> None:
    if deadline := _deadline(known):
        write.delete("deadline dropped", ConnectionItem(_DEADLINES, deadline))


def _deadline(known: Connection) -> str:
    if known.ends_at is None:
        return ""
    return f"{known.ends_at.timestamp():014.3f}#{known.connection_id}"
