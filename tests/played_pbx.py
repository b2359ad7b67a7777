"""A PBX without sockets: user objects, and whatever can be wrong with it."""

import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from chalicelib.core.errors import PbxRefusedError, PbxUnavailableError
from chalicelib.core.user_objects import Access, Entry, FindBy, Row, Trouble, UserObject


class PlayedPbx:
    """The port that roles/handovers.py and replications.py speak to.

    Args:
        trouble: why it cannot be spoken to, None if it can.
        rows: what else its table of users tells of whom; its devices are told besides.
        table_trouble: why its table ends early, None if it does not; after how many rows.
        refuses: name of a user → what it says when that one's devices are written.
        before_write: called before devices are written, as another who writes would come.
        calling: told the name of each request, and makes it.
    """

    def __init__(self, *names: str) -> None:
        self.devices: dict[str, list[Entry]] = {name: [] for name in names}
        self.guids = {name: secrets.token_hex(16) for name in names}
        self.trouble: Trouble | None = None
        self.rows: dict[str, Row] = {}
        self.table_trouble: tuple[Trouble, int] | None = None
        self.reads: list[tuple[int, float]] = []
        self.refuses: dict[str, str] = {}
        self.before_write: Callable[[], object] = lambda: None
        self.calling: Callable[[str, Callable[[], Any]], Any] = lambda _, made: made()
        self.apis: frozenset[str] | None = None
        self.accesses: list[Access] = []
        self.written: list[str] = []
        self._lock = threading.RLock()

    @contextmanager
    def connect(self, access: Access, seconds: float) -> Iterator["PlayedPbx"]:
        """Log in, as pbx.connect does."""
        assert seconds > 0
        self.accesses.append(access)
        self._demand_no_trouble()
        yield self

    def find(self, by: FindBy, name: str) -> UserObject | None:
        """Find a user."""
        assert by in FindBy
        self._demand_no_trouble()
        found: UserObject | None = self.calling("find", lambda: self._found(name))
        return found

    def put_devices(
        self, by: FindBy, name: str, guid: str, devices: Sequence[Entry]
    ) -> tuple[UserObject | None, UserObject | None]:
        """Write a user's devices."""
        assert by in FindBy
        self._demand_no_trouble()
        self.before_write()
        put: tuple[UserObject | None, UserObject | None] = self.calling(
            "put_devices", lambda: self._put(name, guid, devices)
        )
        return put

    def users(self, max_rows: int, seconds: float) -> Iterator[Row]:
        """Read the table of users."""
        self.reads.append((max_rows, seconds))
        trouble, after = self.table_trouble or (None, len(self.devices))
        for name in list(self.devices)[:after]:
            yield replace(self.rows.get(name, Row(name)), devices=self.devices[name])
        if trouble is not None:
            raise PbxUnavailableError(trouble)

    def hw_ids(self, name: str) -> list[str]:
        """Tell the hardware ids of a user's devices, in their order."""
        return [str(entry["hw"]) for entry in self.devices[name]]

    def hire(self, name: str) -> None:
        """Make a user."""
        self.devices[name], self.guids[name] = [], secrets.token_hex(16)

    def _found(self, name: str) -> UserObject | None:
        with self._lock:
            if name not in self.devices:
                return None
            return UserObject(self.guids[name], list(self.devices[name]))

    def _put(
        self, name: str, guid: str, devices: Sequence[Entry]
    ) -> tuple[UserObject | None, UserObject | None]:
        with self._lock:
            if name in self.refuses:
                raise PbxRefusedError(self.refuses[name])
            before = self._found(name)
            if before is None:
                return None, None
            assert guid == before.guid
            self.devices[name] = [dict(entry) for entry in devices]
            self.written.append(name)
            return before, self._found(name)

    def _demand_no_trouble(self) -> None:
        if self.trouble is not None:
            raise PbxUnavailableError(self.trouble)
