"""The law of imports: down or stay, never up, never sideways; the domain is pure; one home for the world's facts."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.house.source import ROOT, Source, dotted, imported_modules, report, sources

IMPURE = {"asyncio", "logging", "os", "random", "secrets", "socket", "subprocess", "threading", "time", "uuid"}
DECIDING_ROOMS = {"domain", "wire", "engine", "usecases"}
TIME_AND_CHANCE = {
    "asyncio.sleep", "datetime.now", "datetime.utcnow", "datetime.today", "date.today", "os.urandom",
    "time.monotonic", "time.monotonic_ns", "time.perf_counter", "time.sleep", "time.time", "time.time_ns",
    "uuid.uuid1", "uuid.uuid4", "uuid.uuid7", "uuid1", "uuid4", "uuid7",
}  # fmt: skip
CHANCE_MODULES = {"random", "secrets"}
# Breaking each contract once, in a house of cards with the same floor plan: (file, what it imports).
CRIMES = {
    "floors": [("domain/low.py", "peregrine.ports.need"), ("engine/step.py", "peregrine.stores.memory")],
    "doors": [("api/route.py", "peregrine.stores.memory")],
    "cli": [("cli/verb.py", "peregrine.usecases.ask")],
    "testing": [("app/build.py", "peregrine.testing.clock")],
    "stores": [("stores/sqlite.py", "peregrine.stores.memory")],
    "eve": [("usecases/ask.py", "peregrine.modules.esi")],
    "eve-wiring": [("app/serve.py", "peregrine.app.eve")],
    "circles": [("domain/left.py", "peregrine.domain.right"), ("domain/right.py", "peregrine.domain.left")],
    "home-mongo": [("stores/memory.py", "bson")],
    "home-redis": [("coordination/memory.py", "redis.asyncio")],
    "home-sqlite": [("usecases/ask.py", "apsw")],
    "home-http-client": [("executors/egress.py", "aiohttp")],
    "home-web-framework": [("wire/shape.py", "starlette.responses")],
    "home-server": [("api/route.py", "uvicorn")],
    "home-settings": [("app/build.py", "pydantic_settings")],
    "home-pydantic": [("domain/low.py", "pydantic")],
    "home-proof": [("api/route.py", "joserfc.jwt")],
    "home-ciphers": [("auth/proof.py", "cryptography.fernet")],
    "home-schemas": [("wire/shape.py", "jsonschema_rs")],
    "home-observers": [("engine/step.py", "structlog")],
    "home-terminal": [("app/build.py", "click")],
    "home-tests": [("engine/step.py", "hypothesis")],
}

# Where an import likes to hide; it must not help.
HIDING_PLACES = (
    "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import {}\n",
    "def late() -> None:\n    import {}\n",
)


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    program = (
        "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True, no_logo=True))"
    )
    return subprocess.run([sys.executable, "-c", program], check=False, cwd=folder, capture_output=True, text=True)


def test_imports_follow_the_contracts() -> None:
    result = lint(ROOT)

    assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-2000:]


@pytest.mark.parametrize(
    ("crimes", "broken_ids"),
    [
        pytest.param([crime for group in CRIMES.values() for crime in group], set(CRIMES), id="each once"),
        pytest.param([("attic/box.py", "json")], {"floors"}, id="a room that no contract places"),
    ],
)
def test_the_contracts_bite(tmp_path: Path, crimes: list[tuple[str, str]], broken_ids: set[str]) -> None:
    """A contract that cannot fail protects nothing: every one is broken here at least once."""
    imports: dict[str, list[str]] = {"domain/__init__.py": [], **{file: [] for file in named_by_contracts()}}
    for name, module in crimes:
        imports.setdefault(name, []).append(module)
        if module.startswith("peregrine."):
            imports.setdefault(module.removeprefix("peregrine.").replace(".", "/") + ".py", [])
    for name, modules in imports.items():
        path = tmp_path / "peregrine" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        (path.parent / "__init__.py").touch()
        path.write_text("\n".join(HIDING_PLACES[i % 2].format(module) for i, module in enumerate(modules)))
    (tmp_path / "peregrine" / "__init__.py").touch()
    (tmp_path / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())

    result = lint(tmp_path)

    broken = set(re.findall(r"^(.+?) BROKEN", result.stdout, re.MULTILINE))
    assert broken == {contract_names()[id] for id in broken_ids}, result.stdout[-3000:] + result.stderr


def contracts() -> list[dict[str, Any]]:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return list(config["tool"]["importlinter"]["contracts"])


def contract_names() -> dict[str, str]:
    return {contract["id"]: contract["name"] for contract in contracts()}


def named_by_contracts() -> set[str]:
    """The files that a contract of the protecting kind wants to find, as it does not know names in parentheses."""
    names = [
        name for one in contracts() for kind in ("protected_modules", "allowed_importers") for name in one.get(kind, ())
    ]
    return {name.removeprefix("peregrine.").replace(".", "/") + ".py" for name in names}


def test_every_contract_has_a_crime() -> None:
    assert set(contract_names()) == set(CRIMES)


def test_every_folder_with_code_is_a_package() -> None:
    """A folder without ``__init__.py`` is invisible to the contracts."""
    folders = {source.path.parent for source in sources("peregrine")}

    report([f"{f.relative_to(ROOT)}: no __init__.py" for f in sorted(folders) if not (f / "__init__.py").exists()])


def test_imports_are_absolute() -> None:
    faults = [
        f"{source.at(node)}: relative import"
        for source in sources("peregrine")
        for node in ast.walk(source.tree)
        if isinstance(node, ast.ImportFrom) and node.level
    ]

    report(faults)


def test_the_domain_imports_only_pure_standard_library() -> None:
    faults = []
    for source in sources("peregrine/domain"):
        for node, module in imported_modules(source.tree):
            top = module.split(".")[0]
            if top in IMPURE or (top not in sys.stdlib_module_names and not module.startswith("peregrine.domain")):
                faults.append(f"{source.at(node)}: the domain may not import {module}")

    report(faults)


def test_time_and_chance_come_through_ports() -> None:
    faults = []
    for source in sources("peregrine"):
        if source.room in DECIDING_ROOMS:
            faults += [f"{source.at(call)}: {name}() is not behind a port" for call, name in world_calls(source)]

    report(faults)


def world_calls(source: Source) -> list[tuple[ast.Call, str]]:
    found = []
    for call in ast.walk(source.tree):
        if isinstance(call, ast.Call):
            name = dotted(call.func)
            tail = ".".join(name.split(".")[-2:])
            yields = tail == "asyncio.sleep" and call.args and ast.unparse(call.args[0]) == "0"
            if (tail in TIME_AND_CHANCE and not yields) or name.split(".")[0] in CHANCE_MODULES:
                found.append((call, name))
    return found


def test_the_environment_is_read_in_one_place() -> None:
    faults = [
        f"{source.at(node)}: only app/settings.py reads the environment"
        for source in sources("peregrine")
        if source.name != "peregrine/app/settings.py"
        for node in ast.walk(source.tree)
        if isinstance(node, ast.expr) and dotted(node) in {"os.environ", "os.getenv", "environ", "getenv"}
    ]

    report(faults)


def test_the_command_line_starts_light() -> None:
    """What a person waits for at every verb: none of it may load the service's frameworks."""
    program = "import sys, peregrine.cli.main; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)

    heavy = {"pydantic", "fastapi", "starlette", "uvicorn", "aiohttp", "rich", "apsw", "casbin", "cryptography"}
    assert not heavy.intersection(loaded.stdout.split())
