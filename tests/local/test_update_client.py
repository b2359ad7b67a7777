import pytest

from local.update_client import CODE, UpdateClient

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
