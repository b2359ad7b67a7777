import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.core import names
from chalicelib.core.errors import Fault

UNSEEN = ["\0", "\x7f", "\x85", "\r\n", "\xad", "\u200b", "\u2028", "\u2029", "\u202e", "\ufeff"]


@pytest.mark.parametrize("text", ["Anna", "Büro 2", "می\u200cروم", "क्\u200dष", "\uf8ff", "☎"])
def test_a_name_is_what_people_can_read(text: str) -> None:
    """In any script, with the joiners that some need."""
    assert names.faults("name", text) == ()


@pytest.mark.parametrize("char", UNSEEN)
def test_a_name_has_nothing_that_nobody_sees(char: str) -> None:
    """Two would look the same, one would stand in another's line, or read from its end."""
    message = "without control and invisible characters"
    assert names.faults("name", f"a{char}b") == (Fault("name", message),)


@pytest.mark.parametrize("text", ["", " ", "\u3000\t", "\u200d", "\u2028"])
def test_a_blank_name_is_none(text: str) -> None:
    """Nobody could point at it."""
    assert names.faults("name", text) == (Fault("name", "is missing"),)


@given(st.characters())
def test_a_character_is_judged_by_its_category(char: str) -> None:
    """Whatever Python calls printable is readable."""
    is_unseen = unicodedata.category(char) in {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert names.is_readable(char) is (not is_unseen or char in "\u200c\u200d")
