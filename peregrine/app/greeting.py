"""Owns what a person reads at the start: where the service is, and at the first start a line to try it at once."""

from __future__ import annotations

import shlex
import sys
from typing import Final

from peregrine.app.credentials import Credentials
from peregrine.app.datadir import DataDir

SAMPLE: Final = (
    '{"name": "hello", "type": "function", "schedule": "* * * * * *",'
    ' "config": {"function_name": "hello", "module": "peregrine"}}'
)


def say(*lines: str) -> None:
    """Lines on standard output, at once; if nobody takes them, the service goes on."""
    try:
        sys.stdout.write("".join(f"{line}\n" for line in lines))
        sys.stdout.flush()
    except (OSError, ValueError):
        pass


def program() -> str:
    """This program as it was called, so that a line can be pasted where it was started."""
    return sys.argv[0] if sys.argv[0].endswith("/peregrine") else "peregrine"


def greet(url: str, data_dir: DataDir, credentials: Credentials, *, first_steps: bool) -> None:
    """Say where everything is; a token made at the first start is shown now and never again, unless a guide follows."""
    token, file = credentials.new_token, data_dir.operator_token
    say(f"Peregrine listens on {url}", f"  API reference    {url}/docs", f"  data directory   {data_dir.path}")
    if token is None:
        say(f"  operator token   in {file}")
    elif not credentials.is_first:
        say(f"  operator token   in {file}, renewed")
    elif not first_steps:
        say(f"  operator token   in {file}, made now")
    else:
        say(f"  operator token   in {file}, shown here once", *_first_steps(url, token))


def _first_steps(url: str, token: str) -> list[str]:
    header = '"Authorization: Bearer $PEREGRINE_TOKEN"'
    return [
        "",
        "Paste this to make a task that runs every second, and after a few what became of it:",
        "",
        f"  export PEREGRINE_TOKEN={token}",
        f"  curl -sS -X POST {url}/scheduler/tasks -H {header} -H 'Content-Type: application/json' \\",
        f"    -d {shlex.quote(SAMPLE)}",
        f"  curl -sS '{url}/scheduler/executions?page_size=3' -H {header}",
        "",
    ]
