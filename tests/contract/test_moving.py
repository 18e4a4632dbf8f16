"""What one store holds can be laid down in another, and works there."""

from __future__ import annotations

from pathlib import Path

import pytest

from peregrine.testing.moving_contract import CHECKS, Check
from tests.stores.sqlite_places import a_store, is_counted, is_sound


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_from_sqlite_to_sqlite(check: Check, tmp_path: Path) -> None:
    source, target = a_store(tmp_path / "source.db"), a_store(tmp_path / "target.db")
    await source.open()
    await target.open()

    await check(source, target)

    await source.close()
    await target.close()
    assert is_sound(tmp_path / "target.db")
    assert is_counted(tmp_path / "target.db")
