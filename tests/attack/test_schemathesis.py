"""A machine reads the document and attacks by it: examples, borders, noise and sequences, with a token and without.

``make attack`` gives it ten minutes for each store; ``ATTACK_SECONDS`` says how long otherwise.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.attack.target import TARGETS

SECONDS = int(os.environ.get("ATTACK_SECONDS", "30"))
# What the document can't say: cron, addresses and cursors are languages of their own, and a path that is a parameter in
# one route is a word in another, so a method may well be known there.
TOO_WISE = "positive_data_acceptance,unsupported_method"


@pytest.mark.slow
@pytest.mark.timeout(2 * SECONDS + 300)
@pytest.mark.parametrize("asker", ["operator", "stranger"])
@pytest.mark.parametrize("store", list(TARGETS))
def test_the_document_and_the_doors_agree_about_everything(store: str, asker: str, tmp_path: Path) -> None:
    seconds = max(5, SECONDS * 3 // 4 if asker == "operator" else SECONDS // 4)
    with TARGETS[store](tmp_path) as target:
        words = [
            f"{target.url}/openapi.json",
            *("--max-time", str(seconds)),
            *("--phases", "examples,coverage,fuzzing,stateful"),
            *("--exclude-checks", TOO_WISE),
            *("--suppress-health-check", "all"),
            *("--generation-database", "none"),
            *("--warnings", "off"),
            "--no-color",
        ]
        if asker == "operator":
            words += ["--header", f"Authorization: Bearer {target.token}"]
        program = "from schemathesis.cli import schemathesis; schemathesis()"

        ended = subprocess.run(
            [sys.executable, "-c", program, "run", *words], cwd=tmp_path, capture_output=True, text=True, check=False
        )

        assert ended.returncode == 0, ended.stdout[-8000:] + ended.stderr[-2000:]
        assert "Traceback" not in target.log.read_text()
