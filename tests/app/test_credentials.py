"""The operator's token holds wherever the service runs; foreign keys come from a file or an address and may be away."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwk, jws

from peregrine.app.credentials import PublicKeys, holds, mint_for, prepare_credentials, rules_of
from peregrine.app.datadir import DataDir
from peregrine.app.settings import Settings
from peregrine.auth.jwt import JwtProof
from peregrine.cli.house import TokenRequest
from peregrine.coordination.clock import SystemClock
from peregrine.domain.errors import BadConfiguration, Unavailable
from peregrine.domain.moment import DAY, HOUR, SECOND
from peregrine.domain.permission import SUPER_ADMIN


@pytest.fixture
def data_dir(tmp_path: Path) -> DataDir:
    data_dir = DataDir(tmp_path / "data")
    data_dir.prepare()
    return data_dir


def settings_of(data_dir: DataDir, **more: Any) -> Settings:
    return Settings(**{"SCHEDULER_DATA_DIR": str(data_dir.path), **more})


async def groups_of(token: str, proof: JwtProof) -> set[str]:
    return {subject for subject in (await proof.principal_of(token)).subjects if subject.startswith("group:")}


async def test_the_first_token_has_every_right_and_the_second_start_keeps_it(data_dir: DataDir) -> None:
    settings, clock = settings_of(data_dir, JWT_ISSUER="us", JWT_AUDIENCE="them"), SystemClock()

    first = await prepare_credentials(settings, data_dir, clock, None)
    second = await prepare_credentials(settings, data_dir, clock, None)

    assert first.new_token is not None
    assert (first.is_first, second.is_first, second.new_token) == (True, False, None)
    assert SUPER_ADMIN in await groups_of(first.new_token, JwtProof(second.rules, clock))


@pytest.mark.parametrize("passes", [400 * DAY, 340 * DAY], ids=["expired", "soon expired"])
async def test_a_token_that_ends_is_renewed_at_the_start(data_dir: DataDir, passes: int) -> None:
    class Later(SystemClock):
        def now(self) -> int:
            return super().now() + passes

    settings = settings_of(data_dir)
    first = await prepare_credentials(settings, data_dir, SystemClock(), None)
    later = await prepare_credentials(settings, data_dir, Later(), None)

    assert later.new_token not in (None, first.new_token)
    assert not later.is_first


async def test_another_secret_makes_another_token(data_dir: DataDir) -> None:
    clock = SystemClock()
    await prepare_credentials(settings_of(data_dir), data_dir, clock, None)

    other = await prepare_credentials(settings_of(data_dir, JWT_SECRET="s" * 32), data_dir, clock, None)

    assert other.new_token is not None
    assert await holds(data_dir.read_secret("operator-token"), other.rules, clock)


@pytest.fixture
def foreign() -> Any:
    return jwk.ECKey.generate_key("P-256", {"kid": "theirs", "use": "sig", "alg": "ES256"})


def key_set(key: Any) -> str:
    return json.dumps({"keys": [key.as_dict(private=False)]})


def signed(key: Any) -> str:
    now = SystemClock().now()
    claims = {"user_id": "42", "groups": ["monitoring"], "exp": (now + HOUR) // SECOND}
    return jws.serialize_compact({"alg": "ES256", "kid": "theirs"}, json.dumps(claims), key, algorithms=["ES256"])


async def test_keys_from_a_file_prove_foreign_tokens_and_our_own_still_hold(
    data_dir: DataDir, tmp_path: Path, foreign: Any
) -> None:
    file = tmp_path / "keys.json"
    file.write_text(key_set(foreign))
    settings = settings_of(data_dir, JWT_ALGORITHM="ES256", JWT_JWKS_FILE=str(file))
    keys = PublicKeys.of(settings)
    assert keys is not None
    await keys.start()

    credentials = await prepare_credentials(settings, data_dir, SystemClock(), keys)
    minted = mint_for(settings, TokenRequest(user="me", groups=("task_managers",), lasts="1h"))

    proof = JwtProof(credentials.rules, SystemClock())
    assert "group:monitoring" in await groups_of(signed(foreign), proof)
    assert SUPER_ADMIN in await groups_of(str(credentials.new_token), proof)
    assert "group:task_managers" in await groups_of(minted, proof)


@pytest.mark.parametrize("text", ["", "[]", '{"keys": 3}', None])
async def test_a_file_that_holds_no_keys_stops_the_start(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "keys.json"
    if text is not None:
        file.write_text(text)

    with pytest.raises(BadConfiguration, match="JWT_JWKS_FILE="):
        await PublicKeys(file=file).start()


@pytest.fixture
def address(foreign: Any) -> Iterator[str]:
    class Answering(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = key_set(foreign).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answering) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()
        thread.join()


async def test_keys_from_an_address_are_fetched(data_dir: DataDir, address: str, foreign: Any) -> None:
    keys = PublicKeys(url=address)
    await keys.start()

    settings = settings_of(data_dir, JWT_ALGORITHM="ES256", JWT_JWKS_URL=address, JWT_SECRET="s" * 32)
    proof = JwtProof(rules_of(settings, data_dir, keys), SystemClock())
    assert "group:monitoring" in await groups_of(signed(foreign), proof)


async def test_an_address_that_is_away_does_not_stop_the_start_and_opens_no_door(data_dir: DataDir) -> None:
    keys = PublicKeys(url="http://127.0.0.1:1/")

    await keys.start()

    with pytest.raises(Unavailable):
        keys.newest()


async def test_keys_read_once_hold_while_the_other_side_is_away(tmp_path: Path, foreign: Any) -> None:
    file = tmp_path / "keys.json"
    file.write_text(key_set(foreign))
    keys = PublicKeys(url=file.as_uri())
    await keys.start()
    before = keys.newest()

    file.unlink()
    await keys.start()

    assert keys.newest() is before


def test_nothing_is_minted_where_no_secret_is_kept(data_dir: DataDir) -> None:
    with pytest.raises(BadConfiguration, match="no signing secret"):
        mint_for(settings_of(data_dir), TokenRequest(user="me", groups=(), lasts="1h"))
