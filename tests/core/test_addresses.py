import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.core import addresses
from chalicelib.core.errors import Fault

ANYTHING = st.text(max_size=40)


@pytest.mark.parametrize(
    "text",
    [
        "https://d.example",
        "http://d.example/",
        "HTTPS://D.example:8443/a/b.bin?x=1&y=%20",
        "https://192.0.2.1:1",
        "https://[2001:db8::1]:65535/update",
        "https://d.example/" + "x" * (1000 - len("https://d.example/")),
    ],
)
def test_a_whole_url_of_a_scheme_is_one(text: str) -> None:
    """With a host, and any port, path and query."""
    assert addresses.is_url(text, addresses.WEB)
    assert addresses.url_faults("url", text, addresses.WEB) == ()


@pytest.mark.parametrize(
    "text",
    [
        None,
        5,
        ["https://d.example"],
        "",
        "d.example",
        "//d.example/update",
        "https:d.example",
        "https://",
        "https:///update",
        "https://:443/update",
        "ftp://d.example/p",
        "wss://d.example/sysclients",
        "javascript:alert(1)",
        "https://d.example/a b",
        " https://d.example",
        "https://d.example\n",
        "https://d.example/\r\nreset",
        "https://d.example/\u00a0",
        "https://d.example/\u2028reset",
        "https://d.example/\x7f",
        "https://d.example/#m",
        "https://d.example/#",
        "https://user:sesame@d.example/",
        "https://user@d.example/",
        "https://dämon.example/",
        "https://d.example:0/",
        "https://d.example:65536/",
        "https://d.example:port/",
        "https://[2001:db8::1/",
        "https://d.example/" + "x" * (1001 - len("https://d.example/")),
    ],
)
def test_what_is_no_whole_url_is_none(text: object) -> None:
    """The fault says what is wanted, and does not repeat what came."""
    assert not addresses.is_url(text, addresses.WEB)
    assert addresses.url_faults("prot.url", text, addresses.WEB) == (
        Fault("prot.url", "a whole URL (http, https) of at most 1000 characters"),
    )


@pytest.mark.parametrize(
    ("scheme", "is_web"), [("http", True), ("https", True), ("ws", False), ("wss", False)]
)
def test_devices_are_reached_by_four_schemes_and_files_by_two(scheme: str, is_web: bool) -> None:
    """A sysclient's URL is a websocket's."""
    url = f"{scheme}://d.example/x"
    assert addresses.is_url(url, addresses.DEVICES)
    assert addresses.is_url(url, addresses.WEB) is is_web
    assert addresses.is_websocket(url) is not is_web
    assert addresses.is_websocket(url.upper()) is not is_web


@given(st.sampled_from(addresses.DEVICES), ANYTHING, ANYTHING)
def test_a_url_is_one_printable_word(scheme: str, host: str, path: str) -> None:
    """Whatever it is made of, and nothing raises."""
    url = f"{scheme}://{host}/{path}"
    if addresses.is_url(url, addresses.DEVICES):
        assert url.isprintable()
        assert url.split() == [url]
        assert "#" not in url


@given(ANYTHING)
def test_any_text_is_a_url_or_is_not(text: str) -> None:
    """No text without a scheme is one, and none raises."""
    assert addresses.is_url(text, addresses.WEB) == (
        addresses.url_faults("url", text, addresses.WEB) == ()
    )
    assert not addresses.is_url(text, ())


@pytest.mark.parametrize(
    ("text", "is_host"),
    [
        ("time.example.com", True),
        ("pbx-1_a.example.com:1720", True),
        ("192.0.2.1", True),
        ("[2001:db8::1]:123", True),
        ("h" * 253, True),
        ("h" * 254, False),
        ("", False),
        ("two words", False),
        ("host\n", False),
        ("host/path", False),
        ("user@host", False),
        ("1.example,2.example", False),
        ("büro.example", False),
        (None, False),
        (7, False),
    ],
)
def test_a_host_is_a_name_or_an_address(text: object, is_host: bool) -> None:
    """With or without a port, and without anything that a line could end with."""
    assert addresses.is_host(text) is is_host


@pytest.mark.parametrize(
    ("text", "is_domain"),
    [
        ("example.com", True),
        ("Acme", True),
        ("b\u00fcro-1.my_company.example", True),
        ("l" * 63 + ".example", True),
        ("l" * 64 + ".example", False),
        (".".join(["l" * 50] * 5), False),
        ("", False),
        ("Bad Domain!", False),
        ("two..dots", False),
        (".example", False),
        ("example.", False),
        ("-a.example", False),
        ("a-.example", False),
        ("a.example/b", False),
        ("a.example\n", False),
        ("bu\u0308ro.example", False),
    ],
)
def test_a_new_domain_is_called_as_dns_would(text: str, is_domain: bool) -> None:
    """Letters of any language among it, each as one character, so that none looks like another."""
    assert addresses.is_domain(text) is is_domain
