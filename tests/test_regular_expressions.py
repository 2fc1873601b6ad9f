"""No regular expression of ours takes more than linear time, whatever it is given.

Every pattern in the tree is found by reading the code. Its worst inputs are searched
for: words over the characters that it tells apart, again and again, between others.
"""

import ast
import importlib
import itertools
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from re import _constants as constants  # type: ignore[attr-defined]  # the parser of `re` has no public name
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any, NamedTuple

import pytest

FOLDERS = ("server", "export", "ui", "monitoring", "train")
FUNCTIONS = ("match", "search", "fullmatch", "sub", "split", "findall", "finditer")
SHORT, FACTOR = 250, 16
#: Linear time grows 16 times, quadratic time 256 times: 2.6 for each of four doublings lies between.
MAX_GROWTH = 2.6**4
SLOWEST = 4
#: What stands for the pattern of a JSON Schema where it is read: it is looked at where it is written.
OF_SCHEMA = "form['pattern']"


class Found(NamedTuple):
    """A pattern, where it stands, and the functions it is used with."""

    place: str
    pattern: "re.Pattern[Any]"
    functions: frozenset[str]


def _patterns(path: Path) -> Iterator[Found]:
    tree = ast.parse(path.read_text())
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and _is_call(node.value, "re", ("compile",)):
            names[id(node.value)] = ast.unparse(node.targets[0])
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            yield from _of_schema(path, node)
        if not _is_call(node, "re", (*FUNCTIONS, "compile")):
            continue
        assert isinstance(node, ast.Call)
        if ast.unparse(node.args[0]) == OF_SCHEMA:
            continue
        assert isinstance(node.func, ast.Attribute)
        used = {node.func.attr} if node.func.attr != "compile" else _used(tree, names.get(id(node), ""))
        yield Found(f"{path}:{node.lineno}", _compiled(path, node), frozenset(used or FUNCTIONS))


def _of_schema(path: Path, schema: ast.Dict) -> Iterator[Found]:
    """The pattern of a JSON Schema, which whoever reads by it gives to `re.fullmatch`."""
    for key, value in zip(schema.keys, schema.values, strict=True):
        if isinstance(key, ast.Constant) and key.value == "pattern":
            call = ast.Call(ast.Attribute(ast.Name("re", ast.Load()), "fullmatch", ast.Load()), [value], [])
            yield Found(f"{path}:{value.lineno}", _compiled(path, call), frozenset({"fullmatch"}))


def _is_call(node: ast.AST, of: str, functions: tuple[str, ...]) -> bool:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in functions
        and ast.unparse(node.func.value) == of
    )


def _used(tree: ast.AST, name: str) -> set[str]:
    """The functions that are called on a pattern of this name."""
    calls = (node for node in ast.walk(tree) if _is_call(node, name, FUNCTIONS))
    return {
        call.func.attr
        for call in calls
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)
    }


def _compiled(path: Path, call: ast.Call) -> "re.Pattern[Any]":
    """The pattern of a call of `re`, evaluated where it stands."""
    module = importlib.import_module(".".join(path.with_suffix("").parts))
    compiled = ast.Attribute(ast.Name("re", ast.Load()), "compile", ast.Load())
    takes_text = isinstance(call.func, ast.Attribute) and call.func.attr != "compile"
    flags = [keyword for keyword in call.keywords if keyword.arg == "flags"]  # not how often, as of `re.sub`
    only = ast.Call(compiled, call.args[:1] if takes_text else call.args, flags)
    expression = ast.fix_missing_locations(ast.Expression(only))
    pattern: re.Pattern[Any] = eval(compile(expression, str(path), "eval"), vars(module) | {"re": re})
    return pattern


FILES = [
    path
    for folder in FOLDERS
    for path in sorted(Path(folder).rglob("*.py"))
    if "re." in path.read_text() or '"pattern":' in path.read_text()
]


def _characters(pattern: "re.Pattern[Any]") -> list[str]:
    """One character for each that the pattern tells apart, and one that it does not name."""
    text = pattern.pattern if isinstance(pattern.pattern, str) else pattern.pattern.decode("latin-1")
    found: dict[str, None] = {}

    def visit(item: Any) -> None:
        if (
            isinstance(item, tuple)
            and len(item) == 2
            and item[0] in (constants.LITERAL, constants.NOT_LITERAL)
        ):
            found[chr(item[1])] = None
        elif isinstance(item, tuple) and len(item) == 2 and item[0] is constants.RANGE:
            found[chr(item[1][0])] = None
        elif isinstance(item, tuple) and len(item) == 2 and item[0] is constants.CATEGORY:
            found["1" if "DIGIT" in str(item[1]) else " " if "SPACE" in str(item[1]) else "a"] = None
        elif isinstance(item, (tuple, list)) or hasattr(item, "data"):
            for part in getattr(item, "data", item):
                visit(part)

    visit(parser.parse(text, pattern.flags & ~re.UNICODE if isinstance(pattern.pattern, bytes) else 0))
    return [*list(found)[:6], "~"]


def _inputs(pattern: "re.Pattern[Any]") -> Iterator[Callable[[int], Any]]:
    characters = _characters(pattern)
    words = [*characters, *map("".join, itertools.permutations(characters, 2))]
    for before, word, after in itertools.product(["", *characters], words, ["", *characters]):

        def made(length: int, before: str = before, word: str = word, after: str = after) -> Any:
            text = before + word * (length // len(word)) + after
            return text if isinstance(pattern.pattern, str) else text.encode("latin-1", "replace")

        yield made


def _seconds(found: Found, function: str, text: Any) -> float:
    """The processor's time, which other processes do not lengthen."""
    arguments = (text,) if function not in ("sub",) else (text[:0], text)
    run = getattr(found.pattern, function)
    began = time.thread_time_ns()
    result = run(*arguments)
    if function == "finditer":
        for _ in result:
            pass
    return (time.thread_time_ns() - began) / 1e9


def _growth(found: Found, function: str, made: Callable[[int], Any]) -> float:
    """How many times as long the longer input takes, the least of some tries."""
    short, long = made(SHORT), made(SHORT * FACTOR)
    least = min(_seconds(found, function, short) for _ in range(5))
    # Below this the clock, and what a call costs, are most of what is seen.
    return _seconds(found, function, long) / max(least, 5e-6)


def _expect_linear(found: Found) -> None:
    for function in sorted(found.functions):
        slowest = sorted(_inputs(found.pattern), key=lambda made: -_seconds(found, function, made(SHORT)))
        for made in slowest[:SLOWEST]:
            growth = min(_growth(found, function, made) for _ in range(3))
            assert growth <= MAX_GROWTH, (
                f"{found.place}: {function} of {made(20)!r} takes {growth:.0f} times as long"
            )


@pytest.mark.parametrize("path", FILES, ids=map(str, FILES))
def test_time_grows_as_the_input_does(path: Path) -> None:
    for found in _patterns(path):
        _expect_linear(found)


@pytest.mark.parametrize(
    ("pattern", "function"),
    [
        (rb'"(?:[^"\\]|\\.)*"|NaN', "sub"),
        (r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", "fullmatch"),
        (r"^(?=[\t\r\n\0])|(?:^|[\t\r\n])(?=[\s\"]*[=+@])", "search"),
    ],
)
def test_patterns_that_once_took_minutes_are_found(pattern: Any, function: str) -> None:
    found = Found("", re.compile(pattern), frozenset({function}))
    with pytest.raises(AssertionError, match="times as long"):
        _expect_linear(found)
