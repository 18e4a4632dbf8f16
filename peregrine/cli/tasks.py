"""Owns the verbs on tasks; must not know how requests travel."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import click

from peregrine.cli import render
from peregrine.cli.client import Document
from peregrine.cli.executions import EXECUTION_COLUMNS, shown_execution
from peregrine.cli.naming import ask_about
from peregrine.cli.remote import Session, remote

KINDS: Final = click.Choice(["http", "function", "system", "custom"])
PRIORITIES: Final = click.Choice(["low", "normal", "high", "critical"])
STATUSES: Final = click.Choice(["pending", "running", "completed", "failed", "paused", "disabled"])

TASK_COLUMNS: render.Columns = (
    render.Column("id", lambda task: task.get("id"), weight=render.ALWAYS),
    render.Column("name", lambda task: task.get("name"), weight=8),
    render.Column("status", lambda task: task.get("status"), weight=7),
    render.Column("type", lambda task: task.get("type"), weight=1),
    render.Column("schedule", lambda task: task.get("schedule"), weight=6),
    render.Column("next run", lambda task: task.get("next_run"), weight=5, is_moment=True),
    render.Column("last run", lambda task: task.get("last_run"), weight=2, is_moment=True),
    render.Column("ok", lambda task: _counted(task, "success_count"), weight=4),
    render.Column("failed", lambda task: _counted(task, "failure_count"), weight=4),
)
HISTORY_COLUMNS: render.Columns = tuple(column for column in EXECUTION_COLUMNS if column.title != "task")
OCCURRENCE_COLUMNS: render.Columns = (
    render.Column("scheduled for", lambda one: one.get("scheduled_for"), weight=render.ALWAYS, is_moment=True),
    render.Column("last", lambda one: one.get("last"), weight=3, is_moment=True),
    render.Column("count", lambda one: one.get("count"), weight=5),
    render.Column("verdict", lambda one: one.get("verdict"), weight=8),
    render.Column("reason", lambda one: one.get("reason"), weight=7),
    render.Column("execution", lambda one: one.get("execution_id"), weight=2),
)


class Unasked(click.ClickException):
    """What is not done unasked, and nobody could be asked."""

    exit_code = 2


def _counted(task: Mapping[str, Any], name: str) -> object:
    return (task.get("metadata") or {}).get(name)


def paged(verb: Callable[..., Any]) -> Callable[..., Any]:
    """Options of every list."""
    verb = click.option("--page-size", type=click.IntRange(1, 100), default=20, show_default=True, help="Lines.")(verb)
    return click.option("--page", type=click.IntRange(1), default=1, show_default=True, help="Which part.")(verb)


def named(verb: Callable[..., Any]) -> Callable[..., Any]:
    """The task that a verb is about."""
    return click.argument("task", metavar="TASK")(verb)


@click.group(short_help="List, make and steer tasks.")
def tasks() -> None:
    """Tasks: what runs, when, and how carefully. TASK is a task's id or its exact name."""


@tasks.command("list")
@click.option("--status", type=STATUSES, help="Only these.")
@click.option("--type", "kind", type=KINDS, help="Only these.")
@click.option("--tag", "tags", multiple=True, help="With one of these tags (repeat it).")
@click.option("--priority", type=PRIORITIES, help="Only these.")
@click.option("--enabled/--disabled", default=None, help="Only these.")
@click.option("-q", "--search", "text", help="Part of name or description.")
@click.option("--sort", help="updated_at, created_at, name, priority or next_run; '-' in front turns it round.")
@paged
@remote
def list_tasks(session: Session, /, kind: str | None, tags: tuple[str, ...], text: str | None, **query: object) -> None:
    """List tasks, the last changed first."""
    document = session.client.get("tasks", type=kind, tags=tags or None, q=text, **query)
    session.show_list(document, "tasks", TASK_COLUMNS)


@tasks.command("get")
@named
@remote
def get_task(session: Session, task: str) -> None:
    """Show one task."""
    session.show(ask_about(session.client, "GET", (task,)))


def defining(verb: Callable[..., Any]) -> Callable[..., Any]:
    """Options that say what a task is."""
    for option in reversed(_DEFINING):
        verb = option(verb)
    return verb


_DEFINING: Final = (
    click.option("-f", "--file", "source", type=click.Path(path_type=Path, allow_dash=True),
                 help="The task as JSON, '-' for standard input; options change what it says."),
    click.option("--name", help="Unique, 1 to 100 characters."),
    click.option("--description", help="At most 500 characters."),
    click.option("--schedule", help='Six-field cron, "@daily", "@every 5m", "@at 2030-01-31T09:00:00Z", or "@manual" '
                 "to run only when told to; see `preview`."),
    click.option("--timezone", help="IANA name; UTC if not said."),
    click.option("--type", "kind", type=KINDS, help="Follows from --url, --function or --executor."),
    click.option("--url", "target", metavar="URL", help="http: address to call."),
    click.option("--method", help="http: GET if not said."),
    click.option("--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="http: repeat it."),
    click.option("--body", help="http: text to send."),
    click.option("--expect", type=int, multiple=True, metavar="CODE", help="http: status that is success; repeat it."),
    click.option("--function", help="function: registered name, or MODULE:NAME."),
    click.option("--executor", help="custom: registered name."),
    click.option("-p", "--param", "parameters", multiple=True, metavar="KEY=VALUE",
                 help="function, custom: value is JSON, else text; repeat it."),
    click.option("--tag", "tags", multiple=True, help="Repeat it."),
    click.option("--priority", type=PRIORITIES, help="normal if not said."),
    click.option("--retries", type=int, help="How often a failure is tried again."),
    click.option("--retry-interval", help="Wait before the first retry, such as 30s; doubles."),
    click.option("--timeout", help="Longest time of an attempt, such as 5m."),
    click.option("--overlap", type=click.Choice(["skip", "queue", "allow"]), help="While an earlier run goes on."),
    click.option("--misfire", type=click.Choice(["run_once", "run_all", "skip"]), help="For runs noticed too late."),
    click.option("--enabled/--disabled", default=None, help="Whether it runs by its schedule."),
)  # fmt: skip


@tasks.command("create")
@defining
@remote
def create_task(session: Session, /, **options: Any) -> None:
    """Make a task, from options, from a JSON file, or both.

    \b
    peregrine tasks create --name ping --schedule '*/10 * * * * *' --url https://example.org/health
    peregrine tasks create -f task.json --disabled
    """
    body = task_body(options)
    task = session.client.post("tasks", body=body)
    session.confirm(task, f"created {render.plain(task.get('id'))}, next run {render.plain(task.get('next_run'))}")


@tasks.command("update")
@named
@defining
@remote
def update_task(session: Session, /, task: str, **options: Any) -> None:
    """Change what is given and nothing else (options of http, function and custom replace the whole config)."""
    after = ask_about(session.client, "PUT", (task,), body=task_body(options))
    session.confirm(after, f"updated {render.plain(after.get('id'))}, next run {render.plain(after.get('next_run'))}")


@tasks.command("export")
@click.option("-o", "--output", "target", type=click.Path(dir_okay=False, path_type=Path), help="A file instead.")
@remote
def export_tasks(session: Session, /, target: Path | None) -> None:
    """Print all tasks but the service's own as one JSON bundle, secrets hidden, for `tasks import`."""
    bundle = session.client.get("tasks", "export")
    if target is None:
        render.show_json(bundle)
        return
    try:
        target.write_text(json.dumps(bundle, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise click.UsageError(f"{target}: {error.strerror}") from None
    session.confirm(bundle, f"{len(bundle.get('tasks') or [])} tasks written to {target}")


@tasks.command("import")
@click.argument("source", metavar="FILE", type=click.Path(dir_okay=False, allow_dash=True, path_type=Path))
@click.option("--overwrite", is_flag=True, help="Change tasks whose names are taken; else they are skipped.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@remote
def import_tasks(session: Session, /, source: Path, *, overwrite: bool, dry_run: bool) -> int:
    """Make the tasks of a JSON bundle (FILE, or - for standard input), all of them or none.

    Exit code 1 if anything is wrong with one of them.
    """
    wish = {"overwrite": overwrite or None, "dry_run": dry_run or None}
    report = session.client.post("tasks", "import", body=_from_file(source), query=wish)
    done = "would be imported" if report.get("dry_run") else "imported"
    imported, skipped = report.get("imported", 0), report.get("skipped", 0)
    session.confirm(report, f"{imported} {done}, {skipped} skipped: their names are taken")
    for one in report.get("failed_tasks") or []:
        click.echo(f"  {render.plain(one)}", err=True)
    return 1 if report.get("failed") else 0


def task_body(options: Mapping[str, Any]) -> Document:
    """The JSON of a task from the options of a verb; what nobody said is left out.

    Raises:  click.UsageError for what can't be read.
    """
    body = _from_file(options["source"]) if options["source"] is not None else {}
    renamed = {"kind": "type"}
    for name in ("name", "description", "schedule", "timezone", "kind", "priority", "overlap", "misfire", "enabled"):
        if options[name] is not None:
            body[renamed.get(name, name)] = options[name]
    if options["tags"]:
        body["tags"] = list(options["tags"])
    metadata = {"max_retries": options["retries"], "retry_interval": options["retry_interval"],
                "timeout": options["timeout"]}  # fmt: skip
    if given := {name: value for name, value in metadata.items() if value is not None}:
        body["metadata"] = {**(body.get("metadata") or {}), **given}
    kind, config = _config(options)
    if config:
        body["config"] = {**(body.get("config") or {}), **config}
        body.setdefault("type", kind)
    return body


def _from_file(source: Path) -> Document:
    try:
        text = sys.stdin.read() if str(source) == "-" else source.read_text(encoding="utf-8")
        document = json.loads(text)
    except OSError as error:
        raise click.UsageError(f"{source}: {error.strerror}") from None
    except ValueError as error:
        raise click.UsageError(f"{source}: not JSON: {error}") from None
    if not isinstance(document, dict):
        raise click.UsageError(f"{source}: a task, or a bundle of them, is a JSON object")
    return document


def _config(options: Mapping[str, Any]) -> tuple[str, Document]:
    if options["function"]:
        module, _, name = options["function"].rpartition(":")
        config: Document = {"function_name": name, **({"module": module} if module else {})}
        return "function", config | _parameters(options["parameters"])
    if options["executor"]:
        return "custom", {"executor": options["executor"], **_parameters(options["parameters"])}
    http = {"url": options["target"], "method": options["method"], "body": options["body"]}
    config = {name: value for name, value in http.items() if value is not None}
    if options["headers"]:
        config["headers"] = dict(_header(text) for text in options["headers"])
    if codes := list(options["expect"]):
        config["expected_code"] = codes[0] if len(codes) == 1 else codes
    return "http", config or _parameters(options["parameters"])


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon:
        raise click.UsageError(f"--header {text!r}: write 'NAME: VALUE'")
    return name.strip(), value.strip()


def _parameters(pairs: Sequence[str]) -> Document:
    return {"parameters": read_parameters(pairs)} if pairs else {}


def read_parameters(pairs: Sequence[str]) -> Document:
    """``KEY=VALUE`` pairs as an object; a value that reads as JSON is that, any other is a text."""
    found: Document = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals:
            raise click.UsageError(f"--param {pair!r}: write KEY=VALUE")
        try:
            found[key] = json.loads(text)
        except ValueError:
            found[key] = text
    return found


@tasks.command("delete")
@named
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@remote
def delete_task(session: Session, task: str, *, yes: bool) -> None:
    """Delete a task; what runs is cancelled, its history stays until retention."""
    if not yes:
        _ask_first(f"Delete task {render.plain(task)}?")
    session.confirm(ask_about(session.client, "DELETE", (task,)), f"deleted {render.plain(task)}")


def _ask_first(question: str) -> None:
    if sys.stdin is None or not sys.stdin.isatty():
        raise Unasked("nobody is at a terminal to be asked; add --yes")
    click.confirm(question, abort=True, err=True)


@tasks.command("execute")
@named
@click.option("-p", "--param", "parameters", multiple=True, metavar="KEY=VALUE", help="For this run; repeat it.")
@click.option("--priority", type=PRIORITIES, help="For this run.")
@remote
def execute_task(session: Session, task: str, parameters: tuple[str, ...], priority: str | None) -> None:
    """Run a task now; prints the execution's id."""
    body: Document = {"priority": priority} if priority else {}
    if parameters:
        body["parameters"] = read_parameters(parameters)
    answer = ask_about(session.client, "POST", (task, "execute"), body=body or None)
    session.confirm(answer, render.plain(answer.get("execution_id")))


@tasks.command("stop")
@named
@remote
def stop_task(session: Session, task: str) -> None:
    """Cancel what runs and what waits, and pause the task."""
    answer = ask_about(session.client, "POST", (task, "stop"))
    ends = f"`peregrine tasks resume {render.plain(shlex.quote(task))}` ends the pause"
    session.confirm(answer, f"stopped and paused; {ends}")


@tasks.command("pause")
@named
@click.option("--reason", help="Kept with the task.")
@click.option("--until", help="RFC 3339 moment at which the pause ends by itself.")
@remote
def pause_task(session: Session, task: str, reason: str | None, until: str | None) -> None:
    """Let nothing start by schedule until it is resumed."""
    body = {name: value for name, value in (("reason", reason), ("until", until)) if value}
    _steer(session, task, "pause", body)


@tasks.command("resume")
@named
@remote
def resume_task(session: Session, task: str) -> None:
    """End a pause."""
    after = ask_about(session.client, "POST", (task, "resume"))
    session.confirm(after, f"resumed, next run {render.plain(after.get('next_run'))}")


@tasks.command("enable")
@named
@remote
def enable_task(session: Session, task: str) -> None:
    """Let a task run by its schedule."""
    _steer(session, task, "enable")


@tasks.command("disable")
@named
@remote
def disable_task(session: Session, task: str) -> None:
    """Take a task out of service without deleting it."""
    _steer(session, task, "disable")


def _steer(session: Session, task: str, verb: str, body: Document | None = None) -> None:
    after = ask_about(session.client, "POST", (task, verb), body=body or None)
    status, next_run = render.plain(after.get("status")), render.plain(after.get("next_run"))
    session.confirm(after, f"{render.plain(task)} is {status}, next run {next_run}")


@tasks.command("history")
@named
@paged
@remote
def show_history(session: Session, task: str, page: int, page_size: int) -> None:
    """List a task's executions, the newest first."""
    document = ask_about(session.client, "GET", (task, "history"), query={"page": page, "page_size": page_size})
    session.show_list(document, "executions", HISTORY_COLUMNS)


@tasks.command("execution")
@named
@click.argument("execution_id", metavar="EXECUTION")
@remote
def show_execution(session: Session, task: str, execution_id: str) -> None:
    """Show one execution of a task."""
    shown_execution(session, ask_about(session.client, "GET", (task, "executions", execution_id)))


@tasks.command("occurrences")
@named
@paged
@remote
def list_occurrences(session: Session, task: str, page: int, page_size: int) -> None:
    """List what became of each scheduled moment, those that did not run with their reason."""
    document = ask_about(session.client, "GET", (task, "occurrences"), query={"page": page, "page_size": page_size})
    session.show_list(document, "occurrences", OCCURRENCE_COLUMNS)
