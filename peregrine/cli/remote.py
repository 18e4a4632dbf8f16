"""Owns what every verb that asks the service has in common: where it is, who asks, how the answer looks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec

import click
from click.core import ParameterSource

from peregrine.cli import render
from peregrine.cli.client import Client, Document

URL: Final = "http://127.0.0.1:8000"
TOKEN_FILE: Final = "operator-token"
DATA_DIR: Final = "data"

P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class Session:
    """One verb's talk with the service."""

    client: Client
    as_json: bool

    def show(self, document: Document) -> None:
        """One document."""
        if self.as_json:
            render.show_json(document)
        else:
            render.show_document(document)

    def show_list(self, document: Document, key: str, columns: render.Columns) -> None:
        """A list with its envelope."""
        if self.as_json:
            render.show_json(document)
            return
        rows = document.get(key) or []
        render.show_table(rows, columns, empty=f"no {key}")
        total, pages = document.get("total", len(rows)), document.get("total_pages", 1)
        if total != len(rows):
            click.echo(f"{len(rows)} of {total}, page {document.get('page', 1)} of {pages}", err=True)

    def confirm(self, document: Document, text: str) -> None:
        """A short sentence for people, the whole answer for programs."""
        if self.as_json:
            render.show_json(document)
        else:
            render.say(text)


def data_dir_option(text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The option for where the service keeps its files."""
    return click.option(
        "--data-dir", envvar="SCHEDULER_DATA_DIR", default=DATA_DIR, show_default=True, metavar="DIR", help=text
    )


def remote(verb: Callable[Concatenate[Session, P], Any]) -> Callable[P, Any]:
    """Give *verb* its session and the options for it."""

    @click.option(
        "--server",
        envvar="PEREGRINE_URL",
        default=URL,
        show_envvar=True,
        show_default=True,
        metavar="URL",
        help="Where the service is.",
    )
    @click.option(
        "--data-dir",
        envvar="SCHEDULER_DATA_DIR",
        default=DATA_DIR,
        show_default=True,
        metavar="DIR",
        type=click.Path(path_type=Path),
        help="Where operator-token is; typed, it beats PEREGRINE_TOKEN.",
    )
    @click.option("--token", envvar="PEREGRINE_TOKEN", default="", hidden=True)
    @click.option("--json", "as_json", is_flag=True, help="The answer as JSON.")
    @wraps(verb)
    def with_session(*args: P.args, **kwargs: P.kwargs) -> Any:
        url, data_dir = str(kwargs.pop("server")), kwargs.pop("data_dir")
        token, hint = _token(str(kwargs.pop("token")), Path(str(data_dir)))
        session = Session(Client(url, token, hint), as_json=bool(kwargs.pop("as_json")))
        return verb(session, *args, **kwargs)

    return with_session  # fmt: skip


def _token(given: str, data_dir: Path) -> tuple[str, str]:
    """The token to show, and what to say if it is refused. What was typed wins over the environment."""
    source = click.get_current_context().get_parameter_source
    if given and source("token") is ParameterSource.COMMANDLINE:
        return given, "the token given by --token was refused"
    if given and source("data_dir") is not ParameterSource.COMMANDLINE:
        return given, "the token in PEREGRINE_TOKEN was refused; unset it or pass --data-dir"
    file = data_dir / TOKEN_FILE
    if kept := kept_token(data_dir):
        return kept, f"the token in {file} was refused"
    return "", f"there is no token in {file} that this user may read; set PEREGRINE_TOKEN or pass another --data-dir"


def kept_token(data_dir: Path) -> str:
    """The operator's token in *data_dir*; empty if there is none that we may read."""
    try:
        return (data_dir / TOKEN_FILE).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
