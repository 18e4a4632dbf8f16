"""EVE wired in: the service as a process beside a fake EVE, from its settings to what its tasks have done."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any

import pytest

from peregrine.app import demo_eve
from peregrine.testing.fake_esi.world import FIRST_ALLIANCE, FIRST_CHARACTER, FIRST_CORPORATION
from tests.app.process import ROOT, Running, command, done, environment, serving
from tests.app.test_serve import ended, eventually

EVE_TASKS = {
    "system-token-refresh", "system-character-affiliation-update", "system-alliance-bulk-import",
    "system-corporation-update",
}  # fmt: skip


@contextmanager
def a_fake_eve(*words: str) -> Iterator[str]:
    """The address of a small EVE in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "peregrine.testing.fake_esi", "--characters", "50", "--alliances", "12",
         "--while-stdin", *words],
        cwd=ROOT, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        yield process.stdout.readline().split()[-1]
    finally:
        process.kill()
        process.communicate()


def configured(address: str, **more: str) -> dict[str, str]:
    return {
        "ESI_CONTACT": "tests@peregrine.example", "ESI_BASE_URL": address, "EVE_SSO_URL": address,
        "EVE_CLIENT_ID": "fake-client", "EVE_CLIENT_SECRET": "fake-secret",
        "EVE_REDIRECT_URI": "http://127.0.0.1:1/auth/eve/callback",
    } | more  # fmt: skip


def system_tasks(service: Running) -> dict[str, dict[str, Any]]:
    tasks = service.client.get("tasks", is_system="true", page_size=100)["tasks"]
    return {str(task["id"]): task for task in tasks}


def run(service: Running, task_id: str) -> dict[str, Any]:
    """The end of one run of a task."""
    started = service.client.post("tasks", task_id, "execute")
    return ended(service.client, str(started["execution_id"]))


def test_without_eve_the_tasks_are_there_and_say_what_to_set(tmp_path: Path) -> None:
    with serving(tmp_path) as service:
        tasks = system_tasks(service)

    assert len(tasks) == 7
    for id, task in tasks.items():
        assert task["enabled"] is (id not in EVE_TASKS)
    assert "Disabled: set ESI_CONTACT" in tasks["system-corporation-update"]["description"]
    assert "EVE_CLIENT_ID" in tasks["system-token-refresh"]["description"]


def test_eve_can_be_deleted_by_one_line(tmp_path: Path) -> None:
    """In a copy of the package without it the service starts, and does all that is not EVE's."""
    package = tmp_path / "peregrine"
    shutil.copytree(ROOT / "peregrine", package, ignore=shutil.ignore_patterns("__pycache__", "esi", "fake_esi"))
    (package / "app" / "eve.py").unlink()
    wiring = package / "app" / "build.py"
    line = "from peregrine.app.eve import extension\n"
    text = wiring.read_text()
    assert text.count("app.eve") == text.count(line) == 1
    wiring.write_text(text.replace(line, "from peregrine.app.extension import nothing as extension\n"))

    with serving(tmp_path, PYTHONPATH=str(tmp_path), **configured("https://esi.example")) as service:
        tasks = system_tasks(service)
        outcomes = [run(service, id)["outcome"] for id in tasks]
        with pytest.raises(urllib.error.HTTPError, match="404"):
            asked(service.url, "/auth/eve/login")

    assert len(tasks) == 3
    assert EVE_TASKS.isdisjoint(tasks)
    assert outcomes == ["succeeded"] * 3


def test_with_a_contact_alone_the_public_tasks_are_on(tmp_path: Path) -> None:
    with a_fake_eve() as address, serving(tmp_path, ESI_CONTACT="a@b.example", ESI_BASE_URL=address) as service:
        tasks = system_tasks(service)
        imported = run(service, "system-alliance-bulk-import")
        healthy = run(service, "system-health-check")

    assert [id for id, task in tasks.items() if not task["enabled"]] == ["system-token-refresh"]
    assert imported["output"] == "Processed 12 of 12 alliances (12 created, 0 updated, 0 failed, 0 skipped)"
    assert '"esi": {"status": "up"' in str(healthy["output"])


def test_a_pilot_signs_in_and_the_tasks_keep_them_fresh(tmp_path: Path) -> None:
    """The whole way: the browser to the fake and back, the cookie, the tokens refreshed, the character placed; and no
    secret in any file, the log at its most talkative included."""
    settings = {"EVE_FIRST_USER_IS_ADMIN": "true", "LOG_LEVEL": "debug"}
    with a_fake_eve() as address, serving(tmp_path, **configured(address, **settings)) as service:
        me = signed_in(service)
        placed = run(service, "system-character-affiliation-update")
        updated = run(service, "system-corporation-update")
        refreshed = run(service, "system-token-refresh")
        secrets = [*asked(address, "/_fake/tokens?count=1").values(), "fake-secret"]

    assert (me["character_id"], "publicData" in me["scopes"]) == (FIRST_CHARACTER, True)
    assert str(placed["output"]).startswith("Updated 1 characters (0 failed, 0 skipped) in ")
    assert "(1: 1 updated, 0 unchanged, 0 failed, 0 vanished)" in str(updated["output"])
    assert refreshed["output"] == "Refreshed 0 tokens (0 failed)"  # they are fresh from the login
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert len(files) > 5
    for secret in secrets:
        assert [file.name for file in files if str(secret).encode() in file.read_bytes()] == []


def asked(address: str, path: str) -> Any:
    """What the fake tells whoever steers it."""
    with urllib.request.urlopen(address + path, timeout=30) as answer:
        return json.load(answer)


def signed_in(service: Running) -> dict[str, Any]:
    """What ``/auth/me`` says to a browser that went to the fake and came back; an admin may read the policies."""

    class Stay(urllib.request.HTTPRedirectHandler):
        """Follows nothing: the callback's address is nobody's here."""

        def redirect_request(self, *given: Any, **named: Any) -> None:
            return None

    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()), Stay())

    def location(url: str) -> str:
        with pytest.raises(urllib.error.HTTPError) as told:
            browser.open(url, timeout=30)
        assert told.value.code in (302, 303), told.value.read()
        told.value.close()
        return str(told.value.headers["Location"])

    back = location(location(f"{service.url}/auth/eve/login"))
    assert back.startswith("http://127.0.0.1:1/auth/eve/callback?")
    assert location(service.url + back.removeprefix("http://127.0.0.1:1")) == "/auth/me"
    with browser.open(f"{service.url}/scheduler/policies", timeout=30) as answer:
        assert answer.status == 200
    with browser.open(f"{service.url}/auth/me", timeout=30) as answer:
        return dict(json.load(answer))


def test_a_host_program_brings_its_own_module(tmp_path: Path) -> None:
    """A module named in SCHEDULER_FUNCTIONS provides it; then its task is on without any EVE."""
    (tmp_path / "my_eve.py").write_text(
        "from peregrine import provide\n"
        "class Mine:\n"
        "    async def update_all_corporations(self, context, concurrent_workers):\n"
        "        context.log('mine')\n"
        "provide(corporation=Mine())\n"
    )
    with serving(tmp_path, SCHEDULER_FUNCTIONS="my_eve") as service:
        tasks = system_tasks(service)
        outcome = run(service, "system-corporation-update")

    assert [id for id in EVE_TASKS if tasks[id]["enabled"]] == ["system-corporation-update"]
    assert outcome["output"] == "Successfully updated all corporations with 10 concurrent workers"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"EVE_CLIENT_ID": "x"}, "EVE_CLIENT_ID needs ESI_CONTACT and EVE_REDIRECT_URI too"),
        ({"EVE_CLIENT_SECRET": "x"}, "EVE_CLIENT_SECRET needs EVE_CLIENT_ID"),
        ({"ESI_CONTACT": "me"}, "ESI_CONTACT='me': write a mail address"),
        ({"EVE_SCOPES": "a b"}, "is no scope"),
        ({"ESI_CONTACT": "a@b.example", "ESI_BASE_URL": "http://esi.example"}, "must be an https:// URL"),
    ],
)
def test_half_a_configuration_stops_the_start(tmp_path: Path, settings: dict[str, str], said: str) -> None:
    result = done("serve", cwd=tmp_path, **settings)

    assert result.returncode == 78
    assert said in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_the_demonstration_runs_all_seven_and_the_fake_has_nothing_to_blame(tmp_path: Path) -> None:
    code = (
        "import sys; from peregrine.app.demo_eve import Scale, demo_eve; "
        "sys.exit(demo_eve({}, Scale(characters=2500, alliances=20, corporations=30, pilots=15)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False,
        timeout=50,
    )  # fmt: skip

    assert result.returncode == 0, result.stdout + result.stderr
    assert len(re.findall(r"^  .+ succeeded +", result.stdout, re.MULTILINE)) == 7
    assert "Updated 2500 characters (0 failed, 0 skipped)" in result.stdout
    assert "Refreshed 15 tokens (0 failed)" in result.stdout
    assert "It has nothing to blame" in result.stdout


def test_the_demonstration_counts_from_where_the_fake_does() -> None:
    assert (demo_eve.FIRST_CHARACTER, demo_eve.FIRST_CORPORATION, demo_eve.FIRST_ALLIANCE) == (
        FIRST_CHARACTER, FIRST_CORPORATION, FIRST_ALLIANCE,
    )  # fmt: skip


def test_the_demonstrations_eve_ends_with_who_began_it(tmp_path: Path) -> None:
    """Killed at once, it can tell nobody; the other end of the fake's input is closed for it."""
    code = (
        "import os, sys; from peregrine.app import demo_eve\n"
        "with demo_eve._fake(demo_eve.Scale(10, 1, 1, 1)) as address:\n"
        "    print(address, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True,
    ) as starter:  # fmt: skip
        assert starter.stdout is not None
        address = starter.stdout.readline().strip()
        assert asked(address, "/_fake/journal")["refreshes"] == 0
        starter.kill()
        starter.wait()

    assert eventually(lambda: _is_there(address), False) is False


def _is_there(address: str) -> bool:
    try:
        asked(address, "/_fake/journal")
    except OSError:
        return False
    return True


def test_demo_eve_is_a_verb() -> None:
    help_text = subprocess.run(command("demo", "--help"), capture_output=True, text=True, check=True, cwd=ROOT).stdout

    assert "--eve" in help_text


def test_the_howtos_module_is_taken(tmp_path: Path) -> None:
    """The code that the how-to shows runs as it stands there."""
    text = (ROOT / "docs" / "howto" / "eve.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (tmp_path / "from_howto.py").write_text(block)
    with serving(tmp_path, SCHEDULER_FUNCTIONS="from_howto") as service:
        outcome = run(service, "system-corporation-update")

    assert outcome["outcome"] == "succeeded"
