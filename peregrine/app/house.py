"""Owns what the command line asks of this machine; each verb imports what it needs when it is called, and no sooner."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from peregrine.cli.house import Finding, Flags, Move, SettingLine, TokenRequest


class ThisHouse:
    """The service's own verbs, as ``cli.house.House`` describes them."""

    def serve(self, flags: Flags) -> int:
        """Run the service."""
        from peregrine.app.serve import serve
        from peregrine.app.settings import load

        return serve(load(flags))

    def demo(self, flags: Flags) -> int:
        """Run the demonstration."""
        from peregrine.app.demo import demo

        return demo(flags)

    def demo_eve(self, flags: Flags) -> int:
        """Run the EVE Online tasks once."""
        from peregrine.app.demo_eve import demo_eve

        return demo_eve(flags)

    def settings(self, flags: Flags) -> tuple[Sequence[SettingLine], Sequence[str]]:
        """All settings, as they hold."""
        from peregrine.app.settings import load

        loaded = load(flags)
        return [SettingLine(line.name, line.value, line.origin) for line in loaded.lines], loaded.warnings

    def check(self, flags: Flags) -> Sequence[str]:
        """Whether the service could start with these."""
        from peregrine.app.settings import load
        from peregrine.app.stores import check_drivers, hints_of

        loaded = load(flags)
        check_drivers(loaded.settings)
        return [*loaded.warnings, *hints_of(loaded.settings)]

    def mint(self, flags: Flags, request: TokenRequest) -> str:
        """A new token."""
        from peregrine.app.credentials import mint_for
        from peregrine.app.settings import load

        return mint_for(load(flags).settings, request)

    def backup(self, flags: Flags, target: str) -> str:
        """A copy of the store."""
        from peregrine.app.care import backup
        from peregrine.app.settings import load

        return backup(load(flags).settings, target)

    def rotate(self, flags: Flags, tell: Callable[[str], None]) -> str:
        """A new key for the secrets of tasks."""
        from peregrine.app.keys import rotate_keys
        from peregrine.app.settings import load

        return rotate_keys(load(flags).settings, tell)

    def migrate(
        self, flags: Flags, move: Move, tell: Callable[[str], None], count: Callable[[str, int, int], None]
    ) -> str:
        """One store into another."""
        from peregrine.app.moving import migrate
        from peregrine.app.settings import load

        return migrate(load(flags).settings, move, tell, count)

    def release(self, flags: Flags, place: str) -> str:
        """A store that was moved, in service again."""
        from peregrine.app.moving import release
        from peregrine.app.settings import load

        return release(load(flags).settings, place)

    def doctor(self, flags: Flags) -> Sequence[Finding]:
        """What a look at the store found."""
        from peregrine.app.care import examine
        from peregrine.app.settings import load

        return examine(load(flags).settings)
