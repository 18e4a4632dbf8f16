"""Owns the four kinds' typed settings; unknown keys are errors; must not know how they run.

The wire calls a payload ``config``. ``parse_payload`` reads it and names every fault; ``payload_config`` gives
the plain mapping back, so parse ∘ config = identity and a store keeps the mapping alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final, TypeAlias

from peregrine.domain.errors import Fault, Invalid
from peregrine.domain.moment import HOUR, SECOND, Duration, format_duration, parse_duration

JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"
JsonObject: TypeAlias = dict[str, JsonValue]


class Kind(StrEnum):
    """What a task does (wire: ``type``)."""

    HTTP = "http"
    FUNCTION = "function"
    SYSTEM = "system"
    CUSTOM = "custom"


METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
URL_MAX: Final = 2048
HEADERS_MAX: Final = 64
HEADER_BYTES_MAX: Final = 8192
HTTP_TIMEOUT_MAX: Final = HOUR
NAME_MAX: Final = 128

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:\-]*", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_URL = re.compile(r"https?://[^\s\\\x00-\x20\x7f/?#]+(?:[/?#][^\s\\\x00-\x20\x7f]*)?", re.IGNORECASE)
FORBIDDEN_HEADERS: Final = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer", "keep-alive", "expect"}
)
"""Headers that frame the message: whoever sets them can smuggle a second request (security, rule 7)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpPayload:
    """One HTTP request. ``expected_codes`` empty means any 2xx; ``timeout`` None means the task's own."""

    url: str
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = ()
    body: str | None = None
    expected_codes: tuple[int, ...] = ()
    timeout: Duration | None = None
    follow_redirect: bool = False
    validate_ssl: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionPayload:
    """A call of a registered function; ``module`` and ``function_name`` are keys of the registry, not paths."""

    function_name: str
    module: str = ""
    parameters: JsonObject = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemPayload:
    """A task of our own, by the name its module declared."""

    task_name: str
    parameters: JsonObject = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomPayload:
    """A call of an executor that the host program registered."""

    executor: str
    parameters: JsonObject = field(default_factory=dict)


Payload: TypeAlias = HttpPayload | FunctionPayload | SystemPayload | CustomPayload


def parse_payload(kind: Kind, config: Mapping[str, JsonValue], *, at: str = "/config") -> Payload:
    """The payload that *config* describes for *kind*.

    Raises:  Invalid with a fault for every wrong, missing or unknown key; pointers start with *at*.
    """
    reader = _Reader(config, at)
    payload = _PARSERS[kind](reader)
    reader.refuse_rest()
    if reader.faults:
        raise Invalid(reader.faults)
    return payload


def payload_config(payload: Payload) -> JsonObject:
    """The plain mapping that ``parse_payload`` reads back to an equal payload; defaults are said aloud."""
    match payload:
        case HttpPayload():
            return _http_config(payload)
        case FunctionPayload():
            named: JsonObject = {"function_name": payload.function_name, "parameters": payload.parameters}
            return named | ({"module": payload.module} if payload.module else {})
        case SystemPayload():
            return {"task_name": payload.task_name, "parameters": payload.parameters}
        case CustomPayload():
            return {"executor": payload.executor, "parameters": payload.parameters}


def with_parameters(payload: Payload, parameters: JsonObject | None) -> Payload:
    """*payload* for one run: *parameters* of a "run now" stand over the stored ones (HTTP: in templates)."""
    if not parameters or isinstance(payload, HttpPayload):
        return payload
    return replace(payload, parameters=payload.parameters | parameters)


def _http_config(payload: HttpPayload) -> JsonObject:
    config: JsonObject = {"url": payload.url, "method": payload.method}
    if payload.headers:
        config["headers"] = dict(payload.headers)
    if payload.body is not None:
        config["body"] = payload.body
    if payload.expected_codes:
        codes: list[JsonValue] = [*payload.expected_codes]
        config["expected_code"] = codes[0] if len(codes) == 1 else codes
    if payload.timeout is not None:
        config["timeout"] = format_duration(payload.timeout)
    config["follow_redirect"] = payload.follow_redirect
    config["validate_ssl"] = payload.validate_ssl
    return config


class _Reader:
    """Takes keys out of a config one by one and gathers faults; what is left over is unknown."""

    def __init__(self, config: Mapping[str, JsonValue], at: str) -> None:
        self._rest = dict(config)
        self._at = at
        self.faults: list[Fault] = []

    def fault(self, key: str, message: str) -> None:
        self.faults.append(Fault(f"{self._at}/{_escape(key)}", message))

    def text(self, key: str, default: str | None = None, *, most: int = NAME_MAX) -> str:
        value = self._rest.pop(key, default)
        if value is None:
            self.fault(key, "is required" if default is None else "must be a text")
        elif not isinstance(value, str):
            self.fault(key, "must be a text")
        elif len(value) > most:
            self.fault(key, f"must have at most {most} characters")
        elif not value and default is None:
            self.fault(key, "must not be empty")
        else:
            return value
        return ""

    def name(self, key: str, default: str | None = None) -> str:
        value = self.text(key, default)
        if value and not _NAME.fullmatch(value):
            self.fault(key, "must be a name: letters, digits, '_', '-', '.', ':'")
        return value

    def flag(self, key: str, *, default: bool) -> bool:
        value = self._rest.pop(key, default)
        if not isinstance(value, bool):
            self.fault(key, "must be true or false")
            return default
        return value

    def object(self, key: str) -> JsonObject:
        value = self._rest.pop(key, None)
        if value is None:
            return {}
        if not isinstance(value, dict):
            self.fault(key, "must be an object")
            return {}
        return value

    def take(self, key: str) -> JsonValue:
        return self._rest.pop(key, None)

    def refuse_rest(self) -> None:
        for key in self._rest:
            self.fault(key, "is not a known setting of this type")


def _escape(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


def _http(reader: _Reader) -> HttpPayload:
    url = reader.text("url", most=URL_MAX)
    if url and not _URL.fullmatch(url):
        reader.fault("url", "must be an http:// or https:// address without blanks, backslashes or control characters")
    elif url and "@" in url.split("//", 1)[1].split("/", 1)[0].split("?", 1)[0].split("#", 1)[0]:
        reader.fault("url", "must not hold a user name or password; send an Authorization header instead")
    method = reader.text("method", "GET").upper()
    if method not in METHODS and not any(f.pointer.endswith("/method") for f in reader.faults):
        reader.fault("method", f"must be one of {', '.join(METHODS)}")
    return HttpPayload(
        url=url,
        method=method,
        headers=_headers(reader),
        body=_body(reader),
        expected_codes=_codes(reader),
        timeout=_timeout(reader),
        follow_redirect=reader.flag("follow_redirect", default=False),
        validate_ssl=reader.flag("validate_ssl", default=True),
    )


def _headers(reader: _Reader) -> tuple[tuple[str, str], ...]:
    headers = reader.object("headers")
    if len(headers) > HEADERS_MAX:
        reader.fault("headers", f"must have at most {HEADERS_MAX} entries")
        return ()
    good: list[tuple[str, str]] = []
    for name, value in headers.items():
        where = f"headers/{_escape(name)}"
        lower = name.lower()
        if not _TOKEN.fullmatch(name):
            reader.faults.append(Fault(f"{reader._at}/{where}", "is not a valid header name"))
        elif lower in FORBIDDEN_HEADERS or lower.startswith("proxy-"):
            reader.faults.append(Fault(f"{reader._at}/{where}", "is set by the scheduler itself and can't be chosen"))
        elif not isinstance(value, str) or len(value) > HEADER_BYTES_MAX:
            reader.faults.append(
                Fault(f"{reader._at}/{where}", f"must be a text of at most {HEADER_BYTES_MAX} characters")
            )
        elif _CONTROL.search(value):
            reader.faults.append(Fault(f"{reader._at}/{where}", "must not hold control characters"))
        else:
            good.append((name, value))
    return tuple(good)


def _body(reader: _Reader) -> str | None:
    body = reader.take("body")
    if body is not None and not isinstance(body, str):
        reader.fault("body", "must be a text (write JSON as a quoted string)")
        return None
    return body


def _codes(reader: _Reader) -> tuple[int, ...]:
    value = reader.take("expected_code")
    if value is None:
        return ()
    codes = value if isinstance(value, list) else [value]
    good = tuple(c for c in codes if isinstance(c, int) and not isinstance(c, bool) and 100 <= c <= 599)
    if not codes or len(codes) > 50 or len(good) != len(codes):
        reader.fault("expected_code", "must be a status code from 100 to 599, or a list of them")
    return good


def _timeout(reader: _Reader) -> Duration | None:
    value = reader.take("timeout")
    if value is None:
        return None
    try:
        if not isinstance(value, str):
            raise ValueError('write a duration as a text with a unit, for example "30s"')
        timeout = parse_duration(value)
        if not SECOND <= timeout <= HTTP_TIMEOUT_MAX:
            raise ValueError("must lie between 1s and 1h")
    except ValueError as error:
        reader.fault("timeout", str(error))
        return None
    return timeout


def _function(reader: _Reader) -> FunctionPayload:
    return FunctionPayload(
        function_name=reader.name("function_name"),
        module=reader.name("module", ""),
        parameters=reader.object("parameters"),
    )


def _system(reader: _Reader) -> SystemPayload:
    return SystemPayload(task_name=reader.name("task_name"), parameters=reader.object("parameters"))


def _custom(reader: _Reader) -> CustomPayload:
    return CustomPayload(executor=reader.name("executor"), parameters=reader.object("parameters"))


_PARSERS: Final[dict[Kind, Callable[[_Reader], Payload]]] = {
    Kind.HTTP: _http,
    Kind.FUNCTION: _function,
    Kind.SYSTEM: _system,
    Kind.CUSTOM: _custom,
}
