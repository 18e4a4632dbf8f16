"""A machine reads the document and asks what it likes: no answer is a surprise to the document, none a crash."""

from __future__ import annotations

from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, settings

from tests.api.world import World

WORLD = World()
schema = schemathesis.openapi.from_asgi("/openapi.json", WORLD.app)

# Cron, addresses and cursors are languages of their own, which a schema can't say: what it allows may still be wrong.
TOO_WISE = [
    check
    for check in schemathesis.checks.CHECKS.get_all()
    if check.__name__ in ("positive_data_acceptance", "unsupported_method")
]


@schema.parametrize()
@settings(
    max_examples=3,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_the_document_knows_every_answer(case: Any) -> None:
    case.call_and_validate(headers=WORLD.bearer("super_admin"), excluded_checks=TOO_WISE)
