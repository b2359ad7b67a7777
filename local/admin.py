"""The administrators' command line: users, rollouts with their codes, PBXes, on any deployment.

The token comes from the environment alone (DIALTONE_TOKEN), and the address from --url or
DIALTONE_URL. Results go to standard output, everything else to standard error.
"""

import argparse
import os
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from chalicelib.core.errors import Fault
from chalicelib.core.rollouts import MAX_USERS
from local import admin_files, admin_pbx, admin_screen
from local.admin_calls import (
    DEFAULT_TRIES,
    INTERRUPTED,
    REFUSED,
    AdminError,
    Calls,
    Pause,
    RefusedError,
    UsageError,
    written,
)
from local.admin_files import Named
from local.admin_screen import Screen

PROGRAM = ".venv/bin/python -m local.admin"
DEFAULT_URL = "http://127.0.0.1:8000/api"
DEFAULT_CHUNK = 500
DEFAULT_EVERY_SECONDS = 3.0
_PAGE, _NEWEST = "1000", "100"
_DAY = len("2026-11-24")
_CSV_DELIMITERS = ("comma", "semicolon", "tab")
_EXIT_CODES = """\
exit codes:
  0    done
  1    the service refused it, or something in a file is wrong: every fault is printed
  2    the command cannot be run as it was given
  3    not signed in, or not allowed
  4    the service is not reachable, or not available, after all tries
  130  interrupted, or not wanted after all
"""
_DONE = {"extend": "extended", "reissue": "reissued", "revoke": "revoked"}
_CHANGED_STATES = {
    "extend": ("pending",),
    "reissue": ("pending", "expired"),
    "revoke": ("pending",),
}


@dataclass(frozen=True)
class Command:
    """A command as it was given, and what it works with."""

    given: argparse.Namespace
    calls: Calls
    screen: Screen
    pause: Pause

    @property
    def rollout_id(self) -> str:
        """Tell which rollout it is about."""
        return str(self.given.rollout_id)

    def line(self, *words: str) -> str:
        """Write the command that goes on with this one."""
        url = ("--url", self.given.url) if self.given.url != DEFAULT_URL else ()
        return shlex.join([*PROGRAM.split(), *words, *url])


@dataclass
class Sum:
    """What became of users who were sent, so far.

    Args:
        done: how many were sent, those with a fault among them.
        counts: what the answers counted, added up.
    """

    done: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    missed: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)

    def add(self, answer: Mapping[str, Any]) -> None:
        """Take an answer in."""
        for name, value in answer.items():
            if isinstance(value, int):
                self.counts[name] = self.counts.get(name, 0) + value
        self.missed += answer.get("missed", [])

    def note_to(self, error: BaseException, text: str) -> None:
        """Let what ends it in the middle tell what was found before."""
        if self.faults:
            error.add_note("The service did not take these:")
            error.add_note("\n".join(f"  {written(fault)}" for fault in self.faults))
        error.add_note(text)


Run = Callable[[Command], int]


def import_users(command: Command) -> int:
    """Send a file of users, and tell what becomes of each."""
    given, screen = command.given, command.screen
    switches = {name: "true" for name in ("dry_run", "skip_wrong") if getattr(given, name)}
    content = admin_files.content_of(given.file)
    try:
        report = command.calls.post_file("users", content=content, **switches)
    except RefusedError as error:
        if not any(fault.field.startswith("line.") for fault in error.faults):
            raise
        screen.tell("Nothing was imported, for these lines are wrong:")
        for fault in error.faults:
            screen.tell(f"  {_line_fault(fault)}")
        return REFUSED
    outcomes = ("added", "changed", "unchanged", "wrong")
    would_be = "would be " if given.dry_run else ""
    counts = ", ".join(f"{report[outcome]} {outcome}" for outcome in outcomes)
    screen.tell(f"{would_be}{counts}")
    if report["ignored_columns"]:
        columns = ", ".join(report["ignored_columns"])
        screen.tell(f"ignored columns: {columns}")
    for line in report["lines"]:
        for fault in line["faults"]:
            who = f", {line['sip']}" if line["sip"] else ""
            told = written(Fault(fault["field"], fault["message"]))
            screen.tell(f"  line {line['line']}{who}: {told}")
    return REFUSED if report["wrong"] and given.dry_run else 0


def list_users(command: Command) -> int:
    """List the domain's users."""
    columns = ("sip", "name", "number", "email", "may_add_phones")
    rows = [
        [_cell(user[column]) for column in columns]
        for user in _listed(command, "users", limit=_PAGE)
    ]
    command.screen.table(columns, rows)
    return 0


def show_options(command: Command) -> int:
    """Tell what a rollout can be made of."""
    found = command.calls.get("rollouts", "options")
    rows = [("category", name) for name in found["categories"]]
    rows += [("app", name) for name in found["phone_apps"]]
    command.screen.table(("option", "name"), rows)
    return 0


def list_rollouts(command: Command) -> int:
    """List the domain's rollouts, newest first."""
    rows = [
        [
            *(rollout[name] for name in ("rollout_id", "name", "category", "app")),
            *(admin_screen.moment(rollout[name])[:_DAY] for name in ("created_at", "ends_at")),
            *(rollout[name] for name in ("created_by", "note")),
        ]
        for rollout in _listed(command, "rollouts")
    ]
    columns = ("id", "name", "category", "app", "made", "ends", "by", "note")
    command.screen.table(columns, rows)
    return 0


def create(command: Command) -> int:
    """Make a rollout, tell its id, and add its users."""
    given = command.given
    users = admin_files.users_of(given.users)
    wanted = {
        "name": given.name,
        "category": given.category,
        "app": given.app,
        "note": given.note,
    }
    made = command.calls.post("rollouts", body=wanted)
    command.screen.tell(made["rollout_id"])
    return _upload(command, made["rollout_id"], users)


def add(command: Command) -> int:
    """Add users to a rollout; who is there already stays."""
    return _upload(command, command.rollout_id, admin_files.users_of(command.given.users))


def watch(command: Command) -> int:
    """Show how far a rollout is, until nothing is pending any more."""
    if not command.screen.is_read_live:
        return _watch_in_lines(command)
    with command.screen.live() as shown:
        while True:
            limit = str(admin_screen.SHOWN_CHANGES)
            progress = command.calls.get("rollouts", command.rollout_id, limit=limit)
            shown.update(admin_screen.view(progress, datetime.now().astimezone()), refresh=True)
            if not progress["counts"]["pending"]:
                return 0
            command.pause(command.given.every)


def export(command: Command) -> int:
    """Write all codes of a rollout into a file, or to standard output as they come."""
    given = command.given
    path = None if given.out == admin_files.STANDARD else Path(given.out)
    if path is not None:
        admin_files.demand_room(path, is_forced=given.force)
    query = {"delimiter": given.delimiter, "changed_since": given.changed_since}
    url = command.calls.url("rollouts", command.rollout_id, "codes.csv", **query)
    content = command.calls.fetch(url, "text/csv").body
    if path is None:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
        return 0
    admin_files.write_private(path, content, is_forced=given.force)
    command.screen.say(f"There are codes in {path}: you alone can read it, and delete it in time.")
    return 0


def slips(command: Command) -> int:
    """Write the pages of a rollout's slips into a folder."""
    folder = Path(command.given.out)
    admin_files.demand_room_for_slips(folder, is_forced=command.given.force)
    url: str | None = command.calls.url("rollouts", command.rollout_id, "slips")
    number = 0
    while url is not None:
        page = command.calls.fetch(url, "text/html")
        number += 1
        if number == 1:
            admin_files.remove_slips(folder)
        path = folder / f"slips-{number}.html"
        admin_files.write_private(path, page.body, is_forced=False)
        command.screen.tell(str(path))
        url = page.next_url()
    command.screen.say("There are codes on them: you alone can read them, and delete them in time.")
    return 0


def change(command: Command) -> int:
    """Extend, reissue or revoke the codes of some users, or of all."""
    return _change_some(command) if command.given.users else _change_all(command)


def _upload(command: Command, rollout_id: str, users: Sequence[Named]) -> int:
    made = Sum()
    go_on = command.line("rollout", "add", rollout_id, "--users", command.given.users)
    try:
        _in_chunks(command, ("rollouts", rollout_id, "entries"), users, made)
    except (AdminError, KeyboardInterrupt) as error:
        made.note_to(error, f"{made.done} of {len(users)} users were sent. Go on with:\n  {go_on}")
        raise
    counts = f"{made.counts.get('added', 0)} added, {made.counts.get('already', 0)} there already"
    command.screen.say(counts)
    if made.faults:
        refused = RefusedError("These were not added:", *made.faults)
        refused.add_note(f"Correct the file, and go on with:\n  {go_on}")
        raise refused
    return 0


def _in_chunks(command: Command, path: tuple[str, ...], users: Sequence[Named], made: Sum) -> None:
    """Send users, some in each call; whoever the service does not take is left out."""
    chunk = command.given.chunk
    with command.screen.progress("users", len(users)) as progress:
        for start in range(0, len(users), chunk):
            part = users[start : start + chunk]
            _send(command, path, part, made)
            made.done += len(part)
            progress.to(made.done)


def _send(command: Command, path: tuple[str, ...], part: Sequence[Named], made: Sum) -> None:
    while part:
        try:
            made.add(command.calls.post(*path, body={"users": [user.sip for user in part]}))
        except RefusedError as error:
            wrong = _wrong(error, part)
            made.faults += [Fault(f"line {user.line}, {user.sip}", why) for user, why in wrong]
            without = {user for user, _ in wrong}
            part = [user for user in part if user not in without]
        else:
            return


def _wrong(error: RefusedError, part: Sequence[Named]) -> list[tuple[Named, str]]:
    """Find whom the service does not take, and why.

    Raises:
        RefusedError: it is about more than single users.
    """
    wrong = []
    for fault in error.faults:
        kind, _, position = fault.field.partition(".")
        if kind != "users" or not position.isdecimal() or int(position) >= len(part):
            raise error
        wrong.append((part[int(position)], fault.message))
    if not wrong:
        raise error
    return wrong


def _change_some(command: Command) -> int:
    action, made = command.given.action, Sum()
    users = admin_files.users_of(command.given.users)
    try:
        _in_chunks(command, ("rollouts", command.rollout_id, action), users, made)
    except (AdminError, KeyboardInterrupt) as error:
        sent = f"{made.done} of {len(users)} users were sent, in the order of the file"
        so_far = f"{made.counts.get('changed', 0)} {_DONE[action]}"
        made.note_to(error, f"{sent}; {so_far}.")
        raise
    _tell_changed(command, made)
    if made.faults:
        raise RefusedError(f"These were not {_DONE[action]}:", *made.faults)
    return 0


def _change_all(command: Command) -> int:
    given, made = command.given, Sum()
    if not given.yes and not _is_wanted(command):
        command.screen.say("Nothing was changed.")
        return INTERRUPTED
    cursor = given.cursor
    while True:
        try:
            path = ("rollouts", command.rollout_id, given.action)
            answer = command.calls.post(*path, body={"cursor": cursor} if cursor else {})
        except (AdminError, KeyboardInterrupt) as error:
            words = ["rollout", given.action, command.rollout_id, "--yes"]
            words += ["--cursor", cursor] if cursor else []
            so_far = f"{made.counts.get('changed', 0)} {_DONE[given.action]} before."
            error.add_note(f"{so_far} Go on with:\n  {command.line(*words)}")
            raise
        made.add(answer)
        cursor = answer["next"]
        if cursor is None:
            _tell_changed(command, made)
            return 0
        command.screen.say(f"{made.counts['changed']} {_DONE[given.action]} so far")


def _is_wanted(command: Command) -> bool:
    """Ask whether all entries are meant.

    Raises:
        UsageError: nobody is there to be asked.
    """
    action = command.given.action
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        text = f"This would {action} the codes of all entries: say --yes, or name --users."
        raise UsageError(text)
    progress = command.calls.get("rollouts", command.rollout_id, limit="1")
    states = _CHANGED_STATES[action]
    count = sum(progress["counts"][state] for state in states)
    about = f"all {count} entries that are {' or '.join(states)}"
    return command.screen.ask(f"{action.title()} the codes of {about} in {progress['name']}?")


def _tell_changed(command: Command, made: Sum) -> None:
    screen = command.screen
    screen.tell(f"{made.counts.get('changed', 0)} {_DONE[command.given.action]}")
    if made.missed:
        screen.tell(f"missed, for a phone or somebody else was faster: {len(made.missed)}")
        for sip in made.missed:
            screen.tell(f"  {sip}")


@dataclass
class _News:
    """Tells what has changed since watching began.

    The list of changes may lag, so it is read as far back as it brings news, and the newest page
    always: what comes late is still on it.
    """

    command: Command
    since: datetime | None = None
    told: set[tuple[str, str]] = field(default_factory=set)

    def look(self) -> tuple[Mapping[str, int], list[Mapping[str, Any]]]:
        """Read the counts, and the entries that are news, oldest first."""
        page = self._page(limit=_NEWEST)
        counts: Mapping[str, int] = page["counts"]
        if self.since is None:
            times = [_time(entry) for entry in page["items"]]
            self.since = max(times, default=datetime.min.replace(tzinfo=UTC))
        found: list[Mapping[str, Any]] = []
        while news := [entry for entry in page["items"] if self._is_news(entry, self.since)]:
            self.told |= {_key(entry) for entry in news}
            found += news
            if page["next"] is None:
                break
            page = self._page(limit=_PAGE, cursor=page["next"])
        return counts, found[::-1]

    def _page(self, **query: str) -> dict[str, Any]:
        return self.command.calls.get("rollouts", self.command.rollout_id, **query)

    def _is_news(self, entry: Mapping[str, Any], since: datetime) -> bool:
        return _time(entry) > since and _key(entry) not in self.told


def _watch_in_lines(command: Command) -> int:
    news, shown = _News(command), ""
    while True:
        counts, changes = news.look()
        for entry in changes:
            at, who, state, about = admin_screen.change(entry)
            command.screen.tell(f"{at} {who}: {state}" + (f", {about}" if about else ""))
        if (line := admin_screen.counted(counts)) != shown:
            command.screen.tell(line)
            shown = line
        if not counts["pending"]:
            return 0
        command.pause(command.given.every)


def _time(entry: Mapping[str, Any]) -> datetime:
    return datetime.fromisoformat(entry["changed_at"])


def _key(entry: Mapping[str, Any]) -> tuple[str, str]:
    return entry["sip"], entry["changed_at"]


def _listed(command: Command, *path: str, **query: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    cursor: str | None = ""
    while cursor is not None:
        page = command.calls.get(*path, **query, cursor=cursor)
        found += page["items"]
        cursor = page["next"]
    return found


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)


def _line_fault(fault: Fault) -> str:
    parts = fault.field.split(".", 2)
    if parts[0] != "line" or len(parts) != len(("line", "number", "field")):
        return written(fault)
    return f"line {parts[1]}: {written(Fault(parts[2], fault.message))}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description=__doc__,
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_common(parser, os.environ.get("DIALTONE_URL") or DEFAULT_URL, DEFAULT_TRIES)
    groups = parser.add_subparsers(required=True, metavar="users|rollout|pbx")
    _add_users(groups.add_parser("users", help="the domain's users"))
    _add_rollouts(groups.add_parser("rollout", help="phones for many users"))
    _add_pbx(groups.add_parser("pbx", help="a domain's PBX"))
    return parser


def _add_common(parser: argparse.ArgumentParser, url: str, tries: int | str) -> None:
    """Add what every command takes, before its words or behind them."""
    parser.add_argument("--url", default=url, help="the service, with its stage (DIALTONE_URL)")
    parser.add_argument(
        "--tries",
        type=_whole(1, 100),
        default=tries,
        metavar="N",
        help=f"how often a call is made at most; default: {DEFAULT_TRIES}",
    )


def _add_users(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(required=True, metavar="import|list")
    importing = _add(commands, "import", import_users, "add and change users, of a CSV file")
    importing.add_argument("file", metavar="FILE", help="- for standard input")
    importing.add_argument("--dry-run", action="store_true", help="only tell what would be")
    importing.add_argument("--skip-wrong", action="store_true", help="import the other lines")
    _add(commands, "list", list_users, "list the domain's users")


def _add_rollouts(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add(commands, "options", show_options, "what a rollout can be made of")
    _add(commands, "list", list_rollouts, "list the domain's rollouts, newest first")
    creating = _add(commands, "create", create, "make a rollout; its id alone is the result")
    creating.add_argument("--name", required=True)
    creating.add_argument("--category", required=True, help="see `rollout options`")
    creating.add_argument("--app", default="", help="default: the domain's first")
    creating.add_argument("--note", default="")
    _add_selection(creating, is_required=True)
    adding = _add_one(commands, "add", add, "add users to a rollout; who is there stays")
    _add_selection(adding, is_required=True)
    watching = _add_one(commands, "watch", watch, "show how far it is, until nothing is pending")
    watching.add_argument(
        "--every",
        type=_seconds,
        default=DEFAULT_EVERY_SECONDS,
        metavar="SECONDS",
        help=f"between two looks; default: {DEFAULT_EVERY_SECONDS:.0f}",
    )
    exporting = _add_one(commands, "export", export, "write all codes as CSV")
    exporting.add_argument(
        "--out", metavar="FILE", default=admin_files.STANDARD, help="default: standard output"
    )
    exporting.add_argument("--delimiter", choices=_CSV_DELIMITERS, default="")
    exporting.add_argument("--changed-since", metavar="TIME", default="", help="RFC 3339")
    printing = _add_one(commands, "slips", slips, "write pages to print, a slip for each code")
    printing.add_argument("--out", metavar="DIR", required=True)
    for writing in (exporting, printing):
        writing.add_argument("--force", action="store_true", help="in the place of what is there")
    for action, about in (
        ("extend", "let pending codes live for seven days from now"),
        ("reissue", "issue new codes in place of pending and expired ones"),
        ("revoke", "revoke pending codes"),
    ):
        changing = _add_one(commands, action, change, about)
        changing.set_defaults(action=action)
        _add_selection(changing, is_required=False)
        changing.add_argument("--yes", action="store_true", help="all entries, without asking")
        changing.add_argument("--cursor", default="", help="where to go on with all entries")


def _add_pbx(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(required=True, metavar="show|check|redrive")
    for name, run, about in (
        ("show", admin_pbx.show, "show it, the trouble with it, and which phones wait for it"),
        ("check", admin_pbx.check, "test the connection, step by step; ends with 1 if it fails"),
        ("redrive", admin_pbx.redrive, "let it hear of all the domain's phones once more"),
    ):
        _add(commands, name, run, about).add_argument("domain", metavar="DOMAIN")


def _add(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, run: Run, about: str
) -> argparse.ArgumentParser:
    made = commands.add_parser(
        name,
        help=about,
        description=about,
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.set_defaults(run=run)
    _add_common(made, argparse.SUPPRESS, argparse.SUPPRESS)
    return made


def _add_one(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, run: Run, about: str
) -> argparse.ArgumentParser:
    made = _add(commands, name, run, about)
    made.add_argument("rollout_id", metavar="ID")
    return made


def _add_selection(parser: argparse.ArgumentParser, *, is_required: bool) -> None:
    about = "a CSV as `users import` takes, or a sip a line; - for standard input"
    parser.add_argument("--users", metavar="FILE", required=is_required, help=about)
    parser.add_argument(
        "--chunk",
        type=_whole(1, MAX_USERS),
        default=DEFAULT_CHUNK,
        metavar="N",
        help=f"users in a call, 1 to {MAX_USERS}; default: {DEFAULT_CHUNK}",
    )


def _whole(low: int, high: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not (text.isascii() and text.isdecimal() and low <= int(text) <= high):
            raise argparse.ArgumentTypeError(f"a whole number from {low} to {high}")
        return int(text)

    return number


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 3600:  # noqa: PLR2004 - an hour; nan is not between them
        raise argparse.ArgumentTypeError("a number of seconds, at most 3600")
    return seconds


def main(arguments: list[str] | None = None, pause: Pause = time.sleep) -> int:
    """Run a command.

    Args:
        pause: waits some seconds.

    Returns:
        As --help says.
    """
    given = _parser().parse_args(arguments)
    screen = Screen()
    try:
        token = os.environ.get("DIALTONE_TOKEN", "")
        calls = Calls(given.url, token, screen.say, pause, given.tries)
        run: Run = given.run
        return run(Command(given, calls, screen, pause))
    except AdminError as error:
        screen.say("\n".join((str(error), *getattr(error, "__notes__", ()))))
        return error.exit_code
    except KeyboardInterrupt as interrupt:
        screen.say("\n".join(("Interrupted.", *getattr(interrupt, "__notes__", ()))))
        return INTERRUPTED
    except BrokenPipeError:
        # whoever read the result has gone, and Python would complain once more at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
