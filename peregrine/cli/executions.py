"""Owns the verbs on executions; must not know how requests travel."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any, Final

import click

from peregrine.cli import render
from peregrine.cli.client import Away, Client, Document, Refused
from peregrine.cli.naming import NOT_FOUND, id_of
from peregrine.cli.remote import Session, remote
from peregrine.domain.ids import is_id
from peregrine.domain.moment import SECOND, format_duration, parse_moment

OUTCOMES: Final = click.Choice(["succeeded", "failed", "timed_out", "cancelled", "abandoned"])
ERROR_SHOWN: Final = 60
SILENT_MAX: Final = 3
"""Streams in a row that may end without a word."""


def _took(one: Mapping[str, Any]) -> object:
    """How long it took; while it runs, how long so far, in whole seconds of this machine's clock."""
    if one.get("status") != "running":
        return one.get("duration")
    try:
        started = parse_moment(str(one.get("started_at")))
    except ValueError:
        return one.get("duration")
    return format_duration(max(0, time.time_ns() // 1_000_000 - started) // SECOND * SECOND)


EXECUTION_COLUMNS: render.Columns = (
    render.Column("id", lambda one: one.get("id"), weight=render.ALWAYS),
    render.Column("task", lambda one: one.get("task_id"), weight=1),
    render.Column("status", lambda one: one.get("status"), weight=5),
    render.Column("outcome", lambda one: one.get("outcome"), weight=7),
    render.Column("trigger", lambda one: one.get("trigger"), weight=2),
    render.Column("scheduled for", lambda one: one.get("scheduled_for"), weight=2, is_moment=True),
    render.Column("started", lambda one: one.get("started_at"), weight=6, is_moment=True),
    render.Column("took", _took, weight=4),
    render.Column("retries", lambda one: one.get("retry_count"), weight=3),
    render.Column("error", lambda one: _short(one.get("error")), weight=6),
)
ATTEMPT_COLUMNS: render.Columns = (
    render.Column("attempt", lambda one: one.get("attempt"), weight=render.ALWAYS),
    render.Column("epoch", lambda one: one.get("epoch"), weight=2),
    render.Column("started", lambda one: one.get("started_at"), weight=6, is_moment=True),
    render.Column("ended", lambda one: one.get("completed_at"), weight=4, is_moment=True),
    render.Column("outcome", lambda one: one.get("outcome"), weight=7),
    render.Column("worker", lambda one: one.get("worker_id"), weight=1),
    render.Column("error", lambda one: _short(one.get("error")), weight=6),
)


def _short(text: object) -> object:
    if not isinstance(text, str):
        return text
    return text if len(text) <= ERROR_SHOWN else text[: ERROR_SHOWN - 1] + "…"


@click.group(short_help="List, show and cancel executions.")
def executions() -> None:
    """Executions: each piece of work, with its attempts and outcome."""


@executions.command("list")
@click.option("--status", type=click.Choice(["pending", "running", "completed", "failed"]), help="Only these.")
@click.option("--outcome", type=OUTCOMES, help="Only these.")
@click.option("--task", metavar="TASK", help="Of the task with this id or exact name.")
@click.option("--trigger", type=click.Choice(["schedule", "manual", "retry", "workflow"]), help="Only these.")
@click.option("--since", "started_after", help="Started at or after this RFC 3339 moment.")
@click.option("--before", "started_before", help="Started before this RFC 3339 moment.")
@click.option("--page-size", type=click.IntRange(1, 100), default=20, show_default=True, help="Lines.")
@click.option("--page", type=click.IntRange(1), default=1, show_default=True, help="Which part.")
@remote
def list_executions(session: Session, /, task: str | None, **query: object) -> None:
    """List executions, waiting ones first, then the newest."""
    session.show_list(_executions(session.client, task, query), "executions", EXECUTION_COLUMNS)


def _executions(client: Client, task: str | None, query: Mapping[str, object]) -> Document:
    """A filter by an id that finds none is tried as a name."""
    found: Document = {}
    if task is None or is_id(task):
        found = client.get("executions", task_id=task, **query)
    if task is None or found.get("total"):
        return found
    if (id := id_of(client, task)) is not None:
        return client.get("executions", task_id=id, **query)
    if not found:
        raise Refused(NOT_FOUND, {"detail": f"no task is named {task!r}"})
    return found


@executions.command("get")
@click.argument("execution_id", metavar="ID")
@remote
def get_execution(session: Session, execution_id: str) -> None:
    """Show one execution and its attempts."""
    shown_execution(session, session.client.get("executions", execution_id))


def shown_execution(session: Session, execution: Document) -> None:
    """One execution: its fields, then a table of attempts."""
    if session.as_json:
        render.show_json(execution)
        return
    attempts = execution.pop("attempts", None) or []
    render.show_document(execution | {"duration": _took(execution)})
    if attempts:
        render.say("")
        render.show_table(attempts, ATTEMPT_COLUMNS, empty="")


@executions.command("cancel")
@click.argument("execution_id", metavar="ID")
@remote
def cancel_execution(session: Session, execution_id: str) -> None:
    """Cancel this execution only; the task goes on."""
    answer = session.client.post("executions", execution_id, "cancel")
    session.confirm(answer, render.plain(answer.get("message") or f"cancel of {execution_id} is asked for"))


@executions.command("logs")
@click.argument("execution_id", metavar="ID")
@click.option("--follow", "-f", is_flag=True, help="Go on while it runs, until it has ended.")
@remote
def show_logs(session: Session, execution_id: str, *, follow: bool) -> None:
    """Show what one execution logged and printed."""
    if follow:
        _follow(session, execution_id)
        return
    log = session.client.get("executions", execution_id, "logs")
    if session.as_json:
        render.show_json(log)
        return
    for line in log.get("lines") or ():
        _say_line(line)
    if progress := log.get("progress"):
        _say_progress(progress)
    if remark := _remark(log):
        click.echo(remark, err=True)


def _remark(log: Document) -> str:
    """What the lines, or that there are none, don't say by themselves."""
    if log.get("status") == "running" and not log.get("live"):
        return "it runs on another instance: its lines come when the attempt has ended"
    if log.get("lines"):
        return ""
    return "logged nothing yet" if log.get("status") in ("pending", "running") else "logged nothing"


def _follow(session: Session, execution_id: str) -> None:
    """Each event as it comes; a stream that the service closed is opened again where it stood."""
    after: str | None = None
    silent = 0
    while silent < SILENT_MAX:
        silent += 1
        for name, id, document in session.client.events("executions", execution_id, "logs", "stream", after=after):
            after, silent = (id, 0) if id else (after, silent)
            if session.as_json:
                render.say(json.dumps({"event": name} | document, ensure_ascii=False))
            elif name == "line":
                _say_line(document)
            elif name == "progress":
                _say_progress(document)
            if name == "end":
                if not session.as_json:
                    click.echo(render.plain(document.get("outcome") or document.get("status")), err=True)
                return
    raise Away("the service closes the stream and says nothing; is it being stopped?")


def _say_line(line: Document) -> None:
    for text in str(line.get("text", "")).split("\n"):
        render.say(f"{render.plain(line.get('at'))}  {render.plain(text)}")


def _say_progress(progress: Document) -> None:
    click.echo(f"{float(progress.get('fraction', 0)):.0%} {render.plain(progress.get('text', ''))}".rstrip(), err=True)
