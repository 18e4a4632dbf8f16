"""Owns the demonstration: the true service, a handful of tasks made over its API, and a line of what happens.

It is a client like any other: what it does, the commands it prints do as well. Must not know engine or store.
"""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import shutil
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from peregrine.app.datadir import OPERATOR_TOKEN
from peregrine.app.greeting import program, say
from peregrine.app.life import Started
from peregrine.app.listen import listen
from peregrine.app.serve import serve
from peregrine.app.settings import load
from peregrine.cli.client import Away, Client, Document, Refused
from peregrine.domain.errors import BadConfiguration

DATA_DIR: Final = "data-demo"
PORT: Final = "8000"
PORT_MAX: Final = 65_535
LINE_SECONDS: Final = 1.0
QUIET_LINE_SECONDS: Final = 3.0
"""Between two lines where they can't be written over each other."""
SHOWN: Final = 100


def demo(flags: Mapping[str, str]) -> int:
    """Run it until it is told to stop; the exit code."""
    port = _free_port(flags.get("PORT"))
    settings = {
        "SCHEDULER_DATA_DIR": DATA_DIR,
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "API_PREFIX": "",
        "SCHEDULER_FUNCTIONS": "peregrine.app.demo_work",
        # The service's own port is closed to tasks; naming the very address and port is the one way to open it.
        "SCHEDULER_EGRESS_ALLOW": f"127.0.0.1:{port}",
        "SCHEDULER_TIMEOUT_MIN": "1s",
        "SCHEDULER_SHUTDOWN_GRACE": "1s",
        "LOG_LEVEL": "warning",
    }
    return serve(load(settings), beside=Demonstration().run)


def _free_port(asked: str | None) -> int:
    """The port that was asked for, else the usual one, else any that is free. Tasks must know it before it is taken."""
    for port in [asked] if asked is not None else [PORT, "0"]:
        if not port.isdecimal() or int(port) > PORT_MAX:
            break
        with contextlib.suppress(BadConfiguration), contextlib.closing(listen("127.0.0.1", int(port))) as listener:
            return int(listener.getsockname()[1])
    raise BadConfiguration(f"PORT={asked}: can't be listened on; leave it out to take any free one")


def tasks_of(url: str) -> list[Document]:
    """What is shown, each for one reason."""
    return [
        _shown(
            "demo: every second",
            "Says how many milliseconds late it is.",
            schedule="* * * * * *",
            **_calling("greet", name="you"),
        ),
        _shown(
            "demo: stumbles, then succeeds",
            "Fails twice; each failure is an attempt of the same execution, tried again after a growing wait.",
            schedule="*/10 * * * * *",
            **_calling("stumble", until=3),
        ),
        _shown(
            "demo: fails for good",
            "Is tried once more and then given up.",
            schedule="5-59/20 * * * * *",
            metadata=_QUICK | {"max_retries": 1},
            **_calling("stumble", until=9),
        ),
        _shown(
            "demo: takes long, stop me",
            "Goes on for 90 seconds each minute: the occurrence it still covers is recorded as skipped.",
            schedule="0 * * * * *",
            metadata={"timeout": "5m"},
            **_calling("walk", seconds=90),
        ),
        _shown(
            "demo: asks this very service",
            "An HTTP task; loopback is closed to tasks unless an operator opens it, as here.",
            schedule="*/5 * * * * *",
            type="http",
            config={"url": f"{url}/healthz", "expected_code": 200},
        ),
        _shown(
            "demo: by hand only",
            "Runs when somebody starts it.",
            schedule="@manual",
            **_calling("greet", name="operator"),
        ),
    ]


_QUICK: Final = {"max_retries": 3, "retry_interval": "1s", "timeout": "10s"}


def _shown(name: str, description: str, **more: Any) -> Document:
    return {"name": name, "description": description, "tags": ["demo"], "metadata": _QUICK, **more}


def _calling(function: str, **parameters: Any) -> Document:
    config = {"module": "demo", "function_name": function, "parameters": parameters}
    return {"type": "function", "config": config}


@dataclass
class Demonstration:
    """Makes the tasks, starts the long one, and tells what happens."""

    _last: str = field(default="", init=False)

    async def run(self, started: Started) -> None:
        """Show it until cancelled. What goes wrong is said; the service goes on."""
        client = Client(started.url, started.data_dir.read_secret(OPERATOR_TOKEN))
        try:
            ids = await asyncio.to_thread(make, client, started.url)
            self._tell(started, ids)
            await self._watch(client)
        except (Away, Refused) as error:
            say(f"The demonstration ends: {error}. The service goes on.")
        finally:
            if self._last:
                say("")

    def _tell(self, started: Started, ids: Mapping[str, str]) -> None:
        long = next(id for name, id in ids.items() if "takes long" in name)
        hand = next(id for name, id in ids.items() if "by hand" in name)
        stumbling = next(id for name, id in ids.items() if "stumbles" in name)
        say(
            "",
            f"{len(ids)} tasks run now. In another terminal:",
            "",
            f"  export PEREGRINE_URL={started.url} SCHEDULER_DATA_DIR={shlex.quote(str(started.data_dir.path))}",
            f"  {program()} tasks list",
            f"  {program()} tasks history {stumbling}",
            f"  {program()} tasks stop {long}",
            f"  {program()} tasks occurrences {long}",
            f"  {program()} tasks execute {hand}",
            "",
            "Kill it hard (kill -9) and start it again: what ran is taken up, what was missed is accounted for.",
            "Ctrl-C ends it.",
            "",
        )

    async def _watch(self, client: Client) -> None:
        is_live = sys.stdout.isatty()
        while True:
            await asyncio.sleep(LINE_SECONDS if is_live else QUIET_LINE_SECONDS)
            with contextlib.suppress(Away, Refused):
                line = await asyncio.to_thread(summary, client)
                self._show(line, is_live=is_live)

    def _show(self, line: str, *, is_live: bool) -> None:
        if not is_live:
            say(line)
            return
        line = line[: shutil.get_terminal_size().columns - 1]
        sys.stdout.write("\r" + line.ljust(len(self._last)))
        sys.stdout.flush()
        self._last = line


def make(client: Client, url: str) -> dict[str, str]:
    """The tasks' ids by name: made now, or found from an earlier demonstration and brought up to date."""
    known = {str(task["name"]): str(task["id"]) for task in client.get("tasks", tags="demo", page_size=SHOWN)["tasks"]}
    ids = {}
    for task in tasks_of(url):
        name = str(task["name"])
        if name in known:
            client.ask("PUT", ("tasks", known[name]), body=task)
            client.post("tasks", known[name], "resume")
            ids[name] = known[name]
        else:
            ids[name] = str(client.post("tasks", body=task)["id"])
    long = next(id for name, id in ids.items() if "takes long" in name)
    client.post("tasks", long, "execute")
    return ids


def summary(client: Client) -> str:
    """One line of what happened of late."""
    stats = client.get("stats")
    recent: list[dict[str, Any]] = client.get("executions", page_size=SHOWN)["executions"]
    outcomes = Counter(str(one.get("outcome") or one.get("status")) for one in recent)
    retried = sum(1 for one in recent if one.get("retry_count"))
    shown = ", ".join(f"{count} {word}" for word, count in sorted(outcomes.items()))
    return (
        f"{stats['completed_today']} completed, {stats['failed_today']} failed today"
        f" | last {len(recent)}: {shown} ({retried} retried)"
    )
