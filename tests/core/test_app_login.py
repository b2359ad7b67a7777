import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.core.app_login import Login, digest, raw_member

VECTORS = json.loads((Path(__file__).parents[1] / "vectors.json").read_text())["app_login"]
NAMES = st.sampled_from(["info", "mt", "a:b", "größe", '"', "\\", ""]) | st.text(max_size=5)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)
SPACES = st.text(" \t\n\r", max_size=3)


def spelt(draw: st.DrawFn, value: object) -> str:
    """Spell a value as some client may: any whitespace around it, escapes or none."""
    if isinstance(value, dict):
        members = [f"{spelt(draw, name)}:{spelt(draw, inner)}" for name, inner in value.items()]
        text = f"{{{','.join(members) or draw(SPACES)}}}"
    elif isinstance(value, list):
        text = f"[{','.join(spelt(draw, inner) for inner in value) or draw(SPACES)}]"
    else:
        text = json.dumps(value, ensure_ascii=draw(st.booleans()))
    return f"{draw(SPACES)}{text}{draw(SPACES)}"


@st.composite
def texts(draw: st.DrawFn) -> str:
    """Write a JSON object, some of whose names may come twice."""
    members = draw(st.lists(st.tuples(NAMES, VALUES), max_size=5))
    spellings = [f"{spelt(draw, name)}:{spelt(draw, value)}" for name, value in members]
    return f"{draw(SPACES)}{{{','.join(spellings) or draw(SPACES)}}}{draw(SPACES)}"


def login(vector: dict[str, Any]) -> Login:
    """Make the login of a vector."""
    return Login(
        **{name: vector[name] for name in ("app", "domain", "sip", "guid", "dn", "digest", "info")}
    )


@pytest.mark.parametrize("vector", VECTORS)
def test_digests_are_those_of_the_vendor(vector: dict[str, Any]) -> None:
    """Each of the examples, and another for any other challenge or password."""
    said = login(vector)
    assert digest(said, vector["challenge"], vector["password"]) == said.digest
    assert digest(said, "0" * 16, vector["password"]) != said.digest
    assert digest(said, vector["challenge"], "another") != said.digest


def test_a_digest_tells_an_empty_info_from_none() -> None:
    """The two first examples differ in nothing else."""
    bare, empty = VECTORS[:2]
    assert (bare["info"], empty["info"]) == (None, "{}")
    assert {**bare, "info": "{}", "digest": empty["digest"]} == empty
    assert bare["digest"] != empty["digest"]


def test_a_login_does_not_show_its_digest() -> None:
    """Nor does a text that JSON can spell and UTF-8 cannot break it."""
    assert "a205" not in repr(login(VECTORS[0]))
    assert len(digest(Login(app="\ud800"), "1" * 16, "pwd")) == 64


@given(texts())
def test_any_member_is_cut_out_as_it_was_spelt(text: str) -> None:
    """What is cut out stands in the text, and says what readers of JSON read there."""
    for name, value in {**json.loads(text), "missing name": None}.items():
        raw = raw_member(text, name)
        if value is None:
            assert raw is None
        else:
            assert raw is not None
            assert raw in text
            assert raw == raw.strip()
            assert json.loads(raw) == value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"info":{}}', "{}"),
        ('{"info": { "b" : 1.0, "a":"\\u00fc" } , "x":1}', '{ "b" : 1.0, "a":"\\u00fc" }'),
        ('{"\\u0069nfo":1e2}', "1e2"),
        ('{"info":1,"info":2}', "2"),
        ('{"info":1,"info":null}', None),
        ('{"info":null,"info":1}', "1"),
        ('{"info":null}', None),
        ('{"x":{"info":1}}', None),
        ('{"x":"\\"info\\":1"}', None),
        ("{}", None),
    ],
)
def test_the_last_member_of_a_name_counts(text: str, expected: str | None) -> None:
    """In the object itself, whatever its name's spelling; null is none."""
    assert raw_member(text, "info") == expected


@pytest.mark.parametrize(
    "text", ["", " ", "[]", '"info"', "null", '[{"info":1}]', "\ufeff{}", "info", "\xa0{}"]
)
def test_what_is_no_object_has_no_members(text: str) -> None:
    """It is refused, not searched."""
    with pytest.raises(ValueError, match="no JSON object"):
        raw_member(text, "info")


@given(st.data())
def test_broken_json_ends(data: st.DataObject) -> None:
    """Cut off or damaged anywhere, it is refused or read as far as it goes, and nothing else."""
    text = data.draw(texts())
    at = data.draw(st.integers(0, len(text)))
    damage = data.draw(st.sampled_from(["", '"', "{", "}", ",", ":", "[", "\\", "x", "\x00"]))
    for broken in (text[:at], text[:at] + damage + text[at:], text[:at] + text[at + 1 :]):
        try:
            raw = raw_member(broken, "info")
        except ValueError:
            continue
        assert raw is None or json.loads(raw) is not None


@pytest.mark.parametrize("opening", ["[", '{"info":', '{"x":['])
def test_deep_nesting_ends_as_an_error(opening: str) -> None:
    """Never as a crash, whether or not it is closed."""
    with pytest.raises((ValueError, RecursionError)):
        raw_member('{"info":' + opening * 100_000, "info")
    closing = {"[": "]", '{"info":': "}", '{"x":[': "]}"}[opening]
    deep = f'{{"info":{opening * 100_000}{"1"}{closing * 100_000}}}'
    with pytest.raises((ValueError, RecursionError)):
        raw_member(deep, "info")
