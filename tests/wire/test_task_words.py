"""A task is read strictly: each fault has its pointer, all are told at once, and what is the server's is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from peregrine.domain.draft import Limits
from peregrine.domain.moment import HOUR, MINUTE, SECOND
from peregrine.domain.payload import HttpPayload
from peregrine.domain.policy import Policy, Priority
from peregrine.domain.redaction import HIDDEN
from peregrine.domain.trigger import DstGap
from peregrine.testing.clock import START
from peregrine.wire.task import READ_ONLY
from tests.wire.words import MAKING, changed, made, pointers, sample

BODY: dict[str, Any] = sample("create_http_task")


def test_the_seeds_example_makes_a_task_with_their_defaults() -> None:
    task = made(BODY)

    assert (task.name, task.schedule, task.timezone) == ("API Health Check", "0 */10 * * * *", "UTC")
    assert task.tags == ("monitoring", "health")
    assert task.priority is Priority.NORMAL
    assert task.policy == Policy(max_retries=3, retry_interval=MINUTE, timeout=5 * MINUTE, misfire_grace=MINUTE)
    assert task.enabled
    assert (task.created_by, task.created_at, task.source) == ("alice", START, "api")


@pytest.mark.parametrize("kind", ["http_task", "function_task", "custom_task"])
def test_each_kind_of_the_seeds_is_taken(kind: str) -> None:
    assert pointers({"name": "n", "schedule": "0 0 9 * * 1-5"} | sample(kind)) == []


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"name": ""}, ["/name"]),
        ({"name": "x" * 101}, ["/name"]),
        ({"name": "  "}, ["/name"]),
        ({"name": "a\nb"}, ["/name"]),
        ({"name": "a\u202eb"}, ["/name"]),
        ({"name": "Health\u200b Check"}, ["/name"]),
        ({"name": "\u2060"}, ["/name"]),
        ({"name": 7}, ["/name"]),
        ({"name": None}, ["/name"]),
        ({"description": "x" * 501}, ["/description"]),
        ({"type": "shell"}, ["/type"]),
        ({"type": "HTTP"}, ["/type"]),
        ({"schedule": ""}, ["/schedule"]),
        ({"schedule": "* * *"}, ["/schedule"]),
        ({"schedule": "0 0 0 30 2 *"}, ["/schedule"]),
        ({"schedule": "@at 2001-01-01T00:00:00Z"}, ["/schedule"]),
        ({"schedule": "*" * 300}, ["/schedule"]),
        ({"timezone": "Mars/Olympus"}, ["/timezone"]),
        ({"timezone": ""}, ["/timezone"]),
        ({"priority": "urgent"}, ["/priority"]),
        ({"priority": 1}, ["/priority"]),
        ({"enabled": "yes"}, ["/enabled"]),
        ({"enabled": 1}, ["/enabled"]),
        ({"config": []}, ["/config"]),
        ({"config": {}}, ["/config/url"]),
        ({"config": {"url": "ftp://x", "more": 1}}, ["/config/more", "/config/url"]),
        ({"config": {"url": "http://x/", "headers": {"Authorization": HIDDEN}}}, ["/config/headers/Authorization"]),
        ({"tags": ["a,b"]}, ["/tags/0"]),
        ({"tags": ["x" * 65]}, ["/tags/0"]),
        ({"tags": [str(n) for n in range(33)]}, ["/tags"]),
        ({"tags": "a"}, ["/tags"]),
        ({"metadata": {"max_retries": 11}}, ["/metadata/max_retries"]),
        ({"metadata": {"max_retries": -1}}, ["/metadata/max_retries"]),
        ({"metadata": {"max_retries": True}}, ["/metadata/max_retries"]),
        ({"metadata": {"max_retries": 3.0}}, ["/metadata/max_retries"]),
        ({"metadata": {"retry_interval": "999ms"}}, ["/metadata/retry_interval"]),
        ({"metadata": {"retry_interval": "1h1s"}}, ["/metadata/retry_interval"]),
        ({"metadata": {"timeout": "29s"}}, ["/metadata/timeout"]),
        ({"metadata": {"timeout": "25h"}}, ["/metadata/timeout"]),
        ({"metadata": {"timeout": 60}}, ["/metadata/timeout"]),
        ({"metadata": {"timeout": "60"}}, ["/metadata/timeout"]),
        ({"metadata": {"timeout": "1e9h"}}, ["/metadata/timeout"]),
        ({"metadata": {"timeout": "-5s"}}, ["/metadata/timeout"]),
        ({"metadata": {"timeout": ""}}, ["/metadata/timeout"]),
        ({"metadata": {"no": 1}}, ["/metadata/no"]),
        ({"overlap": "replace"}, ["/overlap"]),
        ({"misfire": "never"}, ["/misfire"]),
        ({"misfire_grace": "8d"}, ["/misfire_grace"]),
        ({"catchup_max": 0}, ["/catchup_max"]),
        ({"catchup_max": 1001}, ["/catchup_max"]),
        ({"catchup_window": "400d"}, ["/catchup_window"]),
        ({"on_worker_lost": "ignore"}, ["/on_worker_lost"]),
        ({"dst_gap": "maybe"}, ["/dst_gap"]),
        ({"nope": 1, "a/b": 2}, ["/a~1b", "/nope"]),
        ({"type": "function", "config": {"function_name": "os.system"}}, ["/config/function_name"]),
        ({"type": "system", "config": {"task_name": "x"}}, ["/type"]),
    ],
)
def test_a_fault_has_its_place(change: dict[str, Any], where: list[str]) -> None:
    assert pointers(BODY | change) == where


def test_all_faults_are_told_at_once() -> None:
    body = {
        "type": "http",
        "schedule": "x",
        "priority": "x",
        "config": {"nope": 1},
        "metadata": {"timeout": 1},
        "id": 1,
    }

    assert pointers(body) == [
        "/config/nope", "/config/url", "/id", "/metadata/timeout", "/name", "/priority", "/schedule",
    ]  # fmt: skip


@pytest.mark.parametrize("document", [None, 1, "x", [], [BODY]])
def test_what_is_no_object_is_one_fault(document: Any) -> None:
    assert pointers(document) == [""]


@pytest.mark.parametrize("name", sorted(READ_ONLY))
def test_what_the_server_decides_is_refused_everywhere(name: str) -> None:
    stored = made(BODY)

    assert pointers(BODY | {name: 1}) == [f"/{name}"]
    assert pointers(BODY | {"metadata": {name: 1}}) == [f"/metadata/{name}"]
    assert pointers({name: 1}, stored) == [f"/{name}"]


@pytest.mark.parametrize("text", ["2m", "2m0s", "PT2M", "120s", "1m60s"])
def test_durations_come_in_in_three_spellings(text: str) -> None:
    assert made(BODY | {"metadata": {"timeout": text}}).policy.timeout == 2 * MINUTE


def test_the_floor_of_the_timeout_can_be_lowered() -> None:
    limits = Limits(timeout_min=SECOND, misfire_grace=5 * SECOND)
    making = replace(MAKING, limits=limits)

    assert made(BODY | {"metadata": {"timeout": "1s"}}, making).policy.timeout == SECOND
    assert made(BODY, making).policy.misfire_grace == 5 * SECOND
    assert pointers(BODY | {"metadata": {"timeout": "999ms"}}, limits=limits) == ["/metadata/timeout"]


def test_tags_may_stand_in_either_place_and_count_once() -> None:
    assert made(BODY | {"tags": ["a", "b", "a"]}).tags == ("a", "b")
    without = {key: value for key, value in BODY.items() if key != "tags"}
    assert made(without | {"metadata": {"tags": ["m"]}}).tags == ("m",)


def test_a_zone_in_front_of_the_schedule_is_lifted() -> None:
    task = made(BODY | {"schedule": "TZ=Europe/Berlin 0 0 9 * * *"})

    assert (task.schedule, task.timezone) == ("0 0 9 * * *", "Europe/Berlin")


# ── changes ──────────────────────────────────────────────────────────────────────────────────────


def test_a_change_touches_what_it_names() -> None:
    stored = made(BODY | {"metadata": {"max_retries": 7}})

    task = changed({"description": "new", "metadata": {"timeout": "1m"}, "dst_gap": "skip"}, stored)

    assert task == replace(
        stored, description="new", policy=replace(stored.policy, timeout=MINUTE), dst_gap=DstGap.SKIP
    )


def test_no_change_is_no_change() -> None:
    stored = made(BODY)

    assert changed({}, stored) == stored


def test_config_is_replaced_whole() -> None:
    stored = made(BODY)

    task = changed({"config": {"url": "http://other.example/"}}, stored)

    assert task.payload == HttpPayload(url="http://other.example/")


def test_stars_keep_a_stored_secret() -> None:
    secret = {"url": "http://x.example/?token=t0p", "headers": {"Authorization": "Bearer s3cret", "Accept": "*/*"}}
    stored = made(BODY | {"config": secret})

    sent = {"url": f"http://x.example/?token={HIDDEN}", "headers": {"Authorization": HIDDEN, "Accept": "text/plain"}}
    task = changed({"config": sent}, stored)

    assert isinstance(task.payload, HttpPayload)
    assert task.payload.url == "http://x.example/?token=t0p"
    assert dict(task.payload.headers) == {"Authorization": "Bearer s3cret", "Accept": "text/plain"}
    assert pointers({"config": {"url": "http://x/", "headers": {"Cookie": HIDDEN}}}, stored) == [
        "/config/headers/Cookie"
    ]


def test_another_type_needs_its_own_config() -> None:
    stored = made(BODY)

    assert pointers({"type": "custom"}, stored) == ["/config"]
    assert pointers({"type": "custom", "config": {"url": "http://x/"}}, stored) == ["/config/executor", "/config/url"]
    assert pointers({"type": "system", "config": {"task_name": "x"}}, stored) == ["/type"]
    assert changed({"type": "custom", "config": {"executor": "e"}}, stored).kind == "custom"


def test_an_interval_counts_from_the_change_that_made_it() -> None:
    stored = made(BODY | {"schedule": "@every 1h"})

    assert changed({"schedule": "@every 2h"}, stored).anchor == START + MINUTE
    assert changed({"timezone": "Europe/Berlin"}, stored).anchor == START
    assert changed({"timezone": "Europe/Berlin"}, stored).schedule == stored.schedule


def test_a_zone_alone_is_judged_with_the_stored_schedule() -> None:
    stored = made(BODY)

    assert pointers({"timezone": "Nowhere"}, stored) == ["/timezone"]
    assert changed({"timezone": "Asia/Tokyo"}, stored).timezone == "Asia/Tokyo"


def test_a_past_one_shot_can_still_be_renamed() -> None:
    stored = replace(made(BODY | {"schedule": "@at 2026-06-01T00:00:00Z"}))
    later = replace(MAKING, at=START + 9000 * HOUR)

    assert changed({"name": "other"}, stored, later).name == "other"
    assert changed({"timezone": "Asia/Tokyo"}, stored, later).timezone == "Asia/Tokyo"
