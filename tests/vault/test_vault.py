"""What is sealed opens with its key in its place, and nowhere else."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peregrine.ports.vault import SEAL, CannotOpen, is_sealed, key_of
from peregrine.vault.aes import AesVault
from peregrine.vault.keys import KEY_BYTES, Key, new_key_text, read_key, read_keys

FIRST, SECOND = Key(b"1" * KEY_BYTES), Key(b"2" * KEY_BYTES)


def a_vault(*keys: Key) -> AesVault:
    return AesVault(lambda: keys or (FIRST,))


@given(text=st.text(), place=st.text())
def test_what_is_sealed_opens_in_its_place_alone(text: str, place: str) -> None:
    vault = a_vault()
    sealed = vault.seal(text, place=place)

    assert vault.open(sealed, place=place) == text
    assert sealed != vault.seal(text, place=place)
    with pytest.raises(CannotOpen, match="another place"):
        vault.open(sealed, place=place + "x")


@given(text=st.text(max_size=50), where=st.integers(0, 200), character=st.sampled_from("AZ09-_=:!\n é"))
def test_a_changed_letter_opens_nothing(text: str, where: int, character: str) -> None:
    vault = a_vault(FIRST, SECOND)
    sealed = vault.seal(text, place="p")
    index = len(SEAL) + where % (len(sealed) - len(SEAL))
    changed = sealed[:index] + character + sealed[index + 1 :]

    if changed == sealed:
        return
    with pytest.raises(CannotOpen):
        vault.open(changed, place="p")


def test_a_sealed_text_can_stand_in_an_address() -> None:
    sealed = a_vault().seal("secret &=#?%/" * 40, place="p")

    assert not set(sealed) & set("&=#?%/+ ")
    assert is_sealed(sealed)
    assert key_of(sealed) == FIRST.id
    assert not is_sealed("sealed: no")
    assert key_of("plain") == ""


def test_another_key_is_named_and_not_tried() -> None:
    sealed = a_vault(FIRST).seal("text", place="p")

    with pytest.raises(CannotOpen, match=FIRST.id):
        a_vault(SECOND).open(sealed, place="p")
    with pytest.raises(CannotOpen, match="changed since"):
        a_vault(SECOND).open(sealed.replace(FIRST.id, SECOND.id), place="p")
    assert a_vault(SECOND, FIRST).open(sealed, place="p") == "text"
    assert not a_vault(SECOND).knows(FIRST.id)


def test_a_key_that_was_turned_elsewhere_is_learnt() -> None:
    keys = [FIRST]
    vault, other = AesVault(lambda: keys), a_vault(SECOND)
    assert vault.key_id == FIRST.id
    keys.insert(0, SECOND)

    assert vault.open(other.seal("text", place="p"), place="p") == "text"
    assert key_of(vault.seal("text", place="p")) == SECOND.id


def test_a_key_is_read_as_people_write_it() -> None:
    text = base64.b64encode(bytes(range(200, 200 + KEY_BYTES))).decode()
    key = read_key(text)

    assert read_key(key.secret.hex()) == read_key(f" {text.rstrip('=')}\n") == key
    assert read_key(text.replace("+", "-").replace("/", "_")) == key
    assert read_keys(f"{text}, {key.secret.hex().upper()}\n") == (key, key)
    assert len(read_key(new_key_text()).secret) == KEY_BYTES
    assert key.secret.hex()[:12] != key.id
    assert repr(key) == f"Key(id={key.id!r})"


@pytest.mark.parametrize("text", ["", "short", "0" * 63, "é" * 44, base64.b64encode(b"x" * 31).decode(), "=" * 44])
def test_what_is_no_key_is_refused_with_how_to_write_it(text: str) -> None:
    with pytest.raises(ValueError, match="32 bytes in base64"):
        read_key(text)
