"""Owns the OpenAPI document: made of the declarations and of the very shapes that travel; must not know requests."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from functools import cache
from typing import Any, Final

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from peregrine.api.operation import Demand, Operation
from peregrine.domain.permission import Permission
from peregrine.wire.problem import MEDIA_TYPE, Problem

JSON: Final = "application/json"
_REF: Final = "#/components/schemas/{name}"
_PROBLEM: Final = {MEDIA_TYPE: {"schema": {"$ref": _REF.format(name="Problem")}}}
_REASONS: Final = {
    400: "Something in the request is wrong; `errors` points at each fault.",
    401: "Credentials are needed.",
    403: "The permission is missing, or a system task is protected.",
    404: "The path names nothing.",
    409: "The state does not allow it now.",
    412: "`If-Match` does not hold any more.",
    413: "The body is too large.",
    415: "The body is not of a known type.",
    429: "Too many requests.",
    503: "The queue is full, or the store is away; see `Retry-After`.",
}
_IDS: Final = {"id": "The task.", "exec_id": "The execution.", "policy_id": "The policy.",
        "membership_id": "The membership.", "key_id": "The key."}  # fmt: skip


def described(operation: Operation) -> dict[str, Any]:
    """What the framework's document says of *operation*, beside its path and names."""
    said: dict[str, Any] = {
        "parameters": [*_path_parameters(operation), *_query_parameters(operation), *_headers(operation)],
        "responses": _responses(operation),
    }
    if operation.needs is not Demand.NOTHING:
        said["security"] = [{"bearer": []}, {"cookie": []}]
        if operation.needs in (Permission.READ, Demand.METRICS):
            # Open to everybody unless a setting closes it.
            said["security"].append({})
        said["x-permission"] = operation.needs.value
    if operation.body is not None:
        schema: dict[str, Any] = {"$ref": _REF.format(name=operation.body.__name__)}
        if not operation.body_required:
            schema = {"anyOf": [schema, {"type": "null"}]}
        said["requestBody"] = {
            "required": operation.body_required,
            "content": {kind: {"schema": schema} for kind in (JSON, *operation.takes)},
        }
    return said


def documenting(app: FastAPI, operations: Sequence[Operation]) -> Callable[[], dict[str, Any]]:
    """What ``app.openapi`` shall be: the framework's document with our shapes; made once."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(
                title=app.title, version=app.version, description=app.description, routes=app.routes,
                openapi_version="3.1.0",
            )  # fmt: skip
            for path in document.get("paths", {}).values():
                for said in path.values():
                    said.get("responses", {}).pop("422", None)
            document["components"] = {"schemas": _schemas(operations), "securitySchemes": _SECURITY}
            app.openapi_schema = document
        return app.openapi_schema

    return openapi


_SECURITY: Final = {
    "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
    "cookie": {"type": "apiKey", "in": "cookie", "name": "falcon_auth_token"},
}


def _schemas(operations: Iterable[Operation]) -> dict[str, Any]:
    answers = {one.answers for one in operations if not isinstance(one.answers, str)}
    ordered = sorted(answers, key=lambda shape: shape.__name__)
    _, schemas = msgspec.json.schema_components([Problem, *ordered], ref_template=_REF)
    for schema in schemas.values():
        if "description" in schema:
            # Python 3.13 takes the indent out of docstrings by itself; the document is the same on all.
            schema["description"] = inspect.cleandoc(schema["description"])
    bodies = sorted({one.body for one in operations if one.body is not None}, key=lambda shape: shape.__name__)
    template = _REF.format(name="{model}")
    _, models = models_json_schema([(body, "validation") for body in bodies], ref_template=template)
    return dict(sorted((schemas | models.get("$defs", {})).items()))


def _responses(operation: Operation) -> dict[str, Any]:
    if isinstance(operation.answers, str):
        # Of a stream a schema would speak of each event, and those have shapes of their own.
        said: dict[str, Any] = {} if operation.answers == "text/event-stream" else {"schema": {"type": "string"}}
        content: dict[str, Any] = {operation.answers: said}
    else:
        schema = {"schema": {"$ref": _REF.format(name=operation.answers.__name__)}}
        content = dict.fromkeys((JSON, *operation.also), schema)
    codes = set(operation.refuses)
    if operation.needs is not Demand.NOTHING:
        codes |= {401, 403, 429, 503}
    if operation.query is not None:
        codes.add(400)
    if operation.method in ("POST", "PUT", "DELETE"):
        codes |= {400, 413, 415}
    if operation.method == "POST" and operation.remembered:
        codes.add(409)
    if operation.conditional:
        codes.add(412)
    if any("{" in path for path in operation.paths):
        codes.add(404)
    good = {str(operation.status): {"description": "Done.", "content": content}}
    return good | {str(code): {"description": _REASONS[code], "content": _PROBLEM} for code in sorted(codes)}


def _path_parameters(operation: Operation) -> list[dict[str, Any]]:
    names = [part[1:-1] for part in operation.paths[0].split("/") if part.startswith("{")]
    schema = {"type": "string", "minLength": 1, "maxLength": 128, "pattern": "^[A-Za-z0-9_.:-]+$"}
    return [{"name": name, "in": "path", "required": True, "description": _IDS[name], "schema": schema}
            for name in names]  # fmt: skip


def _query_parameters(operation: Operation) -> list[dict[str, Any]]:
    return [] if operation.query is None else deepcopy(_parameters_of(operation.query))


@cache
def _parameters_of(shape: type[BaseModel]) -> list[dict[str, Any]]:
    found = []
    for name, schema in shape.model_json_schema()["properties"].items():
        choices = [one for one in schema.get("anyOf", []) if one.get("type") != "null"]
        plain = dict(choices[0]) if choices else {key: schema[key] for key in schema if key != "title"}
        if plain.get("default") in (None, [], ""):
            plain.pop("default", None)
        said = plain.pop("description", None)
        found.append(
            {"name": name, "in": "query", "required": False, "allowEmptyValue": True, "schema": plain}
            | ({"description": said} if said else {})
        )
    return found


def _headers(operation: Operation) -> list[dict[str, Any]]:
    found = []
    if operation.conditional:
        text = "Change only this version of the task (its `ETag`)."
        found.append(("If-Match", text, {"type": "string", "examples": ['"1"']}))
    if operation.method == "POST" and operation.remembered:
        text = "Sent again, the same key gives the first answer again."
        found.append(("Idempotency-Key", text, {"type": "string", "pattern": "^[!-~]{1,255}$"}))
    return [{"name": name, "in": "header", "required": False, "description": text, "schema": schema}
            for name, text, schema in found]  # fmt: skip
