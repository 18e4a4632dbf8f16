"""Owns the check of everything together."""

from __future__ import annotations

from typing import Final

from peregrine.testing.store_contract.factory import StoreFactory
from peregrine.testing.store_contract.story import tell

SEEDS: Final = range(4)
STEPS: Final = 250


async def random_stories_keep_every_promise(factory: StoreFactory) -> None:
    for seed in SEEDS:
        await tell(await factory.fresh(), seed, STEPS)
