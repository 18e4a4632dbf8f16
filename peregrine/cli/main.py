"""Owns the command line's verbs as a whole and what each failure prints and returns; must not know what verbs do.

Exit codes: 0 done; 1 the service or a check said no; 2 wrong usage; 78 wrong settings or an unsafe store.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Final

import click

from peregrine.cli import local, render
from peregrine.cli.catalogue import executors, functions
from peregrine.cli.client import Away, Refused
from peregrine.cli.executions import executions
from peregrine.cli.house import House, Undone
from peregrine.cli.preview import preview_schedule
from peregrine.cli.remote import Session, remote
from peregrine.cli.tasks import tasks
from peregrine.domain.errors import BadConfiguration, UnsafeStore

REFUSED: Final = 1
CONFIGURATION: Final = 78
INTERRUPTED: Final = 130


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}, invoke_without_command=True
)
@click.version_option(package_name="peregrine", message="%(prog)s %(version)s")
@click.pass_context
def cli(context: click.Context) -> None:
    """Peregrine, a task scheduler that records every occurrence.

    `peregrine serve` runs the service; `tasks`, `executions`, `status`, `stats` and `preview` ask it over HTTP. They
    find it by PEREGRINE_URL and show the operator token in --data-dir, else PEREGRINE_TOKEN, else that in the data
    directory.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


INSTANCES: render.Columns = (
    render.Column("instance", lambda one: one.get("id"), weight=render.ALWAYS),
    render.Column("host", lambda one: one.get("host"), weight=8),
    render.Column("pid", lambda one: one.get("pid"), weight=4),
    render.Column("version", lambda one: one.get("version"), weight=5),
    render.Column("active", lambda one: f"{one.get('active')}/{one.get('slots')}", weight=7),
    render.Column("skew", lambda one: one.get("skew"), weight=6),
    render.Column("last seen", lambda one: one.get("last_seen"), weight=6, is_moment=True),
    render.Column("asked", lambda one: "here" if one.get("here") else "", weight=3),
)


@cli.command("status")
@remote
def status(session: Session) -> int:
    """Show how the service is: exit code 0 unless it is unhealthy."""
    document = session.client.get("status")
    instances = document.get("instances") or []
    if session.as_json or not instances:
        session.show(document)
    else:
        session.show({name: value for name, value in document.items() if name != "instances"})
        render.say("")
        render.show_table(instances, INSTANCES, empty="no instances")
    return REFUSED if document.get("status") == "unhealthy" else 0


@cli.command("stats")
@remote
def stats(session: Session) -> None:
    """Show what the records add up to."""
    session.show(session.client.get("stats"))


for _verb in (
    local.serve,
    local.demo,
    tasks,
    executions,
    functions,
    executors,
    preview_schedule,
    local.config,
    local.token,
    local.keys,
    local.backup,
    local.migrate,
    local.doctor,
):
    cli.add_command(_verb)


def run(house: House, arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; the exit code. Every expected failure is one line on standard error."""
    try:
        code = cli.main(args=arguments, prog_name="peregrine", standalone_mode=False, obj=house)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except (BadConfiguration, UnsafeStore) as error:
        return _failed(str(error), CONFIGURATION)
    except (Away, Refused, Undone) as error:
        return _failed(str(error), REFUSED)
    except BrokenPipeError:
        # Whoever read our output has gone; nothing may be written at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code if isinstance(code, int) else 0


def _failed(line: str, code: int) -> int:
    click.echo("peregrine: " + "\n".join(render.plain(part) for part in line.split("\n")), err=True)
    return code
