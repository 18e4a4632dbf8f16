-- Every statement about EVE Online, by name. `carray(?1)` is a list of ids given as one value. A document is read and
-- written with all its columns in the order of its table.

-- name: character_ids
-- The next ids behind one.
SELECT character_id FROM characters WHERE character_id > ?1 ORDER BY character_id LIMIT ?2;

-- name: characters
-- The known ones of a list, by id.
SELECT d.* FROM (SELECT DISTINCT value FROM carray(?1)) c CROSS JOIN characters d ON d.character_id = c.value
ORDER BY d.character_id;

-- name: affiliations
-- Where the known ones of a list belong, by id.
SELECT d.character_id, d.corporation_id, d.alliance_id, d.faction_id
FROM (SELECT DISTINCT value FROM carray(?1)) c CROSS JOIN characters d ON d.character_id = c.value
ORDER BY d.character_id;

-- name: set_affiliation
-- Where a known character belongs from now on.
UPDATE characters SET corporation_id = ?2, alliance_id = ?3, faction_id = ?4, updated_at = ?5 WHERE character_id = ?1;

-- name: put_character
-- A whole character.
REPLACE INTO characters VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: alliance_ids
-- The next ids behind one, without the vanished ones.
SELECT alliance_id FROM alliances WHERE alliance_id > ?1 AND deleted_at IS NULL ORDER BY alliance_id LIMIT ?2;

-- name: alliances
-- The known ones of a list, by id.
SELECT d.* FROM (SELECT DISTINCT value FROM carray(?1)) c CROSS JOIN alliances d ON d.alliance_id = c.value
ORDER BY d.alliance_id;

-- name: put_alliance
-- A whole alliance.
REPLACE INTO alliances VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: vanish_alliances
-- Mark those of a list that are there.
UPDATE alliances SET deleted_at = ?2, updated_at = ?2
WHERE alliance_id IN (SELECT value FROM carray(?1)) AND deleted_at IS NULL;

-- name: corporation_ids
-- The next ids behind one: live documents, and what characters name without there being a document.
SELECT corporation_id FROM corporations WHERE corporation_id > ?1 AND deleted_at IS NULL
UNION
SELECT n.corporation_id FROM characters n WHERE n.corporation_id > max(?1, 0)
    AND NOT EXISTS (SELECT 1 FROM corporations d WHERE d.corporation_id = n.corporation_id)
ORDER BY corporation_id LIMIT ?2;

-- name: corporations
-- The known ones of a list, by id.
SELECT d.* FROM (SELECT DISTINCT value FROM carray(?1)) c CROSS JOIN corporations d ON d.corporation_id = c.value
ORDER BY d.corporation_id;

-- name: put_corporation
-- A whole corporation.
REPLACE INTO corporations VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: vanish_corporations
-- Mark those of a list that are there.
UPDATE corporations SET deleted_at = ?2, updated_at = ?2
WHERE corporation_id IN (SELECT value FROM carray(?1)) AND deleted_at IS NULL;

-- name: profile
-- One profile.
SELECT * FROM user_profiles WHERE character_id = ?1;

-- name: put_profile
-- A whole profile.
REPLACE INTO user_profiles
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: has_other_users
-- Whether any profile is of another user.
SELECT EXISTS (SELECT 1 FROM user_profiles WHERE user_id < ?1)
    OR EXISTS (SELECT 1 FROM user_profiles WHERE user_id > ?1);

-- name: expiring
-- Profiles whose tokens end soon, the soonest first, behind a place.
SELECT * FROM user_profiles
WHERE valid = 1 AND refresh_token <> '' AND coalesce(token_expiry, 0) BETWEEN ?2 AND ?1
    AND (coalesce(token_expiry, 0), character_id) > (?2, ?3)
ORDER BY coalesce(token_expiry, 0), character_id LIMIT ?4;

-- name: claim_refresh
-- The right to refresh, for who sees what is there.
UPDATE user_profiles SET refresh_owner = ?4, refresh_in_doubt = refresh_in_doubt OR ?3 IS NOT NULL, updated_at = ?5
WHERE character_id = ?1 AND token_version = ?2 AND refresh_owner IS ?3 AND valid = 1 AND refresh_token <> '';

-- name: store_tokens
-- What a refresh gave, if nothing newer lies there.
UPDATE user_profiles
SET access_token = ?3, refresh_token = ?4, token_expiry = ?5, token_version = token_version + 1, valid = 1,
    refresh_owner = NULL, refresh_in_doubt = 0, invalid_reason = '', updated_at = ?6
WHERE character_id = ?1 AND token_version = ?2;

-- name: release_refresh
-- The right given back.
UPDATE user_profiles SET refresh_owner = NULL, refresh_in_doubt = refresh_in_doubt OR ?3, updated_at = ?4
WHERE character_id = ?1 AND refresh_owner = ?2;

-- name: invalidate_token
-- The tokens are good for nothing any more.
UPDATE user_profiles SET valid = 0, invalid_reason = ?3, refresh_owner = NULL, updated_at = ?4,
    access_token = iif(?5, '', access_token), refresh_token = iif(?5, '', refresh_token)
WHERE character_id = ?1 AND refresh_owner = ?2;

-- name: sealed_tokens
-- The tokens behind a character, by id.
SELECT character_id, access_token, refresh_token FROM user_profiles
WHERE character_id > ?1 ORDER BY character_id LIMIT ?2;

-- name: reseal_tokens
-- The same tokens, sealed otherwise.
UPDATE user_profiles SET access_token = ?4, refresh_token = ?5
WHERE character_id = ?1 AND access_token = ?2 AND refresh_token = ?3;

-- name: put_auth_state
-- A login under way.
REPLACE INTO auth_states VALUES (?, ?, ?, ?, ?);

-- name: take_auth_state
-- A login under way, taken out.
DELETE FROM auth_states WHERE state = ?1 RETURNING *;

-- name: purge_auth_states
-- Expired logins removed.
DELETE FROM auth_states WHERE state IN
    (SELECT state FROM auth_states WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2);

-- name: count_profiles
-- How many there are.
SELECT count(*) FROM user_profiles;

-- name: move_profiles
-- Whole documents behind an id, each with its id in front.
SELECT character_id, * FROM user_profiles WHERE character_id > ?1 ORDER BY character_id LIMIT ?2;

-- name: count_characters
-- How many there are.
SELECT count(*) FROM characters;

-- name: move_characters
-- Whole documents behind an id, each with its id in front.
SELECT character_id, * FROM characters WHERE character_id > ?1 ORDER BY character_id LIMIT ?2;

-- name: count_alliances
-- How many there are.
SELECT count(*) FROM alliances;

-- name: move_alliances
-- Whole documents behind an id, each with its id in front.
SELECT alliance_id, * FROM alliances WHERE alliance_id > ?1 ORDER BY alliance_id LIMIT ?2;

-- name: count_corporations
-- How many there are.
SELECT count(*) FROM corporations;

-- name: move_corporations
-- Whole documents behind an id, each with its id in front.
SELECT corporation_id, * FROM corporations WHERE corporation_id > ?1 ORDER BY corporation_id LIMIT ?2;
