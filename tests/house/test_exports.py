"""The public face: what a package lists in ``__all__`` is what it shows, no more and no less."""

from __future__ import annotations

import ast
import importlib

import pytest

from tests.house.source import PACKAGE, Source, sources

FACES = [source for source in sources("peregrine") if "__all__" in source.text]


def module_name(source: Source) -> str:
    parts = ("peregrine", *source.path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts).removesuffix(".__init__")


def public_names(body: list[ast.stmt]) -> set[str]:
    """What a module binds for others: its own definitions and, in a package, what it brings up from below."""
    names: set[str] = set()
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("peregrine"):
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.If | ast.Try):
            names |= public_names(node.body) | public_names(node.orelse)
    return {name for name in names if not name.startswith("_")}


@pytest.mark.parametrize("source", FACES, ids=module_name)
def test_listed_names_exist(source: Source) -> None:
    module = importlib.import_module(module_name(source))

    assert [name for name in module.__all__ if not hasattr(module, name)] == []


@pytest.mark.parametrize("source", [f for f in FACES if f.path.name == "__init__.py"], ids=module_name)
def test_a_face_lists_all_it_shows(source: Source) -> None:
    module = importlib.import_module(module_name(source))

    listed = {name for name in module.__all__ if not name.startswith("_")}
    assert public_names(source.tree.body) - listed == set()
