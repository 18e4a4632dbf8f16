"""Owns which functions may be called, by which names, and the decorator that says so; must not know how they run.

The pair (module, name) of a task is a key of the registry and nothing else: it is never imported, split or resolved.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import re
import runpy
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, TypeVar, get_args

from peregrine.domain.errors import BadConfiguration
from peregrine.domain.payload import NAME_MAX, JsonObject
from peregrine.executors.signature import Signature, signature_of

Isolation: TypeAlias = Literal["process", "thread", "async"]
Registered = TypeVar("Registered", bound=Callable[..., Any])

MEMORY_MIN: Final = 1 << 20
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:\-]*", re.ASCII)
_MAIN_FILE: Final = "file:"


@dataclass(frozen=True, slots=True)
class Function:
    """One callable a task may name. ``home`` says how a child process gets to it."""

    module: str
    name: str
    call: Callable[..., Any]
    isolation: Isolation
    signature: Signature
    home: str
    memory_max_bytes: int | None = None

    @property
    def is_async(self) -> bool:
        return inspect.iscoroutinefunction(self.call)

    @property
    def label(self) -> str:
        """``module:name`` for people."""
        return f"{self.module}:{self.name}" if self.module else self.name

    def described(self) -> JsonObject:
        """What a reader of the API may know of it."""
        return {
            "module": self.module,
            "function_name": self.name,
            "isolation": self.isolation,
            "description": inspect.getdoc(self.call) or "",
            "parameters": self.signature.schema(),
        }


class FunctionRegistry:
    """The callables that tasks may name. One belongs to the process (``FUNCTIONS``); tests make their own."""

    def __init__(self) -> None:
        self._functions: dict[tuple[str, str], Function] = {}

    def __iter__(self) -> Iterator[Function]:
        return iter(self._functions.values())

    def get(self, module: str, name: str) -> Function | None:
        """The function of exactly this key; a name alone never finds a function that has a module."""
        return self._functions.get((module, name))

    def near(self, module: str, name: str) -> list[Function]:
        """Up to three functions that somebody who wrote this key may have meant."""
        same = [f for f in self if f.name == name and f.module != module]
        names = difflib.get_close_matches(name, {f.name for f in self}, n=3)
        alike = sorted((f for f in self if f.name in names), key=lambda f: (names.index(f.name), f.module != module))
        return list(dict.fromkeys([*same, *alike]))[:3]

    def add(self, function: Function) -> None:
        """Keep *function*.

        Raises:  BadConfiguration if another one has its key. The same one again (a reload) takes its own place.
        """
        key = (function.module, function.name)
        known = self._functions.get(key)
        if known is not None and _origin(known.call) != _origin(function.call):
            raise BadConfiguration(
                f"function {function.label!r} is registered twice, by {'.'.join(_origin(known.call))} "
                f"and {'.'.join(_origin(function.call))}; give one another name or module"
            )
        self._functions[key] = function


FUNCTIONS: Final = FunctionRegistry()
"""Where ``function`` registers. A decorator runs at import, when nobody can hand it anything: hence one per process."""


def function(
    name: str | None = None,
    *,
    module: str = "",
    isolation: Isolation | None = None,
    memory_max_bytes: int | None = None,
    registry: FunctionRegistry = FUNCTIONS,
) -> Callable[[Registered], Registered]:
    """Register the function below as *name* (its own name by default) for tasks of type ``function``.

    Its parameters with their type hints are the task's ``parameters``; a first parameter annotated ``Context`` gets
    the context object. The function itself stays as it was. *isolation* says where it runs:

    - ``process`` (default of ``def``): in a child process, which can always be stopped;
    - ``async`` (default of ``async def``): on the service's own loop, so it must never block;
    - ``thread``: in a thread, which nobody can stop: it has to ask ``context.cancelled``.

    *memory_max_bytes* bounds what a call in a child process may take on top of the idle child.

    Raises:  BadConfiguration with a sentence that says what to change.
    """
    if callable(name):
        raise BadConfiguration("write @function() with brackets")

    def register(call: Registered) -> Registered:
        registry.add(_declared(call, name, module, isolation, memory_max_bytes))
        return call

    return register


def _declared(
    call: Callable[..., Any], name: str | None, module: str, isolation: Isolation | None, memory_max_bytes: int | None
) -> Function:
    if not (inspect.isfunction(call) or inspect.ismethod(call)):
        raise BadConfiguration(f"{call!r} is not a function; register a `def` or `async def`")
    name = call.__name__ if name is None else name
    label = f"function {name!r}" if not module else f"function {module + ':' + name!r}"
    for word, meaning in ((name, "name"), (module, "module")):
        if (word or meaning == "name") and (not _NAME.fullmatch(word) or len(word) > NAME_MAX):
            raise BadConfiguration(
                f"{label}: the {meaning} must be letters, digits, '_', '-', '.', ':' (at most {NAME_MAX})"
            )
    if memory_max_bytes is not None and memory_max_bytes < MEMORY_MIN:
        raise BadConfiguration(f"{label}: memory_max_bytes must be at least {MEMORY_MIN}")
    try:
        where = _place(call, isolation)
        if memory_max_bytes is not None and where != "process":
            raise BadConfiguration("memory_max_bytes needs isolation='process'; nothing else can be bounded")
        return Function(module, name, call, where, signature_of(call), _home(call), memory_max_bytes)
    except BadConfiguration as error:
        raise BadConfiguration(f"{label}: {error}") from None


def _place(call: Callable[..., Any], isolation: Isolation | None) -> Isolation:
    is_async = inspect.iscoroutinefunction(call)
    if inspect.isgeneratorfunction(call) or inspect.isasyncgenfunction(call):
        raise BadConfiguration("it yields; a task's function returns")
    if isolation is None:
        return "async" if is_async else "process"
    if isolation not in get_args(Isolation):
        raise BadConfiguration(f"isolation must be one of {', '.join(get_args(Isolation))}, not {isolation!r}")
    if isolation == "async" and not is_async:
        raise BadConfiguration("isolation='async' needs an `async def`; a plain function would stop the service's loop")
    return isolation


def _origin(call: Callable[..., Any]) -> tuple[str, str]:
    return call.__module__, call.__qualname__


def _home(call: Callable[..., Any]) -> str:
    """The module to import in a child so that *call* is registered there too."""
    if call.__module__ != "__main__":
        return call.__module__
    main = sys.modules["__main__"]
    if main.__spec__ is not None:
        return main.__spec__.name
    return _MAIN_FILE + str(getattr(main, "__file__", ""))


def visit(home: str) -> None:
    """Import a function's home in a child process, so that what it registers is known here.

    A script is run as ``__mp_main__``, as multiprocessing does: what stands under ``if __name__ == "__main__"`` is not.
    """
    if not home.startswith(_MAIN_FILE):
        importlib.import_module(home)
    elif path := home.removeprefix(_MAIN_FILE):
        runpy.run_path(path, run_name="__mp_main__")
    else:
        raise BadConfiguration("a function typed at a prompt has no file that a child process could import")
