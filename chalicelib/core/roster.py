"""The users' list: an administrator's CSV in, as people have it, and the codes' CSV out.

What spoils a file as a whole is raised; what is wrong with one user stands at that user's line. It
must not know which users there are already (roles/) or who may read a code.
"""

import codecs
import csv
import io
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from chalicelib.core import names
from chalicelib.core.codes import grouped
from chalicelib.core.errors import Fault, InvalidRequestError

MAX_USERS = 20_000
"""Users in one file."""

MAX_SIP_LENGTH = 100
MAX_NAME_LENGTH = 200
MAX_NUMBER_LENGTH = 64
MAX_EMAIL_LENGTH = 254
MAX_IGNORED = 20
MAX_HEADER_LENGTH = 60

CODES_HEADER = ("name", "number", "e-mail", "category", "app", "code", "valid until", "state")
SIP_HEADERS = "sip, user, user name, login, h323, benutzer, benutzername or anmeldename"
"""What the column with the user's sip may be called, as people are told."""

_DELIMITERS = (";", ",", "\t")
_HEADERS = {
    "sip": (
        *("sip", "sipname", "sipuser", "sipid", "h323", "h323name", "h323id"),
        *("user", "username", "userid", "login", "loginname"),
        *("benutzer", "benutzername", "benutzerkennung", "kennung", "anmeldename"),
        *("nutzer", "nutzername"),
    ),
    "name": (
        *("name", "displayname", "fullname", "longname"),
        *("anzeigename", "vollständigername", "vollername", "langname"),
    ),
    "first": ("firstname", "givenname", "forename", "vorname"),
    "last": ("lastname", "surname", "familyname", "nachname", "familienname", "zuname"),
    "number": (
        *("number", "phone", "phonenumber", "telephone", "telephonenumber", "extension", "ext"),
        *("nummer", "rufnummer", "telefon", "telefonnummer", "tel", "durchwahl", "nebenstelle"),
    ),
    "email": ("email", "emailaddress", "mail", "mailaddress", "emailadresse", "mailadresse"),
    "may_add_phones": (
        *("mayaddphones", "canaddphones", "addphones"),
        *("darftelefonehinzufügen", "darftelefonehinzufuegen", "telefonehinzufügen"),
    ),
}
_FIELDS = {header: name for name, headers in _HEADERS.items() for header in headers}
"""What people call a column, in the form of `_key` → what it tells."""

_YES = ("yes", "y", "true", "1", "on", "ja", "j", "wahr", "x")
_NO = ("no", "n", "false", "0", "off", "nein", "falsch")
_WORDS = {"": None, **dict.fromkeys(_YES, True), **dict.fromkeys(_NO, False)}

_SEP_LINE = re.compile(r"sep=([^\w\s\"']|\t)[ \t]*(?:\r\n|\r|\n|\Z)", re.IGNORECASE)
_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
_WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
_SAVE_AS = "in Excel, save it as “CSV UTF-8”"

_NUMBER = re.compile(r"(?=[^0-9]*[0-9])[0-9 +*#()/.\-]+")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")

# A cell begins with the text, and after each delimiter that may wrongly be taken for the file's;
# quotes and blanks may be lost on the way. A `'` leads as well, or not every text could be undone.
_LEAD = r"(?:['\"]|[^\S\t\r\n])*"
_FORMULA = rf"{_LEAD}[=+\-@\uff1d\uff0b\uff0d\uff20]"
_CELL_START = r"(?:\A|(?<=[,;\t\r\n]))"
_RISKY = re.compile(rf"{_CELL_START}(?={_FORMULA})|\A(?={_LEAD}[\t\r\n])")
_NEUTRALISED = re.compile(rf"{_CELL_START}'(?={_FORMULA})|\A'(?={_LEAD}[\t\r\n])")


@dataclass(frozen=True)
class Line:
    """One user, as a file or a list tells of them.

    Args:
        number: where it starts: the line of the file (the header counts), or its place in the list.
        sip: as told; cut when it is too long, which is a fault.
        values: what was told and has no fault: name, number and email as texts (an empty one
            empties), may_add_phones (None leaves it to the domain).
        faults: everything that is wrong with it, by the names above; empty for the line itself.
    """

    number: int
    sip: str
    values: Mapping[str, str | bool | None]
    faults: tuple[Fault, ...] = ()


@dataclass(frozen=True)
class Roster:
    """A file of users.

    Args:
        ignored: headers of the columns that mean nothing here; the first of them, cut.
    """

    lines: tuple[Line, ...]
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True)
class CodeRow:
    """A line of a code list.

    Args:
        code: its 12 digits, or empty.
        valid_until: None when there is no code to redeem.
    """

    name: str
    number: str
    email: str
    category: str
    app: str
    code: str = field(repr=False)
    valid_until: datetime | None
    state: str


def read(raw: bytes) -> Roster:
    """Read a file of users: CSV as spreadsheets and people write it.

    UTF-8 or UTF-16; semicolons, commas or tabs, or what a first line `sep=` names; headers in any
    order, German or English. The delimiter is the one under which the header is understood best:
    the data never decides.

    Raises:
        InvalidRequestError: the file as a whole is no list of users; says everything that is.
    """
    text = _decoded(raw)
    named = _SEP_LINE.match(text)
    skipped, delimiters = (1, (named[1],)) if named else (0, _DELIMITERS)
    text = text[named.end() :] if named else text
    if not text.strip():
        raise InvalidRequestError(Fault("", "the file is empty"))
    delimiter = max(delimiters, key=lambda each: _understood(text, each))
    records = _records(text, delimiter, skipped)
    _, cells = next(records, (0, []))
    header = _trimmed(cells)
    columns, faults = _columns(header)
    rows: list[tuple[int, list[str]]] = []
    try:
        rows.extend(islice(records, MAX_USERS + 1))
    except InvalidRequestError as error:
        faults.extend(error.faults)
    if len(rows) > MAX_USERS:
        faults.append(Fault("", f"more than {MAX_USERS} users: part the file"))
    if faults:
        raise InvalidRequestError(*faults)
    used = {position for positions in columns.values() for position in positions}
    ignored = (name for at, name in enumerate(header) if name and at not in used)
    return Roster(
        tuple(_lines(rows, columns, len(header))),
        tuple(name[:MAX_HEADER_LENGTH] for name in islice(ignored, MAX_IGNORED)),
    )


def of_list(users: Iterable[tuple[str, Mapping[str, Any]]]) -> Roster:
    """Check a list of users, each a sip and what else is told; numbered from 0."""
    earlier = _Earlier("place")
    lines = (line_of(number, sip, values) for number, (sip, values) in enumerate(users))
    return Roster(tuple(earlier.checked(line) for line in lines))


def line_of(number: int, sip: str, values: Mapping[str, Any]) -> Line:
    """Check one user, of a file or of a JSON list.

    Args:
        values: by the names of Line.values; may_add_phones may be one of the words for yes and no.
    """
    sip = sip.strip()
    told = {name: _as_told(name, value) for name, value in values.items() if name in _CHECKS}
    wrong = [name for name, value in told.items() if not _CHECKS[name][0](value)]
    unknown = [name for name in values if name not in _CHECKS]
    faults = (
        *_sip_faults(sip),
        *(Fault(name, _CHECKS[name][1]) for name in wrong),
        *(Fault(name[:MAX_HEADER_LENGTH], f"not one of {', '.join(_CHECKS)}") for name in unknown),
    )
    good = {name: value for name, value in told.items() if name not in wrong}
    return Line(number, sip[:MAX_SIP_LENGTH], good, faults)


def is_sip(text: str) -> bool:
    """Tell whether this can be a user's sip."""
    return not _sip_faults(text)


def write_codes(rows: Iterable[CodeRow], delimiter: str = ",") -> bytes:
    """Write a code list for spreadsheets: UTF-8 with BOM, RFC 4180, CRLF.

    A code is written in groups, which spreadsheets keep as text: no digit is lost.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\r\n")
    writer.writerow(CODES_HEADER)
    writer.writerows([neutralised(cell) for cell in _cells(row)] for row in rows)
    return codecs.BOM_UTF8 + text.getvalue().encode()


def neutralised(cell: str) -> str:
    """Put a `'` before whatever a spreadsheet might run as a formula.

    That is where the cell begins, and wherever one would begin if the file were opened with another
    delimiter than its own, as spreadsheets do in many countries.

    Source: OWASP, CSV Injection.
    """
    return _RISKY.sub("'", cell)


def plain(cell: str) -> str:
    """Undo neutralised."""
    return _NEUTRALISED.sub("", cell) if "'" in cell else cell


def _cells(row: CodeRow) -> tuple[str, ...]:
    until = row.valid_until
    return (
        *(row.name, row.number, row.email, row.category, row.app),
        grouped(row.code) if row.code else "",
        f"{until.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if until else "",
        row.state,
    )


def _decoded(raw: bytes) -> str:
    if raw.startswith(_WORKBOOKS):
        raise InvalidRequestError(Fault("", f"this is a workbook and no CSV: {_SAVE_AS}"))
    mark = next((mark for mark in _BYTE_ORDER_MARKS if raw.startswith(mark)), b"")
    encoding = _BYTE_ORDER_MARKS.get(mark) or _unmarked(raw)
    raw = raw[len(mark) :]
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        line = _line_after(raw[: error.start].decode(encoding, "replace"))
        message = f"line {line} is neither UTF-8 nor UTF-16: {_SAVE_AS}"
        raise InvalidRequestError(Fault("", message)) from None
    if "\0" in text:
        line = _line_after(text[: text.index("\0")])
        raise InvalidRequestError(
            Fault("", f"line {line} has a NUL, so this is no text: {_SAVE_AS}")
        )
    return text


def _unmarked(raw: bytes) -> str:
    # the first eight characters of a header are mostly ASCII, whose other byte is NUL in UTF-16
    even, odd = (raw[start:16:2].count(0) for start in (0, 1))
    if max(even, odd) < len("sip"):
        return "utf-8"
    return "utf-16-le" if odd > even else "utf-16-be"


def _line_after(text: str) -> int:
    return 1 + text.count("\n") + text.count("\r") - text.count("\r\n")


def _records(
    text: str, delimiter: str, skipped: int = 0, *, strict: bool = True
) -> Iterator[tuple[int, list[str]]]:
    """Read records with the line each begins at; those without any content are left out."""
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=delimiter, strict=strict, skipinitialspace=True
    )
    line = 1 + skipped
    try:
        for cells in reader:
            if any(cell and not cell.isspace() for cell in cells):
                yield line, cells
            line = 1 + skipped + reader.line_num
    except csv.Error:
        message = f"in line {line}, quotes do not fit, or a cell is far too long"
        raise InvalidRequestError(Fault("", message)) from None


def _understood(text: str, delimiter: str) -> int:
    # not strict: under another delimiter than the file's own, quotes need not fit
    try:
        _, cells = next(_records(text, delimiter, strict=False), (0, []))
    except InvalidRequestError:
        return 0
    return sum(_key(cell) in _FIELDS for cell in cells)


def _key(header: str) -> str:
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKC", header).casefold()))


def _trimmed(cells: list[str]) -> list[str]:
    header = [" ".join(cell.split()) for cell in cells]
    while header and not header[-1]:
        header.pop()
    return header


def _columns(header: list[str]) -> tuple[dict[str, list[int]], list[Fault]]:
    """Find what each column tells: a name or its parts, in the order they are spoken."""
    columns: dict[str, list[int]] = {name: [] for name in _HEADERS}
    keys = [_key(cell) for cell in header]
    for position, key in enumerate(keys):
        if key in _FIELDS:
            columns[_FIELDS[key]].append(position)
    if "vorname" in keys and "name" in keys and not columns["last"]:
        # beside a Vorname, a German Name is the family name
        columns["last"], columns["name"] = columns["name"], []
    if columns["name"]:
        columns["first"] = columns["last"] = []
    faults = [
        Fault(
            "name" if name in {"first", "last"} else name,
            f"columns {positions[0] + 1} and {positions[1] + 1} mean the same: keep one",
        )
        for name, positions in columns.items()
        if len(positions) > 1
    ]
    if not columns["sip"]:
        faults.append(Fault("sip", f"no column has the user's sip; it may be called {SIP_HEADERS}"))
    return {name: positions for name, positions in columns.items() if positions}, faults


def _lines(
    rows: list[tuple[int, list[str]]], columns: Mapping[str, list[int]], width: int
) -> Iterator[Line]:
    earlier = _Earlier("line")
    for number, cells in rows:
        texts = {
            name: plain(cells[position].strip()) if position < len(cells) else ""
            for name, (position,) in columns.items()
        }
        if "first" in texts or "last" in texts:
            parts = (texts.pop("first", ""), texts.pop("last", ""))
            texts["name"] = " ".join(filter(None, parts))
        sip = texts.pop("sip")
        line = earlier.checked(line_of(number, sip, texts))
        if any(cell and not cell.isspace() for cell in cells[width:]):
            line = _also(line, Fault("", "more cells than the header has columns"))
        yield line


class _Earlier:
    """Remembers who was told already, for nobody may be told twice."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._numbers: dict[str, int] = {}

    def checked(self, line: Line) -> Line:
        """Add the fault that its user was told already."""
        first = self._numbers.setdefault(line.sip, line.number) if line.sip else line.number
        if first == line.number:
            return line
        return _also(line, Fault("sip", f"stands in {self._place} {first} already"))


def _also(line: Line, fault: Fault) -> Line:
    return replace(line, faults=(*line.faults, fault))


def _sip_faults(sip: str) -> tuple[Fault, ...]:
    if names.is_blank(sip):
        return (Fault("sip", "is missing"),)
    faults = []
    if len(sip) > MAX_SIP_LENGTH:
        faults.append(Fault("sip", f"at most {MAX_SIP_LENGTH} characters"))
    if "#" in sip or not names.is_readable(sip):
        faults.append(Fault("sip", "without #, control and invisible characters"))
    return tuple(faults)


def _as_told(name: str, value: Any) -> Any:  # noqa: ANN401 - what JSON may hold
    if not isinstance(value, str):
        return value
    text = value.strip()
    return _WORDS.get(text.casefold(), text) if name == "may_add_phones" else text


def _is_name(value: object) -> bool:
    if not isinstance(value, str) or len(value) > MAX_NAME_LENGTH:
        return False
    return not value or not names.faults("", value)


def _is_number(value: object) -> bool:
    if not isinstance(value, str) or len(value) > MAX_NUMBER_LENGTH:
        return False
    return not value or _NUMBER.fullmatch(value) is not None


def _is_email(value: object) -> bool:
    if not isinstance(value, str) or len(value) > MAX_EMAIL_LENGTH:
        return False
    return not value or (names.is_readable(value) and _EMAIL.fullmatch(value) is not None)


_CHECKS: dict[str, tuple[Callable[[object], bool], str]] = {
    "name": (
        _is_name,
        f"at most {MAX_NAME_LENGTH} characters, without control and invisible characters",
    ),
    "number": (
        _is_number,
        f"digits, blanks and + * # ( ) / . - alone, at most {MAX_NUMBER_LENGTH} characters",
    ),
    "email": (_is_email, f"an address with one @, at most {MAX_EMAIL_LENGTH} characters"),
    "may_add_phones": (
        lambda value: value is None or isinstance(value, bool),
        "yes or no, or nothing to leave it to the domain",
    ),
}
"""What a user may have → whether a value is good, and what would be."""
