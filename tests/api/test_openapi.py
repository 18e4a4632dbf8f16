"""The document is true: what it says is what comes, and what it allows is taken."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import jsonschema_rs
import pytest

from peregrine.api.app import build
from tests.api.matrix import ROWS
from tests.api.test_permissions import settled
from tests.api.world import World

pytestmark = pytest.mark.anyio


def document(world: World) -> dict[str, Any]:
    return dict(build(world.deps)[0].openapi())


@pytest.mark.golden
async def test_the_document_changes_on_purpose(world: World, golden: Callable[[str, str], None]) -> None:
    golden("openapi.json", json.dumps(document(world), indent=1, sort_keys=True, ensure_ascii=False) + "\n")


async def test_it_is_served_and_valid(world: World) -> None:
    served = (await world.ask("GET", "/openapi.json", groups=())).json()

    assert served == json.loads(json.dumps(document(world)))
    assert served["openapi"].startswith("3.1")
    for schema in served["components"]["schemas"].values():
        assert jsonschema_rs.meta.is_valid(schema)
    refs = {part.split('"')[0] for part in json.dumps(served).split('"$ref": "')[1:]}
    assert {ref.removeprefix("#/components/schemas/") for ref in refs} <= set(served["components"]["schemas"])


async def test_every_operation_says_its_permission_answers_and_problems(world: World) -> None:
    known = document(world)
    ids = []
    for path, operations in known["paths"].items():
        for method, said in operations.items():
            ids.append(said["operationId"])
            assert said["summary"], (method, path)
            assert said["tags"]
            is_open = path in ("/healthz", "/readyz", "/auth/eve/login", "/auth/eve/callback")
            assert ("x-permission" in said) is not is_open
            codes = set(said["responses"])
            assert "422" not in codes
            assert is_open or {"401", "403"} <= codes
            placeholders = {part[1:-1] for part in path.split("/") if part.startswith("{")}
            assert placeholders == {one["name"] for one in said["parameters"] if one["in"] == "path"}
    assert len(ids) == len(set(ids))
    assert known["components"]["schemas"]["NewTask"]["required"] == ["name", "type", "schedule", "config"]


@pytest.mark.parametrize(("method", "path", "body"), [r[:3] for r in ROWS], ids=[f"{r[0]} {r[1]}" for r in ROWS])
async def test_what_comes_is_what_the_document_says(world: World, method: str, path: str, body: Any) -> None:
    known = document(world)
    if path not in known["paths"]:
        return
    said = known["paths"][path][method.lower()]["responses"]

    for groups in (("super_admin",), ("strangers",), ()):
        answer = await world.ask(method, await settled(world, path), body, groups=groups)
        declared = said[str(answer.status_code)]["content"]
        media = answer.headers["content-type"].split(";")[0]
        found = {kind.split(";")[0]: content for kind, content in declared.items()}[media]
        if media.endswith("json") and "$ref" in found["schema"]:
            jsonschema_rs.validate(closed(found["schema"], known), answer.json())


def closed(schema: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    """*schema* with the document's components, in which nothing may come that is not named."""
    shapes = {
        name: shape | ({"additionalProperties": False} if "properties" in shape else {})
        for name, shape in known["components"]["schemas"].items()
    }
    return schema | {"components": {"schemas": shapes}}
