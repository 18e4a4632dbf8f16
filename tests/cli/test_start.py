"""What a person waits for at every verb, judged by what is loaded: a count does not depend on the machine's mood."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {
    "pydantic", "pydantic_settings", "fastapi", "starlette", "uvicorn", "uvloop", "aiohttp", "rich", "apsw", "casbin",
    "cryptography", "joserfc", "structlog", "prometheus_client", "asyncio",
}  # fmt: skip
ROOT = Path(__file__).parents[2]
NOWHERE = "http://127.0.0.1:1"


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["status", "--server", NOWHERE],
        ["stats", "--server", NOWHERE],
        ["tasks", "list", "--server", NOWHERE],
        ["tasks", "create", "--help"],
        ["executions", "get", "e-1", "--server", NOWHERE],
        ["preview", "0 0 9 * * *", "--server", NOWHERE],
        ["token", "--data-dir", "."],
    ],
    ids=" ".join,
)
def test_a_verb_that_asks_the_service_loads_nothing_heavy(words: list[str]) -> None:
    program = (
        "import sys\n"
        "from peregrine.app.house import ThisHouse\n"
        "from peregrine.cli.main import run\n"
        "run(ThisHouse(), sys.argv[1:])\n"
        "sys.stderr.write('\\n'.join(['', *sys.modules]))"
    )

    done = subprocess.run([sys.executable, "-c", program, *words], cwd=ROOT, capture_output=True, text=True, check=True)

    loaded = set(done.stderr.split())
    assert "peregrine.cli.main" in loaded
    assert HEAVY & loaded == set()
    assert len(loaded) < 450
