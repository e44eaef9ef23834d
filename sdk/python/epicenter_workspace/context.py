"""The call that is being served."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from . import host
from .errors import Denied


@dataclass(frozen=True)
class Caller:
    """The account on whose behalf the host calls."""

    id: str
    email: str
    """Empty when not known."""
    name: str
    """Empty when not known."""
    right: Literal["read", "write", "owner"] = "owner"
    """What they may do in the workspace: `write` includes `read`, and `owner` both."""

    @staticmethod
    def of(account: Any) -> Caller | None:
        """From the contract's caller."""
        return account and Caller(account.id, account.email, account.name, account.right.name.lower())


def caller() -> Caller | None:
    """Who called; nothing while the host runs without accounts."""
    return Caller.of(host.context.caller())


def require_caller() -> Caller:
    """Who called; raises `Denied` for a call without an account."""
    account = caller()
    if account is None:
        raise Denied("sign in to do this")
    return account


def now() -> int:
    """The time in ms since the Unix epoch; the same during one call."""
    return host.context.now()


def random_id() -> str:
    """A new random id: 21 characters from `[A-Za-z0-9_-]`, 126 bits."""
    return host.context.random_id()


def environment(name: str) -> str | None:
    """A value of the host's environment; nothing when it has none. Raises `Denied` unless the manifest names
    it under `env`."""
    return host.ask(host.environment.get, name)


def request_id() -> str:
    """Names the request that this call serves; the same as in the host's log."""
    return host.context.request_id()
