import pytest

from tests.http.administration import phone
from tests.http.service import Caller


@pytest.mark.parametrize("name", ["show-code-form", "v12-cleanup"])
def test_an_administrator_gets_a_script_that_a_phone_runs(caller: Caller, name: str) -> None:
    """As plain text, that nobody keeps, without a fault."""
    answer = caller.call("GET", f"/scripts/{name}", user="admin")
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    client = phone()
    client.execute(answer.text, hour=12)
    assert client.faults == []
    assert client.shows_code_form == (name == "show-code-form")


def test_the_v12_clean_up_is_the_articles_four_lines(caller: Caller) -> None:
    """In its order."""
    script = caller.call("GET", "/scripts/v12-cleanup", user="platform").text
    assert [line for line in script.splitlines() if not line.startswith("#")] == [
        "config rem UP1 /provisioning",
        "config rem UP1 /provision",
        "config write",
        "config activate",
    ]


def test_the_line_for_a_phones_browser_stands_beside_the_form(caller: Caller) -> None:
    """As a comment, so that the script runs as it is."""
    script = caller.call("GET", "/scripts/show-code-form", user="admin").text
    form = "vars create UPDATE/PROVISIONING-CODE h prompt"
    assert f"# in the phone's browser: http://PHONE/!{form}" in script.splitlines()
    assert script.splitlines()[-1] == form
