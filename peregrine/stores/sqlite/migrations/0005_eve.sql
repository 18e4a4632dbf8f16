-- What is kept of EVE Online (`ports/eve.py`): names of tables and columns are those of existing collections and fields.
-- An id of EVE is the row's own number, so that lists of ids read an index or the table in order, and no document.

CREATE TABLE user_profiles (
    user_id TEXT NOT NULL,
    character_id INTEGER PRIMARY KEY,
    character_name TEXT NOT NULL,
    character_owner_hash TEXT NOT NULL,
    corporation_id INTEGER,
    corporation_name TEXT NOT NULL,
    alliance_id INTEGER,
    alliance_name TEXT NOT NULL,
    security_status REAL,
    birthday INTEGER,
    scopes TEXT NOT NULL,          -- between spaces
    access_token TEXT NOT NULL,    -- sealed
    refresh_token TEXT NOT NULL,   -- sealed; empty: there is none
    token_expiry INTEGER,
    valid INTEGER NOT NULL,
    last_login INTEGER,
    profile_updated INTEGER,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    token_version INTEGER NOT NULL,
    refresh_owner TEXT,
    refresh_in_doubt INTEGER NOT NULL,
    invalid_reason TEXT NOT NULL
) STRICT;

CREATE INDEX user_profiles_by_expiry ON user_profiles (coalesce(token_expiry, 0), character_id)
    WHERE valid = 1 AND refresh_token <> '';
CREATE INDEX user_profiles_by_user ON user_profiles (user_id);

CREATE TABLE auth_states (
    state TEXT PRIMARY KEY,
    code_verifier TEXT NOT NULL,
    user_id TEXT,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX auth_states_by_expiry ON auth_states (expires_at);

CREATE TABLE characters (
    character_id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    corporation_id INTEGER NOT NULL,
    alliance_id INTEGER,
    faction_id INTEGER,
    birthday INTEGER,
    security_status REAL,
    description TEXT NOT NULL,
    gender TEXT NOT NULL,
    race_id INTEGER NOT NULL,
    bloodline_id INTEGER NOT NULL,
    ancestry_id INTEGER,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;

CREATE INDEX characters_by_corporation ON characters (corporation_id);

CREATE TABLE alliances (
    alliance_id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    ticker TEXT NOT NULL,
    date_founded INTEGER,
    creator_corporation_id INTEGER NOT NULL,
    creator_character_id INTEGER NOT NULL,
    executor_corporation_id INTEGER,
    faction_id INTEGER,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    deleted_at INTEGER
) STRICT;

CREATE TABLE corporations (
    corporation_id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    ticker TEXT NOT NULL,
    description TEXT NOT NULL,
    url TEXT,
    alliance_id INTEGER,
    ceo_id INTEGER,
    creator_id INTEGER,
    date_founded INTEGER,
    faction_id INTEGER,
    home_station_id INTEGER,
    member_count INTEGER NOT NULL,
    shares INTEGER,
    tax_rate REAL NOT NULL,
    war_eligible INTEGER,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    deleted_at INTEGER
) STRICT;
