"""Owns how a text is sought in a field; must not know which. What a person typed is never a pattern."""

from __future__ import annotations


def containing(text: str) -> dict[str, str]:
    """The condition that a field contains *text*, ASCII letters of either case, all else as it stands."""
    return {"$regex": "".join(map(_as_pattern, text))}


def _as_pattern(sign: str) -> str:
    if not sign.isascii():
        return sign
    if sign.isalpha():
        return f"[{sign.lower()}{sign.upper()}]"
    return sign if sign.isdigit() else f"\\x{ord(sign):02x}"
