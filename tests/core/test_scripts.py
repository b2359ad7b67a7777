from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.core import scripts

ANYTHING = st.text(max_size=60)
URL = "https://dialtone.example/api/devices/update"


def lines(script: str) -> list[str]:
    """Read a script as a phone does: commands alone."""
    assert script.endswith("\r\n")
    read = script.removesuffix("\r\n").split("\r\n")
    assert all(line.isprintable() for line in read)
    return [line for line in read if not line.startswith("#")]


def test_the_form_is_one_line() -> None:
    """A phone without a code is asked for it, and nothing else happens to it."""
    assert lines(scripts.code_form(None)) == ["vars create UPDATE/PROVISIONING-CODE h prompt"]


def test_a_phone_that_came_in_clear_is_moved_before_it_is_asked() -> None:
    """A code never travels in clear."""
    assert lines(scripts.code_form("https://d.example/api/init")) == [
        "config add UP1 /url https%3A%2F%2Fd.example%2Fapi%2Finit%3Fsn%3D%23m%26type%3D%23t"
        "%26hwid%3D%23h%26ip%3D%23i",
        "config write",
        "config activate",
        "vars create UPDATE/PROVISIONING-CODE h prompt",
    ]


@pytest.mark.parametrize(
    ("url", "pointer"),
    [
        (
            "https://d.example/update",
            "config add UP1 /url https%3A%2F%2Fd.example%2Fupdate%3Fsn%3D%23m%26type%3D%23t"
            "%26hwid%3D%23h%26ip%3D%23i",
        ),
        ("http://d.example/u?x=1", "config add UP1 /url http%3A%2F%2Fd.example%2Fu%3Fx%3D1"),
        (
            "wss://d.example/example.com/devices/sysclients",
            "config change SYSCLIENT "
            "wss%3A%2F%2Fd.example%2Fexample.com%2Fdevices%2Fsysclients /sysadmin",
        ),
    ],
)
def test_the_scheme_of_the_devices_url_decides_how_a_phone_is_sent_on(
    url: str, pointer: str
) -> None:
    """HTTP makes it the update client's URL, a websocket the sysclient's; then clean-up."""
    assert lines(scripts.to_devices(url)) == [
        pointer,
        "config rem UP1 /provision",
        "config rem UP1 /provisioning",
        "config add UP1 /no-dhcp",
        "config write",
        "config activate",
    ]


def test_a_registration_brings_firmware_then_configuration_then_the_token() -> None:
    """The order of the design, with the code forgotten and everything kept at the end."""
    script = scripts.for_device(
        [scripts.load("prot", "https://f.example/ip232.bin", "134250")],
        [scripts.poll_interval(5)],
        "serial1",
        token_url=scripts.identified(URL, device_token="secret"),
    )
    assert [line.split(" ")[:4] for line in lines(script)] == [
        ["mod", "cmd", "UP0", "prot"],
        ["mod", "cmd", "UP1", "check"],
        ["config", "add", "UP1", "/poll"],
        ["config", "add", "UP1", "/url"],
        ["vars", "del", "UPDATE/PROVISIONING-CODE"],
        ["config", "write"],
        ["config", "activate"],
    ]
    assert unquote(lines(script)[3].split(" ")[4]).endswith("&device_token=secret")


def test_nothing_to_do_is_a_comment() -> None:
    """An idle poll brings no command."""
    assert lines(scripts.for_device([], [], "serial1")) == []
    assert lines(scripts.comment("come back later")) == []


def test_firmware_alone_needs_no_guard() -> None:
    """Loading has a guard of its own: the build."""
    script = scripts.for_device([scripts.load("boot", "https://f/b.bin", "1")], [], "serial1")
    assert lines(script) == ["mod cmd UP0 boot https://f/b.bin iresetn 1"]


def test_inferred_lines_say_so() -> None:
    """What the vendor does not document is announced in the script itself."""
    script = scripts.to_devices("wss://d.example/sysclients").split("\r\n")
    position = next(n for n, line in enumerate(script) if "SYSCLIENT" in line)
    assert script[position - 1] == "# inferred (sysclient):"


@given(ANYTHING, ANYTHING, ANYTHING, ANYTHING)
def test_no_parameter_can_begin_a_line(url: str, build: str, serial: str, token: str) -> None:
    """Whatever comes in, the number of lines and words is ours, and options decode again."""
    script = scripts.for_device(
        [scripts.load("prot", url, build)],
        [],
        serial,
        token_url=scripts.identified(URL, device_token=token),
    )
    words = [line.split(" ") for line in lines(script)]
    assert [len(line) for line in words] == [7, 6, 5, 3, 2, 2]
    assert unquote(words[0][6]) == build
    assert unquote(words[1][5]) == serial


@given(ANYTHING)
def test_an_option_decodes_to_itself(value: str) -> None:
    """What a phone decodes is what we meant, in one word."""
    assert unquote(scripts.option(value)) == value
    assert set(scripts.option(value)).isdisjoint(" \r\n/#&?")
