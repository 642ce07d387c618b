"""The project's own errors: each is one clear line that says where, what, and what to do."""

from __future__ import annotations

from collections.abc import Sequence


class PetError(Exception):
    """Base of every error that a person is meant to read."""


class BadInput(PetError):
    """Something a person typed, or a file they handed in, is wrong.

    Parameters
    ----------
    lines
        One finding per line, each ``where: what (what to do)``. All findings of a file are
        reported at once.
    """

    def __init__(self, lines: str | Sequence[str]) -> None:
        self.lines: tuple[str, ...] = (lines,) if isinstance(lines, str) else tuple(lines)
        super().__init__("\n".join(self.lines))


class Refused(PetError):
    """A hospital (or an arm) refuses a request because it would break a promise."""


class SiteFailed(PetError):
    """A hospital raised, died, hung or answered something unusable; the hospital is named."""

    def __init__(self, site: str, reason: str) -> None:
        self.site = site
        self.reason = reason
        super().__init__(f"hospital {site}: {reason}")

    def __reduce__(self) -> tuple[type[SiteFailed], tuple[str, str]]:
        return (SiteFailed, (self.site, self.reason))


class EngineFailed(PetError):
    """The engine that carries messages (Ray, Flower's SuperLink) did not start or went away."""
