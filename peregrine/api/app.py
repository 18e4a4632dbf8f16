"""Owns how the doors are put together; must not know stores, the engine, or settings by name."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import msgspec
from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from peregrine.api.body import STATE, BodyReader, RequestBody
from peregrine.api.call import NOBODY_ASKS, Call, Desk, asker_of, stranger_of
from peregrine.api.docs import add_docs
from peregrine.api.lasting import Lasting
from peregrine.api.measure import resident_bytes
from peregrine.api.openapi import described, documenting
from peregrine.api.operation import Demand, Needs, Operation
from peregrine.api.patience import Buckets, Rate
from peregrine.api.problems import answer_bug, answer_framework, answer_refusal
from peregrine.api.proxies import Proxies, household
from peregrine.api.remembering import once
from peregrine.api.routes import bundles, catalogue, executions, rights, tasks
from peregrine.api.routes.login import BEGUN, Signing, login_routes
from peregrine.api.routes.logs import log_routes
from peregrine.api.routes.status import Reporting, status_routes
from peregrine.api.shell import Shell
from peregrine.domain.errors import Forbidden, PeregrineError, Protected, Unauthenticated
from peregrine.domain.permission import Permission
from peregrine.ports.identity import Identity
from peregrine.usecases.access import require
from peregrine.usecases.audit import note_refusal
from peregrine.usecases.means import Means
from peregrine.usecases.status import StatusBoard
from peregrine.wire.problem import Refusal

_OPEN: Final = frozenset({"/openapi.json", "/docs", "/docs/start.js", "/docs/swagger-ui-bundle.js",
                          "/docs/swagger-ui.css", "/docs/favicon-32x32.png"})  # fmt: skip
FAILURES: Final = Rate(burst=1000, per_second=20.0)
"""Credentials that prove nothing, by address: guessing is hopeless anyway, but it should not be free."""
REFUSALS: Final = Rate(burst=50, per_second=1.0)
"""Refused attempts that the trail tells of, by person."""
STRANGERS: Final = Rate(burst=10, per_second=1 / 6)
"""The same of those who prove nothing, by address, and of all of them together: a flood must not fill the store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiDeps:
    """All that the doors are given. ``render_metrics``: page and media type; ``mounts``: other ASGI apps by path."""

    means: Means
    identity: Identity
    version: str
    render_metrics: Callable[[], tuple[bytes, str]]
    prefix: str = ""
    origins: Sequence[str] = ()
    metrics_public: bool = True
    memory: Callable[[], int] = resident_bytes
    mounts: Mapping[str, ASGIApp] = field(default_factory=dict)
    rate: Rate | None = None
    """How often one caller may ask; None: as often as they like."""
    proxies: Sequence[str] = ()
    """Addresses and networks whose ``X-Forwarded-For`` is believed."""
    signing: Signing = field(default_factory=Signing)
    """How people sign in with EVE Online, and out."""


Serve: TypeAlias = Callable[[Request], Coroutine[Any, Any, Response]]


class BareRoute(APIRoute):
    """A route whose endpoint takes the request and gives the answer: the framework has nothing to read or to check.

    Nor to clean up afterwards; and what is raised becomes an answer in the layer around all routes.
    """

    def __init__(self, path: str, endpoint: Serve, **declared: Any) -> None:
        super().__init__(path, endpoint, **declared)

        async def served(scope: Scope, receive: Receive, send: Send) -> None:
            response = await endpoint(Request(scope, receive, send))
            await response(scope, receive, send)

        self.app = served


def create_app(deps: ApiDeps) -> ASGIApp:
    """The whole API as one ASGI application. It starts nothing and has no lifespan of its own."""
    app, _ = build(deps)
    shelled: ASGIApp = BodyReader(app)
    return Shell(shelled, new_id=deps.means.entropy.new_id, origins=deps.origins)


def build(deps: ApiDeps) -> tuple[FastAPI, Sequence[Operation]]:
    """The framework's application and the operations on it."""
    app = FastAPI(
        title="Peregrine",
        version=deps.version,
        description="A task scheduler that records every occurrence.",
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        # Traces and numbers are made by the observers; the framework's own would say them twice.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.router.route_class = BareRoute
    desk = Desk(
        means=deps.means,
        identity=deps.identity,
        origins=frozenset(deps.origins),
        metrics_public=deps.metrics_public,
        prefix=deps.prefix,
        failures=Buckets(FAILURES, deps.means.clock.monotonic),
        refusals=Buckets(REFUSALS, deps.means.clock.monotonic),
        strangers=Buckets(STRANGERS, deps.means.clock.monotonic),
        requests=None if deps.rate is None else Buckets(deps.rate, deps.means.clock.monotonic),
        proxies=Proxies(deps.proxies),
    )
    operations = operations_of(deps)
    mount(app, desk, operations)
    app.openapi = documenting(app, operations)  # type: ignore[method-assign]
    _add_document(app)
    add_docs(app)
    for path, other in deps.mounts.items():
        app.mount(path, other)
    refuse_undeclared(app, desk, operations)
    app.add_exception_handler(PeregrineError, answer_refusal)
    app.add_exception_handler(Refusal, answer_refusal)
    app.add_exception_handler(HTTPException, answer_framework)
    app.add_exception_handler(Exception, answer_bug)
    return app, operations


def operations_of(deps: ApiDeps) -> Sequence[Operation]:
    """Every declared route, fixed paths before those with a placeholder."""
    reporting = Reporting(
        board=StatusBoard(deps.means, deps.memory), version=deps.version, render_metrics=deps.render_metrics
    )
    groups = (tasks.routes, executions.routes, log_routes(), bundles.routes, catalogue.routes,
              status_routes(reporting), rights.routes,
              login_routes(deps.signing, Buckets(BEGUN, deps.means.clock.monotonic)))  # fmt: skip
    every = [operation for group in groups for operation in group.operations]
    return sorted(every, key=lambda operation: operation.paths[0].count("{"))


def mount(app: FastAPI, desk: Desk, operations: Sequence[Operation]) -> None:
    """Put *operations* on *app*, each behind its declared permission."""
    lasting = Lasting()
    for operation in operations:
        serve = _serving(desk, operation, lasting)
        for index, path in enumerate(operation.paths):
            alias = operation.paths[0] if index else ""
            app.add_api_route(
                path_of(desk, operation, path),
                serve,
                methods=[operation.method],
                operation_id=operation.name + (f"_as_{path.rpartition('/')[2]}" if index else ""),
                summary=operation.summary,
                description=f"Another name of `{alias}`." if alias else None,
                tags=[operation.tag],
                status_code=operation.status,
                response_class=Response,
                openapi_extra=described(operation),
            )


def path_of(desk: Desk, operation: Operation, path: str) -> str:
    """Where *operation* stands, the prefix of this installation included."""
    return (desk.prefix if operation.own_prefix else "") + path


def refuse_undeclared(app: FastAPI, desk: Desk, operations: Sequence[Operation]) -> None:
    """Raises AssertionError for a route that nobody declared a permission for: better no start than an open door."""
    declared = {(operation.method, path_of(desk, operation, path)) for operation in operations
                for path in operation.paths}  # fmt: skip
    for route in app.routes:
        if isinstance(route, Mount):
            continue
        path, methods = getattr(route, "path", ""), set(getattr(route, "methods", ()) or ("any method",))
        known = {method for method, where in declared if where == path}
        if path not in _OPEN and not methods - {"HEAD"} <= known:
            raise AssertionError(f"no permission is declared for {methods} {path}")


def _serving(desk: Desk, operation: Operation, lasting: Lasting) -> Serve:
    async def serve(request: Request) -> Response:
        if operation.needs is Demand.NOTHING:
            return await operation.endpoint(Call(desk, request, NOBODY_ASKS))
        if operation.own_access:
            return await admitted(request)  # whoever looks after us must see how we are, above all when many ask
        async with desk.turns.taken() as turn:
            body: RequestBody = request.scope["state"][STATE]
            body.aside = turn.aside
            return await admitted(request)

    async def admitted(request: Request) -> Response:
        try:
            call = Call(desk, request, await asker_of(request, desk))
        except Unauthenticated as error:
            await _note_stranger(desk, request, operation, error)
            raise
        try:
            demanded = None if operation.own_access else _permission(operation.needs, desk)
            if demanded is not None:
                await require(desk.means.grants, call.asker, demanded)
            if operation.needs is Demand.CREDENTIALS:
                call.refuse_strangers()
            if operation.lasts:
                return await lasting.answer(call, operation.endpoint)
            key = call.idempotency_key if operation.method == "POST" and operation.remembered else None
            if key is None:
                return await operation.endpoint(call)
            call.refuse_strangers()
            return await once(call, key, lambda: operation.endpoint(call))
        except (Forbidden, Protected) as error:
            await _note_refusal(desk, call, operation, error)
            raise
        except Unauthenticated as error:
            await _note_stranger(desk, request, operation, error)
            raise

    return serve


async def _note_refusal(desk: Desk, call: Call, operation: Operation, error: Forbidden | Protected) -> None:
    """Tell the trail who tried what; not more often than it can bear."""
    if operation.method != "GET" and call.asker.principal.is_known and not desk.refusals.take(call.asker.id):
        await note_refusal(desk.means, call.asker, operation.name, _target(call.request), error.code)


async def _note_stranger(desk: Desk, request: Request, operation: Operation, error: Unauthenticated) -> None:
    """Tell the trail from where somebody came without a proof: each address, and all together, only now and then."""
    by = stranger_of(request, desk)
    if not desk.strangers.take(household(by.request.address)) and not desk.strangers.take(""):
        await note_refusal(desk.means, by, operation.name, _target(request), error.code)


def _target(request: Request) -> str:
    return str(next(iter(request.path_params.values()), ""))[:128]


def _permission(needs: Needs, desk: Desk) -> Permission | None:
    match needs:
        case Permission():
            return needs
        case Demand.METRICS:
            return None if desk.metrics_public else Permission.READ
        case Demand.NOTHING | Demand.ITS_OWN | Demand.CREDENTIALS:
            return None


def _add_document(app: FastAPI) -> None:
    async def document(request: Request) -> Response:
        return Response(msgspec.json.encode(app.openapi()), media_type="application/json")

    app.router.routes.append(Route("/openapi.json", document, methods=["GET"], include_in_schema=False))
