"""Owns the fixture of the door tests; must not know any test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.api.world import World


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    yield world
    await world.client.aclose()
