"""Owns the reading of ESI's answers into facts, whichever schema they are in; must not know how they were asked for.

What the specification requires must be there and be what it says, or the whole answer is ``Corrupt``: half an answer
written down does more harm than none. So must an optional id, since its absence is a fact too (who left an alliance).
Any other optional field that can't be read is absent. Unknown fields and values pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from peregrine.domain.moment import Moment, parse_moment
from peregrine.modules.esi.exchange import Corrupt, clean, json_of, number_of, object_of
from peregrine.ports.esi import CorporationFacts, ServerStatus
from peregrine.ports.eve import Affiliation, Alliance, Character, Corporation

ID_MAX: Final = 2**53
NAME_MAX: Final = 500
TEXT_MAX: Final = 50_000
"""Characters of a description that are kept; the game allows far fewer."""
IDS_MAX: Final = 1_000_000
CLOSED: Final = "closed"
"""ESI's word for the state of a corporation that is over. Words not known today may come, and say nothing."""


def affiliations(body: bytes) -> Sequence[Affiliation]:
    """Every affiliation in the answer."""
    rows = json_of(body)
    if not isinstance(rows, list):
        raise Corrupt("not a list")
    return [_affiliation(row) for row in rows]


def _affiliation(row: Any) -> Affiliation:
    row = object_of(row)
    return Affiliation(
        _id(row, "character_id"),
        _id(row, "corporation_id"),
        _maybe_id(row, "alliance_id"),
        _maybe_id(row, "faction_id"),
    )


def ids(body: bytes) -> Sequence[int]:
    """A list of ids, each once, in its order."""
    value = json_of(body)
    if not isinstance(value, list) or len(value) > IDS_MAX:
        raise Corrupt("not a list of ids")
    for one in value:
        _checked_id(one, "an entry")
    return list(dict.fromkeys(value))


def alliance(alliance_id: int, body: bytes) -> Alliance:
    """One alliance."""
    row = object_of(json_of(body))
    return Alliance(
        alliance_id=alliance_id,
        name=_text(row, "name"),
        ticker=_text(row, "ticker"),
        date_founded=_moment(row, "date_founded"),
        creator_corporation_id=_id(row, "creator_corporation_id"),
        creator_character_id=_id(row, "creator_id"),
        executor_corporation_id=_maybe_id(row, "executor_corporation_id"),
        faction_id=_maybe_id(row, "faction_id"),
    )


def corporation(corporation_id: int, body: bytes) -> CorporationFacts:
    """One corporation: ``tax_rates`` tells the schema of 2026-07-21, ``tax_rate`` the one before."""
    row = object_of(json_of(body))
    is_new = "tax_rates" in row
    corporation = Corporation(
        corporation_id=corporation_id,
        name=_text(row, "name"),
        ticker=_text(row, "ticker"),
        member_count=_count(row, "member_count"),
        tax_rate=_tax_rate(row),
        description=_maybe_text(row, "description", most=TEXT_MAX) or "",
        url=_maybe_text(row, "url", most=NAME_MAX) or None,
        alliance_id=_maybe_id(row, "alliance_id"),
        ceo_id=_maybe_id(row, "ceo_id"),
        creator_id=_maybe_id(row, "creator_id"),
        date_founded=_maybe_moment(row, "date_founded"),
        faction_id=_maybe_id(row, "enlisted_faction_id" if is_new else "faction_id"),
        home_station_id=_maybe_id(row, "home_station_id"),
        shares=_maybe_count(row, "shares"),
        war_eligible=row["war_eligible"] if isinstance(row.get("war_eligible"), bool) else None,
    )
    return CorporationFacts(corporation, is_closed=row.get("state") == CLOSED)


def _tax_rate(row: dict[str, Any]) -> float:
    """The tax as a fraction; the newer schema says percent."""
    if "tax_rates" in row:
        percent = number_of(object_of(row["tax_rates"]).get("isk"))
        fraction = None if percent is None else percent / 100
    else:
        fraction = number_of(row.get("tax_rate"))
    if fraction is None or not 0 <= fraction <= 1:
        raise Corrupt("tax_rate is no rate")
    return round(fraction, 6)


def character(character_id: int, body: bytes) -> Character:
    """One character."""
    row = object_of(json_of(body))
    return Character(
        character_id=character_id,
        name=_text(row, "name"),
        corporation_id=_id(row, "corporation_id"),
        birthday=_moment(row, "birthday"),
        gender=_text(row, "gender"),
        race_id=_id(row, "race_id"),
        bloodline_id=_id(row, "bloodline_id"),
        description=_maybe_text(row, "description", most=TEXT_MAX) or "",
        security_status=number_of(row.get("security_status")),
        alliance_id=_maybe_id(row, "alliance_id"),
        faction_id=_maybe_id(row, "faction_id"),
    )


def status(body: bytes) -> ServerStatus:
    """The cluster's status."""
    row = object_of(json_of(body))
    return ServerStatus(
        players=_count(row, "players"),
        server_version=_text(row, "server_version"),
        started_at=_moment(row, "start_time"),
        vip=row.get("vip") is True,
    )


# ── fields ───────────────────────────────────────────────────────────────────────────────────────


def _checked_id(value: Any, name: str) -> int:
    if type(value) is not int or not 0 < value <= ID_MAX:
        raise Corrupt(f"{name} is no id")
    return value


def _id(row: dict[str, Any], name: str) -> int:
    return _checked_id(row.get(name), name)


def _maybe_id(row: dict[str, Any], name: str) -> int | None:
    value = row.get(name)
    return None if value is None or value == 0 else _checked_id(value, name)


def _count(row: dict[str, Any], name: str) -> int:
    value = row.get(name)
    if type(value) is not int or not 0 <= value <= ID_MAX:
        raise Corrupt(f"{name} is no count")
    return value


def _maybe_count(row: dict[str, Any], name: str) -> int | None:
    return None if row.get(name) is None else _count(row, name)


def _text(row: dict[str, Any], name: str) -> str:
    value = row.get(name)
    if not isinstance(value, str):
        raise Corrupt(f"{name} is no text")
    return clean(value, most=NAME_MAX)


def _maybe_text(row: dict[str, Any], name: str, *, most: int = NAME_MAX) -> str | None:
    value = row.get(name)
    return clean(value, most=most) if isinstance(value, str) else None


def _moment(row: dict[str, Any], name: str) -> Moment:
    moment = _maybe_moment(row, name)
    if moment is None:
        raise Corrupt(f"{name} is no moment")
    return moment


def _maybe_moment(row: dict[str, Any], name: str) -> Moment | None:
    value = row.get(name)
    if not isinstance(value, str):
        return None
    try:
        return parse_moment(value)
    except ValueError:
        return None
