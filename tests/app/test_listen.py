"""A port in use, a name that is none, an address of another machine: each one line; a free port is found."""

from __future__ import annotations

import contextlib
import resource

import pytest

from peregrine.app.listen import connections_within, is_loopback, listen, url_of
from peregrine.domain.errors import BadConfiguration


def test_a_free_port_is_found_and_said() -> None:
    with contextlib.closing(listen("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        assert port > 0
        assert url_of(listener) == f"http://127.0.0.1:{port}"
        assert is_loopback(listener)


def test_every_address_is_reached_by_loopback() -> None:
    with contextlib.closing(listen("0.0.0.0", 0)) as listener:
        assert url_of(listener).startswith("http://127.0.0.1:")
        assert not is_loopback(listener)


def test_a_port_in_use_is_one_line() -> None:
    with contextlib.closing(listen("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        with pytest.raises(BadConfiguration, match=f"HOST=127.0.0.1 PORT={port}: the port is in use"):
            listen("127.0.0.1", port)


@pytest.mark.parametrize("host", ["no.such.host.invalid", "a" * 300, "203.0.113.7"])
def test_a_host_that_is_not_ours_is_named(host: str) -> None:
    with pytest.raises(BadConfiguration, match=f"HOST={host}"):
        listen(host, 0)


@pytest.mark.parametrize(
    ("files", "most"), [(64, 32), (1, 1), (1024, 512), (16_384, 1000), (resource.RLIM_INFINITY, 1000)]
)
def test_connections_take_half_of_the_files_at_most(monkeypatch: pytest.MonkeyPatch, files: int, most: int) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (files, resource.RLIM_INFINITY))

    assert connections_within(1000) == most
