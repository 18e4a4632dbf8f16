"""A real service in its own process, to be started, asked, and killed at any moment."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[2]
READY_WITHIN = 60.0


class Service:
    """One data directory and port; at most one process at a time."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        self.effects = folder / "effects.jsonl"
        self.log = folder / "service.log"
        self.tree = REPO
        """Where its code lies: another folder makes it another version."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> float:
        """Start and wait until it is ready; the seconds that took."""
        began = time.monotonic()
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("SCHEDULER_", "JWT_"))},
            "SCHEDULER_DATA_DIR": str(self.folder / "data"),
            "SCHEDULER_FUNCTIONS": "tests.faults.effects",
            "EFFECTS_FILE": str(self.effects),
            "PYTHONPATH": os.pathsep.join(map(str, (self.tree, REPO))),
            **self._settings,
        }
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "peregrine", "serve", "--port", str(self.port)],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.tree,
            )
        while time.monotonic() - began < READY_WITHIN:
            if self._process.poll() is not None:
                break
            try:
                if self.ask("GET", "/readyz")[0] == 200:
                    return time.monotonic() - began
            except OSError:
                time.sleep(0.01)  # not a wait: the port is not open yet
        raise AssertionError(f"not ready: exit {self._process.poll()}\n{self.log.read_text()[-4000:]}")

    @property
    def is_running(self) -> bool:
        """Whether its process has been started and not yet been waited for."""
        return self._process is not None

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """kill -9, and wait until the process is gone."""
        self.send(signal.SIGKILL)
        self.wait()

    def wait(self, within: float = 60) -> int:
        """Wait for the end of the process; its exit code."""
        assert self._process is not None
        code = self._process.wait(within)
        self._process = None
        return code

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self.send(signal.SIGTERM)
        return self.wait()

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """One request as the operator: status and document."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
            data = None
            if body is not None:
                data = json.dumps(body)
                headers["Content-Type"] = "application/json"
            connection.request(method, path, data, headers)
            answer = connection.getresponse()
            raw = answer.read()
            try:
                return answer.status, json.loads(raw)
            except ValueError:
                return answer.status, raw
        except http.client.HTTPException as error:
            raise ConnectionError(str(error)) from error
        finally:
            connection.close()

    @property
    def token(self) -> str:
        """The operator's token, once it has been made."""
        file = self.folder / "data" / "operator-token"
        return file.read_text().strip() if file.exists() else ""

    def all(self, path: str, name: str) -> list[dict[str, Any]]:
        """Every item of a list, page by page."""
        found: list[dict[str, Any]] = []
        page = 1
        while True:
            glue = "&" if "?" in path else "?"
            status, answer = self.ask("GET", f"{path}{glue}page={page}&page_size=100")
            assert status == 200, answer
            found += answer[name]
            if page >= answer["total_pages"]:
                return found
            page += 1

    def seen(self) -> list[dict[str, Any]]:
        """Every trace that the effects left."""
        if not self.effects.exists():
            return []
        lines = self.effects.read_text().splitlines()
        return [json.loads(line) for line in lines if line.endswith("}")]


def a_task(name: str, *, milliseconds: int = 0, schedule: str = "* * * * * *", **more: Any) -> dict[str, Any]:
    """A task that leaves traces."""
    return {
        "name": name,
        "type": "function",
        "schedule": schedule,
        "config": {"function_name": "effect", "module": "faults", "parameters": {"milliseconds": milliseconds}},
        **more,
    }
