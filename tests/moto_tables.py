"""moto's tables past its interface: emptying and filling them was most of a test's set-up.

It must not change what a table does, only what is in it.
"""

import copy
from collections.abc import Mapping
from typing import Any

Contents = dict[str, Any]


def empty(names: Mapping[str, str]) -> bool:
    """Empty tables of this process, their streams with them.

    Args:
        names: concept → table name.

    Returns:
        Whether they are moto's.
    """
    tables = _tables(names)
    for table in tables.values():
        table.items.clear()
        if table.stream_shard is not None:
            table.stream_shard.items = []
    return bool(tables)


def contents(names: Mapping[str, str]) -> Contents:
    """Copy what is in tables of this process; nothing if they are not moto's."""
    return {name: copy.deepcopy(table.items) for name, table in _tables(names).items()}


def fill(names: Mapping[str, str], wanted: Contents) -> None:
    """Put a copy of what was in these tables into them again."""
    for name, table in _tables(names).items():
        table.items = copy.deepcopy(wanted[name])


def _tables(names: Mapping[str, str]) -> dict[str, Any]:
    from moto.dynamodb.models import dynamodb_backends

    return {
        name: backend.tables[name]
        for backends in dynamodb_backends.values()
        for backend in backends.values()
        for name in names.values()
        if name in backend.tables
    }
