"""Owns what can go wrong with one request, in words of our own; must not know attempts or retries.

The client's own words may repeat the answer, the URL, or what a resolver said: none of them is passed on.
"""

from __future__ import annotations

import errno
import re
import socket
import ssl
from typing import Final

import aiohttp
from aiohttp.http import HttpProcessingError

from peregrine.executors.egress import Blocked, Target
from peregrine.executors.reply import HEADERS_TOO_LARGE, BadEncoding, TooLarge

_REFUSED_HOW: Final = {
    errno.ECONNREFUSED: "connection refused by {}",
    errno.ECONNRESET: "connection reset by {}",
    errno.EPIPE: "connection reset by {}",
    errno.EHOSTUNREACH: "no route to {}",
    errno.ENETUNREACH: "no route to {}",
    errno.ETIMEDOUT: "no connection to {}: it does not answer",
}


class Failed(Exception):
    """The attempt ends here. ``code`` is for machines, ``sentence`` for people; no word in it is the target's own."""

    def __init__(self, code: str, sentence: str, *, retryable: bool = True) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence
        self.retryable = retryable


def blocked(reason: str) -> Failed:
    """The failure of a target that may not be reached; trying again can't help."""
    return Failed("blocked_target", f"target not allowed: {reason}", retryable=False)


def failure(error: Exception, target: Target, *, during_body: bool = False) -> Failed:
    """What *error* of the client, met while *target* was asked, means."""
    match error:
        case TooLarge():
            return _too_large(str(error))
        case BadEncoding():
            return Failed("bad_response", f"the answer is damaged: {error}")
        case aiohttp.ClientConnectorDNSError():
            return _name_failure(error.os_error, target)
        case aiohttp.ClientConnectorCertificateError():
            return Failed("tls", f"the TLS certificate of {target.place} is not valid: {_tls_words(error)}")
        case aiohttp.ClientSSLError():
            return Failed("tls", f"no TLS connection to {target.place}: {_tls_words(error)}")
        case aiohttp.ClientConnectionResetError():
            return Failed("connection", _REFUSED_HOW[errno.ECONNRESET].format(target.place))
        case aiohttp.ServerDisconnectedError():
            return Failed("connection", f"{target.place} closed the connection without an answer")
        case HttpProcessingError():
            return _bad_answer(error)
        case aiohttp.ClientPayloadError():
            return Failed("connection", f"the answer of {target.place} ended in the middle of its body")
        case OSError() if error.errno in _REFUSED_HOW:
            return Failed("connection", _REFUSED_HOW[error.errno].format(target.place))
        case _:
            where = "the answer of" if during_body else "the connection to"
            return Failed("connection", f"{where} {target.place} failed ({type(error).__name__})")


def _name_failure(error: OSError, target: Target) -> Failed:
    if isinstance(error, Blocked):
        return blocked(error.reason)
    if isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN:
        return Failed("name", f"the look-up of {target.host} failed for now")
    return Failed("name", f"name not found: {target.host}")


def _tls_words(error: Exception) -> str:
    cause = getattr(error, "certificate_error", None) or getattr(error, "os_error", None) or error.__cause__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return cause.verify_message
    reason = getattr(cause, "reason", None)
    return str(reason).replace("_", " ").lower() if reason else "the handshake failed"


def _bad_answer(error: HttpProcessingError) -> Failed:
    if re.match(r"Got more than|Too many headers", error.message):
        return _too_large(HEADERS_TOO_LARGE)
    return Failed("bad_response", "the answer is not valid HTTP")


def _too_large(what: str) -> Failed:
    return Failed("response_too_large", f"the answer is too large: {what}", retryable=False)
