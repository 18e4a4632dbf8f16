"""Sizes and habits that a reader feels: short lines, short functions, no waiting tests, nothing of one machine."""

from __future__ import annotations

import ast
import re

from tests.house.source import ROOT, Function, Source, dotted, imported_modules, report, sources, tracked_files

LINE_MAX = 120
FUNCTION_LINES_MAX = 80
POSITIONAL_MAX = 5
PARAMETERS_MAX = 8
CODE = ("peregrine", "tests", "benchmarks")

# A sleep in a test is a wait that is too short on a slow machine and too long on a fast one. What sleeps as the
# subject of a test (a function that must be stopped, say) ends its line with this and the reason.
SUBJECT = "# not a wait:"
# There the event loop's own time is simulated, so a sleep is a step of the world and takes none of ours.
VIRTUAL_TIME = "tests/simulation/"

# Written in two parts, so that this file does not accuse itself.
MACHINE = re.compile(
    r"(?<![\w.~-])/(?:" + "|".join(["wo" + "rk", "ro" + "ot", "opt/py" + "pi", "opt/whe" + "els"]) + r")/"
)
REGISTRIES = re.compile(
    "|".join([r"py" + r"pi\.org", "pythonho" + r"sted\.org", r"npm" + r"js\.org", r"deb\.deb" + r"ian\.org"])
)
LOOSE_END = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X)\b(?!\(#\d+\))")


def test_lines_fit() -> None:
    report(
        [
            f"{source.name}:{number}: {len(line)} characters"
            for source in sources(*CODE)
            for number, line in enumerate(source.text.splitlines(), 1)
            if len(line) > LINE_MAX
        ]
    )


def test_functions_fit_a_screen() -> None:
    report(
        [
            f"{source.at(function)}: {function.name} has {length} lines without its docstring"
            for source in sources(*CODE)
            for function in source.functions()
            if (length := body_lines(function)) > FUNCTION_LINES_MAX
        ]
    )


def body_lines(function: Function) -> int:
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function, clean=False) is not None:
        lines -= (first.end_lineno or first.lineno) - first.lineno + 1
    return lines


def test_parameters_are_few() -> None:
    """Past these a frozen record is due. Where a framework reads the signature, the framework's habit rules."""
    faults = []
    for source in sources("peregrine"):
        if source.room in {"api", "web", "cli"}:
            continue
        for function in source.functions():
            positional = [
                a.arg for a in (*function.args.posonlyargs, *function.args.args) if a.arg not in ("self", "cls")
            ]
            named = [a.arg for a in function.args.kwonlyargs]
            if len(positional) > POSITIONAL_MAX or len(positional) + len(named) > PARAMETERS_MAX:
                faults.append(
                    f"{source.at(function)}: {function.name} takes {len(positional)} + {len(named)} parameters"
                )

    report(faults)


def text_faults(pattern: re.Pattern[str], message: str) -> list[str]:
    faults = []
    for path in tracked_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), 1):
            if found := pattern.search(line):
                faults.append(f"{path.name}:{number}: {found.group()!r}: {message} ({path})")
    return faults


def test_nothing_names_the_machine_it_was_made_on() -> None:
    report(text_faults(MACHINE, "a path of one machine"))


def test_nothing_names_a_registry() -> None:
    report(text_faults(REGISTRIES, "the reader's own registry serves as well"))


def test_loose_ends_have_an_issue() -> None:
    report(text_faults(LOOSE_END, "write it as `TO" + "DO(#12)`, or do it now"))


def test_decisions_are_written_down() -> None:
    folder = ROOT / "docs" / "decisions"
    written = {path.name[:4]: path.name for path in folder.glob("[0-9][0-9][0-9][0-9]-*.md")}
    index = (folder / "README.md").read_text(encoding="utf-8")

    faults = [f"docs/decisions/README.md does not list {name}" for name in written.values() if name not in index]
    for source in sources(*CODE):
        for cited in re.findall(r"[Dd]ecisions?((?:[ ,]+(?:and )?\d{4}\b)+)", source.text):
            faults += [f"{source.name}: no decision {n}" for n in re.findall(r"\d{4}", cited) if n not in written]
    report(faults)


def test_fakes_not_mocks() -> None:
    report(
        [
            f"{source.at(node)}: {module}: write a fake"
            for source in sources("tests")
            if not source.name.startswith("tests/services/")
            for node, module in imported_modules(source.tree)
            if module.startswith(("unittest.mock", "mock."))
        ]
    )


def test_no_test_sleeps() -> None:
    report(
        [
            f"{source.at(call)}: {ast.unparse(call)}: move the ManualClock, or wait for the thing itself"
            for source in sources("tests")
            if not source.name.startswith(VIRTUAL_TIME)
            for call in ast.walk(source.tree)
            if isinstance(call, ast.Call) and sleeps(source, call)
        ]
    )


def sleeps(source: Source, call: ast.Call) -> bool:
    if dotted(call.func) not in {"time.sleep", "asyncio.sleep", "anyio.sleep", "sleep"}:
        return False
    only_yields = bool(call.args) and isinstance(call.args[0], ast.Constant) and call.args[0].value == 0
    return not only_yields and SUBJECT not in source.line(call)
