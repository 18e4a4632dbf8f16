"""Owns what every test shares: the event loop, Hypothesis profiles, golden files; must not know any room."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.services.fixtures import mongo_database, mongo_uri, redis_server, shared_redis  # noqa: F401

# A failing assertion of a public suite shows its values, as those in tests do.
pytest.register_assert_rewrite("peregrine.testing")

GOLDEN = Path(__file__).parent / "golden"

# `ci` gives the same cases every time, so a red test is a change of ours; `search` looks for new ones.
# On a loaded machine a deadline measures the neighbours, so there is none: pytest's own timeout bounds each test.
_shared = settings(deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", _shared, derandomize=True)
settings.register_profile("search", _shared, max_examples=5_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

# A developer's own settings must not change what a test sees.
for _name in [name for name in os.environ if name.startswith(("SCHEDULER_", "MONGODB_", "REDIS_", "JWT_"))]:
    del os.environ[_name]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-golden", action="store_true", help="rewrite tests/golden instead of comparing")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """``golden(name, text)`` fails with a diff unless ``tests/golden/<name>`` says *text*; `make golden` rewrites it.

    The test that uses it carries ``@pytest.mark.golden``, which is how `make golden` finds it.
    """
    rewrite = bool(request.config.getoption("--write-golden"))
    if request.node.get_closest_marker("golden") is None:
        pytest.fail("a test that uses `golden` must carry @pytest.mark.golden", pytrace=False)

    def compare(name: str, text: str) -> None:
        path = GOLDEN / name
        if rewrite:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            return
        known = path.read_text(encoding="utf-8") if path.exists() else ""
        if known != text:
            diff = difflib.unified_diff(
                known.splitlines(), text.splitlines(), f"golden/{name}", "what the code says now", lineterm="", n=2
            )
            shown = "\n".join(list(diff)[:80])
            pytest.fail(f"golden/{name} differs; if that is intended, run `make golden`\n{shown}", pytrace=False)

    return compare
