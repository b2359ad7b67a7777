import codecs
import csv
import io
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.core import roster
from chalicelib.core.errors import Fault, InvalidRequestError

UNTIL = datetime(2036, 12, 1, 12, tzinfo=UTC)
FORMULAS = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
NAMES = "sip, user, user name, login, h323, benutzer, benutzername or anmeldename"
ENCODINGS = {
    "UTF-8": (b"", "utf-8"),
    "UTF-8 with BOM": (codecs.BOM_UTF8, "utf-8"),
    "UTF-16 LE": (b"", "utf-16-le"),
    "UTF-16 BE": (b"", "utf-16-be"),
    "UTF-16 LE with BOM": (codecs.BOM_UTF16_LE, "utf-16-le"),
    "UTF-16 BE with BOM": (codecs.BOM_UTF16_BE, "utf-16-be"),
}
HEADERS = {
    "sip": ["sip", "SIP", " User ", "user name", "Login", "H323", "Benutzer", "BENUTZERNAME"],
    "name": ["name", "Display Name", "Full name", "Anzeigename", "Vollständiger Name"],
    "number": ["number", "Phone", "phone-number", "Rufnummer", "Telefonnummer", "Durchwahl"],
    "email": ["e-mail", "Email", "mail", "E-Mail-Adresse"],
    "may_add_phones": ["may_add_phones", "May add phones", "Darf Telefone hinzufügen"],
}
SAID: dict[bool | None, list[str]] = {
    True: ["yes", "TRUE", "1", "ja", "Wahr", "x"],
    False: ["no", "False", "0", "nein", "FALSCH"],
    None: ["", " "],
}

CELLS = st.text(st.characters(exclude_categories=["Cc", "Cf", "Cs", "Zl", "Zp"]), max_size=12).map(
    str.strip
)
TEXTS = st.one_of(CELLS, st.text("aZ ,;\"'=+-@ä\u00a0", max_size=12).map(str.strip)).filter(
    lambda text: roster.plain(text) == text
)
SIPS = TEXTS.filter(lambda text: bool(text) and "#" not in text)
ANY_CELLS = st.one_of(st.text(max_size=12), st.text(" ,;\t\r\n\"'=+-@a\uff1d", max_size=8))


def read(text: str) -> tuple[roster.Line, ...]:
    """Read a file that is UTF-8."""
    return roster.read(text.encode()).lines


def told(raw: bytes) -> list[tuple[str, dict[str, Any]]]:
    """Tell the users of a file without faults."""
    lines = roster.read(raw).lines
    assert all(not line.faults for line in lines)
    return [(line.sip, dict(line.values)) for line in lines]


def faults(raw: bytes) -> list[Fault]:
    """Tell what spoils a file."""
    with pytest.raises(InvalidRequestError) as caught:
        roster.read(raw)
    return list(caught.value.faults)


@dataclass(frozen=True)
class Dialect:
    """How a file is written."""

    encoding: str
    delimiter: str
    is_all_quoted: bool
    line_end: str
    is_sep_named: bool
    columns: list[str]
    headers: Mapping[str, str]
    is_blank_between: bool

    def write(self, users: list[dict[str, str]]) -> bytes:
        """Write users, told by field."""
        text = io.StringIO(newline="")
        writer = csv.writer(
            text,
            delimiter=self.delimiter,
            quoting=csv.QUOTE_ALL if self.is_all_quoted else csv.QUOTE_MINIMAL,
            lineterminator=self.line_end,
        )
        if self.is_sep_named:
            text.write(f"sep={self.delimiter}{self.line_end}")
        writer.writerow([self.headers[name] for name in self.columns])
        for user in users:
            if self.is_blank_between:
                text.write(self.line_end)
            writer.writerow([user[name] for name in self.columns])
        mark, codec = ENCODINGS[self.encoding]
        return mark + text.getvalue().encode(codec)


@st.composite
def dialects(draw: st.DrawFn) -> Dialect:
    """Choose a way to write users: two columns at least, for one alone has no delimiter."""
    others = draw(st.lists(st.sampled_from(sorted(HEADERS)), unique=True))
    columns = draw(st.permutations(sorted({"sip", "name", *others})))
    return Dialect(
        encoding=draw(st.sampled_from(sorted(ENCODINGS))),
        delimiter=draw(st.sampled_from(",;\t")),
        is_all_quoted=draw(st.booleans()),
        line_end=draw(st.sampled_from(["\r\n", "\n", "\r"])),
        is_sep_named=draw(st.booleans()),
        columns=columns,
        headers={name: draw(st.sampled_from(HEADERS[name])) for name in columns},
        is_blank_between=draw(st.booleans()),
    )


USERS = st.lists(
    st.fixed_dictionaries(
        {
            "sip": SIPS,
            "name": TEXTS,
            "number": st.sampled_from(["", "22", "+49 (7031) 73009-22", "*21#", "0711/1.2"]),
            "email": st.sampled_from(["", "anna@example.com", "ä.b@c"]),
            "may_add_phones": st.sampled_from([True, False, None]),
        }
    ),
    max_size=6,
    unique_by=lambda user: user["sip"],
)


@given(dialects(), USERS, st.data())
def test_users_come_back_the_same_in_any_dialect(
    dialect: Dialect, users: list[dict[str, Any]], data: st.DataObject
) -> None:
    """Encoding, delimiter, quotes, order and language of the header change nothing."""
    written = [
        user | {"may_add_phones": data.draw(st.sampled_from(SAID[user["may_add_phones"]]))}
        for user in users
    ]
    assert told(dialect.write(written)) == [
        (user["sip"], {name: user[name] for name in dialect.columns if name != "sip"})
        for user in users
    ]


@given(
    st.one_of(
        st.binary(max_size=200),
        st.text(" sipname,;\t\"'\r\n\0=#x@1ä", max_size=80).map(str.encode),
        st.tuples(
            st.sampled_from(["", "sep=;\r\n", "\r\n"]),
            st.sampled_from(["sip;name;number;mail;may add phones\n", "sip,vorname,nachname\r"]),
            st.text("a;,\t\"'\r\n#=+@1 \u2028\ud7ff", max_size=80),
            st.sampled_from(["utf-8", "utf-16", "utf-16-le", "utf-16-be"]),
        ).map(lambda parts: "".join(parts[:3]).encode(parts[3])),
    ),
    st.integers(0, 3),
)
def test_any_bytes_are_a_roster_or_refused(raw: bytes, lost: int) -> None:
    """Nothing that anybody can send fails in another way."""
    lines: tuple[roster.Line, ...] = ()
    with suppress(InvalidRequestError):
        lines = roster.read(raw[: len(raw) - lost]).lines
    numbers = [line.number for line in lines]
    assert numbers == sorted(set(numbers))
    assert all(line.faults or line.sip for line in lines)


@pytest.mark.parametrize(
    "raw",
    [
        # Excel, German: CSV UTF-8
        b"\xef\xbb\xbfBenutzer;Anzeigename;Durchwahl\r\nanna;M\xc3\xbcller, Anna;22\r\n;;\r\n",
        # Excel, English: CSV UTF-8
        b'\xef\xbb\xbfUser name,Display name,Extension\r\nanna,"M\xc3\xbcller, Anna",22\r\n',
        # Excel: Unicode text
        codecs.BOM_UTF16_LE
        + 'User\tName\tPhone\r\nanna\t"Müller, Anna"\t22\r\n'.encode("utf-16-le"),
        # LibreOffice, every text quoted
        '"sip","name","number"\n"anna","Müller, Anna",22\n'.encode(),
        # typed by hand: blanks after delimiters, another order, old line ends, no last line end
        'Number, NAME, "sip"\r\r22, "Müller, Anna", anna'.encode(),
        'sep=|\nsip|name|number\nanna|"Müller, Anna"|22'.encode(),
        '\ufeffSEP=\t\r\nsip\tname\tnumber\r\n"anna"\tMüller, Anna\t22'.encode(),
    ],
)
def test_exports_are_read_as_they_are(raw: bytes) -> None:
    """Whatever the program, the same user."""
    assert told(raw) == [("anna", {"name": "Müller, Anna", "number": "22"})]


def test_quoted_cells_hold_anything() -> None:
    """Delimiters, doubled quotes and line breaks; a line's number is where it begins."""
    lines = read('sip;name\r\n\r\n"a;b";"Anna ""Ann"" M"\r\nc;"two\r\nlines"\r\nd;D\r\n')
    assert [(line.number, line.sip) for line in lines] == [(3, "a;b"), (4, "c"), (6, "d")]
    assert lines[0].values == {"name": 'Anna "Ann" M'}
    assert [fault.field for fault in lines[1].faults] == ["name"]


def test_lines_count_from_the_first_of_the_file() -> None:
    """A line that names the delimiter counts, and so do blank ones."""
    assert [line.number for line in read("sep=;\n\nsip;name\nanna;\n;\nbert;\n")] == [4, 6]


def test_the_delimiter_is_the_one_of_the_header() -> None:
    """However often another one stands in the data."""
    assert read("sip;name\nanna;a,b,c,d\nbert;e,f,g,h\n")[0].values == {"name": "a,b,c,d"}
    assert read("sip,x;y,name\nanna,;;;,A\n")[0].values == {"name": "A"}
    assert read("sip\nanna\n")[0].values == {}


@pytest.mark.parametrize(
    ("header", "cells", "name"),
    [
        ("first name;last name", "Anna;Müller", "Anna Müller"),
        ("Nachname;Vorname", "Müller;Anna", "Anna Müller"),
        ("Vorname;Familienname", ";Müller", "Müller"),
        ("Vorname;Familienname", ";", ""),
        ("given name;surname", "Anna", "Anna"),
        ("surname", "Müller", "Müller"),
        ("Name;Vorname", "Müller;Anna", "Anna Müller"),
        ("Name;Vorname;Nachname", "Dr. Anna Müller;Anna;Müller", "Dr. Anna Müller"),
        ("Name;First name", "Anna Müller;Anna", "Anna Müller"),
        ("Anzeigename;Vorname", "Anna Müller;Anna", "Anna Müller"),
    ],
)
def test_a_name_may_come_in_parts(header: str, cells: str, name: str) -> None:
    """First name and last name, where there is no column for the whole."""
    assert read(f"sip;{header}\nanna;{cells}\n")[0].values == {"name": name}


def test_a_column_that_is_not_there_is_not_told() -> None:
    """An empty cell of one that is there empties; a short line has empty cells."""
    assert read("sip;number\nanna; \nbert\n")[1].values == {"number": ""}
    assert read("sip;e-mail;name\nanna;;\n")[0].values == {"name": "", "email": ""}
    assert read("sip;may add phones\nanna;\n")[0].values == {"may_add_phones": None}


def test_columns_without_a_meaning_are_named() -> None:
    """So that a misspelt header is seen; a bounded number of them, at a bounded length."""
    assert roster.read(b"sip;Room ;;name;First name\n").ignored == ("Room", "First name")
    many = ";".join(f"{number} {'x' * 100}" for number in range(30))
    ignored = roster.read(f"sip;{many}".encode()).ignored
    assert len(ignored) == roster.MAX_IGNORED
    assert {len(name) for name in ignored} == {roster.MAX_HEADER_LENGTH}


def test_headers_are_understood_in_either_form_of_an_umlaut() -> None:
    """Composed or decomposed."""
    assert read("sip;vollsta\u0308ndiger name\na;b\n")[0].values == {"name": "b"}


def test_what_we_neutralised_is_read_as_it_was() -> None:
    """A number of ours begins with a plus again."""
    assert told(b"sip;name;number\nanna;'=1+1;'+49 7031\n") == [
        ("anna", {"name": "=1+1", "number": "+49 7031"})
    ]
    assert told(b"sip;name\n'n;'n Boer\n") == [("'n", {"name": "'n Boer"})]


@pytest.mark.parametrize("raw", [b"", b" \r\n\t", codecs.BOM_UTF8, codecs.BOM_UTF16_BE, b"sep=;"])
def test_an_empty_file_is_refused(raw: bytes) -> None:
    """Whatever marks it begins with."""
    assert faults(raw) == [Fault("", "the file is empty")]


@pytest.mark.parametrize(
    ("raw", "line"),
    [
        ("sip;name\r\nanna;A\r\nbert;Müller\r\n".encode("cp1252"), 3),
        ("sip;name\rbert;Müller\r".encode("cp1252"), 2),
        (b"\xef\xbb\xbfsip\n\n\n\xff", 4),
        (codecs.BOM_UTF16_LE + "sip\r\nanna\r\n".encode("utf-16-le") + b"x", 3),
        (codecs.BOM_UTF16_BE + "sip\r\n".encode("utf-16-be") + b"\xd8\x00\x00a", 2),
    ],
)
def test_another_encoding_is_refused_with_its_line(raw: bytes, line: int) -> None:
    """And with what to choose in Excel."""
    assert faults(raw) == [
        Fault("", f"line {line} is neither UTF-8 nor UTF-16: in Excel, save it as “CSV UTF-8”")
    ]


@pytest.mark.parametrize("raw", [b"PK\x03\x04\x14\x00", b"\xd0\xcf\x11\xe0\xa1\xb1"])
def test_a_workbook_is_no_csv(raw: bytes) -> None:
    """Of either of Excel's formats."""
    assert faults(raw) == [
        Fault("", "this is a workbook and no CSV: in Excel, save it as “CSV UTF-8”")
    ]


@pytest.mark.parametrize("raw", [b"sip\nan\0na\n", "sip\nan\0na\n".encode("utf-16")])
def test_a_nul_is_refused_with_its_line(raw: bytes) -> None:
    """It is no text."""
    assert [fault.message[:16] for fault in faults(raw)] == ["line 2 has a NUL"]


@pytest.mark.parametrize("raw", [b"name;number\nanna;22\n", b";;;", b"sip|a\n"])
def test_users_are_known_by_their_sip(raw: bytes) -> None:
    """Without a column for it, people hear what it may be called."""
    found = faults(raw)
    assert found[0] == Fault("sip", f"no column has the user's sip; it may be called {NAMES}")


def test_what_people_are_told_is_understood() -> None:
    """Each of the names that the refusal lists."""
    for name in NAMES.replace(" or ", ", ").split(", "):
        assert read(f"{name.upper()}\nanna\n")[0].sip == "anna"


def test_everything_that_spoils_a_file_is_told_at_once() -> None:
    """The header, and quotes further down."""
    assert faults(b'phone;mail;extension;e-mail;vorname;first name\n22;"a"b\n') == [
        Fault("name", "columns 5 and 6 mean the same: keep one"),
        Fault("number", "columns 1 and 3 mean the same: keep one"),
        Fault("email", "columns 2 and 4 mean the same: keep one"),
        Fault("sip", f"no column has the user's sip; it may be called {NAMES}"),
        Fault("", "in line 2, quotes do not fit, or a cell is far too long"),
    ]


@pytest.mark.parametrize(
    ("raw", "line"),
    [
        (b'sip;name\nanna;A\nbert;"B" b\n', 3),
        (b'sip;name\n\n"anna;\nbert;B\n', 3),
        (b'sip;"name\nanna;A\n', 1),
        (b'sep=;\nsip;"name"x\nanna;A\n', 2),
        (b"sip;name\nanna;" + b"x" * 200_000, 2),
        (b"x" * 200_000, 1),
    ],
)
def test_quotes_that_do_not_fit_are_refused(raw: bytes, line: int) -> None:
    """With the line that they spoil, not the end of the file."""
    message = f"in line {line}, quotes do not fit, or a cell is far too long"
    assert Fault("", message) in faults(raw)


def test_a_file_has_its_most() -> None:
    """Lines without content do not count."""
    users = "".join(f"u{number}\n\n" for number in range(roster.MAX_USERS))
    assert len(read(f"sip\n{users}")) == roster.MAX_USERS
    assert faults(f"sip\n{users}more".encode()) == [
        Fault("", "more than 20000 users: part the file")
    ]


@pytest.mark.parametrize(
    ("header", "cells", "fields"),
    [
        ("name", ";A", ["sip"]),
        ("name", f"{'s' * 101};A", ["sip"]),
        ("name", "an#na;A", ["sip"]),
        ("name", "an\x7fna;A", ["sip"]),
        ("name", "an\u200bna;A", ["sip"]),
        ("name", "\u200d;A", ["sip"]),
        ("name", "anna;A\u202eB", ["name"]),
        ("name", f"#{'s' * 100};A", ["sip", "sip"]),
        ("name", f"anna;{'n' * 201}", ["name"]),
        ("name", "anna;A\x01a", ["name"]),
        ("name", 'anna;"A\tb"', ["name"]),
        ("first name;last name", f"anna;{'n' * 100};{'m' * 100}", ["name"]),
        ("number", "anna;extension 2", ["number"]),
        ("number", "anna;4,97E+11", ["number"]),
        ("number", "anna;\u0661\u0662", ["number"]),
        ("number", "anna;()", ["number"]),
        ("number", f"anna;{'1' * 65}", ["number"]),
        ("e-mail", "anna;anna", ["email"]),
        ("e-mail", "anna;@example.com", ["email"]),
        ("e-mail", "anna;anna@", ["email"]),
        ("e-mail", "anna;a@b@c", ["email"]),
        ("e-mail", "anna;a b@c", ["email"]),
        ("e-mail", "anna;a\x01@c", ["email"]),
        ("e-mail", f"anna;{'a' * 253}@b", ["email"]),
        ("may add phones", "anna;perhaps", ["may_add_phones"]),
        ("name", "anna;Müller;Anna", [""]),
        ("name;;", "anna;Müller;Anna", [""]),
        (
            "name;number;mail;may add phones",
            f";{'n' * 201};none;none;none;none",
            ["sip", "name", "number", "email", "may_add_phones", ""],
        ),
    ],
)
def test_what_is_wrong_with_a_user_is_told_at_once(
    header: str, cells: str, fields: list[str]
) -> None:
    """By field, without the value; the others are not blamed, and no bad value is handed on."""
    first, line, last = read(f"sip;{header}\nfirst\n{cells}\nlast\n")
    assert [fault.field for fault in line.faults] == fields
    assert first.faults == last.faults == ()
    assert not set(fields) & set(line.values)
    assert len(line.sip) <= roster.MAX_SIP_LENGTH
    assert "none" not in "".join(fault.message for fault in line.faults)


@pytest.mark.parametrize(
    "cells",
    [
        f"{'s' * 100};{'n' * 200};{'1' * 64};{'a' * 252}@b;x",
        "anna;=HYPERLINK(1);;;",
        "anna;-;+49 (0)7031/73009-22.*#;a@b;",
        "anna;A;22;a@b;;;;",
    ],
)
def test_what_is_good_has_no_fault(cells: str) -> None:
    """At the limits, too; a formula is neutralised where it is written."""
    (line,) = read(f"sip;name;number;mail;may add phones\n{cells}\n")
    assert line.faults == ()


def test_a_user_stands_in_one_line() -> None:
    """A later line of the same user says which was the first, even if that is at fault itself."""
    lines = read("sip;number\nanna;x\nbert;1\nanna;2\n anna ;y\nAnna;3\n;\n;4\n;5\n")
    again = Fault("sip", "stands in line 2 already")
    assert [again in line.faults for line in lines] == [
        False,
        False,
        True,
        True,
        False,
        False,
        False,
    ]
    assert [fault.field for fault in lines[3].faults] == ["number", "sip"]


def test_a_user_of_a_list_is_checked_alike() -> None:
    """JSON brings other types, and lone surrogates, which no store takes."""
    good: dict[str, Any] = {"name": "Anna", "number": "", "email": "a@b", "may_add_phones": False}
    assert roster.line_of(3, " anna ", good | {"name": " Anna"}) == roster.Line(3, "anna", good)
    assert roster.line_of(0, "anna", {"may_add_phones": "Ja"}).values == {"may_add_phones": True}
    assert roster.line_of(0, "anna", {"may_add_phones": None}).values == {"may_add_phones": None}
    bad = {"name": None, "number": 22, "email": ["a@b"], "may_add_phones": 1, "x" * 99: "y"}
    line = roster.line_of(0, "\ud800", bad)
    assert line.values == {}
    assert [fault.field for fault in line.faults] == ["sip", *list(bad)[:-1], "x" * 60]
    assert [fault.field for fault in roster.line_of(0, "a", {"name": "\udfff"}).faults] == ["name"]


def row(**changes: Any) -> roster.CodeRow:  # noqa: ANN401 - any of its fields
    """Make a line of a code list."""
    cells: dict[str, Any] = {
        "name": "Anna Müller",
        "number": "22",
        "email": "anna@example.com",
        "category": "Office",
        "app": "phone",
        "code": "012345678901",
        "valid_until": UNTIL,
        "state": "pending",
    }
    return roster.CodeRow(**(cells | changes))


def cells_of(raw: bytes, delimiter: str = ",") -> list[list[str]]:
    """Read what was written as spreadsheets do."""
    text = raw.decode("utf-8-sig")
    return list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))


def test_a_code_list_is_written_for_spreadsheets() -> None:
    """With BOM, header, CRLF; codes in groups, times in UTC, whatever zone they came in."""
    there = timezone(timedelta(hours=-2))
    rows = [
        row(name='Müller, "Anna"', valid_until=UNTIL.astimezone(there)),
        row(number="+49 7031", code="", valid_until=None, state="registered"),
    ]
    assert (
        roster.write_codes(rows)
        == (
            "\ufeffname,number,e-mail,category,app,code,valid until,state\r\n"
            '"Müller, ""Anna""",22,anna@example.com,Office,phone,0123 4567 8901,'
            "2036-12-01 12:00 UTC,pending\r\n"
            "Anna Müller,'+49 7031,anna@example.com,Office,phone,,,registered\r\n"
        ).encode()
    )
    assert cells_of(roster.write_codes(rows, ";"), ";") == cells_of(roster.write_codes(rows))


def test_a_code_is_not_shown_by_accident() -> None:
    """Neither in a log nor in a failure's text."""
    assert "0123" not in repr(row())


@given(
    st.lists(st.tuples(*[ANY_CELLS] * 6), max_size=4),
    st.text("0123456789", min_size=11, max_size=11).map("0{}".format),
    st.sampled_from(",;\t"),
)
def test_what_is_written_is_read_as_it_was(
    texts: list[tuple[str, ...]], code: str, delimiter: str
) -> None:
    """Every cell, once the neutralising is undone; codes keep their first zero."""
    names = ("name", "number", "email", "category", "app", "state")
    rows = [row(code=code, **dict(zip(names, cells, strict=True))) for cells in texts]
    header, *lines = cells_of(roster.write_codes(rows, delimiter), delimiter)
    assert header == list(roster.CODES_HEADER)
    for line, cells in zip(lines, texts, strict=True):
        *before, written, until, state = [roster.plain(cell) for cell in line]
        assert (*before, state) == cells
        assert written.replace(" ", "") == code
        assert until == "2036-12-01 12:00 UTC"
        for cell in line:
            assert not cell.lstrip(" \u00a0").startswith((*FORMULAS, "\t", "\r"))


@given(st.lists(st.tuples(ANY_CELLS, ANY_CELLS), max_size=3), st.permutations(",;\t"))
def test_no_formula_begins_under_another_delimiter(
    texts: list[tuple[str, str]], delimiters: list[str]
) -> None:
    """As when a file with commas is opened where semicolons are the rule."""
    rows = [row(name=name, app=app) for name, app in texts]
    written, opened, _ = delimiters
    text = roster.write_codes(rows, written).decode("utf-8-sig")
    for lenient in (csv.QUOTE_MINIMAL, csv.QUOTE_NONE):
        lines = io.StringIO(text, newline="")
        for line in csv.reader(lines, delimiter=opened, quoting=lenient):
            for cell in line:
                assert not cell.lstrip(' \u00a0"').startswith(FORMULAS)


@given(ANY_CELLS)
def test_neutralising_can_be_undone(cell: str) -> None:
    """Whatever the text, and however often it went through."""
    once = roster.neutralised(cell)
    assert roster.plain(once) == cell
    assert roster.plain(roster.plain(roster.neutralised(once))) == cell


def test_a_list_of_users_is_checked_as_a_file_is() -> None:
    """Each for itself, numbered from 0, and nobody twice."""
    read = roster.of_list(
        [("user1", {"name": "One"}), ("", {}), ("user1", {"number": "x"}), ("", {})]
    )
    assert [line.number for line in read.lines] == [0, 1, 2, 3]
    missing = (Fault("sip", "is missing"),)
    assert [line.faults for line in read.lines[:2]] == [(), missing]
    assert [fault.field for fault in read.lines[2].faults] == ["number", "sip"]
    assert read.lines[2].faults[1].message == "stands in place 0 already"
    assert read.lines[3].faults == missing


@pytest.mark.parametrize("text", ["", "x" * 101, "a#b", "a\nb", "\ud800", "a\ufeffb", "\u200c"])
def test_what_is_no_sip_is_none(text: str) -> None:
    """Whoever tells of it."""
    assert not roster.is_sip(text)
    assert roster.is_sip("user1")
