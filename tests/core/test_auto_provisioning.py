import json
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chalicelib.core import auto_provisioning
from chalicelib.core.auto_provisioning import Claim
from local.update_client import UpdateClient

VECTORS = json.loads((Path(__file__).parents[1] / "vectors.json").read_text())["auto_provisioning"]
SYSCLIENTS = "wss://d.example/example.com/devices/sysclients"
UPDATES = "https://d.example/api/devices/update"
BASES = st.sampled_from([SYSCLIENTS, UPDATES, f"{UPDATES}?site=1&x=%20"])
ANYTHING = st.text(min_size=1, max_size=60)
TRICKY = "#m&#t=%23 +ä/\u2028\r\nconfig add UP1 /url x ☎"


def phone() -> UpdateClient:
    """Make a phone from the factory."""
    return UpdateClient("00-90-33-3d-12-34", "IP232", "10.0.0.7", "https://factory.example/init")


def told(url: str) -> dict[str, list[str]]:
    """Read a URL's query, and say that the URL is fit to be sent as it is."""
    assert url.isascii()
    assert url.isprintable()
    assert " " not in url
    return parse_qs(url.partition("?")[2], strict_parsing=True)


@pytest.mark.parametrize("vector", VECTORS)
def test_the_vendors_example_comes_out_letter_by_letter(vector: dict[str, str]) -> None:
    """Each value encoded, then the whole URL once more."""
    claim = Claim(vector["domain"], vector["token"], vector["category"])
    url = auto_provisioning.url(vector["devices_url"], claim)
    assert url == vector["url"]
    assert f"token={vector['encoded_token']}&category={vector['encoded_category']}" in url
    assert auto_provisioning.config_line(url).text == vector["config_line"]


def test_the_vendors_example_is_there() -> None:
    """A comparison with nothing would hold, too."""
    assert [vector["token"] for vector in VECTORS] == ["abcdef#XYZ"]


@given(BASES, ANYTHING, ANYTHING, ANYTHING)
@example(SYSCLIENTS, TRICKY, TRICKY, TRICKY)
def test_two_decodings_give_a_sysclients_values_back(
    base: str, domain: str, token: str, category: str
) -> None:
    """One by the phone's configuration and one by the reader of the query, whatever they are."""
    url = auto_provisioning.url(base, Claim(domain, token, category))
    config, change, module, value, flag = auto_provisioning.config_line(url).text.split(" ")
    assert (config, change, module, flag) == ("config", "change", "SYSCLIENT", "/sysadmin")
    assert unquote(value) == url
    own = told(url)
    assert (own["domain"], own["token"], own["category"]) == ([domain], [token], [category])
    assert url.startswith(base)


@given(BASES, ANYTHING, ANYTHING, ANYTHING)
@example(UPDATES, TRICKY, TRICKY, TRICKY)
def test_two_decodings_give_an_update_clients_values_back(
    base: str, domain: str, token: str, category: str
) -> None:
    """Beside what the phone fills in at each call."""
    url = auto_provisioning.url(base, Claim(domain, token, category))
    config, add, module, name, value = auto_provisioning.update_client_line(url).text.split(" ")
    assert (config, add, module, name) == ("config", "add", "UP1", "/url")
    assert unquote(value) == f"{url}&sn=#m&type=#t&hwid=#h&ip=#i"
    own = told(unquote(value))
    assert (own["domain"], own["token"], own["category"]) == ([domain], [token], [category])


@given(ANYTHING, ANYTHING)
@example("#m#t#h#i", "#m")
def test_a_phone_fills_in_who_it_is_and_nothing_of_the_values(token: str, category: str) -> None:
    """A token that looks like a placeholder arrives as it was chosen."""
    url = auto_provisioning.url(UPDATES, Claim("example.com", token, category))
    client = phone()
    script = auto_provisioning.script(auto_provisioning.update_client_line(url))
    client.execute(script, hour=12)
    asked = told(client.url())
    assert asked["sn"] == ["00-90-33-3d-12-34"]
    assert asked["type"] == ["IP232"]
    assert (asked["token"], asked["category"]) == ([token], [category])
    assert client.faults == []


@given(ANYTHING, ANYTHING)
@example(TRICKY, TRICKY)
def test_a_phone_keeps_the_sysclients_url_whole(token: str, category: str) -> None:
    """What it shows afterwards is the URL of the sheet, over a restart, and nothing else of us."""
    url = auto_provisioning.url(SYSCLIENTS, Claim("example.com", token, category))
    client = phone()
    client.pending["UP1"] |= {"/provision": "10", "/provisioning": "https://central.example"}
    client.execute(auto_provisioning.script(auto_provisioning.config_line(url)), hour=12)
    assert client.faults == []
    assert client.written == client.active
    assert client.active["SYSCLIENT"] == {"": url, "/sysadmin": ""}
    assert set(client.active["UP1"]) == {"/url", "/no-dhcp"}


def test_a_sheets_script_is_the_line_and_the_clean_up() -> None:
    """Whole, so that it can stand on an update server as it is."""
    url = auto_provisioning.url(SYSCLIENTS, Claim("example.com", "abcdef#XYZ", "Office"))
    line = auto_provisioning.config_line(url)
    assert auto_provisioning.script(line) == (
        "# dialtone: automatic provisioning\r\n"
        "# inferred (sysclient):\r\n"
        f"{line.text}\r\n"
        "config rem UP1 /provision\r\n"
        "config rem UP1 /provisioning\r\n"
        "config add UP1 /no-dhcp\r\n"
        "config write\r\n"
        "config activate\r\n"
    )


def test_a_base_with_a_query_keeps_it() -> None:
    """The values are added to it."""
    claim = Claim("example.com", "t", "c")
    own = "domain=example.com&token=t&category=c"
    assert auto_provisioning.url(UPDATES, claim) == f"{UPDATES}?{own}"
    assert auto_provisioning.url(f"{UPDATES}?site=1", claim) == f"{UPDATES}?site=1&{own}"


def test_nothing_but_letters_digits_and_four_marks_stays_in_a_value() -> None:
    """A slash is encoded, too, and a space is no plus."""
    url = auto_provisioning.url(UPDATES, Claim("a/b", "c+d ?:@&=%#", "~_-.ä"))
    assert url == (
        f"{UPDATES}?domain=a%2Fb&token=c%2Bd%20%3F%3A%40%26%3D%25%23&category=~_-.%C3%A4"
    )


@given(st.dictionaries(st.sampled_from(["domain", "token", "category", "code"]), st.text()))
def test_a_claim_is_all_three_or_none(query: dict[str, str]) -> None:
    """Nobody registers with a part of what the domain demands."""
    claim = auto_provisioning.read_claim(query)
    given_values = [query.get(name, "") for name in ("domain", "token", "category")]
    assert claim == (Claim(*given_values) if all(given_values) else None)


@pytest.mark.parametrize("missing", ["domain", "token", "category"])
def test_a_claim_without_one_of_the_three_is_none(missing: str) -> None:
    """Missing or empty is the same."""
    query = {"domain": "example.com", "token": "abcdef#XYZ", "category": "Office"}
    assert auto_provisioning.read_claim(query) == Claim("example.com", "abcdef#XYZ", "Office")
    assert auto_provisioning.read_claim({**query, missing: ""}) is None
    del query[missing]
    assert auto_provisioning.read_claim(query) is None


def test_a_claim_does_not_show_its_token() -> None:
    """Neither in a log nor in a trace."""
    assert "sesame" not in repr(Claim("example.com", "sesame", "Office"))


@pytest.mark.parametrize(
    ("token", "is_good"),
    [
        ("t" * 9, False),
        ("t" * 10, True),
        ("t" * 200, True),
        ("t" * 201, False),
        ("ten spaces and a ☎", True),
        ("ten letters\n", False),
        ("no\u00a0break space", False),
        ("", False),
    ],
)
def test_a_token_is_ten_to_two_hundred_printable_characters(token: str, is_good: bool) -> None:
    """The fault tells both limits and never the token."""
    faults = auto_provisioning.token_faults(token)
    assert [(fault.field, fault.message) for fault in faults] == (
        [] if is_good else [("token", "10 to 200 printable characters")]
    )


@pytest.mark.parametrize(
    ("token", "is_weak"),
    [
        ("", True),
        ("aaaaaaaaaaaaaaaaaaaa", True),
        ("1234567890", True),
        ("12345678901234567890", False),
        ("1234567890123456789", True),
        ("abcdefghijkl", True),
        ("abcdefghijklmn", False),
        ("ABCDEFGHIJKL", True),
        ("ABCDEFGHIJKLMN", False),
        ("aBcDeFgHiJk", True),
        ("aBcDeFgHiJkL", False),
        ("!#$%&/()=?*+", True),
        ("!#$%&/()=?*+-", False),
        ("ababababababababababababababab1!", True),
        ("abcdeabcdeabcdeabcde", True),
        ("abcdefabcdefabcdefabcdef", False),
        ("abcdef#XYZ", False),
        ("Correct horse", False),
        ("dGhlIG1vc3QgcmFuZG9tIG9mIGFsbCB0b2tlbnMgISE", False),
        ("電話電話電話番号登録受付", True),
    ],
)
def test_a_token_that_could_be_guessed_is_weak(token: str, is_weak: bool) -> None:
    """Too few characters for their kinds, or too few different ones."""
    assert auto_provisioning.is_weak(token) is is_weak


@given(st.text(min_size=10, max_size=60), ANYTHING)
def test_more_characters_never_weaken_a_token(token: str, more: str) -> None:
    """Whatever is added."""
    if not auto_provisioning.is_weak(token):
        assert not auto_provisioning.is_weak(token + more)


def test_the_warning_is_of_the_two_mistakes() -> None:
    """A browser decodes once too often, and a URL with spaces shows it."""
    assert "web browser" in auto_provisioning.WARNING
    assert "without spaces" in auto_provisioning.WARNING


def test_a_url_decoded_once_too_often_is_not_the_same() -> None:
    """That is why the sheet tells people to compare."""
    url = auto_provisioning.url(SYSCLIENTS, Claim("example.com", "abcdef#XYZ", "IP Phone"))
    value = auto_provisioning.config_line(url).text.split(" ")[3]
    assert unquote(unquote(value)) != url
    assert " " in unquote(unquote(value))
    assert quote(url, safe="") == value
