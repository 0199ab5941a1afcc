"""What a place that serves can do with traffic. What it cannot is refused by name, before anything starts."""

from __future__ import annotations

from dataclasses import dataclass

from trilho.errors import UsageError


@dataclass(frozen=True)
class Capabilities:
    """What the one state machine of rollouts may ask of whatever splits the traffic.

    >>> try:
    ...     Capabilities("a plain split", mirror=False).require(shadow=10)
    ... except UsageError as error:
    ...     print(error.fact)
    a plain split cannot ask a version unseen: a shadow of 10% is asked for
    """

    place: str
    mirror: bool = True
    """Whether it can ask a second version about the same request, unseen."""
    sticky: bool = True
    """Whether the value of a row's field can decide which version answers."""
    shares: bool = True
    """Whether it can split requests between two versions, in whole percents."""

    def require(self, *, shadow: int = 0, sticky: str | None = None, shares: bool = False) -> None:
        """Raise UsageError for the first thing that is asked for and cannot be done here."""
        if shadow and not self.mirror:
            raise UsageError(
                f"{self.place} cannot ask a version unseen: a shadow of {shadow}% is asked for",
                hint="--shadow 0, or serve.shadow = 0",
            )
        if sticky is not None and not self.sticky:
            raise UsageError(
                f"{self.place} cannot keep a key with its version: sticky is {sticky!r}",
                hint="take serve.sticky (or --sticky) away",
            )
        if shares and not self.shares:
            raise UsageError(
                f"{self.place} cannot split requests between two versions",
                hint="serve.canary = [100] gives a version all of them at once",
            )


ROUTER = Capabilities("the router of this machine")
