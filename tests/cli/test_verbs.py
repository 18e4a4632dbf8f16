"""Each verb sends the request it should and shows the answer; failures are one line and an exit code."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import socket
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peregrine.domain.moment import HOUR, format_moment
from tests.cli.conftest import Machine, Said

Typed = Callable[..., Said]

TASK = {
    "id": "t-1", "name": "ping", "type": "http", "status": "completed", "schedule": "*/5 * * * * *", "enabled": True,
    "next_run": "2030-01-01T00:00:05Z", "metadata": {"success_count": 3, "failure_count": 1, "tags": ["a", "b"]},
}  # fmt: skip
EXECUTION = {
    "id": "e-1", "task_id": "t-1", "status": "failed", "outcome": "timed_out", "trigger": "schedule",
    "started_at": "2030-01-01T00:00:00Z", "duration": "5s", "retry_count": 1, "error": "too slow",
    "attempts": [{"attempt": 1, "epoch": 1, "worker_id": "w", "outcome": "timed_out", "error": "too slow"}],
}  # fmt: skip
NO_TOKEN = (
    "there is no token in bare/operator-token that this user may read; set PEREGRINE_TOKEN or pass another --data-dir"
)
OCCURRENCE = {"scheduled_for": "2030-01-01T00:00:00Z", "count": 1, "verdict": "skipped", "reason": "overlap"}


@pytest.fixture
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory that the verb is typed in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def listed(name: str, *items: Any) -> dict[str, Any]:
    return {name: list(items), "total": len(items), "page": 1, "page_size": 20, "total_pages": 1}


@pytest.mark.parametrize(
    ("words", "method", "path", "body", "answer", "shown"),
    [
        ("status", "GET", "/scheduler/status", None, {"status": "healthy"}, "healthy"),
        ("stats", "GET", "/scheduler/stats", None, {"total_tasks": 3}, "total_tasks  3"),
        ("tasks list", "GET", "/scheduler/tasks?page=1&page_size=20", None, listed("tasks", TASK), "ping"),
        ("tasks list --status failed --type http --tag a --tag b --disabled -q x --sort -name --page 2 --page-size 5",
         "GET", "/scheduler/tasks?type=http&tags=a%2Cb&q=x&status=failed&enabled=false&sort=-name&page=2&page_size=5",
         None, listed("tasks", TASK), "t-1"),
        ("tasks get t-1", "GET", "/scheduler/tasks/t-1", None, TASK, "metadata.tags           a, b"),
        ("executions get ../a?b", "GET", "/scheduler/executions/..%2Fa%3Fb", None, EXECUTION, "e-1"),
        ("tasks delete t-1 -y", "DELETE", "/scheduler/tasks/t-1", None, {"message": "gone"}, "deleted t-1"),
        ("tasks execute t-1", "POST", "/scheduler/tasks/t-1/execute", None, {"execution_id": "e-9"}, "e-9"),
        ("tasks execute t-1 -p n=3 -p who=me --priority high", "POST", "/scheduler/tasks/t-1/execute",
         {"priority": "high", "parameters": {"n": 3, "who": "me"}}, {"execution_id": "e-9"}, "e-9"),
        ("tasks export", "GET", "/scheduler/tasks/export", None, {"tasks": [TASK]}, '"name": "ping"'),
        ("tasks stop t-1", "POST", "/scheduler/tasks/t-1/stop", None, {"message": "stopped it"},
         "stopped and paused; `peregrine tasks resume t-1` ends the pause\n"),
        ("tasks pause t-1 --reason x --until 2030-01-01T00:00:00Z", "POST", "/scheduler/tasks/t-1/pause",
         {"reason": "x", "until": "2030-01-01T00:00:00Z"}, TASK | {"status": "paused"}, "t-1 is paused"),
        ("tasks resume t-1", "POST", "/scheduler/tasks/t-1/resume", None, TASK,
         "resumed, next run 2030-01-01T00:00:05Z\n"),
        ("tasks enable t-1", "POST", "/scheduler/tasks/t-1/enable", None, TASK, "next run 2030-01-01T00:00:05Z"),
        ("tasks disable t-1", "POST", "/scheduler/tasks/t-1/disable", None, TASK | {"status": "disabled"}, "disabled"),
        ("tasks history t-1", "GET", "/scheduler/tasks/t-1/history?page=1&page_size=20", None,
         listed("executions", EXECUTION), "timed_out"),
        ("tasks execution t-1 e-1", "GET", "/scheduler/tasks/t-1/executions/e-1", None, EXECUTION, "too slow"),
        ("tasks occurrences t-1", "GET", "/scheduler/tasks/t-1/occurrences?page=1&page_size=20", None,
         listed("occurrences", OCCURRENCE), "overlap"),
        ("executions list --task t-1 --outcome failed --since 2030-01-01T00:00:00Z", "GET",
         "/scheduler/executions?task_id=t-1&outcome=failed&started_after=2030-01-01T00%3A00%3A00Z&page_size=20&page=1",
         None, listed("executions", EXECUTION), "e-1"),
        ("executions get e-1", "GET", "/scheduler/executions/e-1", None, EXECUTION, "ATTEMPT"),
        ("executions cancel e-1", "POST", "/scheduler/executions/e-1/cancel", None, {"message": "asked"}, "asked"),
        ("preview @daily -n 1", "POST", "/scheduler/schedule/preview",
         {"schedule": "@daily", "timezone": "UTC", "count": 1},
         {"description": "At midnight", "next": [{"at": "2030-01-01T00:00:00Z", "local": "l"}], "warnings": ["w"]},
         "At midnight"),
    ],
    ids=lambda value: value if isinstance(value, str) and " " in value else "",
)  # fmt: skip
def test_a_verb_asks_and_shows(
    machine: Machine, peregrine: Typed, words: str, method: str, path: str, body: Any, answer: Any, shown: str
) -> None:
    machine.lay_out(answer)

    said = peregrine(*words.split())

    (heard,) = machine.heard
    assert (heard.method, heard.path, heard.body, heard.token) == (method, path, body, "a-token")
    assert shown in said.out
    assert said.code == 0


def test_a_bundle_goes_out_to_a_file_and_comes_in_from_it(machine: Machine, peregrine: Typed, in_tmp: Path) -> None:
    machine.lay_out({"tasks": [TASK]}, {"imported": 1, "skipped": 2, "failed": 0, "failed_tasks": [], "dry_run": True})
    out = peregrine("tasks", "export", "-o", "tasks.json")

    back = peregrine("tasks", "import", "tasks.json", "--overwrite", "--dry-run")

    assert out.out == "1 tasks written to tasks.json\n"
    assert machine.heard[-1].path == "/scheduler/tasks/import?overwrite=true&dry_run=true"
    assert machine.heard[-1].body == {"tasks": [TASK]}
    assert (back.code, back.out) == (0, "1 would be imported, 2 skipped: their names are taken\n")


def test_a_bundle_with_a_fault_is_told_and_fails(machine: Machine, peregrine: Typed, in_tmp: Path) -> None:
    (in_tmp / "tasks.json").write_text('{"tasks": []}')
    machine.lay_out({"imported": 0, "skipped": 0, "failed": 1, "failed_tasks": [{"name": "x"}], "dry_run": True})

    said = peregrine("tasks", "import", "tasks.json")

    assert said.code == 1
    assert "x" in said.err


def test_the_status_shows_who_shares_the_store(machine: Machine, peregrine: Typed) -> None:
    one = {
        "id": "i-1", "here": True, "host": "alpha", "pid": 7, "version": "1", "slots": 10, "active": 3, "skew": "-1.5s",
        "started_at": "2026-01-01T00:00:00Z", "last_seen": "2026-01-01T00:00:09Z", "running": [],
    }  # fmt: skip
    document = {"status": "degraded", "instances": [one, one | {"id": "i-2", "here": False, "host": "beta"}]}
    machine.lay_out(document)

    said = peregrine("status")
    as_json = peregrine("status", "--json")

    first, *_, head, here, there = said.out.splitlines()
    assert first.split() == ["status", "degraded"]
    assert head.split()[:3] == ["INSTANCE", "HOST", "PID"]
    assert here.split() == ["i-1", "alpha", "7", "1", "3/10", "-1.5s", "2026-01-01T00:00:09Z", "here"]
    assert there.split()[:2] == ["i-2", "beta"]
    assert json.loads(as_json.out) == document
    assert said.code == 0


def test_json_is_the_answer_itself(machine: Machine, peregrine: Typed) -> None:
    machine.lay_out(listed("tasks", TASK))

    assert json.loads(peregrine("tasks", "list", "--json").out) == listed("tasks", TASK)


# ── a task by its name ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("words", "method", "rest"),
    [
        ("get", "GET", ""),
        ("update --priority low", "PUT", ""),
        ("delete --yes", "DELETE", ""),
        ("execute", "POST", "/execute"),
        ("stop", "POST", "/stop"),
        ("pause", "POST", "/pause"),
        ("resume", "POST", "/resume"),
        ("enable", "POST", "/enable"),
        ("disable", "POST", "/disable"),
        ("history", "GET", "/history?page=1&page_size=20"),
        ("occurrences", "GET", "/occurrences?page=1&page_size=20"),
    ],
    ids=lambda value: value if value.islower() else "",
)
def test_a_verb_takes_the_exact_name(machine: Machine, peregrine: Typed, words: str, method: str, rest: str) -> None:
    """What is no task's id is looked for among the names; the verb then asks by the id."""
    verb, *options = words.split()
    machine.lay_out({"detail": "no task"}, status=404)
    machine.lay_out(listed("tasks", TASK | {"id": "t-9", "name": "ping-2"}, TASK), TASK)

    said = peregrine("tasks", verb, "ping", *options)

    assert said.code == 0
    assert [(heard.method, heard.path) for heard in machine.heard] == [
        (method, f"/scheduler/tasks/ping{rest}"),
        ("GET", "/scheduler/tasks?q=ping&page_size=100"),
        (method, f"/scheduler/tasks/t-1{rest}"),
    ]


def test_what_can_be_no_id_is_looked_up_at_once_on_every_page(machine: Machine, peregrine: Typed) -> None:
    """A name with blanks or slashes never gets into a path, and may stand on a later page."""
    machine.lay_out(listed("tasks", TASK) | {"total_pages": 2})
    machine.lay_out(listed("tasks", TASK | {"name": "a b/pause"}) | {"page": 2, "total_pages": 2}, TASK)

    said = peregrine("tasks", "get", "a b/pause")

    assert said.code == 0
    assert [heard.path for heard in machine.heard] == [
        "/scheduler/tasks?q=a+b%2Fpause&page_size=100",
        "/scheduler/tasks?q=a+b%2Fpause&page_size=100&page=2",
        "/scheduler/tasks/t-1",
    ]


def test_neither_id_nor_name_is_said(machine: Machine, peregrine: Typed) -> None:
    """Part of a name is no name, and nothing is asked of the task that has it."""
    machine.lay_out({"detail": "no task with id 'pin'"}, status=404)
    machine.lay_out(listed("tasks", TASK))

    said = peregrine("tasks", "delete", "pin", "-y")
    named = peregrine("tasks", "get", "a b")

    assert (said.code, said.err) == (1, "peregrine: 404 no task with id 'pin'\n  and no task is named 'pin'\n")
    assert (named.code, named.err) == (1, "peregrine: 404 no task is named 'a b'\n")
    assert [heard.method for heard in machine.heard] == ["DELETE", "GET", "GET"]


def test_executions_of_a_task_by_its_name(machine: Machine, peregrine: Typed) -> None:
    """A filter that finds nothing as an id is tried as a name."""
    machine.lay_out(listed("executions"), listed("tasks", TASK), listed("executions", EXECUTION))

    said = peregrine("executions", "list", "--task", "ping")

    assert "e-1" in said.out
    assert machine.heard[-1].path == "/scheduler/executions?task_id=t-1&page_size=20&page=1"


def test_executions_of_no_task_are_none(machine: Machine, peregrine: Typed) -> None:
    """What may be the id of a task that is gone has an empty list; what can be no id is refused."""
    machine.lay_out(listed("executions"), listed("tasks"))

    gone, refused = peregrine("executions", "list", "--task", "t-7"), peregrine("executions", "list", "--task", "a b")

    assert (gone.code, gone.err) == (0, "no executions\n")
    assert (refused.code, refused.err) == (1, "peregrine: 404 no task is named 'a b'\n")


@pytest.mark.parametrize("words", ["tasks history t-1", "executions list", "executions get e-1"])
def test_what_runs_has_taken_the_time_so_far(machine: Machine, peregrine: Typed, words: str) -> None:
    """The service says ``0s`` until it ends; people see how long it has run."""
    an_hour_ago = format_moment(time.time_ns() // 1_000_000 - HOUR)
    running = EXECUTION | {"status": "running", "outcome": None, "started_at": an_hour_ago, "duration": "0s"}
    machine.lay_out(running if "get" in words else listed("executions", running))

    assert re.search(r"\b1h([0-9]+s)?\b", peregrine(*words.split()).out)


@pytest.mark.parametrize("started", ["2130-01-01T00:00:00Z", "no moment"])
def test_a_clock_that_is_behind_shows_no_time_below_zero(machine: Machine, peregrine: Typed, started: str) -> None:
    """The service's clock and ours may differ, and what is no moment is not reckoned with."""
    running = EXECUTION | {"status": "running", "started_at": started, "duration": "0s"}
    machine.lay_out(listed("executions", running))

    said = peregrine("executions", "list")

    assert said.code == 0
    assert " 0s " in said.out


def test_a_history_names_no_task(machine: Machine, peregrine: Typed) -> None:
    """The task was typed a moment ago; its id is not repeated on every row."""
    machine.lay_out(listed("executions", EXECUTION))

    said = peregrine("tasks", "history", "t-1")

    assert "TASK" not in said.out
    assert "t-1" not in said.out


# ── making tasks ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("words", "body"),
    [
        (["--name", "a", "--schedule", "@every 5m", "--url", "https://x.test/", "--method", "POST", "--body", "{}",
          "--header", "X-A: b:c", "--expect", "200", "--expect", "204"],
         {"name": "a", "schedule": "@every 5m", "type": "http",
          "config": {"url": "https://x.test/", "method": "POST", "body": "{}", "headers": {"X-A": "b:c"},
                     "expected_code": [200, 204]}}),
        (["--name", "a", "--function", "analytics:sum:up", "-p", "n=1", "-p", "w=x y", "-p", "l=[1]"],
         {"name": "a", "type": "function", "config": {"function_name": "up", "module": "analytics:sum",
                                                       "parameters": {"n": 1, "w": "x y", "l": [1]}}}),
        (["--name", "a", "--executor", "mine"], {"name": "a", "type": "custom", "config": {"executor": "mine"}}),
        (["--name", "a", "--retries", "0", "--retry-interval", "5s", "--timeout", "1m", "--tag", "t", "--priority",
          "low", "--overlap", "queue", "--misfire", "skip", "--disabled", "--timezone", "UTC"],
         {"name": "a", "timezone": "UTC", "priority": "low", "overlap": "queue", "misfire": "skip", "enabled": False,
          "tags": ["t"], "metadata": {"max_retries": 0, "retry_interval": "5s", "timeout": "1m"}}),
    ],
    ids=["http", "function", "custom", "care"],
)  # fmt: skip
def test_options_make_a_task(machine: Machine, peregrine: Typed, words: list[str], body: Any) -> None:
    machine.lay_out(TASK, status=201)

    said = peregrine("tasks", "create", *words)

    assert machine.heard[0].body == body
    assert said.out == "created t-1, next run 2030-01-01T00:00:05Z\n"


def test_a_file_makes_a_task_and_options_change_it(machine: Machine, peregrine: Typed, tmp_path: Path) -> None:
    machine.lay_out(TASK, status=201)
    file = tmp_path / "task.json"
    file.write_text('{"name": "a", "type": "http", "config": {"url": "https://a.test/", "method": "GET"}}')

    peregrine("tasks", "create", "-f", str(file), "--name", "b", "--url", "https://b.test/")

    assert machine.heard[0].body == {
        "name": "b", "type": "http", "config": {"url": "https://b.test/", "method": "GET"},
    }  # fmt: skip


def test_standard_input_makes_a_task(machine: Machine) -> None:
    machine.lay_out(TASK, status=201)
    words = [sys.executable, "-m", "peregrine", "tasks", "create", "-f", "-", "--server", machine.url]

    subprocess.run(words, input=b'{"name": "from a pipe"}', capture_output=True, check=True)

    assert machine.heard[0].body == {"name": "from a pipe"}


def test_a_change_sends_only_what_is_given(machine: Machine, peregrine: Typed) -> None:
    machine.lay_out(TASK)

    peregrine("tasks", "update", "t-1", "--schedule", "@hourly")

    assert (machine.heard[0].method, machine.heard[0].body) == ("PUT", {"schedule": "@hourly"})


@pytest.mark.parametrize(
    "words",
    [
        ["tasks", "create", "-f", "no-such-file"],
        ["tasks", "create", "--header", "no colon"],
        ["tasks", "execute", "t-1", "-p", "no-equals"],
        ["tasks", "list", "--page-size", "101"],
        ["tasks", "list", "--status", "asleep"],
        ["tasks", "nonsense"],
        ["token", "--group", "monitoring"],
        ["token", "--user", "me", "--lasts", "soon"],
        ["token", "--user", "a\nb"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_2_and_asks_nobody(machine: Machine, peregrine: Typed, words: list[str]) -> None:
    said = peregrine(*words)

    assert said.code == 2
    assert said.err.startswith(("Usage:", "Error:"))
    assert machine.heard == []


def test_nothing_is_deleted_unasked(machine: Machine, peregrine: Typed) -> None:
    """Without a terminal to ask at, ``--yes`` must be said: one line, exit code 2, no request."""
    said = peregrine("tasks", "delete", "t-1")

    assert (said.code, said.out) == (2, "")
    assert said.err == "Error: nobody is at a terminal to be asked; add --yes\n"
    assert machine.heard == []


@pytest.mark.parametrize("text", ["[1]", "not json"])
def test_a_file_that_is_no_task_is_wrong_usage(peregrine: Typed, tmp_path: Path, text: str) -> None:
    file = tmp_path / "task.json"
    file.write_text(text)

    assert peregrine("tasks", "create", "-f", str(file)).code == 2


# ── when it does not go well ─────────────────────────────────────────────────────────────────────


def test_a_refusal_names_every_fault(machine: Machine, peregrine: Typed) -> None:
    faults = [{"pointer": "/name", "message": "is taken"}, {"pointer": "", "message": "odd"}]
    machine.lay_out({"status": 400, "detail": "The task is wrong.", "errors": faults}, status=400)

    said = peregrine("tasks", "create", "--name", "x")

    assert said.code == 1
    assert said.err == "peregrine: 400 The task is wrong.\n  /name: is taken\n  /: odd\n"


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ((), "the token in PEREGRINE_TOKEN was refused; unset it or pass --data-dir"),
        (("--data-dir", "kept"), "the token in kept/operator-token was refused"),
        (("--data-dir", "bare"), NO_TOKEN),
        (("--token", "typed"), "the token given by --token was refused"),
    ],
    ids=["environment", "file", "none", "typed"],
)  # fmt: skip
def test_who_is_not_known_hears_which_token_it_was(
    machine: Machine, peregrine: Typed, in_tmp: Path, words: tuple[str, ...], hint: str
) -> None:
    """A 401 names the token that was shown and what to do about it."""
    (in_tmp / "kept").mkdir()
    (in_tmp / "kept" / "operator-token").write_text("kept\n")
    machine.lay_out({"detail": "Sign in."}, status=401)

    said = peregrine("tasks", "list", *words)

    assert said.code == 1
    assert said.err == f"peregrine: 401 Sign in.\n  {hint}\n"


def test_an_answer_that_is_no_json_is_said(machine: Machine, peregrine: Typed) -> None:
    machine.lay_out(b"<html>", status=502)

    assert "not JSON" in peregrine("stats").err


def test_nobody_there_is_one_line(peregrine: Typed) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

    said = peregrine("tasks", "list", "--server", f"http://127.0.0.1:{port}")

    assert said.code == 1
    assert said.err == (
        f"peregrine: nobody answers at http://127.0.0.1:{port} (connection refused); is `peregrine serve` running?\n"
    )


@pytest.mark.parametrize("url", ["nonsense", "ftp://x", "http://", "http://127.0.0.1:99999", "http://no.host.invalid"])
def test_an_address_that_is_none_is_one_line(peregrine: Typed, url: str) -> None:
    said = peregrine("stats", "--server", url)

    assert said.code == 1
    assert said.err.count("\n") == 1


def test_an_unhealthy_service_is_an_exit_code(machine: Machine, peregrine: Typed) -> None:
    machine.lay_out({"status": "unhealthy"})

    assert peregrine("status").code == 1


def test_the_token_of_the_data_directory_is_used(
    machine: Machine, peregrine: Typed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("PEREGRINE_TOKEN")
    (tmp_path / "operator-token").write_text("kept\n")
    machine.lay_out({})

    peregrine("stats", "--data-dir", str(tmp_path))

    assert machine.heard[0].token == "kept"


@pytest.mark.parametrize(("kept", "shown"), [("kept\n", "kept"), ("", "")], ids=["kept", "none"])
def test_a_data_directory_that_was_typed_wins_over_the_environment(
    machine: Machine, peregrine: Typed, tmp_path: Path, kept: str, shown: str
) -> None:
    """``--data-dir`` beats PEREGRINE_TOKEN, also where it holds no token: another's is not shown instead."""
    (tmp_path / "operator-token").write_text(kept)
    machine.lay_out({})

    peregrine("stats", "--data-dir", str(tmp_path))

    assert machine.heard[0].token == shown


def test_a_data_directory_of_the_environment_does_not(
    machine: Machine, peregrine: Typed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """SCHEDULER_DATA_DIR names no token while PEREGRINE_TOKEN is set."""
    (tmp_path / "operator-token").write_text("kept\n")
    monkeypatch.setenv("SCHEDULER_DATA_DIR", str(tmp_path))
    machine.lay_out({})

    peregrine("stats")

    assert machine.heard[0].token == "a-token"


def test_what_others_wrote_moves_no_cursor(machine: Machine, peregrine: Typed) -> None:
    machine.lay_out(listed("tasks", TASK | {"name": "\x1b[2Jgone\r\n\x9b31m"}))

    out = peregrine("tasks", "list").out

    assert "\x1b" not in out
    assert "\x9b" not in out
    assert r"\x1b[2Jgone\x0d\x0a\x9b31m" in out


# ── preview without a service ────────────────────────────────────────────────────────────────────


def test_a_schedule_is_worked_out_while_nobody_answers(peregrine: Typed) -> None:
    words = ("preview", "0 30 9 * * *", "--timezone", "Europe/Berlin", "-n", "2", "--server", "http://127.0.0.1:1")

    said = peregrine(*words)

    assert said.code == 0
    assert len(re.findall(r"T09:30:00\+0[12]:00", said.out)) == 2


def test_a_schedule_that_can_not_be_read_is_said(peregrine: Typed) -> None:
    said = peregrine("preview", "61 * * * * *", "--local")

    assert said.code == 1
    assert "/schedule:" in said.err


def test_a_refused_preview_is_not_worked_out(machine: Machine, peregrine: Typed) -> None:
    machine.lay_out({"detail": "no"}, status=400)

    assert peregrine("preview", "@daily").code == 1


# ── on a terminal ────────────────────────────────────────────────────────────────────────────────


def drawn(width: int, machine: Machine) -> list[str]:
    """The lines of a list on a real terminal of that width."""
    terminal, inside = os.openpty()
    fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
    kept = {name: text for name, text in os.environ.items() if name not in ("COLUMNS", "LINES")}
    env = kept | {"PEREGRINE_URL": machine.url, "PEREGRINE_TOKEN": "t", "NO_COLOR": "1", "TERM": "xterm"}
    words = [sys.executable, "-m", "peregrine", "tasks", "list"]
    with subprocess.Popen(words, env=env, stdout=inside, stderr=subprocess.DEVNULL) as process:
        os.close(inside)
        parts = []
        with contextlib.suppress(OSError):  # the end of a terminal is an error on Linux
            while part := os.read(terminal, 65536):
                parts.append(part)
    os.close(terminal)
    assert process.returncode == 0
    text = b"".join(parts).decode()
    return [re.sub(r"\x1b\[[0-9;]*m", "", line).rstrip() for line in text.splitlines()]


def test_a_wide_terminal_shows_every_column(machine: Machine) -> None:
    machine.lay_out(listed("tasks", TASK))

    head, _, row = drawn(200, machine)

    assert head.split() == ["id", "name", "status", "type", "schedule", "next", "run", "last", "run", "ok", "failed"]
    assert "2030-01-01T00:00Z" in row


def test_a_narrow_one_leaves_out_the_lightest_and_keeps_the_id_whole(machine: Machine) -> None:
    machine.lay_out(listed("tasks", TASK | {"id": "i" * 36}))

    head, _, row = drawn(60, machine)

    assert head.split() == ["id", "name", "status"]
    assert "i" * 36 in row
    assert max(map(len, (head, row))) <= 60
