"""Owns what a host program brings in place of our own EVE modules; must not know who calls them."""

from __future__ import annotations

from typing import Any, Final

from peregrine.domain.errors import BadConfiguration
from peregrine.ports.eve_modules import AllianceModule, AuthModule, CharacterModule, CorporationModule, EveModules

_METHODS: Final = {
    "auth": "refresh_expiring_tokens",
    "character": "update_all_affiliations",
    "alliance": "bulk_import_alliances",
    "corporation": "update_all_corporations",
}


class Provided:
    """The modules that were brought, each at most once."""

    def __init__(self) -> None:
        self._modules: dict[str, Any] = {}

    def provide(
        self,
        *,
        auth: AuthModule | None = None,
        character: CharacterModule | None = None,
        alliance: AllianceModule | None = None,
        corporation: CorporationModule | None = None,
    ) -> None:
        """Let the EVE system tasks call these modules instead of our own; each name can be brought once.

        Raises:  BadConfiguration for what lacks the method of its name, and for a second one.
        """
        given = {"auth": auth, "character": character, "alliance": alliance, "corporation": corporation}
        new: dict[str, Any] = {name: module for name, module in given.items() if module is not None}
        for name, module in new.items():
            if not callable(getattr(module, _METHODS[name], None)):
                raise BadConfiguration(f"provide({name}=…): it has no method {_METHODS[name]}")
            if name in self._modules:
                raise BadConfiguration(f"provide({name}=…): another one was provided before")
        self._modules |= new

    def over(self, own: EveModules) -> EveModules:
        """What the tasks call: what was brought, else our own."""
        ours = {name: getattr(own, name) for name in _METHODS}
        return EveModules(**(ours | self._modules))


PROVIDED: Final = Provided()
provide: Final = PROVIDED.provide
