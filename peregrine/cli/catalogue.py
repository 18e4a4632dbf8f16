"""Owns the verbs on what tasks may name; must not know how requests travel."""

from __future__ import annotations

import click

from peregrine.cli import render
from peregrine.cli.client import Document
from peregrine.cli.remote import Session, remote

FUNCTION_COLUMNS: render.Columns = (
    render.Column("module", lambda one: one.get("module") or None, weight=8),
    render.Column("function", lambda one: one.get("function_name"), weight=render.ALWAYS),
    render.Column("isolation", lambda one: one.get("isolation"), weight=3),
    render.Column("parameters", lambda one: _parameters(one.get("parameters")), weight=7),
    render.Column("description", lambda one: _first_line(one.get("description")), weight=1),
)
EXECUTOR_COLUMNS: render.Columns = (
    render.Column("executor", lambda one: one.get("executor"), weight=render.ALWAYS),
    render.Column("parameters", lambda one: _parameters(one.get("parameters")), weight=7),
    render.Column("description", lambda one: _first_line(one.get("description")), weight=1),
)


@click.command("functions")
@remote
def functions(session: Session) -> None:
    """List the functions that tasks may name, with their parameters (those with ? may be left out)."""
    session.show_list(session.client.get("functions"), "functions", FUNCTION_COLUMNS)


@click.command("executors")
@remote
def executors(session: Session) -> None:
    """List the custom executors that tasks may name, with their parameters (those with ? may be left out)."""
    session.show_list(session.client.get("executors"), "executors", EXECUTOR_COLUMNS)


def _parameters(schema: Document | None) -> str | None:
    """``days: integer, who?: string``."""
    properties = (schema or {}).get("properties")
    required = (schema or {}).get("required") or ()
    if not isinstance(properties, dict):
        return None
    said = []
    for name, shape in properties.items():
        kind = shape.get("type") if isinstance(shape, dict) else None
        words = "|".join(map(str, kind)) if isinstance(kind, list) else kind
        said.append(f"{name}{'' if name in required else '?'}" + (f": {words}" if words else ""))
    return ", ".join(said) or None


def _first_line(text: object) -> str | None:
    return str(text).split("\n", 1)[0] if text else None
