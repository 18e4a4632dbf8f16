"""Owns the preview of a schedule: asked of the service, worked out here when that is away; must not know tasks."""

from __future__ import annotations

import time

import click

from peregrine.cli import render
from peregrine.cli.client import Away, Document, Refused
from peregrine.cli.remote import Session, remote
from peregrine.domain.describe import describe, preview, warnings_of
from peregrine.domain.moment import format_moment
from peregrine.domain.trigger import DstGap, DstOverlap, ScheduleError, parse_trigger

NO_RIGHT = (401, 403, 404)
"""Answers after which the schedule is still worth working out here: it is no secret."""

COLUMNS: render.Columns = (
    render.Column("at", lambda one: one.get("at"), weight=render.ALWAYS),
    render.Column("local", lambda one: one.get("local"), weight=8),
    render.Column("note", lambda one: one.get("note") or "", weight=7),
)


@click.command("preview")
@click.argument("schedule")
@click.option("--timezone", default="UTC", show_default=True, help="IANA name.")
@click.option("-n", "--count", type=click.IntRange(1, 100), default=5, show_default=True, help="How many moments.")
@click.option("--dst-gap", type=click.Choice(list(DstGap)), help="For times that the clock jumps over.")
@click.option("--dst-overlap", type=click.Choice(list(DstOverlap)), help="For times that come twice.")
@click.option("--local", is_flag=True, help="Do not ask the service.")
@remote
def preview_schedule(session: Session, /, *, local: bool, **asked: object) -> None:
    """Say what SCHEDULE means and when it comes next.

    \b
    peregrine preview '0 30 9 * * MON-FRI' --timezone Europe/Berlin
    """
    body = {name: value for name, value in asked.items() if value is not None}
    answer = None if local else _asked(session, body)
    if answer is None:
        answer = worked_out(body)
    if session.as_json:
        render.show_json(answer)
        return
    render.say(render.plain(answer.get("description")))
    render.show_table(answer.get("next") or [], COLUMNS, empty="never comes")
    for warning in answer.get("warnings") or []:
        click.echo(f"warning: {render.plain(warning)}", err=True)


def _asked(session: Session, body: Document) -> Document | None:
    try:
        return session.client.post("schedule", "preview", body=body)
    except Away:
        return None
    except Refused as refused:
        if refused.status in NO_RIGHT:
            return None
        raise


def worked_out(body: Document) -> Document:
    """What the service would answer, by the same rules.

    Raises:  Refused, as the service would.
    """
    now = time.time_ns() // 1_000_000
    try:
        trigger = parse_trigger(
            str(body["schedule"]),
            timezone=str(body.get("timezone", "UTC")),
            anchor=now,
            dst_gap=DstGap(body.get("dst_gap", DstGap.RUN)),
            dst_overlap=DstOverlap(body.get("dst_overlap", DstOverlap.FIRST)),
        )
    except ScheduleError as error:
        fault = {"pointer": f"/{error.parameter}", "message": str(error)}
        raise Refused(400, {"detail": "the schedule can't be read", "errors": [fault]}) from None
    items = preview(trigger, now, int(str(body.get("count", 5))))
    return {
        "schedule": trigger.schedule,
        "timezone": trigger.timezone,
        "description": describe(trigger),
        "next": [{"at": format_moment(i.at), "local": i.local, **({"note": i.note} if i.note else {})} for i in items],
        "warnings": warnings_of(trigger, now),
    }
