"""Wakes of one process reach every subscriber, also behind one that fails."""

from __future__ import annotations

import pytest

from peregrine.coordination.memory import MemoryBus
from peregrine.ports.bus import Topic


def test_a_publish_reaches_all_who_subscribed_to_it() -> None:
    bus, woken = MemoryBus(), list[str]()
    bus.subscribe(Topic.QUEUED, lambda: woken.append("first"))
    bus.subscribe(Topic.QUEUED, lambda: woken.append("second"))
    bus.subscribe(Topic.TASKS, lambda: woken.append("other"))

    bus.publish(Topic.QUEUED)

    assert woken == ["first", "second"]


def test_who_left_is_not_woken() -> None:
    bus, woken = MemoryBus(), list[str]()
    leave = bus.subscribe(Topic.QUEUED, lambda: woken.append("gone"))

    leave()
    leave()
    bus.publish(Topic.QUEUED)

    assert woken == []


def fail() -> None:
    raise ValueError("a subscriber's bug")


def test_one_that_fails_keeps_nobody_asleep(caplog: pytest.LogCaptureFixture) -> None:
    bus, woken = MemoryBus(), list[str]()
    bus.subscribe(Topic.CANCEL, fail)
    bus.subscribe(Topic.CANCEL, lambda: woken.append("second"))

    bus.publish(Topic.CANCEL)

    assert woken == ["second"]
    assert "wake_failed" in caplog.text


def test_a_subscriber_may_leave_while_it_is_woken() -> None:
    bus, woken = MemoryBus(), list[str]()

    def once() -> None:
        woken.append("once")
        leave()

    leave = bus.subscribe(Topic.SETTLED, once)

    bus.publish(Topic.SETTLED)
    bus.publish(Topic.SETTLED)

    assert woken == ["once"]
