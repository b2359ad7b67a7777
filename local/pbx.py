"""What a PBX to test against knows: its user objects, and what apps may do with them.

`python -m local.pbx` starts one. It behaves as the vendor describes PbxAdminApi and as the vendor's
own clients rely on; where neither says anything, it does what is called ours here. It must not know
how messages come (local/pbx_conversation.py), nor anything of Dialtone.
"""

import json
import secrets
import sys
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import RLock
from typing import Any

Message = dict[str, Any]
Device = dict[str, Any]
Listener = Callable[[str, "User"], None]
"""Hears `Add`, `Update` or `Del`, and the user object."""

ADMIN = "PbxAdminApi"
TABLE_USERS = "PbxTableUsers"
SERVICES = "Services"

APP = "dialtone"
PASSWORD = "dialtone-pbx"  # noqa: S105 - of a PBX that is on one machine alone

# Ours: the vendor names no error texts.
NOT_FOUND = "object not found"
LOCKED = "object is locked"
MALFORMED = "malformed"
TAKEN = "name is taken"

_TEXTS = ("h323", "cn", "dn", "e164", "email")
MEMBERS = ("guid", *_TEXTS, "devices")
"""Those of a user object that apps see."""

COLUMNS = ("guid", "h323", "cn", "dn", "e164", "emails", "devices", "pseudo")
"""Those of the table of users: there may be several e-mails, each a row of a table of its own."""


@dataclass(frozen=True)
class AppObject:
    """What an app logs in as.

    Args:
        apis: those that it is granted; Services is granted and never answered.
    """

    password: str = field(repr=False)
    apis: frozenset[str] = frozenset({ADMIN, TABLE_USERS, SERVICES})


@dataclass
class User:
    """A user object.

    Args:
        guid: 32 hex digits.
        h323: the SIP name.
        devices: the user's own: `hw`, `text`, `app`, and flags as `admin`, `no-filter`, `tls`.
        template_devices: those that the user's config template brings.
        is_locked: apps cannot change it; ours.
        pseudo: what it is if it is no user: an app, a trunk, …
    """

    guid: str
    h323: str
    cn: str
    dn: str = ""
    e164: str = ""
    email: str = ""
    devices: list[Device] = field(default_factory=list)
    template_devices: list[Device] = field(default_factory=list)
    is_locked: bool = False
    pseudo: str = ""

    def members(self, *, has_template: bool = False) -> Message:
        """Write what an app sees of it, with what its template brings or without."""
        told = {name: value for name, value in asdict(self).items() if name in MEMBERS and value}
        template = deepcopy(self.template_devices) if has_template else []
        return told | {"devices": told.get("devices", []) + template}

    def columns(self) -> Message:
        """Write its row of the table of users."""
        told = self.members()
        emails = [{"email": told.pop("email")}] if "email" in told else []
        return told | {"emails": emails} | ({"pseudo": self.pseudo} if self.pseudo else {})


@dataclass(eq=False)
class Pbx:
    """What a PBX knows, for many threads.

    Args:
        file: where its user objects are kept, None for memory alone.
        domain, name, dns: what it tells of itself.
        app_objects: by name.
        has_pbx_info: it sends PbxInfo after a login. Whether a real one does so to an app that
            connects as a client is unknown.
        is_silent: it takes requests, and neither does nor answers anything.
        is_broken: it does nothing either, and answers with a text that is no JSON.
        delay_seconds: it does what is asked at once, and answers so much later.
        refuses: the error with which it answers each UpdateObject, empty for none.
        before_update: runs before an UpdateObject is looked at; may change the other faults.
        after_get: runs when a GetObject is answered, after it was read and before it is sent, so
            that whoever has the answer can count on it.
        dies_before_answer: it does what an UpdateObject asks, then cuts the connection.
        asked: how many requests came, by `mt`, whatever became of them.
    """

    file: Path | None = None
    domain: str = "example.com"
    name: str = "pbx"
    dns: str = "pbx.example.com"
    app_objects: dict[str, AppObject] = field(default_factory=lambda: {APP: AppObject(PASSWORD)})
    has_pbx_info: bool = True
    is_silent: bool = False
    is_broken: bool = False
    delay_seconds: float = 0.0
    refuses: str = ""
    before_update: Callable[[], object] | None = None
    after_get: Callable[[], object] | None = None
    dies_before_answer: bool = False
    asked: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._lock = RLock()
        self._listeners: list[Listener] = []
        kept = json.loads(self.file.read_text()) if self.file and self.file.exists() else []
        self._users = {members["guid"]: User(**members) for members in kept}

    def users(self) -> list[User]:
        """List copies of the user objects."""
        with self._lock:
            return deepcopy(list(self._users.values()))

    def user(self, h323: str) -> User:
        """Return a copy of a user object.

        Raises:
            KeyError: there is none.
        """
        with self._lock:
            return deepcopy(self._named(h323))

    def devices_of(self, h323: str) -> list[Device]:
        """List the devices of a user, without the template's.

        Raises:
            KeyError: there is no such user.
        """
        return self.user(h323).devices

    def add_user(  # noqa: PLR0913 - a user object has these members
        self,
        h323: str,
        *,
        cn: str = "",
        dn: str = "",
        e164: str = "",
        email: str = "",
        template_devices: list[Device] | None = None,
        pseudo: str = "",
    ) -> User:
        """Add a user object → a copy of it; `cn` and `dn` are the SIP name unless given."""
        guid = secrets.token_hex(16)
        template = deepcopy(template_devices or [])
        user = User(guid, h323, cn or h323, dn or cn or h323, e164, email, [], template)
        user.pseudo = pseudo
        with self._lock:
            self._users[guid] = user
            self._changed("Add", user)
            return deepcopy(user)

    def put_devices(self, h323: str, devices: list[Device]) -> None:
        """Replace the devices of a user, as an administrator at the PBX can, locked or not.

        Raises:
            KeyError: there is no such user.
        """
        with self._lock:
            user = self._named(h323)
            user.devices = deepcopy(devices)
            self._changed("Update", user)

    def lock(self, h323: str, *, locked: bool = True) -> None:
        """Keep apps from changing a user object, or let them again.

        Raises:
            KeyError: there is no such user.
        """
        with self._lock:
            self._named(h323).is_locked = locked
            self._save()

    def remove_user(self, h323: str) -> None:
        """Remove a user object.

        Raises:
            KeyError: there is no such user.
        """
        with self._lock:
            user = self._users.pop(self._named(h323).guid)
            self._changed("Del", user)

    def count(self, mt: str) -> None:
        """Note a request."""
        with self._lock:
            self.asked[mt] += 1

    def get_object(self, asked: Message) -> Message:
        """Do a GetObject → the members of its answer."""
        with self._lock:
            named = [name for name in ("guid", "h323", "cn") if name in asked]
            user = self._find(named[0], asked[named[0]]) if named else None
            has_template = asked.get("template") != "without"
            told = user.members(has_template=has_template) if user else {"error": NOT_FOUND}
        if self.after_get is not None:
            self.after_get()
        return told

    def update_object(self, asked: Message) -> Message:
        """Do an UpdateObject → the members of its answer."""
        if self.before_update is not None:
            self.before_update()
        if self.refuses:
            return {"error": self.refuses}
        changed = {name: asked[name] for name in (*_TEXTS, "devices") if name in asked}
        if not _is_well_formed(changed):
            return {"error": MALFORMED}
        with self._lock:
            key = "cn" if asked.get("guid") in ("*", "?") else "guid"
            user = self._find(key, asked.get(key))
            is_new = user is None and asked.get("guid") == "?" and bool(changed.get("cn"))
            if is_new:
                user = User(secrets.token_hex(16), changed["cn"], changed["cn"])
            if user is None:
                return {"error": NOT_FOUND}
            if user.is_locked:
                return {"error": LOCKED}
            wanted = {name: changed.get(name, getattr(user, name)) for name in ("h323", "cn")}
            if any(self._find(*pair) not in (None, user) for pair in wanted.items()):
                return {"error": TAKEN}
            for name, value in changed.items():
                setattr(user, name, value)
            self._users[user.guid] = user
            self._changed("Add" if is_new else "Update", user)
            return {"guid": user.guid}

    def row(self, guid: str) -> Message | None:
        """Return the row of a user object in the table of users, None if it is gone."""
        with self._lock:
            user = self._users.get(guid)
            return user.columns() if user else None

    def listen(self, listener: Listener) -> list[str]:
        """Tell a listener every change from now on → the guids that there are now."""
        with self._lock:
            self._listeners.append(listener)
            return list(self._users)

    def unlisten(self, listener: Listener) -> None:
        """Tell it nothing any more."""
        with self._lock:
            self._listeners.remove(listener)

    def _find(self, name: str, value: object) -> User | None:
        found = (user for user in self._users.values() if getattr(user, name) == value)
        return next(found, None)

    def _named(self, h323: str) -> User:
        user = self._find("h323", h323)
        if user is None:
            raise KeyError(h323)
        return user

    def _changed(self, kind: str, user: User) -> None:
        self._save()
        # within the lock: whoever hears of two changes hears of them in their order
        for listener in self._listeners:
            listener(kind, user)

    def _save(self) -> None:
        if self.file is None:
            return
        beside = self.file.with_name(f"{self.file.name}.new")
        beside.write_text(json.dumps([asdict(user) for user in self._users.values()], indent=1))
        beside.replace(self.file)


def _is_well_formed(changed: Message) -> bool:
    devices = changed.get("devices", [])
    return all(isinstance(changed.get(name, ""), str) for name in _TEXTS) and (
        isinstance(devices, list)
        and all(
            isinstance(device, dict) and isinstance(device.get("hw"), str) for device in devices
        )
    )


if __name__ == "__main__":
    # the server's, so that there is one module of these classes and not two
    from local.pbx_server import main

    sys.exit(main())
