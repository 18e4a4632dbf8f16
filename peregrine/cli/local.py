"""Owns the verbs of this machine, from serve to doctor; must not know how they do it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec

import click

from peregrine.cli import render
from peregrine.cli.house import Flags, House, Move, TokenRequest
from peregrine.cli.remote import data_dir_option, kept_token
from peregrine.domain.moment import DAY, parse_duration
from peregrine.domain.permission import is_subject

P = ParamSpec("P")
LASTS_MAX: Final = 365 * DAY

SETTING_COLUMNS: render.Columns = (
    render.Column("setting", lambda line: line["name"], weight=render.ALWAYS),
    render.Column("value", lambda line: line["value"], weight=8),
    render.Column("from", lambda line: line["origin"]),
)
FINDING_COLUMNS: render.Columns = (
    render.Column("check", lambda one: one["check"], weight=8),
    render.Column("well", lambda one: one["is_well"], weight=render.ALWAYS),
    render.Column("seen", lambda one: one["seen"], weight=render.ALWAYS),
)

_FLAGS = {"host": "HOST", "port": "PORT", "data_dir": "SCHEDULER_DATA_DIR"}


def with_house(*names: str) -> Callable[[Callable[Concatenate[House, Flags, P], Any]], Callable[..., Any]]:
    """Give a verb the house and the flags of these names; what nobody gave is left to the environment."""
    options = {
        "host": click.option("--host", metavar="ADDRESS", help="Listen here instead of HOST (127.0.0.1)."),
        "port": click.option("--port", metavar="PORT", help="Listen here instead of PORT (8000); 0: any free one."),
        "data_dir": click.option("--data-dir", metavar="DIR", help="Instead of SCHEDULER_DATA_DIR (data)."),
    }

    def decorate(verb: Callable[Concatenate[House, Flags, P], Any]) -> Callable[..., Any]:
        @wraps(verb)
        def with_flags(*args: P.args, **kwargs: P.kwargs) -> Any:
            house: House = click.get_current_context().obj
            given = {_FLAGS[name]: kwargs.pop(name) for name in names}
            return verb(house, {name: str(text) for name, text in given.items() if text is not None}, *args, **kwargs)

        decorated: Callable[..., Any] = with_flags
        for name in reversed(names):
            decorated = options[name](decorated)
        return decorated

    return decorate


@click.command("serve")
@with_house("host", "port", "data_dir")
def serve(house: House, flags: Flags) -> int:
    """Run the service until SIGTERM or Ctrl-C.

    The first start makes the data directory, a signing secret and an operator token, and prints a line to try it.
    """
    return house.serve(flags)


@click.command("demo")
@click.option("--eve", is_flag=True, help="Show the EVE Online tasks instead, against a fake EVE; ends by itself.")
@with_house("port")
def demo(house: House, flags: Flags, *, eve: bool) -> int:
    """Run the service with a handful of tasks that show what it does, in a data directory of its own (data-demo)."""
    return house.demo_eve(flags) if eve else house.demo(flags)


@click.group("config", short_help="Show or check the settings.")
def config() -> None:
    """Settings: environment variables, read once at start."""


@config.command("show")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@with_house("data_dir")
def show_config(house: House, flags: Flags, *, as_json: bool) -> None:
    """Show every setting, secrets hidden, and where each came from."""
    lines, warnings = house.settings(flags)
    rows = [asdict(line) for line in lines]
    if as_json:
        render.show_json({"settings": rows, "warnings": list(warnings)})
        return
    render.show_table(rows, SETTING_COLUMNS, empty="")
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)


@config.command("check")
@with_house("data_dir")
def check_config(house: House, flags: Flags) -> int:
    """Check the settings: exit code 0, or 78 and one line that says what is wrong."""
    for warning in house.check(flags):
        click.echo(f"warning: {warning}", err=True)
    render.say("the settings are right")
    return 0


@click.command("token")
@click.option("--user", help="Mint a token for this user id instead of showing the operator's.")
@click.option("--group", "groups", multiple=True, help="With --user: a group such as monitoring; repeat it.")
@click.option("--lasts", default="8h", show_default=True, help="With --user: how long it holds.")
@data_dir_option("Where the service keeps its token and its signing secret.")
@click.pass_obj
def token(house: House, user: str | None, groups: tuple[str, ...], lasts: str, data_dir: str) -> None:
    """Print the operator's token, or mint one for a user with the signing secret."""
    if user is None and groups:
        raise click.UsageError("--group goes with --user")
    if user is not None:
        request = _token_request(user, groups, lasts)
        render.say(house.mint({"SCHEDULER_DATA_DIR": data_dir}, request))
    elif kept := kept_token(Path(data_dir)):
        render.say(kept)
    else:
        raise click.ClickException(f"no operator-token in {data_dir} that this user may read; `serve` makes one")


def _token_request(user: str, groups: tuple[str, ...], lasts: str) -> TokenRequest:
    for subject in (f"user:{user}", *(f"group:{group}" for group in groups)):
        if not is_subject(subject):
            raise click.UsageError(f"{subject!r}: write letters, digits, '_', '.', '-', '@', '+', '|', '/' or blanks")
    try:
        if not 0 < parse_duration(lasts) <= LASTS_MAX:
            raise ValueError("a token lasts at most 365 days")
    except ValueError as error:
        raise click.UsageError(f"--lasts {lasts!r}: {error}") from None
    return TokenRequest(user=user, groups=groups, lasts=lasts)


@click.group("keys", short_help="Turn the key that seals secrets.")
def keys() -> None:
    """The key that seals the secrets of tasks in the store."""


@keys.command("rotate")
@with_house("data_dir")
def rotate_keys(house: House, flags: Flags) -> None:
    """Seal the secrets of all tasks by a new key while the service may run; if it was cut off, go on.

    A key kept in the data directory is made anew, the one before stays beside it. One given by SCHEDULER_ENCRYPTION_KEY
    is yours to change: put the one before in SCHEDULER_ENCRYPTION_KEYS_OLD.
    """
    render.say(house.rotate(flags, lambda text: click.echo(text, err=True)))


@click.command("backup")
@click.argument("target", metavar="FILE")
@with_house("data_dir")
def backup(house: House, flags: Flags, target: str) -> None:
    """Copy the store to FILE while the service may run, and check the copy.

    Secrets are in it as ciphertext; the key is not.
    """
    render.say(house.backup(flags, target))


@click.command("migrate")
@click.option(
    "--from",
    "source",
    required=True,
    metavar="STORE",
    help="The store to empty: sqlite:DIRECTORY, or mongodb://HOST/DATABASE.",
)
@click.option("--to", "target", metavar="STORE", help="The empty store to fill.")
@click.option("--copy", "is_copy", is_flag=True, help="Leave the source in service: both will run the same tasks.")
@click.option("--release", "is_release", is_flag=True, help="Only let a source that was moved be started again.")
@with_house()
def migrate(house: House, flags: Flags, *, source: str, target: str | None, is_copy: bool, is_release: bool) -> None:
    """Move everything from one store into another: tasks, history, policies, keys of the API, the audit trail.

    Stop the service first; both stores are looked at for somebody who uses them. Cut off, it goes on when it is run
    again. At the end both are read and compared, and the source is marked so that it is not started by mistake.
    """
    if is_release:
        render.say(house.release(flags, source))
        return
    if target is None:
        raise click.UsageError("--to says where everything shall go")
    move = Move(source=source, target=target, is_copy=is_copy)
    with render.counting() as count:
        said = house.migrate(flags, move, lambda text: click.echo(text, err=True), count)
    render.say(said)


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@with_house("data_dir")
def doctor(house: House, flags: Flags, *, as_json: bool) -> int:
    """Look at the data directory's store without changing it: exit code 0 if all is well, else 1."""
    findings = [asdict(one) for one in house.doctor(flags)]
    if as_json:
        render.show_json({"findings": findings})
    else:
        render.show_table(findings, FINDING_COLUMNS, empty="nothing to look at")
        sys.stdout.flush()
    return 0 if all(one["is_well"] for one in findings) else 1
