"""Owns how the house rules find and read our own files; must not know any rule."""

from __future__ import annotations

import ast
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "peregrine"
_FOREIGN = {".git", ".venv", "node_modules", "__pycache__", "dist", "build"}

type_of_function = (ast.FunctionDef, ast.AsyncFunctionDef)
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Source:
    """One Python file of ours, parsed."""

    path: Path
    text: str
    tree: ast.Module

    @property
    def name(self) -> str:
        return self.path.relative_to(ROOT).as_posix()

    @property
    def room(self) -> str:
        """The first folder below the package (``engine``), or the module's own name (``__main__``)."""
        return self.path.relative_to(PACKAGE).with_suffix("").parts[0] if PACKAGE in self.path.parents else ""

    def at(self, node: ast.AST) -> str:
        return f"{self.name}:{getattr(node, 'lineno', 1)}"

    def functions(self) -> Iterator[Function]:
        return (node for node in ast.walk(self.tree) if isinstance(node, type_of_function))

    def line(self, node: ast.expr) -> str:
        return self.text.splitlines()[node.lineno - 1]


@cache
def sources(*folders: str) -> tuple[Source, ...]:
    """Every Python file below the folders, in order."""
    found = []
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if not _FOREIGN.intersection(path.relative_to(ROOT).parts):
                text = path.read_text(encoding="utf-8")
                found.append(Source(path, text, ast.parse(text, str(path))))
    return tuple(found)


@cache
def tracked_files() -> tuple[Path, ...]:
    """The files in git that are there; without git, all that is not foreign."""
    paths = _listed_by_git()
    if not paths:
        paths = [path for path in sorted(ROOT.rglob("*")) if not _foreign(path)]
    return tuple(path for path in paths if path.is_file() and not path.is_symlink())


def _listed_by_git() -> list[Path]:
    if not shutil.which("git"):
        return []
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    return [ROOT / name for name in listed.stdout.split("\0") if name] if listed.returncode == 0 else []


def _foreign(path: Path) -> bool:
    return any(part in _FOREIGN or part.startswith((".venv", ".")) for part in path.relative_to(ROOT).parts)


def dotted(node: ast.expr) -> str:
    """``a.b.c`` for a chain of names, else an empty text."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (owner := dotted(node.value)):
        return f"{owner}.{node.attr}"
    return ""


def imported_modules(tree: ast.AST) -> Iterator[tuple[ast.stmt, str]]:
    """Every absolute import, wherever it stands, as (statement, ``x.y``); ``from x import y`` gives ``x.y`` too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield from ((node, f"{node.module}.{alias.name}") for alias in node.names)


def report(faults: list[str]) -> None:
    """Fail with all the faults, one a line."""
    assert not faults, "\n" + "\n".join(faults)
