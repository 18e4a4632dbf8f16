"""Every verb explains itself; the whole of it is a golden file, and the reference names each verb."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

from peregrine.cli.main import cli

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "cli.md"


def verbs(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name in sorted(group.commands):
        verb = group.commands[name]
        yield (*path, name), verb
        if isinstance(verb, click.Group):
            yield from verbs(verb, (*path, name))


def help_of(path: tuple[str, ...], verb: click.Command) -> str:
    parent = None
    for word in ("peregrine", *path):
        parent = click.Context(verb, parent=parent, info_name=word, terminal_width=100, max_content_width=100)
    assert parent is not None
    return verb.get_help(parent)


@pytest.mark.golden
def test_help_is_as_it_was(golden: Callable[[str, str], None]) -> None:
    pages = [help_of((), cli), *(help_of(path, verb) for path, verb in verbs(cli))]

    golden("cli-help.txt", ("\n\n" + "─" * 100 + "\n\n").join(pages) + "\n")


@pytest.mark.parametrize("path", [" ".join(path) for path, _ in verbs(cli)])
def test_every_verb_stands_in_the_reference(path: str) -> None:
    assert f"`peregrine {path}" in REFERENCE.read_text(encoding="utf-8")


@pytest.mark.parametrize("word", ["@every", "@at", "@manual"])
def test_schedules_that_are_no_cron_are_told(word: str) -> None:
    """Both where a task is made and in the reference."""
    shown = dict(verbs(cli))["tasks", "create"]

    assert word in help_of(("tasks", "create"), shown)
    assert f"`{word}" in REFERENCE.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("path", "verb"), list(verbs(cli)), ids=lambda one: " ".join(one) if isinstance(one, tuple) else ""
)
def test_every_verb_and_option_has_words(path: tuple[str, ...], verb: click.Command) -> None:
    assert verb.help
    silent = [p.opts for p in verb.params if isinstance(p, click.Option) and not p.hidden and not p.help]
    assert silent == []
