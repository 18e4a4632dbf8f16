"""A host program's own modules, in the shape of the program whose tasks these are: its methods, its results, its words.
No EVE is configured, and none is asked.
"""

from __future__ import annotations

from pathlib import Path

from tests.app.process import serving
from tests.app.test_eve import run, system_tasks
from tests.app.test_serve import ended, eventually

HOST = """
import asyncio
from dataclasses import dataclass
from pathlib import Path

from peregrine import provide

CALLS = Path("calls")


def called(*words):
    with CALLS.open("a") as file:
        print(*words, file=file)


@dataclass
class BulkImportAlliancesOutput:
    total: int
    processed: int
    created: int
    updated: int
    failed: int
    skipped: int


class AuthModule:
    async def refresh_expiring_tokens(self, ctx, batch_size):
        called("refresh_expiring_tokens", batch_size)
        return 42, 1


class CharacterModule:
    async def update_all_affiliations(self, ctx):
        called("update_all_affiliations")
        ctx.progress(0.5, "half of them")
        ctx.log("three numbers come")
        return 1000, 3, 9000


class AllianceModule:
    async def bulk_import_alliances(self, ctx):
        called("bulk_import_alliances")
        return BulkImportAlliancesOutput(3476, 3476, 12, 40, 2, 3422)


class CorporationModule:
    async def update_all_corporations(self, ctx, concurrent_workers):
        called("update_all_corporations", concurrent_workers)
        if Path("hang").exists():
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                called("cancelled")
                raise


provide(
    auth=AuthModule(), character=CharacterModule(), alliance=AllianceModule(), corporation=CorporationModule()
)
"""


def test_all_seven_tasks_run_with_the_hosts_modules(tmp_path: Path) -> None:
    (tmp_path / "host.py").write_text(HOST)
    with serving(tmp_path, SCHEDULER_FUNCTIONS="host") as service:
        tasks = system_tasks(service)
        ends = {id: run(service, id) for id in tasks}
        log = service.client.get("executions", str(ends["system-character-affiliation-update"]["id"]), "logs")

    assert len(tasks) == 7
    assert {id: (task["enabled"], "Disabled" in task["description"]) for id, task in tasks.items()} == dict.fromkeys(
        tasks, (True, False)
    )
    assert {id: end["outcome"] for id, end in ends.items()} == dict.fromkeys(tasks, "succeeded")
    assert [
        ends[f"system-{name}"]["output"]
        for name in ("token-refresh", "character-affiliation-update", "alliance-bulk-import", "corporation-update")
    ] == [
        "Refreshed 42 tokens (1 failed)",
        "Updated 1000 characters (3 failed, 9000 skipped)",
        "Processed 3476 of 3476 alliances (12 created, 40 updated, 2 failed, 3422 skipped)",
        "Successfully updated all corporations with 10 concurrent workers",
    ]
    assert sorted((tmp_path / "calls").read_text().splitlines()) == [
        "bulk_import_alliances", "refresh_expiring_tokens 100", "update_all_affiliations", "update_all_corporations 10",
    ]  # fmt: skip
    assert "three numbers come" in str(log)


def test_a_stop_reaches_the_hosts_module(tmp_path: Path) -> None:
    (tmp_path / "host.py").write_text(HOST)
    (tmp_path / "hang").touch()
    calls = tmp_path / "calls"
    with serving(tmp_path, SCHEDULER_FUNCTIONS="host") as service:
        started = service.client.post("tasks", "system-corporation-update", "execute")
        eventually(calls.exists, True)

        service.client.post("tasks", "system-corporation-update", "stop")

        end = ended(service.client, str(started["execution_id"]))

    assert (end["status"], end["error"]) == ("failed", "Task execution was cancelled")
    assert calls.read_text().splitlines() == ["update_all_corporations 10", "cancelled"]
