"""A served task that prints in a child process is read while it runs, and after a restart; its secret never is."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from peregrine.cli.client import Document
from tests.app.process import SOON, Running, command, environment, serving

CANARY = "canary-2f6e91"
SETTINGS = {"SCHEDULER_FUNCTIONS": "tests.app.loud_work", "SCHEDULER_TIMEOUT_MIN": "1s"}


def begun(running: Running, go: Path) -> str:
    """The id of an execution of the loud function."""
    config = {"module": "test", "function_name": "loud", "parameters": {"go": str(go), "password": CANARY}}
    task = running.client.post(
        "tasks", body={"name": "loud", "type": "function", "config": config, "schedule": "@manual"}
    )  # fmt: skip
    return str(running.client.post("tasks", task["id"], "execute")["execution_id"])


def test_what_a_child_process_prints_is_read_while_it_runs(tmp_path: Path) -> None:
    go = tmp_path / "go"
    with serving(tmp_path, **SETTINGS) as running:
        id = begun(running, go)
        told = []
        page: Document = {}
        shown: Document = {}
        for name, place, document in running.client.events("executions", id, "logs", "stream"):
            told.append((name, document))
            assert name != "line" or place == f"1-{document['n']}"
            if {one for one, _ in told} == {"line", "progress"} and not go.exists():
                page = running.client.get("executions", id, "logs")
                shown = running.client.get("executions", id)
                go.touch()
        history = running.client.get("executions", id)
        functions = running.client.get("functions")
        followed = subprocess.run(
            command("executions", "logs", id, "--follow"), cwd=tmp_path, capture_output=True, text=True, check=True,
            env=environment(PEREGRINE_URL=running.url), timeout=SOON,
        )  # fmt: skip
        assert running.end() == 0

    assert (page["status"], page["live"]) == ("running", True)
    assert [line["text"] for line in page["lines"]] == ["printed before, ***"]
    assert shown["progress"] == page["progress"] == {"fraction": 0.5, "text": "halfway with ***"}
    texts = [document["text"] for name, document in told if name == "line"]
    assert sorted(texts) == ["WARNING logged behind ***", "error text ***", "printed before, ***"]
    assert told[-1] == ("end", {"execution_id": id, "status": "completed", "outcome": "succeeded"})
    assert "loud" in [one["function_name"] for one in functions["functions"]]
    assert followed.stdout.count("***") == 3
    with serving(tmp_path, **SETTINGS) as again:
        kept = again.client.get("executions", id, "logs")
    assert [line["text"] for line in kept["lines"]] == texts
    assert (kept["status"], kept["live"], kept["next"]) == ("completed", False, "1-3")
    everything = json.dumps([told, page, shown, history, kept, functions]) + followed.stdout + followed.stderr
    assert CANARY not in everything
    assert CANARY not in (tmp_path / "stderr").read_text()
