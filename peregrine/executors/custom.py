"""Owns the kind ``custom``: executors that the host or an installed package brings; must not know their insides.

Each has a JSON Schema of its parameters (draft 2020-12): the API enforces it when a task is saved, and shows it.
"""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final, Protocol, TypeAlias, TypeVar

from peregrine.domain.errors import BadConfiguration, Fault
from peregrine.domain.execution import Outcome
from peregrine.domain.payload import NAME_MAX, CustomPayload, JsonObject, Payload
from peregrine.executors.answer import Answer, Veil
from peregrine.executors.command import SCHEMA, CommandSettings, faults_of, request_of
from peregrine.executors.context import Context
from peregrine.executors.hearing import Hearing
from peregrine.executors.isolation import ChildProcesses
from peregrine.executors.outcomes import outcome_of_work, placed
from peregrine.executors.signature import escape
from peregrine.executors.voices import LoopVoice, facts_of
from peregrine.ports.clock import Clock
from peregrine.ports.executor import RunContext

ENTRY_POINTS: Final = "peregrine.executors"
FAULTS_MAX: Final = 50

Work: TypeAlias = Callable[[JsonObject, Context], Awaitable[object]]
Check: TypeAlias = Callable[[JsonObject], Iterable[Fault]]
Registered = TypeVar("Registered", bound=Callable[..., Awaitable[object]])

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:\-]*", re.ASCII)


class _Mistake(Protocol):
    """What we read of a schema validator's error."""

    @property
    def message(self) -> str: ...
    @property
    def instance_path(self) -> list[str | int]: ...
    @property
    def kind(self) -> Any: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Custom:
    """An executor of the host's: its name in a task, what its parameters must look like, and the coroutine that works.

    ``check`` finds what a schema can't say; it is asked only about parameters that fit the schema. What the work
    returns becomes the output (text as it is, else JSON), unless it is an ``Outcome``. It runs on the service's loop.
    """

    name: str
    work: Work
    schema: JsonObject = field(default_factory=lambda: {"type": "object"})
    check: Check | None = None
    description: str = ""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or len(self.name) > NAME_MAX:
            raise BadConfiguration(f"executor {self.name!r}: the name must be letters, digits, '_', '-', '.', ':'")
        try:
            _validator(self.schema)
        except ValueError as error:
            reason = str(error).splitlines()[0]
            raise BadConfiguration(f"executor {self.name!r}: its JSON Schema is wrong: {reason}") from None

    def faults(self, parameters: JsonObject) -> list[Fault]:
        """All that is wrong with *parameters* (pointers like ``/argv/0``)."""
        faults: list[Fault] = []
        for mistake in _validator(self.schema).iter_errors(parameters):
            faults.extend(_faults_of(mistake))
            if len(faults) >= FAULTS_MAX:
                break
        if not faults and self.check is not None:
            faults.extend(self.check(parameters))
        return faults[:FAULTS_MAX]

    def described(self) -> JsonObject:
        """What a reader of the API may know of it."""
        return {"executor": self.name, "description": self.description, "parameters": self.schema}


class CustomRegistry:
    """The custom executors by name. One belongs to the process (``CUSTOMS``); tests make their own."""

    def __init__(self) -> None:
        self._customs: dict[str, Custom] = {}

    def __iter__(self) -> Iterator[Custom]:
        return iter(self._customs.values())

    def get(self, name: str) -> Custom | None:
        return self._customs.get(name)

    def near(self, name: str) -> list[str]:
        """Names that somebody who wrote *name* may have meant."""
        return difflib.get_close_matches(name, self._customs, n=3)

    def add(self, custom: Custom) -> None:
        """Keep *custom*.

        Raises:  BadConfiguration if another one has its name. The same one again (a reload) takes its own place.
        """
        known = self._customs.get(custom.name)
        if known is not None and _origin(known.work) != _origin(custom.work):
            raise BadConfiguration(f"executor {custom.name!r} is registered twice")
        self._customs[custom.name] = custom

    def load_entry_points(self, found: Iterable[EntryPoint] | None = None) -> list[str]:
        """Register what installed packages offer (group ``peregrine.executors``); a sentence for each that failed.

        An entry point names a ``Custom``, or a coroutine decorated with ``executor``. A broken package costs its own
        executors and nothing else.
        """
        failed = []
        for point in entry_points(group=ENTRY_POINTS) if found is None else found:
            try:
                loaded = point.load()
                if isinstance(loaded, Custom):
                    self.add(loaded)
                elif not any(custom.work is loaded for custom in self):
                    raise BadConfiguration("it names neither a Custom nor a coroutine decorated with `executor`")
            except Exception as error:
                failed.append(f"entry point {point.name!r} ({point.value}): {type(error).__name__}: {error}")
        return failed


CUSTOMS: Final = CustomRegistry()
"""Where ``executor`` registers. A decorator runs at import, when nobody can hand it anything: hence one per process."""


def executor(
    name: str, *, schema: JsonObject | None = None, description: str = "", registry: CustomRegistry = CUSTOMS
) -> Callable[[Registered], Registered]:
    """Register the coroutine function below as the executor *name* of tasks of type ``custom``.

    It is called as ``work(parameters, context)``, with parameters that fit *schema*.

    Raises:  BadConfiguration with a sentence that says what to change.
    """
    if not isinstance(name, str):
        raise BadConfiguration('write @executor("name") with the name in brackets')

    def register(work: Registered) -> Registered:
        is_async: bool = inspect.iscoroutinefunction(work)
        if not is_async:
            raise BadConfiguration(f"executor {name!r} must be an `async def`; it runs on the service's loop")
        said = description or inspect.getdoc(work) or ""
        registry.add(Custom(name=name, work=work, schema=schema or {"type": "object"}, description=said))
        return work

    return register


class CustomExecutor:
    """Runs ``CustomPayload``."""

    def __init__(self, registry: CustomRegistry, *, clock: Clock) -> None:
        self._registry = registry
        self._clock = clock

    def check(self, payload: Payload, parameters: JsonObject | None = None) -> Sequence[Fault]:
        """An unknown executor, and every parameter that does not fit its schema."""
        assert isinstance(payload, CustomPayload)
        custom = self._registry.get(payload.executor)
        if custom is None:
            return [Fault("/config/executor", self._unknown(payload.executor))]
        return placed(custom.faults(payload.parameters | (parameters or {})))

    async def run(self, payload: Payload, context: RunContext) -> Outcome:
        """What the work came to. Whatever it raises is an outcome; only a cancel passes."""
        assert isinstance(payload, CustomPayload)
        custom = self._registry.get(payload.executor)
        if custom is None:
            return Outcome.failed(self._unknown(payload.executor), retryable=False)
        faults = custom.faults(payload.parameters)
        if faults:
            said = "; ".join(f"{fault.pointer[1:]} {fault.message}".strip() for fault in faults)[:1000]
            return Outcome.failed(f"parameters: {said}", retryable=False)
        veil = Veil(payload.parameters)
        voice = LoopVoice(context, self._clock, veil)
        return await outcome_of_work(custom.work(payload.parameters, Context(facts_of(context), voice)), veil)

    def _unknown(self, name: str) -> str:
        near = self._registry.near(name)
        meant = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
        return f"executor {name!r} is not registered{meant}"


def command(children: ChildProcesses, settings: CommandSettings) -> Custom:
    """The executor ``command``: a program of the operator's allow-list, run in one of *children*."""

    def check(parameters: JsonObject) -> Iterable[Fault]:
        return faults_of(parameters, settings)

    async def work(parameters: JsonObject, context: Context) -> Answer:
        request: JsonObject = {
            "target": "command",
            "parameters": request_of(parameters, settings),
            "remaining": context.deadline,
            "memory_max_bytes": None,  # Of the child; the program has a bound of its own.
        }
        return await children.call(request, Hearing(context.log, context.progress, Veil(parameters)))

    return Custom(
        name="command",
        work=work,
        schema=SCHEMA,
        check=check,
        description="Runs a program with arguments, without a shell, if an operator has put it on the allow-list.",
    )


# ── JSON Schema ──────────────────────────────────────────────────────────────────────────────────


def _validator(schema: JsonObject) -> Any:
    import jsonschema_rs  # A child process that imports a host's executors never validates.

    # Linear regular expressions: a pattern meets texts that strangers wrote. No value is repeated in a message.
    return jsonschema_rs.Draft202012Validator(
        schema, mask="the value", retriever=_refuse, pattern_options=jsonschema_rs.RegexOptions()
    )


def _refuse(uri: str) -> Any:
    raise ValueError(f"{uri}: a schema is whole in itself; nothing is fetched")


def _faults_of(mistake: _Mistake) -> Iterator[Fault]:
    at = "".join(f"/{escape(str(step))}" for step in mistake.instance_path)
    match mistake.kind.name:
        case "required":
            yield Fault(f"{at}/{escape(mistake.kind.property)}", "is required")
        case "additionalProperties" | "unevaluatedProperties":
            yield from (Fault(f"{at}/{escape(name)}", "is not a known parameter") for name in mistake.kind.unexpected)
        case _:
            yield Fault(at, mistake.message)


def _origin(work: Work) -> tuple[str, str]:
    return work.__module__, work.__qualname__
