"""The words of the pages: both languages say the same things, and German says all of them."""

import ast
import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from chalicelib import documents
from chalicelib.api import problems, schemas
from chalicelib.core.devices import PbxState
from chalicelib.core.errors import InvalidRequestError, Refusal
from chalicelib.core.user_objects import Flag, Hindrance, Step, Trouble
from chalicelib.roles.people import Outcome
from tests.docs.test_documented import documented_actions

ROOT = Path(__file__).parent.parent.parent
WEB = ROOT / "chalicelib" / "web"
FROM_THE_SERVICE = (
    *("fault", "refused", "problem"),
    *("action", "detail", "subject", "refusal", "setting"),
)
"""Kinds of words that the service says in English itself; English texts may say them better."""

MAKERS = {"Fault": 1, "_fails": 0, "_matching": 1, "_missing": 2}
"""Who makes a fault, and which argument its message is."""

ACTION = re.compile(
    r"(codes?|device|admission|domain|category|token|installation|users?|rollout|job|firmware|PBX)"
    r" (\w+ed|made|set|shown|left|told again|users asked for)"
)
NEVER_SEEN = {"no JSON object", "no JSON", "a message type is needed", "unknown"}
NEVER_SEEN |= {"an interface: one short word"}
"""Of websocket frames that no page sends."""

ODD: list[object] = [
    None,
    1,
    -1,
    2**70,
    1.5,
    True,
    "",
    "x",
    "x" * 5000,
    "\0",
    [],
    [1],
    ["x"] * 30_000,
    {},
]


def texts(name: str) -> dict[str, str]:
    """Read texts of a language, all or those of a part; a key that is there twice is none."""
    paths = sorted(WEB.glob(f"texts.{name}.js"))
    lines = [line for path in paths for line in path.read_text(encoding="utf-8").splitlines()]
    read = [json.loads(f"{{{line.strip().rstrip(',')}}}") for line in lines if '": "' in line]
    keys = [key for one in read for key in one]
    assert len(keys) == len(set(keys))
    return {key: text for one in read for key, text in one.items()}


ENGLISH, GERMAN = texts("*en"), texts("*de")


def is_said(kind: str, message: str) -> bool:
    """Tell whether German has words for it: its own, or a text with a part of any kind."""
    if f"{kind}.{message}" in GERMAN:
        return True
    patterns = [
        ".+".join(re.escape(part) for part in re.split(r"\{\d\}", key.removeprefix(f"{kind}.")))
        for key in GERMAN
        if key.startswith(f"{kind}.") and "{0}" in key
    ]
    return any(re.fullmatch(pattern, message, re.DOTALL) for pattern in patterns)


def sources(*folders: str) -> Iterator[ast.Module]:
    """Read the service's own code."""
    for folder in folders:
        for path in sorted((ROOT / "chalicelib" / folder).glob("*.py")):
            yield ast.parse(path.read_text(encoding="utf-8"))


def constants(module: ast.Module) -> dict[str, ast.expr]:
    """Find what a module's names stand for."""
    return {
        target.id: node.value
        for node in module.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def sample(node: ast.expr, known: dict[str, ast.expr]) -> str | None:
    """Write a text as it may come, with something for each part that varies; None for no text."""
    if isinstance(node, ast.Name) and node.id in known:
        return sample(known[node.id], {})
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(
            str(part.value) if isinstance(part, ast.Constant) else "x, 7" for part in node.values
        )
    return None


def messages(makers: dict[str, int], *folders: str) -> set[str]:
    """Find the texts that are handed to those who make faults or refusals."""
    found = set()
    for module in sources(*folders):
        known = constants(module)
        for node in ast.walk(module):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                place = makers.get(node.func.id)
                if place is not None and len(node.args) > place:
                    found.add(sample(node.args[place], known))
    return {message for message in found if message}


def test_both_languages_have_the_same_texts() -> None:
    """With the same places in them; what the service says itself is optional in English."""

    def own(told: dict[str, str]) -> set[str]:
        return {key for key in told if key.partition(".")[0] not in FROM_THE_SERVICE}

    assert own(ENGLISH) == own(GERMAN)
    assert {*ENGLISH} <= {*GERMAN}
    places = re.compile(r"\{(?!\d)\w+\}")
    for key, text in ENGLISH.items():
        assert {*places.findall(text)} == {*places.findall(GERMAN[key])}, key


def test_every_text_that_a_page_asks_for_is_there() -> None:
    """In English, and so in German as well: of a part alone where the page loads its texts."""
    for path in WEB.glob("*.js"):
        script = path.read_text(encoding="utf-8")
        asked = set(re.findall(r"\bt\(\"([^\"]+)\"", script))
        parts = re.findall(r"loadTextsOf\(\"(\w+)\"\)", script)
        there = set(texts("en")).union(*(texts(f"{part}.en") for part in parts))
        assert sorted(asked - there) == [], path.name


def test_no_text_is_left_over() -> None:
    """Each is named by a page, whole or by its kind."""
    scripts = "".join(
        path.read_text(encoding="utf-8") for path in WEB.glob("*.js") if "texts" not in path.name
    )
    kinds = set(re.findall(r"said\(\"([a-z.-]+)\"", scripts))
    kinds |= set(re.findall(r"[`\"]([a-z.-]+)\.\$\{", scripts))
    begun = tuple(re.findall(r"`([a-z.-]+-)\$\{", scripts))
    kinds |= {*FROM_THE_SERVICE}
    left = [
        key
        for key in ENGLISH
        if f'"{key}"' not in scripts
        and f'"{key.removesuffix("-sure")}"' not in scripts
        and not any(key.startswith(f"{kind}.") for kind in kinds)
        and not key.startswith(begun)
    ]
    assert left == []


def test_german_has_words_for_every_fault() -> None:
    """As the code makes them; a new one needs its own."""
    found = messages(MAKERS, "core", "roles", "api", "")
    assert len(found) > 40
    assert {one for one in found - NEVER_SEEN if not is_said("fault", one)} == set()


def test_german_has_words_for_what_a_users_file_may_have_wrong() -> None:
    """Beside faults: what each column may hold."""
    (module,) = [one for one in sources("core") if "\n_CHECKS" in ast.unparse(one)]
    known = {
        node.target.id: node.value
        for node in module.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    checks = known["_CHECKS"]
    assert isinstance(checks, ast.Dict)
    found = [sample(value.elts[1], {}) for value in checks.values if isinstance(value, ast.Tuple)]
    assert len(found) == 4
    assert [one for one in found if not is_said("fault", str(one))] == []
    assert {f"users.outcome.{one.value}" for one in Outcome} <= {*GERMAN}


@pytest.mark.parametrize(
    "model",
    [
        one
        for _, one in inspect.getmembers(schemas, inspect.isclass)
        if issubclass(one, BaseModel)
        and one.__module__ == schemas.__name__
        and not one.__name__.startswith("_")
    ],
)
def test_german_has_words_for_every_fault_of_a_body(model: type[BaseModel]) -> None:
    """Whatever is sent in the place of a member."""
    bodies: list[object] = [[], {}, {"zz": 1}]
    bodies += [
        {field.alias or name: odd} for name, field in model.model_fields.items() for odd in ODD
    ]
    found = set()
    for body in bodies:
        try:
            documents.read(json.dumps(body), model)
        except InvalidRequestError as error:
            found |= {fault.message for fault in error.faults}
    assert {one for one in found if not is_said("fault", one)} == set()


def test_german_has_words_for_every_refusal() -> None:
    """By its own words where they say more than its kind."""
    found = messages({"ConflictError": 0}, "roles", "storage")
    assert len(found) > 5
    assert {one for one in found if not is_said("refused", one)} == set()
    slugs = {one.slug for one in [*problems.TABLE.values(), problems.DEFECT]}
    assert {slug for slug in slugs if f"problem.{slug}" not in GERMAN} == set()


def test_both_languages_have_words_for_whatever_is_wrong_with_a_pbx() -> None:
    """Why it is so and what to do about it, and each step of a test of the connection."""
    reasons = [*Trouble, *Hindrance]
    wanted = {f"pbx.{kind}.{reason}" for kind in ("why", "do") for reason in reasons}
    wanted |= {f"pbx.state-{state}" for state in PbxState} | {f"pbx.step-{step}" for step in Step}
    assert wanted <= {*ENGLISH}
    assert wanted <= {*GERMAN}
    assert is_said("pbx.why", f"{Hindrance.REFUSED}: object is locked")


def actions() -> set[str]:
    """Find what the audit trail can say."""
    return {
        node.value
        for module in sources("roles", "storage")
        for node in ast.walk(module)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and ACTION.fullmatch(node.value)
    }


def test_german_has_words_for_every_action_of_the_audit_trail() -> None:
    """As the roles write them."""
    assert len(actions()) > 25
    assert {one for one in actions() if f"action.{one}" not in GERMAN} == set()


def test_german_has_words_for_what_details_of_the_audit_trail_are_made_of() -> None:
    """Every reason of a refusal, and every setting that can have been given."""
    given = {**schemas.NewDomain.model_fields, **schemas.PbxSettings.model_fields, "flags": None}
    flags = {flag.name.lower() for flag in Flag}
    wanted = {f"setting.{name}" for name in given.keys() - flags - {"domain"}}
    wanted |= {f"refusal.{refusal}" for refusal in Refusal}
    assert wanted - GERMAN.keys() == set()


def test_every_action_of_the_audit_trail_is_described() -> None:
    """In docs/data-model.md, and no other."""
    assert documented_actions() == actions()
