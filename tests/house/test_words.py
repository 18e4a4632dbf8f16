"""One word, one thing: the names that say nothing, and the second words for old things, stay out of the package.

``wire`` is exempt: there the spelling of existing clients rules.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from tests.house.source import Source, report, sources, type_of_function

SAYS_NOTHING = {"manager", "helper", "helpers", "util", "utils", "common", "misc", "service", "services"}
SECOND_WORD = {
    "backlog": "queue",
    "coalesce": "misfire",
    "job": "task or execution",
    "jobs": "tasks or executions",
    "lifeline": "reaper",
    "notifier": "channel",
    "plugin": "module",
    "plugins": "modules",
    "watchdog": "keeper or reaper",
}
EMPTY_ENDINGS = {"data", "info", "obj"}
EMPTY_VERBS = {"process", "handle"}
# Names that a library calls by that name; the reason stands beside each.
NAMED_BY_OTHERS = {
    "get_route_handler": "FastAPI's APIRoute",
    "timeout_keep_alive_handler": "uvicorn's HttpToolsProtocol",
}


def words_of(name: str) -> list[str]:
    """``HTTPTaskStore`` and ``http_task_store`` both give http, task, store."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)]


def defined_names(source: Source) -> Iterator[tuple[ast.AST, str]]:
    yield source.tree, source.path.stem
    for node in ast.walk(source.tree):
        if isinstance(node, (*type_of_function, ast.ClassDef)):
            yield node, node.name


def complaint(name: str, room: str) -> str | None:
    words = words_of(name)
    if not words or name.startswith("__") or name in NAMED_BY_OTHERS:
        return None
    if empty := SAYS_NOTHING.intersection(words):
        return f"{empty.pop()!r} says nothing"
    if second := SECOND_WORD.keys() & set(words):
        word = second.pop()
        return f"{word!r} is our {SECOND_WORD[word]}"
    if words[-1] in EMPTY_ENDINGS or name in EMPTY_VERBS or words[0] == "do":
        return "say what it is or does"
    if "handler" in words and room != "modules":
        return "only a module has handlers"
    return None


def test_names_in_the_package_say_something() -> None:
    faults = [
        f"{source.at(node)}: {name}: {said}"
        for source in sources("peregrine")
        if source.room != "wire"
        for node, name in defined_names(source)
        if (said := complaint(name, source.room))
    ]

    report(faults)


def test_words_are_split_as_a_person_reads_them() -> None:
    assert words_of("HTTPTaskManager") == ["http", "task", "manager"]
    assert words_of("_do_it_2") == ["do", "it", "2"]
    assert complaint("JobStore", "stores") == "'job' is our task or execution"
    assert complaint("TaskHandler", "modules") is None
