from urllib.parse import parse_qsl, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.core import scripts
from local.update_client import UpdateClient

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
        (
            "http://d.example/u?x=1",
            "config add UP1 /url http%3A%2F%2Fd.example%2Fu%3Fx%3D1%26sn%3D%23m%26type%3D%23t"
            "%26hwid%3D%23h%26ip%3D%23i",
        ),
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


PHONE = "sn=#m&type=#t&hwid=#h&ip=#i"


def told(url: str) -> str:
    """Say what a phone is given for a URL: its own query and the placeholders; no fragment."""
    plain = url.split("#", maxsplit=1)[0].rstrip("?")
    return f"{plain}{'&' if '?' in plain else '?'}{PHONE}"


def test_a_url_with_a_query_of_its_own_still_says_which_phone_it_is() -> None:
    """Nothing of ours is lost, and nothing of theirs: a phone without its MAC gets no job."""
    url = scripts.identified("https://d.example/u?site=1", device_token="secret")
    assert url == f"https://d.example/u?site=1&{PHONE}&device_token=secret"


SCHEMES = st.sampled_from(["http", "https", "ws", "wss", "WSS", "Https"])


@given(SCHEMES, ANYTHING)
def test_no_devices_url_can_begin_a_line(scheme: str, path: str) -> None:
    """Whatever stands in it, the way to Devices has six commands, and the URL comes back whole."""
    url = f"{scheme}://d.example/{path}"
    pointer, *rest = lines(scripts.to_devices(url))
    words = pointer.split(" ")
    assert len(rest) == 5
    assert len(words) == 5
    if scheme.lower() in {"ws", "wss"}:
        assert words[:3] == ["config", "change", "SYSCLIENT"]
        assert words[4] == "/sysadmin"
        assert unquote(words[3]) == url
    else:
        assert words[:4] == ["config", "add", "UP1", "/url"]
        assert unquote(words[4]) == told(url)


@given(ANYTHING)
def test_no_secure_url_can_begin_a_line(path: str) -> None:
    """Moving a phone to https takes three commands before the form, whatever our URL is."""
    url = f"https://d.example/{path}"
    moved = lines(scripts.code_form(url))
    assert [line.split(" ")[0] for line in moved] == ["config", "config", "config", "vars"]
    assert unquote(moved[0].split(" ")[4]) == told(url)


@given(st.dictionaries(st.text("abcdefgh_", min_size=1), ANYTHING, max_size=3))
def test_what_identifies_a_phone_can_be_read_back(parameters: dict[str, str]) -> None:
    """The placeholders come first and stay as they are; every value of ours comes back."""
    start, _, own = scripts.identified(URL, **parameters).partition("#i")
    assert start == f"{URL}?sn=#m&type=#t&hwid=#h&ip="
    assert dict(parse_qsl(own, keep_blank_values=True)) == parameters
    assert bool(own) == bool(parameters)


@given(ANYTHING)
def test_a_url_in_a_command_stays_one_word(url: str) -> None:
    """What is legal in a URL stays as it is, everything else is encoded and comes back."""
    written = scripts.argument(url)
    assert written.isascii()
    assert written.isprintable()
    assert " " not in written
    assert unquote(written) == unquote(url)


def test_a_url_in_a_command_is_not_encoded_twice() -> None:
    """Every character that a URL may hold stays, what is encoded too."""
    url = "https://f.example:8443/a%20b/~x_y-z.bin?v=1&w=(2)*!$',;+#[@]"
    assert scripts.argument(url) == url


@given(st.lists(ANYTHING, max_size=3), st.text("0123456789abcdef", min_size=1), st.booleans())
def test_a_script_has_as_many_commands_as_its_parts(
    urls: list[str], serial: str, registers: bool
) -> None:
    """Firmware, then a check and what it guards, then write and activate; no line more."""
    firmware = [scripts.load("prot", url, "1") for url in urls]
    token_url = scripts.identified(URL, device_token="secret") if registers else None
    script = scripts.for_device(firmware, [scripts.poll_interval(5)], serial, token_url=token_url)
    guarded = 3 if registers else 1
    assert len(lines(script)) == len(urls) + 1 + guarded + 2
    assert lines(script)[len(urls)] == f"mod cmd UP1 check ser {serial}"
    assert lines(script)[-2:] == ["config write", "config activate"]


def test_a_script_says_what_it_is_for() -> None:
    """Its first line is a comment that people read in the phone's trace."""
    load = scripts.load("prot", "https://f.example/p", "1")
    assert [script.split("\r\n")[0] for script in ALL_SCRIPTS] == [
        "# dialtone: type the provisioning code",
        "# dialtone: on to Devices",
        "# dialtone: nothing to do",
        "# dialtone: come back later",
    ]
    assert scripts.for_device([load], [], "1").startswith("# dialtone: jobs\r\n")
    assert scripts.for_device([], [], "1", token_url=URL).startswith("# dialtone: jobs\r\n")


ALL_SCRIPTS = (
    scripts.code_form(None),
    scripts.to_devices(URL),
    scripts.for_device([], [], "1"),
    scripts.comment("come back later"),
)


@pytest.mark.parametrize(
    ("line", "is_inferred"),
    [
        (scripts.FORGET_CODE, True),
        (scripts.guard("1"), True),
        (scripts.sysclient("wss://d.example"), True),
        (scripts.WRITE, False),
        (scripts.ACTIVATE, False),
        (scripts.IGNORE_DHCP, False),
        (scripts.update_client(URL), False),
        (scripts.poll_interval(5), False),
        (scripts.load("boot", URL, "1"), False),
    ],
)
def test_a_line_is_announced_exactly_when_it_is_inferred(
    line: scripts.Line, is_inferred: bool
) -> None:
    """As docs/update-client.md has it; the announcement names the row and is a comment."""
    written = scripts.render("test", [line]).split("\r\n")
    announced = [f"# inferred ({line.source}):"] if is_inferred else []
    assert written == ["# dialtone: test", *announced, line.text, ""]


def phone() -> UpdateClient:
    """Make a phone from the factory."""
    return UpdateClient("00-90-33-3d-12-34", "IP232", "10.0.0.7", "https://factory.example/init")


def test_the_code_form_can_be_shown_again() -> None:
    """By an update script, or in a phone's browser by the line with a bang, which is a comment."""
    script = scripts.show_code_form()
    assert script == (
        "# dialtone: show the code form\r\n"
        "# in the phone's browser: http://PHONE/!vars create UPDATE/PROVISIONING-CODE h prompt\r\n"
        "vars create UPDATE/PROVISIONING-CODE h prompt\r\n"
    )
    client = phone()
    client.execute(script, hour=12)
    assert client.shows_code_form
    assert client.faults == []


def test_a_v12_update_server_sends_four_lines() -> None:
    """As the concept article has them; without restart, and nothing else of the phone changes."""
    script = scripts.v12_clean_up()
    assert lines(script) == [
        "config rem UP1 /provisioning",
        "config rem UP1 /provision",
        "config write",
        "config activate",
    ]
    client = phone()
    before = client.active["UP1"].copy()
    for configuration in (client.pending, client.written, client.active):
        configuration["UP1"] |= {"/provision": "10", "/provisioning": "https://central.example"}
    client.execute(script, hour=12)
    assert client.pending == client.written == client.active == {"UP1": before}
    assert client.faults == []


@given(
    st.dictionaries(st.sampled_from(["/addr", "/tz", "/pwd"]), ANYTHING, min_size=1),
)
def test_options_are_as_many_words_as_their_names_and_values(values: dict[str, str]) -> None:
    """In one line, in their order; each value decodes to itself."""
    line = scripts.options("NTP0", "time", values)
    config, add, module, *words = line.text.split(" ")
    assert (config, add, module) == ("config", "add", "NTP0")
    assert words[::2] == list(values)
    assert [unquote(word) for word in words[1::2]] == list(values.values())
    assert (line.source, line.is_inferred) == ("time", True)


def test_a_variable_is_kept_with_all_its_words() -> None:
    """Its value is the rest of the line, as it stands."""
    line = scripts.variable("GREETING", "Grüß Gott #m %20")
    assert line.text == "vars create GREETING p Grüß Gott #m %20"
    client = phone()
    client.execute(scripts.render("test", [line]), hour=12)
    assert client.variables == {"GREETING": "Grüß Gott #m %20"}


def test_a_fragment_is_no_part_of_what_a_phone_asks() -> None:
    """A phone would take it for a placeholder; our own parameters are behind what is left."""
    own = f"{PHONE}&device_token=s"
    assert scripts.identified(f"{URL}#frag", device_token="s") == f"{URL}?{own}"
    assert scripts.identified(f"{URL}?a=1#f?b=2", device_token="s") == f"{URL}?a=1&{own}"
