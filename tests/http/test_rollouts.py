"""UsersAdmin over HTTP: users in, rollouts, codes out."""

import csv
import io
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import Any

import pytest

from chalicelib.roles import people, rollouts
from chalicelib.storage import connection, registrations
from local.phone import Fetch
from tests import faults
from tests.http.administration import fetch_through, phone
from tests.http.service import Answer, Caller
from tests.http.test_problems import assert_problem

FILE = {"Content-Type": "application/octet-stream"}
USERS = [f"user{number}" for number in range(1, 21)]
HEADER = ["name", "number", "e-mail", "category", "app", "code", "valid until", "state"]


def make(caller: Caller, *users: str, **more: object) -> str:
    """Roll out to users; returns the rollout_id."""
    body = {"name": "Autumn", "category": "Office", "users": list(users), **more}
    answer = caller.call("POST", "/rollouts", user="admin", body=body)
    assert answer.status == 201, answer.text
    assert answer.json["added"] == len(users)
    return str(answer.json["rollout_id"])


def show(caller: Caller, rollout_id: str, **query: str) -> dict[str, Any]:
    """Look at a rollout."""
    answer = caller.call("GET", f"/rollouts/{rollout_id}", user="admin", query=query)
    assert answer.status == 200, answer.text
    return dict(answer.json)


def change(caller: Caller, rollout_id: str, how: str, **body: object) -> Answer:
    """Extend, reissue or revoke entries."""
    return caller.call("POST", f"/rollouts/{rollout_id}/{how}", user="admin", body=body)


def export(caller: Caller, rollout_id: str, **query: str) -> Answer:
    """Get the code list."""
    answer = caller.call("GET", f"/rollouts/{rollout_id}/codes.csv", user="admin", query=query)
    assert answer.status == 200, answer.text
    return answer


def rows_of(answer: Answer, delimiter: str = ",") -> list[list[str]]:
    """Read a code list as a spreadsheet does."""
    text = answer.body.decode("utf-8-sig")
    header, *rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    assert header == HEADER
    return rows


def codes_of(caller: Caller, rollout_id: str) -> dict[str, str]:
    """Tell e-mail → code of those that are pending."""
    return {row[2]: row[5] for row in rows_of(export(caller, rollout_id)) if row[5]}


def register(fetch: Fetch, code: str, number: int) -> None:
    """Unpack a phone and type a code on it."""
    unpacked = phone(f"0090330001{number:02x}")
    unpacked.execute(fetch(unpacked.url())[1], hour=12)
    unpacked.type_code(code)
    for _ in range(3):
        unpacked.execute(fetch(unpacked.url())[1], hour=12)


def send(caller: Caller, content: bytes, **query: str) -> Answer:
    """Import a file of users."""
    return caller.call("POST", "/users", user="admin", body=content, query=query, headers=FILE)


def users_of(caller: Caller) -> dict[str, dict[str, Any]]:
    """List the domain's users by sip."""
    answer = caller.call("GET", "/users", user="admin", query={"limit": "1000"})
    return {one["sip"]: one for one in answer.json["items"]}


def test_twenty_users_are_rolled_out(caller: Caller) -> None:
    """From the options over the code list to the last phone, as the list shows it."""
    options = caller.call("GET", "/rollouts/options", user="admin").json
    assert options == {"categories": ["Office", "Reception"], "phone_apps": ["phone"]}
    rollout_id = make(caller, *USERS[:10], note="first floor")
    added = caller.call(
        "POST", f"/rollouts/{rollout_id}/entries", user="admin", body={"users": USERS}
    )
    assert added.json == {"added": 10, "already": 10}
    (listed,) = caller.call("GET", "/rollouts", user="admin").json["items"]
    assert (listed["rollout_id"], listed["app"]) == (rollout_id, "phone")
    assert (listed["note"], listed["created_by"]) == ("first floor", "admin")
    rows = rows_of(export(caller, rollout_id))
    assert {row[7] for row in rows} == {"pending"}
    assert len({row[5] for row in rows}) == 20
    fetch = fetch_through(caller)
    for number, row in enumerate(rows):
        register(fetch, row[5], number)
    shown = show(caller, rollout_id)
    assert shown["counts"] == {"pending": 0, "registered": 20, "expired": 0, "revoked": 0}
    assert {entry["sip"] for entry in shown["items"]} == set(USERS)
    for entry in shown["items"]:
        assert entry["device"]["user"] == entry["sip"]
        assert "reason" not in entry
    assert {row[5] for row in rows_of(export(caller, rollout_id))} == {""}
    (own,) = caller.call("GET", "/me/phones", user="user7").json["items"]
    assert own["category"] == "Office"


def test_the_list_is_paged_and_filtered(caller: Caller) -> None:
    """Newest change first; each state by itself; a cursor of one list is none of another."""
    rollout_id = make(caller, *USERS[:5])
    codes = codes_of(caller, rollout_id)
    register(fetch_through(caller), codes["user2@example.com"], 1)
    assert change(caller, rollout_id, "revoke", users=["user3"]).json["changed"] == 1
    assert [one["sip"] for one in show(caller, rollout_id)["items"][:2]] == ["user3", "user2"]
    seen: list[str] = []
    page = show(caller, rollout_id, limit="2")
    while True:
        seen += [one["sip"] for one in page["items"]]
        if page["next"] is None:
            break
        page = show(caller, rollout_id, limit="2", cursor=page["next"])
        assert page["counts"] is None
    assert sorted(seen) == sorted(USERS[:5])
    states = {
        state: sorted(one["sip"] for one in show(caller, rollout_id, state=state)["items"])
        for state in ("pending", "registered", "expired", "revoked")
    }
    assert states["pending"] == ["user1", "user4", "user5"]
    assert (states["registered"], states["revoked"]) == (["user2"], ["user3"])
    assert states["expired"] == []
    for query in ({"state": "redeemed"}, {"limit": "1001"}, {"cursor": "?"}):
        answer = caller.call("GET", f"/rollouts/{rollout_id}", user="admin", query=query)
        assert_problem(answer, 400, "malformed")
    cursor = show(caller, rollout_id, limit="1", state="pending")["next"]
    show(caller, rollout_id, cursor=cursor, state="expired")
    show(caller, rollout_id, cursor=cursor)


def test_codes_are_extended_reissued_and_revoked(caller: Caller) -> None:
    """All that are pending, or some; who has a phone keeps it."""
    rollout_id = make(caller, *USERS[:4])
    before = codes_of(caller, rollout_id)
    fetch = fetch_through(caller)
    register(fetch, before["user1@example.com"], 1)
    ends = {one["sip"]: one["expires_at"] for one in show(caller, rollout_id)["items"]}
    assert change(caller, rollout_id, "extend").json == {"changed": 3, "missed": [], "next": None}
    extended = {one["sip"]: one["expires_at"] for one in show(caller, rollout_id)["items"]}
    assert [sip for sip in ends if extended[sip] > ends[sip]] == ["user4", "user3", "user2"]
    assert change(caller, rollout_id, "reissue", users=["user2"]).json["changed"] == 1
    after = codes_of(caller, rollout_id)
    assert after.keys() == before.keys() - {"user1@example.com"}
    assert [one for one in after if after[one] != before[one]] == ["user2@example.com"]
    assert change(caller, rollout_id, "revoke").json["changed"] == 3
    for code in (*before.values(), *after.values()):
        answer = caller.call(
            "GET", "/devices/update", query={"mac": "00-90-33-00-0f-01", "code": code}
        )
        assert "device_token" not in answer.text
    assert show(caller, rollout_id)["counts"] == {
        "pending": 0,
        "registered": 1,
        "expired": 0,
        "revoked": 3,
    }
    assert change(caller, rollout_id, "reissue").json["changed"] == 0
    assert change(caller, rollout_id, "reissue", users=["user2", "user1"]).json["changed"] == 1
    assert list(codes_of(caller, rollout_id)) == ["user2@example.com"]


def test_the_code_list_is_for_spreadsheets(caller: Caller) -> None:
    """A file of its own name, with the delimiter of the country, and only what has changed."""
    content = 'Benutzer;Anzeigename\nuser1;=HYPERLINK(1)\nuser2;Ä "B"; C\n'
    assert_problem(send(caller, content.encode()), 400, "malformed")
    content = 'Benutzer;Anzeigename\nuser1;=HYPERLINK(1)\nuser2;"Ä ""B""; C"\n'
    assert send(caller, content.encode()).json["changed"] == 2
    rollout_id = make(caller, "user1", "user2")
    answer = export(caller, rollout_id, delimiter="semicolon")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == (
        f'attachment; filename="codes-{rollout_id}.csv"'
    )
    assert answer.headers["cache-control"] == "no-store"
    assert answer.body.startswith(b"\xef\xbb\xbfname;number;e-mail;")
    one, two = rows_of(answer, ";")
    assert one[:5] == ["'=HYPERLINK(1)", "101", "user1@example.com", "Office", "phone"]
    assert two[0] == 'Ä "B"; C'
    assert re.fullmatch(r"\d{4} \d{4} \d{4}", one[5])
    assert re.fullmatch(r"20\d\d-\d\d-\d\d \d\d:\d\d UTC", one[6])
    moment = datetime.now(UTC)
    assert rows_of(export(caller, rollout_id, changed_since=moment.isoformat())) == []
    change(caller, rollout_id, "reissue", users=["user2"])
    (changed,) = rows_of(export(caller, rollout_id, changed_since=moment.isoformat()))
    assert changed[2] == "user2@example.com"
    assert changed[5] != two[5]
    for query in (
        {"delimiter": ";"},
        {"changed_since": "yesterday"},
        {"changed_since": "2036-11-24T12:00:00"},
    ):
        refused = caller.call("GET", f"/rollouts/{rollout_id}/codes.csv", user="admin", query=query)
        assert_problem(refused, 400, "malformed")


class Page(HTMLParser):
    """Takes a page apart: elements, their attributes, and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[str] = []
        self.words = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]

    def handle_data(self, data: str) -> None:
        self.words += data


def test_slips_are_printed(caller: Caller) -> None:
    """One for each code that is pending, with nothing that runs, page by page."""
    named = {"sip": "user1", "name": "<script>alert(1)</script> & Söhne"}
    caller.call("POST", "/users", user="admin", body={"users": [named]})
    rollout_id = make(caller, *USERS[:3], name="<b>Autumn</b>")
    change(caller, rollout_id, "revoke", users=["user2"])
    codes = codes_of(caller, rollout_id)
    path, slips, cursor = f"/rollouts/{rollout_id}/slips", "", ""
    for number in range(2):
        query = {"limit": "1", **({"cursor": cursor} if cursor else {})}
        answer = caller.call("GET", path, user="admin", query=query)
        assert answer.status == 200
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert answer.headers["cache-control"] == "no-store"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        slips += answer.text
        link = answer.headers.get("link", "")
        assert link.startswith("<slips?limit=1&cursor=") is (number == 0)
        cursor = link.partition("cursor=")[2].partition(">")[0]
    page = Page(slips)
    assert {"script", "b", "a", "img"}.isdisjoint(page.tags)
    assert not [name for name in page.attributes if name.startswith("on") or name == "style"]
    assert named["name"] in page.words
    assert "<b>Autumn</b>" in page.words
    assert page.tags.count("svg") == 2
    assert [code for code in codes.values() if code not in page.words] == []
    german = caller.call("GET", path, user="admin", headers={"Accept-Language": "de-AT,de;q=0.9"})
    assert german.headers["content-language"] == "de"
    assert "Geben Sie diesen Code ein" in german.text
    times = r'datetime="(.{10})T(.{5}):..Z">(.{10}) (.{5}) UTC<'
    assert {(one[:2] == one[2:]) for one in re.findall(times, german.text)} == {True}
    change(caller, rollout_id, "revoke")
    empty = caller.call("GET", path, user="admin")
    assert "No code is pending on this page." in empty.text
    refused = caller.call("GET", path, user="admin", query={"limit": "201"})
    assert_problem(refused, 400, "malformed")


def test_codes_are_told_only_if_it_is_written_down(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who saw which codes is in the audit trail, or nobody sees them."""
    rollout_id = make(caller, "user1", "user2")
    for path in (f"/rollouts/{rollout_id}/codes.csv", f"/rollouts/{rollout_id}/slips"):
        with faults.failing(monkeypatch, "PutItem", faults.timeout()):
            answer = caller.call("GET", path, user="admin")
        assert answer.headers["retry-after"]
        assert_problem(answer, 503, "unavailable")
        assert caller.call("GET", path, user="admin").status == 200
    trail = caller.call("GET", "/domains/example.com/audit", user="admin").json["items"]
    told = [one for one in trail if one["subject"] == rollout_id]
    assert [(one["actor"], one["action"], one["detail"]) for one in reversed(told)] == [
        ("admin", "rollout made", ""),
        ("admin", "codes issued", "user1, user2"),
        ("admin", "codes exported", "2 entries"),
        ("admin", "codes viewed", "user1, user2"),
    ]


def test_bad_rollouts_are_refused(caller: Caller) -> None:
    """Every fault at once, by its place; and nothing is made."""
    bad: list[tuple[dict[str, object], set[str]]] = [
        ({}, {"name", "category"}),
        ({"name": "x", "category": "Gateways"}, {"category"}),
        ({"name": "x", "category": "Nowhere", "app": "fax"}, {"category", "app"}),
        (
            {"name": "x", "category": "Gateways", "users": ["user1", "nobody", "no one"]},
            {"category", "users.1", "users.2"},
        ),
        ({"name": "x", "category": "Office", "users": ["u"] * 1001}, {"users"}),
        (
            {"name": "", "category": "Office", "users": ["a#b"], "more": 1},
            {"name", "users.0", "more"},
        ),
    ]
    for body, fields in bad:
        answer = caller.call("POST", "/rollouts", user="admin", body=body)
        assert {
            one["field"] for one in assert_problem(answer, 400, "malformed")["faults"]
        } == fields
    assert caller.call("GET", "/rollouts", user="admin").json["items"] == []
    rollout_id = make(caller, "user1")
    changes: list[tuple[str, dict[str, object]]] = [
        ("entries", {"users": []}),
        ("entries", {"users": ["user2", "nobody"]}),
        ("extend", {"users": ["user2"]}),
        ("reissue", {"users": ["user1"], "cursor": "eA=="}),
        ("revoke", {"cursor": "!"}),
    ]
    for path, body in changes:
        answer = caller.call("POST", f"/rollouts/{rollout_id}/{path}", user="admin", body=body)
        assert_problem(answer, 400, "malformed")
    assert show(caller, rollout_id)["counts"]["pending"] == 1
    for path in ("", "/codes.csv", "/slips"):
        for unknown in ("x", "0" * 26):
            answer = caller.call("GET", f"/rollouts/{unknown}{path}", user="admin")
            assert_problem(answer, 404, "not-found")


def test_a_rollout_is_full_or_has_ended(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    """One user too many is refused, and nothing is issued or extended after its end: 409."""
    rollout_id = make(caller, *USERS[:3])
    path = f"/rollouts/{rollout_id}/entries"
    with monkeypatch.context() as patch:
        patch.setattr(rollouts, "MAX_ENTRIES", 4)
        answer = caller.call("POST", path, user="admin", body={"users": USERS[:5]})
        assert_problem(answer, 409, "conflict")
        answer = caller.call("POST", path, user="admin", body={"users": USERS[:4]})
        assert answer.json == {"added": 1, "already": 3}
    monkeypatch.setattr("chalicelib.core.rollouts.LASTS_DAYS", 0)
    for how, body in (("entries", {"users": ["user9"]}), ("extend", {}), ("reissue", {})):
        answer = caller.call("POST", f"/rollouts/{rollout_id}/{how}", user="admin", body=body)
        assert "ended" in assert_problem(answer, 409, "conflict")["detail"]
    assert change(caller, rollout_id, "revoke").json["changed"] == 4


@pytest.mark.parametrize("name", ["\t", "a\r\nb", "a\u2028b", "\ufeffa"])
def test_a_rollout_has_a_name_to_read(caller: Caller, name: str) -> None:
    """Whatever nobody would see is refused where it comes in."""
    body = {"name": name, "category": "Office"}
    answer = caller.call("POST", "/rollouts", user="admin", body=body)
    assert [one["field"] for one in assert_problem(answer, 400, "malformed")["faults"]] == ["name"]


def test_a_rollout_is_made_once_under_its_key(caller: Caller) -> None:
    """The answer was lost, and the call comes again."""
    body = {"name": "Autumn", "category": "Office", "users": USERS[:2]}
    key = {"Idempotency-Key": "autumn-1"}
    made = [
        caller.call("POST", "/rollouts", user="admin", body=body, headers=key) for _ in range(2)
    ]
    assert made[0].json == made[1].json
    assert len(caller.call("GET", "/rollouts", user="admin").json["items"]) == 1


ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be")


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_users_come_from_a_file(caller: Caller, encoding: str) -> None:
    """First as a dry run that writes nothing, then for real; the same again changes nothing."""
    text = "Rufnummer;Anzeigename;Zimmer;Benutzer\r\n211;Änne Müß;3;anne\r\n;User 1;4;user1\r\n"
    content = text.encode(encoding)
    tried = send(caller, content, dry_run="true").json
    assert [(one["line"], one["sip"], one["outcome"]) for one in tried["lines"]] == [
        (2, "anne", "added"),
        (3, "user1", "changed"),
    ]
    assert tried["ignored_columns"] == ["Zimmer"]
    assert "anne" not in users_of(caller)
    done = send(caller, content).json
    assert (done["added"], done["changed"], done["lines"]) == (1, 1, [])
    found = users_of(caller)
    assert (found["anne"]["name"], found["anne"]["number"]) == ("Änne Müß", "211")
    assert (found["user1"]["number"], found["user1"]["email"]) == ("", "user1@example.com")
    assert send(caller, content).json["unchanged"] == 2
    assert make(caller, "anne", "user1")


def test_wrong_lines_are_told_and_nothing_is_written(caller: Caller) -> None:
    """Unless whoever sends it wants the others."""
    content = b"sip,number,email\nnew1,1,\nnew2,abc,x\n,2,\nnew1,3,\n"
    answer = send(caller, content)
    assert {one["field"] for one in assert_problem(answer, 400, "malformed")["faults"]} == {
        "line.3.number",
        "line.3.email",
        "line.4.sip",
        "line.5.sip",
    }
    assert "new1" not in users_of(caller)
    tried = send(caller, content, dry_run="true").json
    assert [one["outcome"] for one in tried["lines"]] == ["added", "wrong", "wrong", "wrong"]
    done = send(caller, content, skip_wrong="true").json
    assert (done["added"], done["wrong"]) == (1, 3)
    assert [one["line"] for one in done["lines"]] == [3, 4, 5]
    assert users_of(caller)["new1"]["number"] == "1"
    assert_problem(send(caller, content, dry_run="yes"), 400, "malformed")


def test_faults_have_a_most(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest is counted."""
    monkeypatch.setattr(people, "MAX_FAULTS", 2)
    answer = send(caller, b"sip,number\n" + b"".join(b"u%d,x\n" % n for n in range(5)))
    told = assert_problem(answer, 400, "malformed")["faults"]
    assert [one["field"] for one in told] == ["line.2.number", "line.3.number", ""]
    assert told[2]["message"] == "and 3 more faults"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"name,number\nA,1\n",
        "sip;name\nuser1;Änne\n".encode("latin-1"),
        b"sip,name\nuser1,\xc3",
        b'sip,name\nuser1,"A\n',
        b"sip\n" + b"".join(b"u%d\n" % n for n in range(20_001)),
    ],
    ids=["empty", "no sip", "latin-1", "cut", "quotes", "20001 users"],
)
def test_a_spoilt_file_is_refused(caller: Caller, content: bytes) -> None:
    """It says what is wrong with it; nothing is written, dry or not."""
    before = users_of(caller)
    for query in ({}, {"dry_run": "true"}, {"skip_wrong": "true"}):
        assert assert_problem(send(caller, content, **query), 400, "malformed")["faults"]
    assert users_of(caller) == before


@pytest.mark.parametrize("size", [4 * 1024 * 1024 + 1, 5_000_000, 5 * 1024 * 1024])
def test_a_file_has_its_most(caller: Caller, size: int) -> None:
    """It is told, whoever refuses it: we, or Lambda, whose events end at 6 MB."""
    told = assert_problem(send(caller, b"x" * size), 413, "too-large")["faults"]
    assert "4194304 bytes" in told[0]["message"]


def test_users_come_from_a_list(caller: Caller) -> None:
    """What is not told of somebody stays; each may have its right to add phones."""
    body = {
        "users": [
            {"sip": "new", "name": "New", "number": "+49 711"},
            {"sip": "user1", "may_add_phones": False},
        ]
    }
    answer = caller.call("POST", "/users", user="admin", body=body)
    assert (answer.json["added"], answer.json["changed"]) == (1, 1)
    found = users_of(caller)
    assert found["user1"] == {
        "sip": "user1",
        "name": "User 1",
        "number": "101",
        "email": "user1@example.com",
        "may_add_phones": False,
    }
    refused = caller.call("POST", "/me/codes", user="user1", body={"category": "Office"})
    assert_problem(refused, 403, "not-allowed")
    back = {"users": [{"sip": "user1", "may_add_phones": None}]}
    caller.call("POST", "/users", user="admin", body=back)
    assert caller.call("GET", "/me", user="user1").json["may_add_phones"]
    bad = {"users": [{"sip": "a#b", "number": "x"}, {"sip": "new"}, {"sip": "new"}]}
    answer = caller.call("POST", "/users", user="admin", body=bad)
    assert {one["field"] for one in assert_problem(answer, 400, "malformed")["faults"]} == {
        "users.0.sip",
        "users.0.number",
        "users.2.sip",
    }
    for wrong in ([], [{"name": "x"}], [{"sip": "x", "age": 1}]):
        answer = caller.call("POST", "/users", user="admin", body={"users": wrong})
        assert_problem(answer, 400, "malformed")
    raw = b'{"users": "' + b"x" * (1024 * 1024) + b'"}'
    assert_problem(caller.call("POST", "/users", user="admin", body=raw), 413, "too-large")
    other = caller.call(
        "POST", "/users", user="admin", body=b"sip\nx\n", headers={"Content-Type": "text/csv"}
    )
    assert_problem(other, 415, "unsupported-media-type")


def test_an_expired_code_is_reissued(caller: Caller) -> None:
    """It shows as expired, is on no list, and a new one takes its place."""
    rollout_id = make(caller, "user1")
    (entry,) = registrations.list_all(rollout_id, 10, None).items
    ended = replace(entry, expires_at=datetime.now(UTC) - timedelta(seconds=1))
    transaction = connection.Transaction()
    registrations.put(transaction, ended, entry)
    transaction.commit()
    shown = show(caller, rollout_id, state="expired")
    assert (shown["counts"]["pending"], shown["counts"]["expired"]) == (0, 1)
    assert shown["items"][0]["state"] == "expired"
    assert codes_of(caller, rollout_id) == {}
    assert change(caller, rollout_id, "extend").json["changed"] == 0
    assert change(caller, rollout_id, "reissue").json["changed"] == 1
    assert list(codes_of(caller, rollout_id)) == ["user1@example.com"]
