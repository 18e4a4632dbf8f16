"""Reading an answer within bounds: whatever it claims, it costs bounded memory and says what it is."""

from __future__ import annotations

import codecs
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peregrine.domain.moment import parse_moment
from peregrine.executors.reply import PIECE, BadEncoding, Body, Inflater, TooLarge, charset_of, cut, retry_after

NOW = parse_moment("2026-03-01T06:30:00Z")
WBITS = {"gzip": 31, "deflate": 15, "bare": -15}


def squeezed(plain: bytes, how: str = "gzip") -> bytes:
    squeeze = zlib.compressobj(9, wbits=WBITS[how])
    return squeeze.compress(plain) + squeeze.flush()


def taken(encoding: str, *chunks: bytes, kept_max: int = 1000, read_max: int = 10_000) -> Body:
    body = Body(encoding, kept_max=kept_max, read_max=read_max)
    for chunk in chunks:
        for _ in body.take(chunk):
            pass
    body.finish()
    return body


# ── bodies ───────────────────────────────────────────────────────────────────────────────────────


@given(st.binary(max_size=2000), st.sampled_from(sorted(WBITS)), st.integers(1, 50))
def test_an_inflater_undoes_what_was_done(plain: bytes, how: str, step: int) -> None:
    inflater = Inflater("gzip" if how == "gzip" else "deflate")
    sent = squeezed(plain, how)

    pieces = [piece for i in range(0, len(sent), step) for piece in inflater.feed(sent[i : i + step])]

    assert b"".join(pieces) == plain
    assert inflater.is_complete


@given(st.binary(max_size=300))
def test_an_inflater_survives_anything(sent: bytes) -> None:
    for encoding in ("gzip", "deflate"):
        inflater = Inflater(encoding)
        try:
            assert all(len(piece) <= PIECE for piece in inflater.feed(sent))
        except BadEncoding:
            pass


def test_a_bomb_is_inflated_piece_by_piece() -> None:
    sent = squeezed(bytes(50_000_000))
    body = Body("gzip", kept_max=1000, read_max=10_000_000)

    tracemalloc.start()
    with pytest.raises(TooLarge):
        for _ in body.take(sent):
            pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 1_000_000
    assert len(body.text("utf-8")) == 1000


def test_several_gzip_members_are_one_body_and_padding_is_none() -> None:
    assert taken("gzip", squeezed(b"one") + squeezed(b"two")).text("utf-8") == "onetwo"
    assert taken("x-gzip", squeezed(b"one") + bytes(10)).text("utf-8") == "one"


@pytest.mark.parametrize("encoding", ["", "identity", "gzip", "deflate", "br", "gzip, gzip"])
def test_no_body_is_fine_whatever_it_says_of_itself(encoding: str) -> None:
    body = taken(encoding)

    assert not body.is_cut
    assert body.text("utf-8").count("0 bytes") == (1 if encoding in ("br", "gzip, gzip") else 0)


@pytest.mark.parametrize("sent", [squeezed(b"hello")[:-1], b"\x1f\x8b\x08broken", b"plain text"])
def test_a_damaged_body_is_said_to_be(sent: bytes) -> None:
    with pytest.raises(BadEncoding):
        taken("gzip", sent)


@given(st.lists(st.binary(max_size=400), max_size=20), st.integers(1, 600))
def test_the_beginning_is_kept(chunks: list[bytes], kept_max: int) -> None:
    whole = b"".join(chunks)

    body = taken("", *chunks, kept_max=kept_max)

    assert body.text("latin-1") == whole[:kept_max].decode("latin-1").replace("\x00", "\ufffd")
    assert body.is_cut is (len(whole) > kept_max)
    assert body.sent_bytes == len(whole)


def test_a_body_past_its_bound_is_too_large() -> None:
    with pytest.raises(TooLarge, match="exceeds 10000 bytes"):
        taken("", b"x" * 10_001)
    with pytest.raises(TooLarge):
        taken("br", b"x" * 10_001)
    assert taken("", b"x" * 10_000).is_cut


def test_what_is_announced_too_large_is_refused_once_enough_is_kept() -> None:
    body = Body("", kept_max=10, read_max=100)
    body.refuse_if_longer(101)
    for _ in body.take(b"x" * 10):
        pass

    body.refuse_if_longer(100)
    body.refuse_if_longer(None)
    with pytest.raises(TooLarge):
        body.refuse_if_longer(101)


# ── text ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("content_type", "charset"),
    [
        ("", "utf-8"),
        ("text/html", "utf-8"),
        ("text/html; charset=ISO-8859-1", "iso8859-1"),
        ('text/html; Charset = "Shift_JIS"', "shift_jis"),
        ("text/html; charset=windows-1252", "cp1252"),
        ("text/html; charset=utf-16le", "utf-16-le"),
        ("text/html; charset=nonsense", "utf-8"),
        ("text/html; charset=" + "x" * 5000, "utf-8"),
        *((f"text/plain; charset={odd}", "utf-8") for odd in ("idna", "punycode", "unicode_escape", "utf-7", "rot13",
          "bz2", "hex", "zlib", "raw_unicode_escape", "undefined", "mbcs", "uu")),
    ],
)  # fmt: skip
def test_only_plain_charsets_are_decoded(content_type: str, charset: str) -> None:
    """Python's codecs also hold ciphers, compressors and things that take quadratic time."""
    assert charset_of(content_type) == codecs.lookup(charset).name


@given(st.binary(max_size=300), st.sampled_from(["utf-8", "utf-16", "utf-32", "shift_jis", "gb18030", "cp1252"]))
def test_any_bytes_become_text_that_can_be_stored(sent: bytes, charset: str) -> None:
    for kept_max in (1000, 50):
        text = taken("", sent, kept_max=kept_max).text(charset)
        text.encode("utf-8")
        assert "\x00" not in text


def test_a_character_across_the_cut_is_dropped_not_damaged() -> None:
    assert taken("", "aaä".encode(), kept_max=3).text("utf-8") == "aa"
    assert taken("", b"aa\xc3", kept_max=3).text("utf-8") == "aa\ufffd"


@given(st.text(st.characters(codec="utf-8")), st.integers(0, 40))
def test_a_cut_text_fits_and_is_a_beginning(text: str, bytes_max: int) -> None:
    kept, was_cut = cut(text, bytes_max)

    assert len(kept.encode()) <= bytes_max
    assert text.startswith(kept)
    assert was_cut is (kept != text)


# ── Retry-After ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("value", "wait"),
    [
        ("0", 0),
        ("7", 7_000),
        (" 120 ", 120_000),
        ("Sun, 01 Mar 2026 06:31:00 GMT", 60_000),
        ("Sun, 01 Mar 2026 07:31:00 +0100", 60_000),
        ("Sunday, 01-Mar-26 06:31:00 GMT", 60_000),
        ("Sun, 01 Mar 2026 06:00:00 GMT", 0),
        ("-5", None),
        ("1.5", None),
        ("٣", None),
        ("soon", None),
        ("", None),
        ("9" * 400, None),
        ("Sun, 01 Mar 99999 06:00:00 GMT", None),
        ("Sun, 99 Mar 2026 06:00:00 GMT", None),
        ("\x00" * 100, None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str, wait: int | None) -> None:
    assert retry_after(value, NOW) == wait


@given(st.text(max_size=60) | st.from_regex(r"[A-Za-z0-9 ,:+\-]{0,40}", fullmatch=True))
def test_retry_after_is_total(value: str) -> None:
    wait = retry_after(value, NOW)

    assert wait is None or wait >= 0
