"""Owns the way between the definition of a task and its rows, and remembers definitions; not: executions."""

from __future__ import annotations

from dataclasses import MISSING, Field, fields, replace
from typing import Any, Final, get_type_hints

import msgspec

from peregrine.domain.moment import Moment
from peregrine.domain.payload import CustomPayload, FunctionPayload, HttpPayload, Kind, Payload, SystemPayload
from peregrine.domain.policy import Overlap
from peregrine.domain.task import Tally, Task, TaskView
from peregrine.stores.sqlite import rows
from peregrine.stores.sqlite.rows import Row

_PAYLOADS: Final[dict[Kind, type[Payload]]] = {
    Kind.HTTP: HttpPayload,
    Kind.FUNCTION: FunctionPayload,
    Kind.SYSTEM: SystemPayload,
    Kind.CUSTOM: CustomPayload,
}
_FIELDS: Final[dict[type[Payload], frozenset[str]]] = {
    of: frozenset(field.name for field in fields(of)) for of in _PAYLOADS.values()
}


def definition_text(task: Task) -> str:
    """The whole definition as JSON: each field by its name."""
    return rows.json_text(task)


def _shape() -> type[msgspec.Struct]:
    """The fields of ``Task`` as msgspec reads them at once; what its payload is depends on its kind."""
    hints = get_type_hints(Task) | {"payload": dict[str, Any]}
    return msgspec.defstruct("_Stored", [_named(of, hints[of.name]) for of in fields(Task)], kw_only=True)


def _named(of: Field[Any], hint: Any) -> Any:
    if of.default_factory is not MISSING:
        return of.name, hint, msgspec.field(default_factory=of.default_factory)
    return (of.name, hint) if of.default is MISSING else (of.name, hint, of.default)


_decode = msgspec.json.Decoder(_shape()).decode


def read_definition(text: str) -> Task:
    """The task that *text* defines. A field this version does not know is left out: a newer one may run beside it."""
    found = msgspec.structs.asdict(_decode(text))
    found["payload"] = _payload(found["kind"], found["payload"])
    return Task(**found)


def _payload(kind: Kind, document: dict[str, Any]) -> Payload:
    of = _PAYLOADS[kind]
    if not document.keys() <= _FIELDS[of]:
        document = {name: value for name, value in document.items() if name in _FIELDS[of]}
    if of is HttpPayload:
        document["headers"] = tuple((name, value) for name, value in document["headers"])
        document["expected_codes"] = tuple(document["expected_codes"])
    return of(**document)


class Definitions:
    """Tasks by stamp, and what was last shown of each, the newest few thousand that were asked for.

    A stamp never means two definitions, whoever wrote them, so nothing here is ever wrong; JSON inside a payload can
    be changed by whoever holds it, so that alone is made anew for each.
    """

    def __init__(self, most: int = 8192) -> None:
        self._most = most
        self._known: dict[int, tuple[Task, str | None]] = {}
        self._shown: dict[int, tuple[Row, TaskView]] = {}

    def learn(self, stamp: int, text: str) -> Task:
        """The task of *stamp*, whose definition is *text*; remembered from now on."""
        task = read_definition(text)
        parameters = None if isinstance(task.payload, HttpPayload) else task.payload.parameters
        _make_room(self._known, self._most)
        self._known[stamp] = task, rows.json_text(parameters) if parameters else None
        return task

    def task(self, stamp: int) -> Task | None:
        """The task of *stamp*, if it is known. What stands in its parameters is nobody else's.

        Empty ones are shared, since a new task for each claim would cost more than the claim; whoever put something
        into them keeps it, and the next one gets new ones.
        """
        known = self._known.get(stamp)
        if known is None:
            return None
        task, parameters = known
        payload = task.payload
        if isinstance(payload, HttpPayload) or (parameters is None and not payload.parameters):
            return task
        own = {} if parameters is None else rows.json_object(parameters)
        task = replace(task, payload=replace(payload, parameters=own))
        if parameters is None:
            self._known[stamp] = task, None
        return task

    def shared(self, stamp: int) -> Task | None:
        """The same for those who only read it: several get the same one, with the same parameters."""
        known = self._known.get(stamp)
        if known is None:
            return None
        task, parameters = known
        if parameters is None and not isinstance(task.payload, HttpPayload) and task.payload.parameters:
            return self.task(stamp)  # whoever ran it put something into the empty ones
        return task

    def view(self, row: Row, task: Task) -> TaskView:
        """What *row* of ``task_views`` says of *task*: the view made last time, if it said the same of the same.

        To compare a row costs a tenth of what making a view of it does, and most tasks on a page have not moved.
        """
        no = row[0]
        shown = self._shown.get(no)
        if shown is not None and shown[1].task is task and shown[0] == row:
            return shown[1]
        view = task_view(row, task)
        if shown is None:
            _make_room(self._shown, self._most)
        self._shown[no] = row, view
        return view


def _make_room(kept: dict[int, Any], most: int) -> None:
    if len(kept) >= most:
        # Two threads may throw out the same one; the other then finds nothing to do.
        kept.pop(next(iter(kept)), None)


def task_row(no: int, task: Task) -> Row:
    """The bindings of ``put_task``."""
    pause = task.pause
    return (
        no,
        task.id,
        task.name,
        task.description,
        task.kind.value,
        task.enabled,
        None if pause is None else rows.NEVER if pause.until is None else pause.until,
        int(task.priority),
        task.is_system,
        task.created_by,
        task.created_at,
        task.updated_at,
    )


def progress_row(no: int, stamp: int, task: Task, cursor: Moment, next_run_at: Moment | None) -> Row:
    """The bindings of ``add_progress`` and ``put_progress``."""
    overlaps = task.policy.overlap is Overlap.ALLOW
    return no, stamp, task.revision, task.generation, overlaps, cursor, rows.beyond(next_run_at)


def task_view(row: Row, task: Task) -> TaskView:
    """What ``task_views`` says of *task*."""
    _, _, cursor, next_run_at, running, queued, runs, successes, runtime, last_at, last_duration, succeeded, error = row
    return TaskView(
        task=task,
        cursor=cursor,
        next_run_at=rows.moment_or_none(next_run_at),
        running=running,
        queued=queued,
        tally=Tally(
            total_runs=runs,
            success_count=successes,
            failure_count=runs - successes,
            runtime_total=runtime,
            last_run_at=last_at,
            last_duration=last_duration,
            last_succeeded=None if succeeded is None else bool(succeeded),
            last_error=error,
        ),
    )
