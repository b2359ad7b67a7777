"""The files of the administrators' command line: users in; codes out, for their owner's eyes alone.

It must not call the service.
"""

import codecs
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from chalicelib.core import roster
from chalicelib.core.errors import Fault, InvalidRequestError
from local.admin_calls import RefusedError, UsageError

STANDARD = "-"
PRIVATE_FILE, PRIVATE_FOLDER = 0o600, 0o700
_SLIPS = re.compile(r"slips-\d+\.html")
_DELIMITERS = re.compile(r"[;,\t]")
_END_OF_LINE = re.compile(r"\r\n|\r|\n")
_OF_THE_USER = frozenset({"name", "number", "email", "may_add_phones"})
"""What is wrong with these is no matter when it is the sip that is wanted."""


@dataclass(frozen=True)
class Named:
    """A user whom a file names.

    Args:
        line: where it stands.
    """

    line: int
    sip: str


def content_of(name: str) -> bytes:
    """Read a file, or what comes in for `-`.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        return sys.stdin.buffer.read() if name == STANDARD else Path(name).read_bytes()
    except OSError as error:
        raise UsageError(f"{name} cannot be read: {error.strerror}") from None


def users_of(name: str) -> list[Named]:
    """Read whom a file names, each once: a CSV of users, or a sip a line.

    Raises:
        UsageError: it cannot be read.
        RefusedError: it names nobody, or not properly; with every fault, by line.
    """
    raw = content_of(name)
    try:
        lines = roster.read(raw).lines
    except InvalidRequestError as error:
        has_no_column = any(fault.field == "sip" for fault in error.faults)
        listed = _listed(raw) if has_no_column else None
        if listed is None:
            raise RefusedError(f"{name} names no users:", *error.faults) from None
        lines = tuple(roster.line_of(number, sip, {}) for number, sip in listed)
    faults: list[Fault] = []
    named: dict[str, Named] = {}
    for line in lines:
        if line.sip and line.sip in named:
            continue
        wrong = [fault for fault in line.faults if fault.field not in _OF_THE_USER]
        faults += (Fault(f"line {line.number}", _written(fault)) for fault in wrong)
        named[line.sip] = Named(line.number, line.sip)
    if len(named) > roster.MAX_USERS:
        faults = [Fault("", f"more than {roster.MAX_USERS} users: part the file")]
    if faults or not named:
        raise RefusedError(f"{name} cannot be used, and nothing was sent:", *faults)
    return list(named.values())


def write_private(path: Path, content: bytes, *, is_forced: bool) -> None:
    """Write a file that its owner alone can read.

    Args:
        is_forced: put it in the place of one that is there.

    Raises:
        UsageError: there is one, or it cannot be written.
    """
    try:
        if is_forced:
            path.unlink(missing_ok=True)
        made = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE)
        with open(made, "wb") as file:  # noqa: PTH123 - made with its rights, before anything is in it
            file.write(content)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from None


def demand_room(path: Path, *, is_forced: bool) -> None:
    """Refuse a place where a file is already, before any code is asked for.

    Raises:
        UsageError: there is one.
    """
    if path.exists() and not is_forced:
        raise UsageError(f"{path} is there already: --force writes another in its place")
    if not path.parent.is_dir():
        raise UsageError(f"{path.parent} is no folder")


def demand_room_for_slips(folder: Path, *, is_forced: bool) -> None:
    """Refuse a folder with slips, before any code is asked for; make one that is not there.

    Raises:
        UsageError: there are some and they are to stay, or the folder cannot be made.
    """
    try:
        folder.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
        has_slips = any(_SLIPS.fullmatch(each.name) for each in folder.iterdir())
    except OSError as error:
        raise UsageError(f"{folder} cannot be used: {error.strerror}") from None
    if has_slips and not is_forced:
        raise UsageError(f"there are slips in {folder} already: --force writes others instead")


def remove_slips(folder: Path) -> None:
    """Remove the slips of an earlier time, whose codes may be dead.

    Raises:
        UsageError: they cannot be removed.
    """
    try:
        for each in folder.iterdir():
            if _SLIPS.fullmatch(each.name):
                each.unlink()
    except OSError as error:
        raise UsageError(f"{folder} cannot be used: {error.strerror}") from None


def _listed(raw: bytes) -> Sequence[tuple[int, str]] | None:
    """Read a sip a line, None if more than one cell stands in a line."""
    marked = raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = raw.decode("utf-16" if marked else "utf-8-sig", "replace")
    if _DELIMITERS.search(text):
        return None
    lines = enumerate(_END_OF_LINE.split(text), 1)
    return [(number, line.strip()) for number, line in lines if line.strip()]


def _written(fault: Fault) -> str:
    return f"{fault.field} {fault.message}" if fault.field else fault.message
