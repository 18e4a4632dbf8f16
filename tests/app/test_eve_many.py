"""Two instances on one MongoDB and one Redis ask one EVE: together they are as polite as one, and all is right."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from tests.app.process import serving
from tests.app.test_eve import EVE_TASKS, a_fake_eve, asked, configured, signed_in
from tests.app.test_serve import ended, eventually
from tests.services.processes import Redis

pytestmark = pytest.mark.services


@pytest.mark.timeout(180)
def test_two_instances_share_what_eve_allows(
    tmp_path: Path, mongo_uri: str, mongo_database: str, redis_server: Redis
) -> None:
    shared = {
        "MONGODB_URI": mongo_uri, "MONGODB_DATABASE": mongo_database,
        "REDIS_HOST": redis_server.host, "REDIS_PORT": str(redis_server.port),
        "JWT_SECRET": "a secret that both instances share, long enough",
        "SCHEDULER_ENCRYPTION_KEY": base64.b64encode(bytes(range(32))).decode(),
        "SCHEDULER_WORKER_COUNT": "2",
    }  # fmt: skip
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
    with a_fake_eve("--corporations", "40", "--latency", "0.05") as address:
        settings = configured(address, EVE_FIRST_USER_IS_ADMIN="true", **shared)
        with serving(folders[0], **settings) as one, serving(folders[1], **settings) as two:
            signed_in(one)
            eventually(lambda: len(two.client.get("status")["instances"]), 2)

            runs = {
                task: str(asks.client.post("tasks", task, "execute")["execution_id"])
                for task, asks in zip(sorted(EVE_TASKS), (one, two, one, two), strict=True)
            }
            outcomes = {task: ended(one.client, run) for task, run in runs.items()}
            journal = asked(address, "/_fake/journal")

    assert {task: outcome["status"] for task, outcome in outcomes.items()} == dict.fromkeys(EVE_TASKS, "completed")
    assert "12 created" in str(outcomes["system-alliance-bulk-import"]["output"])
    assert journal["violations"] == {}, journal["first_violations"]
