"""Owns an EVE of any size, made from a seed: who is where, and what each is called. Must not know HTTP.

Nothing is stored but what somebody changed: a fact is computed from the seed and an id each time it is asked for, so a
million characters take no memory and are the same in every process.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final

from peregrine.domain.moment import DAY, Moment, format_moment

FIRST_CHARACTER: Final = 90_000_000
FIRST_CORPORATION: Final = 98_000_000
FIRST_ALLIANCE: Final = 99_000_000
FIRST_NPC_CORPORATION: Final = 1_000_001
DOOMHEIM: Final = FIRST_NPC_CORPORATION
"""Where deleted characters go."""
NPC_CORPORATIONS: Final = 40
FACTIONS: Final = (500_001, 500_002, 500_003, 500_004)
STATIONS: Final = 60_000_001
_BORN: Final[Moment] = 1_052_179_200_000
"""2003-05-06, when the game began."""
_FIRST_NAMES: Final = ("Ana", "Boran", "Ceri", "Dov", "Edda", "Faro", "Gil", "Hana", "Ivo", "Jara", "Kel", "Lio")
_LAST_NAMES: Final = ("Altan", "Brack", "Corso", "Dray", "Elm", "Forst", "Grau", "Hallow", "Iken", "Jorun")


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How many of each there are."""

    characters: int = 1000
    alliances: int = 35
    corporations: int = 100


class World:
    """Who exists, where they belong, and what changed since the beginning."""

    def __init__(self, size: Size | None = None, *, seed: int = 0) -> None:
        self.size = size or Size()
        self.seed = seed
        self.started_at: Moment | None = None
        """Since when the cluster is up; None: since today's downtime."""
        self.is_vip = False
        self._homes: dict[int, int] = {}
        self._leagues: dict[int, int | None] = {}
        self._closed: set[int] = set()
        self._vanished: set[int] = set()
        self._stirs: list[int] = []

    # ── who there is ─────────────────────────────────────────────────────────────────────────────

    @property
    def character_ids(self) -> range:
        """Every character."""
        return range(FIRST_CHARACTER, FIRST_CHARACTER + self.size.characters)

    @property
    def corporation_ids(self) -> range:
        """Every corporation of players, closed ones too."""
        return range(FIRST_CORPORATION, FIRST_CORPORATION + self.size.corporations)

    @property
    def npc_corporation_ids(self) -> range:
        """Every NPC corporation."""
        return range(FIRST_NPC_CORPORATION, FIRST_NPC_CORPORATION + NPC_CORPORATIONS)

    @property
    def alliance_ids(self) -> Sequence[int]:
        """Every active alliance."""
        gone = self._closed | self._vanished
        return [id for id in range(FIRST_ALLIANCE, FIRST_ALLIANCE + self.size.alliances) if id not in gone]

    def exists(self, id: int) -> bool:
        """Whether ESI knows this id."""
        known = FIRST_ALLIANCE <= id < FIRST_ALLIANCE + self.size.alliances
        known = known or id in self.character_ids or id in self.corporation_ids or id in self.npc_corporation_ids
        return known and id not in self._vanished

    # ── changes ──────────────────────────────────────────────────────────────────────────────────

    def move(self, character_id: int, corporation_id: int) -> None:
        """A character goes to another corporation."""
        self._homes[character_id] = corporation_id

    def join(self, corporation_id: int, alliance_id: int | None) -> None:
        """A corporation goes to another alliance, or leaves its own."""
        self._leagues[corporation_id] = alliance_id

    def close(self, id: int) -> None:
        """An alliance or a corporation ends: it is still told of, as closed."""
        self._closed.add(id)

    def vanish(self, id: int) -> None:
        """ESI answers 404 for this id from now on."""
        self._vanished.add(id)

    def stir(self, permille: int) -> None:
        """So many of a thousand characters, by chance, go somewhere else."""
        self._stirs.append(permille)

    # ── facts ────────────────────────────────────────────────────────────────────────────────────

    def home_of(self, character_id: int) -> int:
        """The corporation of a character."""
        if character_id in self._homes:
            return self._homes[character_id]
        salt = 0
        for number, permille in enumerate(self._stirs, start=1):
            if self._chance("stir", number, character_id) % 1000 < permille:
                salt = number
        chance = self._chance("home", salt, character_id)
        if not self.size.corporations or chance % 10 == 0:
            return FIRST_NPC_CORPORATION + 1 + chance // 10 % (NPC_CORPORATIONS - 1)
        return FIRST_CORPORATION + chance // 10 % self.size.corporations

    def league_of(self, corporation_id: int) -> int | None:
        """The alliance of a corporation, if it is in one that has not ended."""
        if corporation_id in self._leagues:
            return self._leagues[corporation_id]
        if corporation_id < FIRST_CORPORATION or not self.size.alliances:
            return None
        chance = self._chance("league", corporation_id)
        alliance_id = FIRST_ALLIANCE + chance // 3 % self.size.alliances
        return None if chance % 3 == 0 or alliance_id in self._closed | self._vanished else alliance_id

    def affiliation(self, character_id: int) -> dict[str, int]:
        """As POST /characters/affiliation tells it."""
        corporation_id = self.home_of(character_id)
        return _with({"character_id": character_id, "corporation_id": corporation_id}, **self._above(corporation_id))

    def character(self, id: int) -> dict[str, Any]:
        """As GET /characters/{id} tells it."""
        corporation_id = self.home_of(id)
        row = {
            "achievement_score": self._chance("score", id) % 20_000,
            "birthday": self._day("born", id),
            "bloodline_id": 1 + self._chance("blood", id) % 8,
            "corporation_id": corporation_id,
            "description": "",
            "gender": ("female", "male")[self._chance("gender", id) % 2],
            "name": self.name_of(id),
            "race_id": 2 ** (self._chance("race", id) % 4),
            "security_status": self._chance("security", id) % 100 / 10 - 5,
        }
        return _with(row, **self._above(corporation_id))

    def name_of(self, character_id: int) -> str:
        """A character's name, different for each."""
        first = _FIRST_NAMES[self._chance("first", character_id) % len(_FIRST_NAMES)]
        last = _LAST_NAMES[self._chance("last", character_id) % len(_LAST_NAMES)]
        return f"{first} {last} {character_id - FIRST_CHARACTER}"

    def alliance(self, id: int) -> dict[str, Any]:
        """As GET /alliances/{id} tells it."""
        founder = FIRST_CORPORATION + self._chance("founder", id) % max(1, self.size.corporations)
        row = {
            "creator_corporation_id": founder,
            "creator_id": FIRST_CHARACTER + self._chance("creator", id) % max(1, self.size.characters),
            "date_founded": self._day("founded", id),
            "name": f"Alliance of {_LAST_NAMES[id % len(_LAST_NAMES)]} {id - FIRST_ALLIANCE}",
            "ticker": f"A{id - FIRST_ALLIANCE}"[:5],
        }
        executor = None if id in self._closed else founder
        faction = FACTIONS[id % 4] if self._chance("war", id) % 20 == 0 else None
        return _with(row, executor_corporation_id=executor, faction_id=faction)

    def corporation(self, id: int, *, is_new: bool) -> dict[str, Any]:
        """As GET /corporations/{id} tells it, since 2026-07-21 (*is_new*) or before."""
        tax = self._chance("tax", id) % 21
        is_npc = id < FIRST_CORPORATION
        is_closed = id in self._closed
        row: dict[str, Any] = {
            "date_founded": self._day("founded", id),
            "description": f"We are number {id}.",
            "home_station_id": STATIONS + self._chance("station", id) % 900,
            "member_count": 0 if is_closed else 1 + self._chance("members", id) % 400,
            "name": f"{_LAST_NAMES[id % len(_LAST_NAMES)]} and Partners {id % 1_000_000}",
            "shares": 1000,
            "ticker": f"C{id % 1_000_000}"[:5],
            "war_eligible": not is_npc and not is_closed,
        }
        chief = FIRST_CHARACTER + self._chance("chief", id) % max(1, self.size.characters)
        above = self._above(id)
        faction = above.pop("faction_id")
        if not is_new:
            return _with(
                row | {"ceo_id": 1 if is_closed else chief, "creator_id": chief, "tax_rate": tax / 100},
                url="https://example.invalid",
                faction_id=faction,
                **above,
            )
        row |= {
            "friendly_fire": "legal",
            "state": "closed" if is_closed else "active",
            "tax_rates": {"isk": float(tax), "loyalty_point": 0.0},
            "type": "npc_owned" if is_npc else "player_owned",
        }
        who = None if is_closed or is_npc else chief
        return _with(row, ceo_id=who, creator_id=None if is_npc else chief, enlisted_faction_id=faction, **above)

    def corporations_of(self, alliance_id: int) -> Sequence[int]:
        """As GET /alliances/{id}/corporations tells it."""
        return [id for id in self.corporation_ids if self.exists(id) and self.league_of(id) == alliance_id]

    def status(self, now: Moment) -> dict[str, Any]:
        """As GET /status tells it."""
        at_eleven = now - (now - 11 * DAY // 24) % DAY
        started_at = at_eleven + DAY // 288 if self.started_at is None else self.started_at
        return {
            "players": 20_000 + now // 60_000 % 9000,
            "server_version": "3000000",
            "start_time": format_moment(started_at - started_at % 1000),
            "vip": self.is_vip,
        }

    def _above(self, corporation_id: int) -> dict[str, int | None]:
        faction = FACTIONS[corporation_id % 4] if self._chance("enlisted", corporation_id) % 25 == 0 else None
        return {"alliance_id": self.league_of(corporation_id), "faction_id": faction}

    def _day(self, what: str, id: int) -> str:
        return format_moment(_BORN + self._chance(what, id) % 8000 * DAY)

    def _chance(self, *what: object) -> int:
        text = " ".join(map(str, (self.seed, *what)))
        return int.from_bytes(blake2b(text.encode(), digest_size=7).digest(), "big")


def _with(row: dict[str, Any], **optional: Any) -> dict[str, Any]:
    """*row* and what of *optional* there is: ESI leaves out what is not."""
    return row | {name: value for name, value in optional.items() if value is not None}
