"""Owns the refresh of tokens: whose, when, by whom, and what becomes of a token that can't be refreshed. Must not know
HTTP, how a token is proven, or SQL.

A refresh token may be good for one use, so three things are never left to luck. One flight a character, over all
instances: the right is given by the store, and taken from a holder only after he was watched standing still for longer
than he may live. The new tokens are stored before they are used, over the very version they were made from, so that a
late answer is never lost and never overwrites a newer one. And an answer that was lost leaves a doubt, not a verdict:
the stored token is tried again, and only EVE's own no makes it invalid.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from peregrine.domain.errors import PeregrineError, Unavailable
from peregrine.domain.moment import MINUTE, SECOND, Duration
from peregrine.modules.esi.work import RESERVE, Holding, work_off
from peregrine.ports.clock import Clock
from peregrine.ports.entropy import Entropy
from peregrine.ports.esi import Sso, SsoMistrusted, SsoRefused, SsoUnavailable, TokenPair
from peregrine.ports.eve import IN_DOUBT, Profile, ProfileStore, Refreshing, Tokens, token_place
from peregrine.ports.executor import RunContext
from peregrine.ports.vault import CannotOpen, Vault, is_sealed

AHEAD: Final[Duration] = 17 * MINUTE
"""How far ahead: less than the 20 minutes that a token lives, so that a fresh one is left alone; more than the 15
minutes between two runs, so that none ends in between."""
WORKERS: Final = 10
BATCH_MAX: Final = 1000
FLIGHT_SECONDS: Final = 30.0
"""How long one refresh may take: what came by then is stored, whatever becomes of the run."""
SEND_WITHIN: Final[Duration] = 20 * SECOND
"""A right that is older is given back unused: whoever got it stood still in between."""
HOLDER_LIVES: Final[Duration] = MINUTE
"""A holder that was seen unchanged for so long is dead: more than sending late and flying long take together."""
SAVES: Final = 60
SAVE_PAUSE_SECONDS: Final = 1.0
"""How often, and how far apart, new tokens are tried to be stored while the store is away."""
CLOSE_SECONDS: Final = 10.0
LOOK_AGAIN: Final[Duration] = SECOND
OWNER_CHANGED: Final = "owner_changed"

_log = logging.getLogger(__name__)
_Hold = tuple[int, int, str]


class NotSaved(PeregrineError):
    """New tokens could not be stored for a whole minute; the store says why."""

    code = "not_saved"


@dataclass(slots=True)
class _Counted:
    succeeded: int = 0
    failed: int = 0


class Refresher:
    """An ``AuthModule``. It lives as long as the process: it remembers holders, and flights outlive a cancelled run."""

    def __init__(self, sso: Sso, store: ProfileStore, vault: Vault, clock: Clock, entropy: Entropy) -> None:
        self._sso = sso
        self._store = store
        self._vault = vault
        self._clock = clock
        self._entropy = entropy
        self._flights: set[asyncio.Task[bool]] = set()
        self._watched: dict[_Hold, int] = {}

    async def refresh_expiring_tokens(self, context: RunContext, batch_size: int) -> tuple[int, int]:
        """See the port.

        Raises:  SsoUnavailable when the SSO is away; SsoMisconfigured.
        """
        before, counted = self._clock.now() + AHEAD, _Counted()
        holding, held, place = Holding(context, self._clock), list[Profile](), None
        size = min(max(1, batch_size), BATCH_MAX)
        while True:
            batch = await self._store.expiring_profiles(before=before, after=place, limit=size)
            free = [one for one in batch if one.refresh_owner is None]
            held += [one for one in batch if one.refresh_owner is not None]
            await self._refresh_all(free, holding, counted)
            if batch:
                context.log(f"{counted.succeeded} refreshed, {counted.failed} failed")
            if len(batch) < size:
                break
            if self._clock.monotonic() > context.deadline - RESERVE:
                context.log("time is up; the next run begins with what ends soonest")
                return counted.succeeded, counted.failed
            place = (batch[-1].token_expiry or 0, batch[-1].character_id)
        await self._inherit(held, context, holding, counted)
        return counted.succeeded, counted.failed

    async def close(self) -> None:
        """Let flights land that a cancelled run has left, within some seconds."""
        if self._flights:
            await asyncio.wait(self._flights, timeout=CLOSE_SECONDS)
        for flight in self._flights:
            flight.cancel()
        await asyncio.gather(*self._flights, return_exceptions=True)

    # ── who ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _refresh_all(self, profiles: Sequence[Profile], holding: Holding, counted: _Counted) -> None:
        async def refresh(profile: Profile) -> None:
            try:
                done = await self._refresh(profile)
            except Unavailable as error:
                counted.failed += 1
                holding.missed(error)
                return
            if holding.answered(done) is not None:
                counted.succeeded += bool(done)
                counted.failed += not done

        await work_off(profiles, refresh, workers=WORKERS)

    async def _inherit(self, held: Sequence[Profile], context: RunContext, holding: Holding, counted: _Counted) -> None:
        """Refresh those whose holder stands still for longer than he may live: he died with the answer, or before."""
        now = self._clock.monotonic()
        self._watched = {hold: self._watched.get(hold, now) for hold in map(hold_of, held)}
        while self._watched:
            ripe_at = max(self._watched.values()) + HOLDER_LIVES
            still = [await self._store.profile_of(hold[0]) for hold in self._watched]
            profiles = [one for one in still if one is not None and hold_of(one) in self._watched]
            self._watched = {hold: self._watched[hold] for hold in map(hold_of, profiles)}
            now = self._clock.monotonic()
            if ripe_at <= now:
                await self._refresh_all(profiles, holding, counted)
                return
            if ripe_at > context.deadline - RESERVE:
                return  # the next run goes on watching
            await asyncio.sleep(min(LOOK_AGAIN, ripe_at - now) / 1000)

    async def _refresh(self, profile: Profile) -> bool | None:
        """Whether *profile* has new tokens; None: somebody else sees to it. A cancel leaves the flight in the air."""
        owner, since = self._entropy.new_id(), self._clock.monotonic()
        wish = Refreshing(
            character_id=profile.character_id,
            token_version=profile.token_version,
            held_by=profile.refresh_owner,
            owner=owner,
        )
        if not await self._store.claim_refresh(wish, now=self._clock.now()):
            return None
        in_doubt = profile.refresh_in_doubt or profile.refresh_owner is not None
        claimed = replace(profile, refresh_owner=owner, refresh_in_doubt=in_doubt)
        flight = asyncio.create_task(self._fly(claimed, since), name=f"refresh {profile.character_id}")
        self._flights.add(flight)
        flight.add_done_callback(self._landed)
        return await asyncio.shield(flight)

    def _landed(self, flight: asyncio.Task[bool]) -> None:
        self._flights.discard(flight)
        if not flight.cancelled() and (error := flight.exception()) is not None:
            _log.info("token_not_refreshed", extra={"flight": flight.get_name(), "reason": str(error)})

    # ── one flight ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def _fly(self, profile: Profile, since: int) -> bool:
        """Refresh one character whose right we hold since the steady moment *since*, and store what comes.

        Raises:  Unavailable when the SSO or the store is away: the token is as good as before, or in doubt.
        """
        token = self._opened(profile)
        if token is None or self._clock.monotonic() - since > SEND_WITHIN:
            # Unreadable: its key may be given yet. Late: we stood still, and may be taken for dead any moment.
            await self._release(profile, in_doubt=False)
            return False
        try:
            async with asyncio.timeout(FLIGHT_SECONDS):
                pair = await self._sso.refresh(token)
        except SsoRefused as error:
            return await self._give_up(profile, IN_DOUBT if profile.refresh_in_doubt else error.reason)
        except TimeoutError:
            await self._release(profile, in_doubt=True)
            raise SsoUnavailable("the SSO took too long", in_doubt=True) from None
        except SsoUnavailable as error:
            await self._release(profile, in_doubt=error.in_doubt)
            raise
        except PeregrineError:
            await self._release(profile, in_doubt=False)
            raise
        kept = await self._save(profile, pair)
        return kept is None or await self._is_theirs(kept, pair)

    async def _save(self, profile: Profile, pair: TokenPair) -> Profile | None:
        """Store *pair*, over and over while the store is away: nobody else has it. Gives the profile as it is then;
        None: something newer lies there."""
        id = profile.character_id
        tokens = sealed_tokens(self._vault, id, pair, instead=profile.refresh_token)
        for left in reversed(range(SAVES)):
            try:
                await self._store.store_tokens(id, tokens, token_version=profile.token_version, now=self._clock.now())
                # Read back: the answer to an earlier try may have been lost, or a new login have been quicker.
                stored = await self._store.profile_of(id)
                return stored if stored is not None and stored.refresh_token == tokens.refresh_token else None
            except Unavailable as error:
                if not left:
                    raise NotSaved(f"new tokens of character {id} could not be stored: {error}") from None
            await asyncio.sleep(SAVE_PAUSE_SECONDS)
        raise AssertionError("unreachable")

    async def _is_theirs(self, kept: Profile, pair: TokenPair) -> bool:
        """Whether the character still belongs to who signed in with it. A token of somebody else is dropped."""
        try:
            character = await self._sso.verify(pair.access_token)
        except SsoMistrusted as error:
            _log.warning("token_mistrusted", extra={"character": kept.character_id, "reason": str(error)})
            return False
        except Unavailable:
            return True  # its keys are away; the next refresh compares
        if character.character_id == kept.character_id and (
            not kept.character_owner_hash or character.owner_hash == kept.character_owner_hash
        ):
            return True
        owner = self._entropy.new_id()
        wish = Refreshing(
            character_id=kept.character_id, token_version=kept.token_version, held_by=kept.refresh_owner, owner=owner
        )
        if await self._store.claim_refresh(wish, now=self._clock.now()):
            await self._give_up(replace(kept, refresh_owner=owner), OWNER_CHANGED)
        return False

    async def _give_up(self, profile: Profile, reason: str) -> bool:
        """The token is good for nothing any more: its person has to sign in again."""
        assert profile.refresh_owner is not None
        _log.warning("token_invalid", extra={"character": profile.character_id, "reason": reason})
        await self._store.invalidate_token(
            profile.character_id,
            owner=profile.refresh_owner,
            reason=reason,
            forget=reason == OWNER_CHANGED,
            now=self._clock.now(),
        )
        return False

    async def _release(self, profile: Profile, *, in_doubt: bool) -> None:
        assert profile.refresh_owner is not None
        await self._store.release_refresh(
            profile.character_id, owner=profile.refresh_owner, in_doubt=in_doubt, now=self._clock.now()
        )

    # ── seals ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _opened(self, profile: Profile) -> str | None:
        """The refresh token in plain words; None if no key here opens it."""
        text = profile.refresh_token
        if not is_sealed(text):
            return text  # an older database kept it so; the next one is sealed
        try:
            return self._vault.open(text, place=token_place(profile.character_id, "refresh_token"))
        except CannotOpen:
            return None


def hold_of(profile: Profile) -> _Hold:
    """What stays the same as long as a holder stands still."""
    return profile.character_id, profile.token_version, profile.refresh_owner or ""


def sealed_tokens(vault: Vault, character_id: int, pair: TokenPair, *, instead: str = "") -> Tokens:
    """*pair* as it is stored; without a new refresh token, the sealed one *instead*."""
    refresh = pair.refresh_token
    return Tokens(
        access_token=vault.seal(pair.access_token, place=token_place(character_id, "access_token")),
        refresh_token=(vault.seal(refresh, place=token_place(character_id, "refresh_token")) if refresh else instead),
        expires_at=pair.expires_at,
    )
