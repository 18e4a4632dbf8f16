"""Owns every setting: its name, default, bounds and how to write it; the one reader of the environment.

A setting comes from, strongest first: the command line, its variable, the file that ``<variable>_FILE`` names (for
secrets), its default. All are read once and checked together; what is wrong is said in one line.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import unquote, urlsplit

from pydantic import BeforeValidator, Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from peregrine.app.written import (
    Parser,
    flag,
    list_of,
    matching,
    module,
    network,
    one_of,
    origin,
    program,
    scope,
    span,
    span_text,
    whole,
)
from peregrine.domain.errors import BadConfiguration
from peregrine.domain.moment import DAY, HOUR, MINUTE, SECOND, Duration
from peregrine.executors.egress import read_entry
from peregrine.vault.keys import read_key, read_keys

HIDDEN: Final = "***"
SECRET_BYTES_MIN: Final = 32
TASK_SECRET: Final = "SCHEDULER_SECRET_"
"""``SCHEDULER_SECRET_<NAME>`` (or ``…_FILE``) is what a task means by the secret ``<NAME>``."""

_FILE: Final = "_FILE"
_SECRET_NAME = re.compile(r"[A-Z][A-Z0-9_]{0,63}", re.ASCII)


class LogLevel(StrEnum):
    """From which weight on a line is written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    """How a line is written."""

    AUTO = "auto"
    """For people on a terminal, JSON elsewhere."""
    JSON = "json"
    TEXT = "text"


class Algorithm(StrEnum):
    """The one signature algorithm that a bearer token may carry."""

    HS256 = "HS256"
    RS256 = "RS256"
    ES256 = "ES256"


def _read(parse: Parser) -> BeforeValidator:
    """Only texts are parsed: a default is a value already."""
    return BeforeValidator(lambda given: parse(given.strip()) if isinstance(given, str) else given)


def _signing_secret(given: object) -> object:
    text = given.get_secret_value() if isinstance(given, SecretStr) else given
    if isinstance(text, str) and len(text.encode()) < SECRET_BYTES_MIN:
        raise ValueError(f"must have at least {SECRET_BYTES_MIN} bytes; leave it out and one is made and kept")
    return given


def _readable(read: Callable[[str], object]) -> BeforeValidator:
    """A secret that *read* takes."""

    def check(given: object) -> object:
        text = given.get_secret_value() if isinstance(given, SecretStr) else given
        if isinstance(text, str):
            read(text)
        return given

    return BeforeValidator(check)


def _database_address(text: str) -> None:
    if not text.startswith(("mongodb://", "mongodb+srv://")):
        raise ValueError("must begin with mongodb:// or mongodb+srv://")


def read_redis_url(text: str) -> Mapping[str, Any]:
    """The settings that *text* stands for, by field. Raises ValueError, which does not repeat it."""
    try:
        parts = urlsplit(text)
        port, db = parts.port or 6379, int(parts.path.strip("/") or 0)
    except ValueError:
        parts, port, db = urlsplit(""), 0, 0
    if parts.scheme not in ("redis", "rediss") or not parts.hostname or parts.query or parts.fragment or db < 0:
        raise ValueError("write redis://user:password@host:6379/0, or rediss:// for TLS")
    return {
        "redis_host": parts.hostname,
        "redis_port": port,
        "redis_username": unquote(parts.username or ""),
        "redis_password": SecretStr(unquote(parts.password)) if parts.password else None,
        "redis_db": db,
        "redis_tls": parts.scheme == "rediss",
    }


_SPAN: Final = "duration"
_Slots = Annotated[int, _read(whole(1, 10_000))]
_Count = Annotated[int, _read(whole(1, 10_000_000))]
_Port = Annotated[int, _read(whole(0, 65_535))]
_Flag = Annotated[bool, _read(flag)]
_Minute = Annotated[Duration, _read(span(SECOND, MINUTE)), _SPAN]
_Hour = Annotated[Duration, _read(span(SECOND, HOUR)), _SPAN]
_Day = Annotated[Duration, _read(span(SECOND, DAY)), _SPAN]
_Week = Annotated[Duration, _read(span(SECOND, 7 * DAY)), _SPAN]
_Decade = Annotated[Duration, _read(span(SECOND, 3650 * DAY)), _SPAN]
_Host = Annotated[str, _read(matching(r"[^\s/]+", "write an address or a host name, for example 127.0.0.1 or 0.0.0.0"))]
_Prefix = Annotated[str, _read(matching(r"(?:/[A-Za-z0-9._~-]+)+", 'write a path such as "/api/v1"', strip="/"))]
_Link = Annotated[str, _read(matching(r"https?://\S+", 'write an address such as "https://login.example.org/jwks"'))]
_Modules = Annotated[tuple[str, ...], _read(list_of(module))]
_Targets = Annotated[tuple[str, ...], _read(list_of(read_entry))]
_Programs = Annotated[tuple[str, ...], _read(list_of(program))]
_Origins = Annotated[tuple[str, ...], _read(list_of(origin))]
_Networks = Annotated[tuple[str, ...], _read(list_of(network))]
_Contact = Annotated[
    str,
    _read(
        matching(
            r"[!-~]+@[!-~]+\.[!-~]+|https?://[!-~]+",
            "write a mail address, or the URL of a page that says how to reach you",
        )
    ),
]
_Scopes = Annotated[tuple[str, ...], _read(list_of(scope))]
_Rate = Annotated[int, _read(whole(0, 1_000_000))]
_SigningSecret = Annotated[SecretStr, BeforeValidator(_signing_secret)]
_EncryptionKey = Annotated[SecretStr, _readable(read_key)]
_DatabaseAddress = Annotated[SecretStr, _readable(_database_address)]
_RedisAddress = Annotated[SecretStr, _readable(read_redis_url)]
_EncryptionKeys = Annotated[SecretStr, _readable(read_keys)]


class Settings(BaseSettings):
    """Every setting, checked. Durations in milliseconds. The alias is the variable's name; `description` is the
    reference's line."""

    model_config = SettingsConfigDict(
        case_sensitive=True, enable_decoding=False, env_ignore_empty=True, extra="ignore", frozen=True,
        hide_input_in_errors=True, arbitrary_types_allowed=True, populate_by_name=False,
    )  # fmt: skip

    host: _Host = Field("127.0.0.1", alias="HOST", description="Address to listen on; loopback unless told.")
    port: _Port = Field(8000, alias="PORT", description="Port to listen on; 0 takes any free one.")
    api_prefix: _Prefix = Field("", alias="API_PREFIX", description="Path in front of `/scheduler`.")
    connections_max: _Slots = Field(
        1000, alias="HTTP_CONNECTIONS_MAX",
        description="Open connections, but half of the files that may be open at most; one more is answered 503 and "
        "closed.",
    )  # fmt: skip
    http_rate: _Rate = Field(
        1000, alias="HTTP_RATE",
        description="Requests a second of one user, or of one address (IPv6: one /64) without "
        "credentials, ten seconds' worth at once; "
        "more are answered 429. 0: no limit.",
    )  # fmt: skip
    trusted_proxies: _Networks = Field(
        (), alias="TRUSTED_PROXIES",
        description="Addresses and networks (comma list) of proxies whose `X-Forwarded-For` is believed.",
    )  # fmt: skip
    cors_origins: _Origins = Field(
        (), alias="CORS_ORIGINS", description="Origins (comma list) whose pages may call the API from a browser."
    )
    data_dir: Path = Field(
        Path("data"), alias="SCHEDULER_DATA_DIR", description="Where the embedded store, keys and tokens are kept."
    )

    worker_count: _Slots = Field(10, alias="SCHEDULER_WORKER_COUNT", description="Executions that run at once.")
    queue_size: _Count = Field(1000, alias="SCHEDULER_QUEUE_SIZE", description="Executions that may wait.")
    cleanup_interval: _Day = Field(HOUR, alias="SCHEDULER_CLEANUP_INTERVAL", description="How often retention runs.")
    stale_timeout: _Decade = Field(
        2 * HOUR, alias="SCHEDULER_STALE_TIMEOUT", description="From when on a running execution counts as stale."
    )
    lease: _Hour = Field(
        30 * SECOND,
        alias="SCHEDULER_LEASE",
        description="How long a worker may be silent before its work is taken over.",
    )
    heartbeat: _Hour = Field(
        10 * SECOND, alias="SCHEDULER_HEARTBEAT", description="How often a worker renews; at most a third of the lease."
    )
    poll: _Minute = Field(
        SECOND, alias="SCHEDULER_POLL", description="How often each loop looks by itself when nothing wakes it."
    )
    shutdown_grace: _Hour = Field(
        30 * SECOND, alias="SCHEDULER_SHUTDOWN_GRACE", description="How long running work may take to end at shutdown."
    )
    timeout_min: _Day = Field(30 * SECOND, alias="SCHEDULER_TIMEOUT_MIN", description="Smallest `timeout` of a task.")
    retention: _Decade = Field(30 * DAY, alias="SCHEDULER_RETENTION", description="How long ended executions are kept.")
    misfire_grace: _Week = Field(
        MINUTE, alias="SCHEDULER_MISFIRE_GRACE", description="`misfire_grace` of tasks that do not say their own."
    )
    functions: _Modules = Field(
        (),
        alias="SCHEDULER_FUNCTIONS",
        description="Python modules (comma list) imported at start to register functions.",
    )
    commands: _Programs = Field(
        (),
        alias="SCHEDULER_COMMANDS",
        description="Programs (comma list of absolute paths) that tasks of the executor `command` may run.",
    )
    egress_allow: _Targets = Field(
        (), alias="SCHEDULER_EGRESS_ALLOW",
        description="What HTTP tasks may reach besides the public internet: addresses, networks, hosts (comma list).",
    )  # fmt: skip

    encryption_key: _EncryptionKey | None = Field(
        None, alias="SCHEDULER_ENCRYPTION_KEY",
        description="Seals the secrets of tasks, 32 bytes in base64 or hexadecimal; made and kept in the data "
        "directory if left out.",
    )  # fmt: skip
    encryption_keys_old: _EncryptionKeys | None = Field(
        None, alias="SCHEDULER_ENCRYPTION_KEYS_OLD",
        description="Earlier keys (comma list): they open what they sealed until `peregrine keys rotate` is done.",
    )  # fmt: skip

    jwt_secret: _SigningSecret | None = Field(
        None, alias="JWT_SECRET",
        description="Signs and proves HS256 tokens, 32 bytes or more; made and kept in the data directory if left out.",
    )  # fmt: skip
    jwt_algorithm: Annotated[Algorithm, _read(one_of(Algorithm))] = Field(
        Algorithm.HS256,
        alias="JWT_ALGORITHM",
        description="The one algorithm of foreign tokens: HS256, RS256 or ES256.",
    )
    jwt_jwks_url: _Link = Field(
        "", alias="JWT_JWKS_URL", description="Where the public keys for RS256 or ES256 are fetched."
    )
    jwt_jwks_file: Path | None = Field(
        None, alias="JWT_JWKS_FILE", description="A file with those public keys instead."
    )
    jwt_issuer: str = Field("", alias="JWT_ISSUER", description="If set, `iss` of a token must be this.")
    jwt_audience: str = Field("", alias="JWT_AUDIENCE", description="If set, `aud` of a token must contain this.")
    public_status: _Flag = Field(
        True,
        alias="SCHEDULER_PUBLIC_STATUS",
        description="Whether status and statistics are shown without credentials.",
    )
    metrics_public: _Flag = Field(
        True, alias="METRICS_PUBLIC", description="Whether `/metrics` answers without credentials."
    )

    esi_contact: _Contact = Field(
        "", alias="ESI_CONTACT",
        description="Mail address or page where CCP reaches whoever runs this; sent with every question to EVE Online. "
        "Set, it turns the EVE system tasks on.",
    )  # fmt: skip
    esi_base_url: _Link = Field(
        "https://esi.evetech.net", alias="ESI_BASE_URL", description="Where EVE Online's public API is."
    )
    eve_sso_url: _Link = Field(
        "https://login.eveonline.com", alias="EVE_SSO_URL", description="Where EVE Online's sign-in is."
    )
    eve_client_id: str = Field(
        "", alias="EVE_CLIENT_ID",
        description="Client id of your application at EVE Online; turns the login and the token refresh on.",
    )  # fmt: skip
    eve_client_secret: SecretStr | None = Field(
        None, alias="EVE_CLIENT_SECRET", description="Its secret; without one it is a public client."
    )
    eve_redirect_uri: _Link = Field(
        "", alias="EVE_REDIRECT_URI",
        description="Callback address registered there: where browsers find `/auth/eve/callback` of this service.",
    )  # fmt: skip
    eve_scopes: _Scopes = Field(
        ("publicData",), alias="EVE_SCOPES",
        description="Scopes (comma list) that the login asks EVE for.",
    )  # fmt: skip
    eve_first_user_is_admin: _Flag = Field(
        False, alias="EVE_FIRST_USER_IS_ADMIN",
        description="Whether the first user who ever signs in with EVE becomes `super_admin`.",
    )  # fmt: skip

    log_level: Annotated[LogLevel, _read(one_of(LogLevel))] = Field(
        LogLevel.INFO, alias="LOG_LEVEL", description="debug, info, warning or error."
    )
    log_format: Annotated[LogFormat, _read(one_of(LogFormat))] = Field(
        LogFormat.AUTO, alias="LOG_FORMAT", description="text, json, or auto: text on a terminal, JSON elsewhere."
    )

    mongodb_uri: _DatabaseAddress | None = Field(
        None, alias="MONGODB_URI",
        description="The store of many hosts: a MongoDB. Left out, records are kept in SQLite in the data directory.",
    )  # fmt: skip
    mongodb_database: str = Field("go_falcon", alias="MONGODB_DATABASE", description="Database in that store.")
    redis_host: Annotated[str, _read(str)] = Field(
        "", alias="REDIS_HOST",
        description="Redis, for locks and prompt wakes between instances. Left out, both stay in the process.",
    )  # fmt: skip
    redis_port: _Port = Field(6379, alias="REDIS_PORT", description="Its port.")
    redis_username: Annotated[str, _read(str)] = Field(
        "", alias="REDIS_USERNAME", description="Its user (ACL); left out, the default one."
    )
    redis_password: SecretStr | None = Field(None, alias="REDIS_PASSWORD", description="The password of that user.")
    redis_db: Annotated[int, _read(whole(0, 1_000_000))] = Field(
        0, alias="REDIS_DB", description="Its database number."
    )
    redis_tls: _Flag = Field(False, alias="REDIS_TLS", description="Whether it is reached over TLS.")
    redis_ca_file: Path | None = Field(
        None, alias="REDIS_CA_FILE", description="Who vouches for its certificate; left out, whom this host believes."
    )
    redis_cert_file: Path | None = Field(
        None, alias="REDIS_CERT_FILE", description="Our own certificate, where the server asks for one."
    )
    redis_key_file: Path | None = Field(
        None, alias="REDIS_KEY_FILE", description="Its key, if that is not in the same file."
    )
    redis_url: _RedisAddress | None = Field(
        None, alias="REDIS_URL",
        description="All of it in one: `redis://user:password@host:6379/0`, or `rediss://…` for TLS.",
    )  # fmt: skip

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource, dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:  # fmt: skip
        """Command line, variables, files of variables; nothing else is looked at."""
        return init_settings, env_settings, _FileSource(settings_cls)


class _FileSource(PydanticBaseSettingsSource):
    """Secrets from the files that ``<variable>_FILE`` names."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """The text of the field's file, if there is one."""
        variable = field.alias or field_name
        path = os.environ.get(variable + _FILE) if _is_secret(field) else None
        return (_file_text(variable + _FILE, path) if path else None), variable, False

    def __call__(self) -> dict[str, Any]:
        """All of them by variable."""
        found = (self.get_field_value(field, name) for name, field in self.settings_cls.model_fields.items())
        return {variable: text for text, variable, _ in found if text is not None}


def _is_secret(field: FieldInfo) -> bool:
    return "SecretStr" in str(field.annotation)


def _file_text(variable: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a text"
        raise BadConfiguration(f"{variable}={path}: can't be read: {reason}") from None


# ── reading and checking ─────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Line:
    """One setting as ``config show`` prints it; a secret's value is hidden here already."""

    name: str
    value: str
    origin: str


@dataclass(frozen=True, slots=True)
class Loaded:
    """The settings of this process, where each came from, and what looks like a slip of the pen."""

    settings: Settings
    task_secrets: Mapping[str, str]
    lines: Sequence[Line]
    warnings: Sequence[str]


def load(flags: Mapping[str, str] | None = None) -> Loaded:
    """The settings, read once. *flags* are texts from the command line by variable name; they win.

    Raises:  BadConfiguration with one line that names every wrong variable and how to write it.
    """
    given = dict(flags or {})
    try:
        settings = Settings(**given)  # type: ignore[arg-type]
    except ValidationError as error:
        raise BadConfiguration("; ".join(_fault(dict(e), given) for e in error.errors())) from None
    _check_together(settings)
    secrets = _task_secrets()
    lines = [_line(settings, name, field, given) for name, field in Settings.model_fields.items()]
    lines += [Line(TASK_SECRET + name, HIDDEN, "environment") for name in secrets]
    if settings.redis_url is not None:
        settings = settings.model_copy(update=dict(read_redis_url(settings.redis_url.get_secret_value())))
    return Loaded(settings, secrets, lines, [*_slips(), *_clamped(settings, given)])


def on_server(settings: Settings, uri: str, database: str) -> Settings:
    """*settings* with their records in that database."""
    return settings.model_copy(update={"mongodb_uri": SecretStr(uri), "mongodb_database": database})


def child_environment() -> dict[str, str]:
    """The environment for processes that run what users wrote: ours, without the secrets of the service."""
    hidden = {str(field.alias) for field in Settings.model_fields.values() if _is_secret(field)}
    hidden |= {name + _FILE for name in hidden}
    return {name: text for name, text in os.environ.items() if name not in hidden and not name.startswith(TASK_SECRET)}


def _fault(error: dict[str, Any], given: Mapping[str, str]) -> str:
    variable = str(error["loc"][0])
    field = next(f for f in Settings.model_fields.values() if f.alias == variable)
    message = str(error["msg"]).removeprefix("Value error, ")
    text = given.get(variable, os.environ.get(variable, ""))
    shown = variable if _is_secret(field) else f"{variable}={text!r}"
    return f"{shown}: {message}"


def _check_together(settings: Settings) -> None:
    has_keys = bool(settings.jwt_jwks_url or settings.jwt_jwks_file)
    if settings.jwt_algorithm is Algorithm.HS256 and has_keys:
        raise BadConfiguration("JWT_JWKS_URL and JWT_JWKS_FILE go with JWT_ALGORITHM=RS256 or ES256, not with HS256")
    if settings.jwt_algorithm is not Algorithm.HS256 and not has_keys:
        raise BadConfiguration(f"JWT_ALGORITHM={settings.jwt_algorithm} needs JWT_JWKS_URL or JWT_JWKS_FILE")
    if settings.jwt_jwks_url and settings.jwt_jwks_file:
        raise BadConfiguration("JWT_JWKS_URL and JWT_JWKS_FILE: set one of them")
    beside = {"redis_host", "redis_port", "redis_username", "redis_password", "redis_db", "redis_tls"}
    if settings.redis_url is not None and (twice := sorted(beside & settings.model_fields_set)):
        raise BadConfiguration(f"REDIS_URL says {twice[0].upper()} too; set one of them")
    if settings.redis_key_file is not None and settings.redis_cert_file is None:
        raise BadConfiguration("REDIS_KEY_FILE needs REDIS_CERT_FILE")
    needs = {"ESI_CONTACT": settings.esi_contact, "EVE_REDIRECT_URI": settings.eve_redirect_uri}
    if settings.eve_client_id and (missing := [name for name, value in needs.items() if not value]):
        raise BadConfiguration(f"EVE_CLIENT_ID needs {' and '.join(missing)} too")
    if settings.eve_client_secret is not None and not settings.eve_client_id:
        raise BadConfiguration("EVE_CLIENT_SECRET needs EVE_CLIENT_ID")


def _task_secrets() -> dict[str, str]:
    found: dict[str, str] = {}
    for variable, text in sorted(os.environ.items()):
        if not variable.startswith(TASK_SECRET):
            continue
        name = variable.removeprefix(TASK_SECRET).removesuffix(_FILE)
        if not _SECRET_NAME.fullmatch(name):
            raise BadConfiguration(f"{variable}: name a secret with capital letters, digits and '_'")
        found[name] = _file_text(variable, text) if variable.endswith(_FILE) else text
    return found


def _line(settings: Settings, name: str, field: FieldInfo, given: Mapping[str, str]) -> Line:
    variable, value = str(field.alias), getattr(settings, name)
    if variable in given:
        origin = "command line"
    elif os.environ.get(variable):
        origin = "environment"
    elif _is_secret(field) and (path := os.environ.get(variable + _FILE)):
        origin = f"file {path}"
    else:
        origin = "default"
    return Line(variable, _shown(field, value), origin)


def _shown(field: FieldInfo, value: object) -> str:
    match value:
        case None | () | "":
            return ""
        case SecretStr():
            return HIDDEN
        case bool():
            return str(value).lower()
        case tuple():
            return ",".join(map(str, value))
        case int() if _SPAN in field.metadata:
            return span_text(value)
        case _:
            return str(value)


def _clamped(settings: Settings, given: Mapping[str, str]) -> list[str]:
    """A heartbeat that was asked for and can't be: two of three may fail before a lease ends."""
    was_set = "SCHEDULER_HEARTBEAT" in given or "SCHEDULER_HEARTBEAT" in os.environ
    if not was_set or settings.heartbeat * 3 <= settings.lease:
        return []
    asked, lease = span_text(settings.heartbeat), span_text(settings.lease)
    used = span_text(settings.lease // 3)
    return [f"SCHEDULER_HEARTBEAT={asked} is more than a third of SCHEDULER_LEASE={lease}; {used} is used instead"]


def _slips() -> list[str]:
    """Variables that look like ours and are not; a typo must not pass in silence."""
    known = {str(field.alias) for field in Settings.model_fields.values()}
    known |= {str(field.alias) + _FILE for field in Settings.model_fields.values() if _is_secret(field)}
    warnings = []
    for variable in sorted(os.environ):
        if variable.startswith(("SCHEDULER_", "JWT_", "EVE_", "ESI_")) and variable not in known:
            if not variable.startswith(TASK_SECRET):
                near = difflib.get_close_matches(variable, sorted(known), 1)
                warnings.append(f"{variable} is not a setting" + (f"; did you mean {near[0]}?" if near else ""))
    return warnings
