"""Owns the routes that take or give many tasks, and the preview of a schedule; must not know what they do."""

from __future__ import annotations

import asyncio
from typing import Annotated, Final, Literal

import msgspec
from pydantic import Field
from starlette.responses import Response

from peregrine.api.body import YAML_TYPES
from peregrine.api.call import JSON, Call, answer
from peregrine.api.operation import Demand, Routes
from peregrine.domain.describe import describe, previewed, warnings_of
from peregrine.domain.errors import Invalid, Protected
from peregrine.domain.ids import TaskId
from peregrine.domain.permission import Permission
from peregrine.usecases import bundles as usecases
from peregrine.usecases.access import require
from peregrine.usecases.bundles import Imported
from peregrine.wire.bulk import BulkOrder, BulkReport, bulk_report
from peregrine.wire.bundle import (
    Bundle,
    BundleInput,
    BundleShape,
    FailedTask,
    ImportReport,
    bundle_document,
    read_bundle,
)
from peregrine.wire.orders import read_body
from peregrine.wire.preview import Preview, PreviewOrder, preview_shape, trigger_of
from peregrine.wire.queries import Flag, TaskQuery
from peregrine.wire.queries import Query as Asked
from peregrine.wire.yaml_text import read_yaml, write_yaml

routes: Final = Routes("tasks")
YAML: Final = "application/yaml"


class ImportQuery(Asked):
    """The same settings as in the bundle; either is enough."""

    overwrite: Annotated[bool, Flag()] = False
    dry_run: Annotated[bool, Flag()] = False


class ExportQuery(TaskQuery):
    """Which tasks, and in which form."""

    format: Annotated[Literal["json", "yaml"], Field(description="How the bundle is written.")] = "json"


@routes.add("POST", "/scheduler/tasks/bulk", needs=Demand.ITS_OWN, body=BulkOrder, answers=BulkReport)
async def operate_on_tasks(call: Call) -> Response:
    """Enable, disable, pause, resume or delete many tasks"""
    call.refuse_strangers()
    order = read_body(BulkOrder, await call.json())
    operation = usecases.Operation(order.operation)
    done, failed = await usecases.operate(call.means, call.asker, operation, [TaskId(id) for id in order.task_ids])
    report = bulk_report(done, failed)
    if not done and all(isinstance(error, Protected) for _, error in failed):
        # Nothing was done, and nothing could have been: that is a refusal, which carries the report.
        return call.problem_with(failed[0][1], report)
    return answer(report)


@routes.add("POST", "/scheduler/tasks/import", needs=Permission.TASKS_WRITE, query=ImportQuery, body=BundleInput,
            answers=ImportReport, takes=[YAML], refuses=[409])  # fmt: skip
async def import_tasks(call: Call) -> Response:
    """Make the tasks of a bundle, all or none"""
    asked = call.query(ImportQuery)
    bundle = read_bundle(await call.body.document(dict.fromkeys(YAML_TYPES, read_yaml)))
    dry_run = asked.dry_run or bundle.dry_run
    imported = await usecases.import_tasks(
        call.means, call.asker, bundle.tasks, overwrite=asked.overwrite or bundle.overwrite, dry_run=dry_run
    )
    return _imported(call, imported, bundle, dry_run=dry_run)


@routes.add("GET", "/scheduler/tasks/export", needs=Permission.TASKS_READ, query=ExportQuery, answers=BundleShape,
            also=[YAML])  # fmt: skip
async def export_tasks(call: Call) -> Response:
    """The bundle of all tasks that match"""
    query = call.query(ExportQuery)
    sort, descending = query.sort
    tasks = await usecases.export_tasks(call.means, call.asker, query.filter(), sort=sort, descending=descending)
    document = bundle_document(tasks, call.means.clock.now())
    if query.format == "yaml":
        content, media_type = await asyncio.to_thread(write_yaml, document), YAML
    else:
        content, media_type = msgspec.json.format(msgspec.json.encode(document), indent=2), JSON
    name = f'attachment; filename="tasks.{query.format}"'
    return Response(content, media_type=media_type, headers={"Content-Disposition": name})


@routes.add("POST", "/scheduler/schedule/preview", needs=Permission.TASKS_READ, body=PreviewOrder, answers=Preview)
async def preview_schedule(call: Call) -> Response:
    """What a schedule means, and its next moments"""
    await require(call.means.grants, call.asker, Permission.TASKS_READ)
    order, now = read_body(PreviewOrder, await call.json()), call.means.clock.now()
    trigger = trigger_of(order, now)
    items = []
    for item in previewed(trigger, now, order.count):
        items.append(item)
        await asyncio.sleep(0)
    return answer(preview_shape(trigger, describe(trigger), items, warnings_of(trigger, now)))


def _imported(call: Call, imported: Imported, bundle: Bundle, *, dry_run: bool) -> Response:
    """The report; a bundle with faults is wrong input, so it is a problem that carries the report."""
    failed = [FailedTask(name=name, error=fault.message, pointer=fault.pointer) for name, fault in imported.faults]
    report = ImportReport(
        imported_tasks=list(imported.imported),
        skipped_tasks=list(imported.skipped),
        failed_tasks=failed,
        total=len(bundle.tasks),
        imported=len(imported.imported),
        skipped=len(imported.skipped),
        failed=len({fault.pointer.removeprefix("/tasks").split("/")[1] for _, fault in imported.faults}),
        dry_run=dry_run,
    )
    if not failed or dry_run:
        return answer(report)
    return call.problem_with(Invalid(fault for _, fault in imported.faults), report)
