"""Every setting: its default, each way to get it wrong, its place in the reference."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from peregrine.app.settings import Algorithm, LogFormat, Settings, load
from peregrine.domain.errors import BadConfiguration
from peregrine.domain.moment import DAY, HOUR, SECOND

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "settings.md"
NAMES = [str(field.alias) for field in Settings.model_fields.values()]
DURATION = 'write a duration as "45s"'


@pytest.fixture(autouse=True)
def bare_environment() -> Iterator[None]:
    """Nothing of the developer's own."""
    before = dict(os.environ)
    for name in [n for n in os.environ if n in NAMES or n.startswith(("SCHEDULER_", "JWT_"))]:
        del os.environ[name]
    yield
    os.environ.clear()
    os.environ.update(before)


def values(**environment: str) -> Settings:
    os.environ.update(environment)
    return load().settings


def test_defaults_are_those_of_the_contract() -> None:
    settings = values()

    assert (settings.host, settings.port, settings.api_prefix) == ("127.0.0.1", 8000, "")
    assert (settings.worker_count, settings.queue_size) == (10, 1000)
    assert (settings.cleanup_interval, settings.stale_timeout) == (HOUR, 2 * HOUR)
    assert (settings.lease, settings.heartbeat, settings.poll) == (30 * SECOND, 10 * SECOND, SECOND)
    assert (settings.shutdown_grace, settings.timeout_min) == (30 * SECOND, 30 * SECOND)
    assert (settings.retention, settings.misfire_grace) == (30 * DAY, 60 * SECOND)
    assert settings.data_dir == Path("data")
    assert (settings.jwt_secret, settings.jwt_algorithm) == (None, Algorithm.HS256)


def test_texts_become_values() -> None:
    settings = values(
        HOST=" 0.0.0.0 ",
        PORT="0",
        API_PREFIX="/api/v1/",
        SCHEDULER_LEASE="1s",
        SCHEDULER_RETENTION="PT48H",
        SCHEDULER_FUNCTIONS="one, two.three,",
        SCHEDULER_EGRESS_ALLOW="127.0.0.1/32,[::1]:9000,intranet",
        SCHEDULER_PUBLIC_STATUS="no",
        LOG_FORMAT="JSON",
        REDIS_PASSWORD="",
    )

    assert (settings.host, settings.port, settings.api_prefix) == ("0.0.0.0", 0, "/api/v1")
    assert (settings.lease, settings.retention) == (SECOND, 2 * DAY)
    assert settings.functions == ("one", "two.three")
    assert settings.egress_allow == ("127.0.0.1/32", "[::1]:9000", "intranet")
    assert (settings.public_status, settings.log_format) == (False, LogFormat.JSON)
    assert settings.redis_password is None


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("HOST", "a b", "write an address or a host name"),
        ("PORT", "eighty", "write a whole number from 0 to 65535"),
        ("PORT", "65536", "write a whole number from 0 to 65535"),
        ("PORT", "-1", "write a whole number from 0 to 65535"),
        ("PORT", "٣", "write a whole number from 0 to 65535"),
        ("API_PREFIX", "api", 'write a path such as "/api/v1"'),
        ("HTTP_CONNECTIONS_MAX", "0", "write a whole number from 1 to 10000"),
        ("CORS_ORIGINS", "*", 'write for example "https://ops.example.org"'),
        ("SCHEDULER_WORKER_COUNT", "0", "write a whole number from 1 to 10000"),
        ("SCHEDULER_WORKER_COUNT", "1.5", "write a whole number from 1 to 10000"),
        ("SCHEDULER_QUEUE_SIZE", "-5", "write a whole number from 1 to 10000000"),
        ("SCHEDULER_CLEANUP_INTERVAL", "often", DURATION),
        ("SCHEDULER_CLEANUP_INTERVAL", "2d", "must lie between 1s and 1d"),
        ("SCHEDULER_STALE_TIMEOUT", "7200", DURATION),
        ("SCHEDULER_LEASE", "30", DURATION),
        ("SCHEDULER_LEASE", "500ms", "must lie between 1s and 1h"),
        ("SCHEDULER_HEARTBEAT", "-5s", DURATION),
        ("SCHEDULER_POLL", "5m", "must lie between 1s and 1m"),
        ("SCHEDULER_SHUTDOWN_GRACE", "2h", "must lie between 1s and 1h"),
        ("SCHEDULER_TIMEOUT_MIN", "25h", "must lie between 1s and 1d"),
        ("SCHEDULER_RETENTION", "11y", DURATION),
        ("SCHEDULER_MISFIRE_GRACE", "8d", "must lie between 1s and 7d"),
        ("SCHEDULER_FUNCTIONS", "my-tasks", "is no module name"),
        ("SCHEDULER_FUNCTIONS", "os;sys", "is no module name"),
        ("HTTP_RATE", "-1", "write a whole number from 0 to 1000000"),
        ("TRUSTED_PROXIES", "10.0.0.1/8", "is no address or network"),
        ("TRUSTED_PROXIES", "proxy", 'write for example "127.0.0.1,10.0.0.0/8"'),
        ("SCHEDULER_ENCRYPTION_KEY", "short", "write 32 bytes in base64"),
        ("SCHEDULER_ENCRYPTION_KEYS_OLD", "short,", "write 32 bytes in base64"),
        ("SCHEDULER_COMMANDS", "rsync", "is no absolute path"),
        ("SCHEDULER_COMMANDS", "/usr/bin/../sbin/x", "is no absolute path"),
        ("SCHEDULER_EGRESS_ALLOW", "10.0.0.0/99", "is no address, network or host"),
        ("SCHEDULER_EGRESS_ALLOW", "2130706433", "is no address, network or host"),
        ("JWT_SECRET", "short", "must have at least 32 bytes"),
        ("JWT_ALGORITHM", "none", "write one of HS256, RS256, ES256"),
        ("JWT_ALGORITHM", "RS256", "needs JWT_JWKS_URL or JWT_JWKS_FILE"),
        ("JWT_JWKS_URL", "ftp://keys", "write an address such as"),
        ("JWT_JWKS_FILE", "keys.json", "go with JWT_ALGORITHM=RS256 or ES256"),
        ("SCHEDULER_PUBLIC_STATUS", "maybe", "write true or false"),
        ("METRICS_PUBLIC", "2", "write true or false"),
        ("LOG_LEVEL", "loud", "write one of debug, info, warning, error"),
        ("LOG_FORMAT", "xml", "write one of auto, json, text"),
        ("REDIS_PORT", "x", "write a whole number from 0 to 65535"),
        ("REDIS_DB", "x", "write a whole number from 0 to 1000000"),
        ("REDIS_TLS", "maybe", "write true or false"),
        ("REDIS_KEY_FILE", "key.pem", "needs REDIS_CERT_FILE"),
        ("REDIS_URL", "redis1:6379", "write redis://user:password@host:6379/0"),
        ("REDIS_URL", "redis://:hunter2@/0", "write redis://user:password@host:6379/0"),
        ("REDIS_URL", "redis://u:hunter2@host:port/0", "or rediss:// for TLS"),
        ("REDIS_URL", "rediss://host/zero", "or rediss:// for TLS"),
        ("REDIS_URL", "rediss://host/0?ssl_cert_reqs=none", "or rediss:// for TLS"),
        ("SCHEDULER_SECRET_low", "x", "name a secret with capital letters"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_one_line_that_names_it_and_says_how_to_write_it(name: str, text: str, line: str) -> None:
    with pytest.raises(BadConfiguration) as caught:
        values(**{name: text})

    assert name in str(caught.value)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_all_faults_stand_in_the_one_line() -> None:
    with pytest.raises(BadConfiguration, match=r"PORT='x'.*; .*SCHEDULER_LEASE='5'"):
        values(PORT="x", SCHEDULER_LEASE="5")


def test_a_wrong_secret_is_never_repeated() -> None:
    with pytest.raises(BadConfiguration) as caught:
        values(JWT_SECRET="hunter2")

    assert "hunter2" not in str(caught.value)


def test_an_address_of_redis_says_it_all_and_hides_in_the_list() -> None:
    os.environ["REDIS_URL"] = "rediss://peregrine:p%40ss@[::1]:6390/3"
    loaded = load()
    settings = loaded.settings

    assert (settings.redis_host, settings.redis_port, settings.redis_db) == ("::1", 6390, 3)
    assert (settings.redis_username, settings.redis_tls) == ("peregrine", True)
    assert settings.redis_password is not None
    assert settings.redis_password.get_secret_value() == "p@ss"
    assert "p%40ss" not in str(loaded.lines)
    assert "p@ss" not in str(loaded.lines)
    assert next(line for line in loaded.lines if line.name == "REDIS_URL").value == "***"


def test_the_least_address_of_redis_is_its_host() -> None:
    settings = values(REDIS_URL="redis://redis1")

    assert (settings.redis_host, settings.redis_port, settings.redis_db) == ("redis1", 6379, 0)
    assert (settings.redis_username, settings.redis_password, settings.redis_tls) == ("", None, False)


def test_redis_is_named_once() -> None:
    with pytest.raises(BadConfiguration, match="REDIS_URL says REDIS_PORT too; set one of them"):
        values(REDIS_URL="redis://redis1", REDIS_PORT="6379")


def test_a_secret_can_stand_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("s" * 32 + "\n")

    settings = values(JWT_SECRET_FILE=str(file))

    assert settings.jwt_secret is not None
    assert settings.jwt_secret.get_secret_value() == "s" * 32


def test_the_variable_wins_over_its_file(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("f" * 32)

    settings = values(JWT_SECRET_FILE=str(file), JWT_SECRET="v" * 32)

    assert settings.jwt_secret is not None
    assert settings.jwt_secret.get_secret_value() == "v" * 32


@pytest.mark.parametrize(
    "make", [lambda path: None, lambda path: path.write_bytes(b"\xff\xfe")], ids=["none", "no text"]
)
def test_a_file_that_can_not_be_read_is_named(tmp_path: Path, make: object) -> None:
    path = tmp_path / "secret"
    assert callable(make)
    make(path)

    with pytest.raises(BadConfiguration, match=r"JWT_SECRET_FILE=.*can't be read"):
        values(JWT_SECRET_FILE=str(path))


def test_secrets_for_tasks_are_gathered(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("from a file\n")
    os.environ.update(SCHEDULER_SECRET_GITHUB="plain", SCHEDULER_SECRET_CHAT_FILE=str(file))

    loaded = load()

    assert loaded.task_secrets == {"GITHUB": "plain", "CHAT": "from a file"}
    assert loaded.warnings == []


def test_what_is_shown_hides_secrets_and_says_where_each_came_from(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("f" * 32)
    os.environ.update(JWT_SECRET_FILE=str(file), SCHEDULER_LEASE="90s", SCHEDULER_SECRET_CHAT="canary")

    lines = {line.name: line for line in load({"PORT": "9000"}).lines}

    assert (lines["PORT"].value, lines["PORT"].origin) == ("9000", "command line")
    assert (lines["SCHEDULER_LEASE"].value, lines["SCHEDULER_LEASE"].origin) == ("1m30s", "environment")
    assert (lines["JWT_SECRET"].value, lines["JWT_SECRET"].origin) == ("***", f"file {file}")
    assert (lines["SCHEDULER_POLL"].value, lines["SCHEDULER_POLL"].origin) == ("1s", "default")
    assert lines["SCHEDULER_SECRET_CHAT"].value == "***"
    assert set(NAMES) <= set(lines)


def test_the_command_line_wins() -> None:
    os.environ["PORT"] = "1"

    assert load({"PORT": "2"}).settings.port == 2


def test_a_heartbeat_that_can_not_be_is_told() -> None:
    told = load({"SCHEDULER_LEASE": "6s", "SCHEDULER_HEARTBEAT": "5s"}).warnings

    assert told == ["SCHEDULER_HEARTBEAT=5s is more than a third of SCHEDULER_LEASE=6s; 2s is used instead"]
    assert load({"SCHEDULER_LEASE": "6s"}).warnings == []
    assert load({"SCHEDULER_LEASE": "6s", "SCHEDULER_HEARTBEAT": "2s"}).warnings == []


def test_a_slip_of_the_pen_is_warned_of() -> None:
    os.environ.update(SCHEDULER_LEESE="3s", SCHEDULER_DATA_DIR_FILE="x")

    warnings = load().warnings

    assert warnings == [
        "SCHEDULER_DATA_DIR_FILE is not a setting; did you mean SCHEDULER_DATA_DIR?",
        "SCHEDULER_LEESE is not a setting; did you mean SCHEDULER_LEASE?",
    ]


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_stands_in_the_reference_with_its_default(name: str) -> None:
    line = next(line for line in load().lines if line.name == name)
    description = next(f.description for f in Settings.model_fields.values() if f.alias == name)

    default = f"`{line.value}`" if line.value else ""
    assert f"| `{name}` | {default} | {description} |" in REFERENCE.read_text(encoding="utf-8").splitlines()


def test_the_reference_names_no_setting_that_is_not_there() -> None:
    rows = [row.split("`")[1] for row in REFERENCE.read_text(encoding="utf-8").splitlines() if row.startswith("| `")]

    assert rows == NAMES
