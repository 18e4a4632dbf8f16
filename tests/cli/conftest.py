"""Owns the answering machine that CLI tests speak to: a real HTTP server with answers laid out beforehand."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from peregrine.app.house import ThisHouse
from peregrine.cli.main import run


@dataclass
class Heard:
    """One request as it came."""

    method: str
    path: str
    body: Any
    token: str


@dataclass
class Machine:
    """Answers every request with the next of ``answers`` (the last one for ever) and keeps what it heard."""

    url: str = ""
    answers: list[tuple[int, Any]] = field(default_factory=list)
    heard: list[Heard] = field(default_factory=list)

    def lay_out(self, *documents: Any, status: int = 200) -> None:
        self.answers += [(status, document) for document in documents]


@pytest.fixture
def machine() -> Iterator[Machine]:
    machine = Machine()

    class Answering(BaseHTTPRequestHandler):
        def answer(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            body = json.loads(self.rfile.read(length)) if length else None
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            machine.heard.append(Heard(self.command, self.path, body, token))
            status, document = machine.answers.pop(0) if len(machine.answers) > 1 else machine.answers[0]
            content = document if isinstance(document, bytes) else json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815 (the standard library looks for these)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    machine.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield machine
    server.shutdown()
    server.server_close()
    thread.join()


@dataclass
class Said:
    """What a verb printed and returned."""

    code: int
    out: str
    err: str


@pytest.fixture
def peregrine(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Said]:
    """``peregrine("tasks", "list")`` as typed at a prompt, against the answering machine."""
    monkeypatch.setenv("PEREGRINE_URL", machine.url)
    monkeypatch.setenv("PEREGRINE_TOKEN", "a-token")

    def typed(*words: str) -> Said:
        code = run(ThisHouse(), words)
        captured = capsys.readouterr()
        return Said(code, captured.out, captured.err)

    return typed
