"""Services for the fault tests, none of which outlives its test."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.faults.service import Service


@pytest.fixture(name="make_service")
def _make_service() -> Iterator[Callable[..., Service]]:
    """``Service(folder, **settings)``, killed at the end if it still runs."""
    made: list[Service] = []

    def make(*args: object, **settings: str) -> Service:
        made.append(Service(*args, **settings))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for service in made:
        if service.is_running:
            service.kill()
