from urllib.parse import quote

import pytest

from local.update_client import CODE, UpdateClient, written_lines

URL = "http://127.0.0.1:8000/init"


@pytest.fixture
def client() -> UpdateClient:
    """Return a phone from the factory."""
    return UpdateClient("00-90-33-3d-12-34", "IP232", "127.0.0.1", URL)


def effects(client: UpdateClient, *lines: str, hour: int = 12) -> list[str]:
    """Run lines and tell what each did."""
    return [step.effect for step in client.execute("\r\n".join(lines), hour)]


def test_a_poll_tells_who_and_what_the_phone_is(client: UpdateClient) -> None:
    """Placeholders filled in, variables appended; the code only when there is one."""
    assert client.url().startswith(
        f"{URL}?mac=00-90-33-3d-12-34&type=IP232&hwid=IP232-30-00-af&localip=127.0.0.1&ver="
    )
    assert client.url().endswith("&PROT=130100&BOOT=130100&CHECK=")
    effects(client, "vars create UPDATE/PROVISIONING-CODE h prompt")
    assert client.url().endswith("&PROVISIONING-CODE=prompt")
    client.type_code("1234 5678 9012#")
    assert client.url().endswith("&PROVISIONING-CODE=1234%205678%209012")
    own = UpdateClient("00-90-33-3d-12-34", "IP232", "127.0.0.1", f"{URL}?x=1")
    assert own.url().startswith(f"{URL}?x=1&ver=")


def test_configuration_counts_when_it_is_activated(client: UpdateClient) -> None:
    """Values are decoded; what was not written is gone after a restart."""
    effects(client, "config add UP1 /url http%3A%2F%2Fx%2F%3Fa%3D1 /poll 5")
    assert client.active["UP1"]["/url"].startswith(URL)
    effects(client, "config activate")
    assert client.active["UP1"] == {"/url": "http://x/?a=1", "/poll": "5"}
    effects(client, "iresetn")
    assert client.active["UP1"]["/poll"] == "5"
    effects(client, "mod cmd UP0 boot http://f/b.bin iresetn 131286")
    assert client.active["UP1"]["/url"].startswith(URL)
    effects(client, "config add UP1 /no-dhcp", "config write")
    effects(client, "mod cmd UP0 prot http://f/p.bin ser 134250", "iresetn")
    assert "/no-dhcp" in client.active["UP1"]


def test_change_replaces_add_merges_rem_removes(client: UpdateClient) -> None:
    """The three ways to configure a module."""
    lines = (
        "config change SYSCLIENT wss%3A%2F%2Fx%2Fsysclients /sysadmin",
        "config add SYSCLIENT /more 1",
        "config change SYSCLIENT wss%3A%2F%2Fy /sysadmin",
    )
    effects(client, *lines)
    assert client.pending["SYSCLIENT"] == {"": "wss://y", "/sysadmin": ""}
    assert effects(client, "config rem SYSCLIENT /sysadmin", "config rem X /y") == [
        "/sysadmin removed",
        "/y was not set",
    ]


def test_a_check_runs_the_rest_once(client: UpdateClient) -> None:
    """The serial is kept when the script is through, and stops it the next time."""
    script = ("mod cmd UP1 check ser 7", "vars create A p 1")
    assert effects(client, *script) == ["new: go on", "kept (p)"]
    assert client.variables["UPDATE/CHECK"] == "7"
    assert effects(client, *script) == ["has been run: stop"]


def test_a_check_after_a_stop_is_not_finished(client: UpdateClient) -> None:
    """A guard further down that stops the script leaves no serial."""
    effects(
        client, "mod cmd UP1 check ireset 7", "mod cmd UP1 times /allow 3", "vars del A", hour=4
    )
    assert "UPDATE/CHECK" not in client.variables


def test_times_let_only_their_hours_through(client: UpdateClient) -> None:
    """A factory-new phone is exempt when it is given its first minutes."""
    line = "mod cmd UP1 times /allow 3,4"
    assert effects(client, line, hour=4) == ["now is the time"]
    assert effects(client, line, "vars del A", hour=5) == ["not now: stop"]
    assert effects(client, f"{line} /initial 5", hour=5) == ["now is the time"]
    client.variables["UPDATE/CHECK"] = "1"
    assert effects(client, f"{line} /initial 5", hour=5) == ["not now: stop"]
    assert effects(client, "mod cmd UP1 times /initial 5", hour=5) == ["now is the time"]


def test_firmware_is_flashed_only_when_it_differs(client: UpdateClient) -> None:
    """And then runs, after a restart that loses what was not written."""
    effects(client, "config add UP1 /poll 1", "mod cmd UP0 prot http://f/p.bin ireset 134250")
    assert client.running == {"prot": "134250", "boot": "130100"}
    assert "/poll" not in client.active["UP1"]
    assert effects(client, "mod cmd UP0 prot http://f/p.bin ireset 134250") == [
        "134250 is running already"
    ]


def test_variables_are_kept_and_forgotten(client: UpdateClient) -> None:
    """The code's own variable is the form."""
    assert effects(client, f"vars create {CODE} h prompt") == ["the display asks for the code"]
    assert client.shows_code_form
    assert effects(client, f"vars del {CODE}", f"vars del {CODE}") == ["forgotten", "was not set"]
    effects(client, "mod cmd UP1 setvar r-type x y", "mod cmd UP1 provision 3")
    assert client.variables["r-type"] == "x y"
    assert client.pending["UP1"]["/provision"] == "3"


def test_what_is_not_understood_is_remembered(client: UpdateClient) -> None:
    """And does not keep the rest from running; empty lines and comments do nothing."""
    lines = ("launch rockets", "config sing", "", "# comment", "vars create A p 1")
    assert effects(client, *lines) == ["not understood", "not understood", "", "kept (p)"]
    assert client.faults == ["launch rockets", "config sing"]


def command(client: UpdateClient, line: str, hour: int = 12) -> str:
    """Run a single command and tell what it did."""
    return client.command(line, hour).effect


def test_a_single_command_does_what_it_does_in_a_script(client: UpdateClient) -> None:
    """One command, whatever ends of line are in it; an empty line and a comment do nothing."""
    assert command(client, "config add UP1 /poll 5") == "UP1 changed"
    assert command(client, "config write\nconfig activate") == "not understood"
    assert (command(client, " "), command(client, "# comment")) == ("", "")
    assert "/poll" not in client.active["UP1"]
    assert command(client, "config activate") == "in force"
    assert client.active["UP1"]["/poll"] == "5"


def test_a_single_check_is_through_at_once(client: UpdateClient) -> None:
    """It keeps the serial and does its final command; a guard stops nothing."""
    assert command(client, "mod cmd UP1 check ireset 7") == "new: go on"
    assert client.variables["UPDATE/CHECK"] == "7"
    assert client.wants_reset
    assert command(client, "mod cmd UP1 check ser 7") == "has been run: stop"
    assert command(client, "mod cmd UP1 times /allow 3") == "not now: stop"


@pytest.mark.parametrize(
    ("line", "is_wanted", "is_wanted_now"),
    [
        ("ireset", True, False),
        ("reset", True, True),
        ("iresetn", False, False),
        ("resetn", False, False),
        ("mod cmd UP0 prot http://f/p.bin ser 134250", False, False),
        ("mod cmd UP0 prot http://f/p.bin iresetn 134250", True, False),
        ("mod cmd UP0 prot http://f/p.bin resetn 134250", True, True),
        ("mod cmd UP0 prot http://f/p.bin reset 130100", False, False),
    ],
)
def test_a_restart_is_left_to_whoever_ran_the_command(
    client: UpdateClient, line: str, is_wanted: bool, is_wanted_now: bool
) -> None:
    """When idle, or now; what was not written is gone only then."""
    command(client, "config add X /y z")
    command(client, line)
    assert (client.wants_reset, client.wants_reset_now) == (is_wanted, is_wanted_now)
    assert "X" in client.pending
    client.restart()
    assert (client.wants_reset, client.wants_reset_now) == (False, False)
    assert "X" not in client.pending
    assert command(client, "iresetn") == "no restart is needed"


def test_the_sysclient_has_a_url_once_one_is_in_force(client: UpdateClient) -> None:
    """Decoded once, spaces of its values still encoded; only a websocket's."""
    url = "wss://x/d/devices/sysclients?domain=d&token=a%23b&category=c%20d"
    effects(client, "config change SYSCLIENT " + quote(url, safe="") + " /sysadmin")
    assert client.sysclient_url == ""
    effects(client, "config activate")
    assert client.sysclient_url == url
    for wrong in ("http%3A%2F%2Fx", "wss%3A%2F%2Fx%2Fa%20b", "wss%3A%2F%2Fx more", ""):
        effects(client, f"config change SYSCLIENT {wrong} /sysadmin", "config activate")
        assert client.sysclient_url == ""


def test_the_code_is_what_was_typed(client: UpdateClient) -> None:
    """And not what asks for it."""
    assert client.provisioning_code == ""
    effects(client, f"vars create {CODE} h prompt")
    assert client.provisioning_code == ""
    client.type_code("123456789012#")
    assert client.provisioning_code == "123456789012"


def test_written_lines_make_the_same_configuration(client: UpdateClient) -> None:
    """Values encoded, the word before the options first."""
    effects(client, "config change A /x 1%202 /y", "config add A b%2Fc", "config rem UP1 /url")
    assert written_lines(client.pending) == [
        "config change UP1",
        "config change A b%2Fc /x 1%202 /y",
    ]
    again = UpdateClient("00-90-33-3d-12-35", "IP232", "127.0.0.1", URL)
    effects(again, *written_lines(client.pending))
    assert again.pending == client.pending
