"""A gate's comparison as a picture: the gain over the champion with its interval, against none and the margin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from trilho.console.scale import Scale, rounded
from trilho.govern.wording import number

HEIGHT = 34


def gain(evidence: Mapping[str, Any]) -> Markup | None:
    """Draw a gate's evidence; None where nothing was compared. The sentence beside it says the same."""
    found = [evidence.get(key) for key in ("difference", "low", "high")]
    middle, low, high = (float(x) if isinstance(x, (int, float)) else None for x in found)
    if middle is None or low is None:
        return None
    margin = float(evidence.get("margin") or 0)
    high = middle + (middle - low) if high is None else high
    start, end, _ = rounded(min(0.0, low, margin), max(0.0, high, margin), 3)
    x = Scale(start, end, 3, 97)
    won = "won" if low > margin else "open"
    labels = f'<text x="{x(0)}%" y="32" text-anchor="middle">0</text>'
    if abs(x(middle) - x(0)) > 14:
        labels += f'<text x="{x(middle)}%" y="32" text-anchor="middle">{number(middle)}</text>'
    return Markup(  # noqa: S704  numbers only
        f'<svg class="gain {won}" width="100%" height="{HEIGHT}" aria-hidden="true">'
        f'<line class="axis-line" x1="0" x2="100%" y1="11" y2="11"/>'
        f'<line class="zero" x1="{x(0)}%" x2="{x(0)}%" y1="2" y2="20"/>'
        f'<line class="margin" x1="{x(margin)}%" x2="{x(margin)}%" y1="2" y2="20"/>'
        f'<line class="reach" x1="{x(low)}%" x2="{x(high)}%" y1="11" y2="11"/>'
        f'<circle cx="{x(middle)}%" cy="11" r="4"/>{labels}</svg>'
    )
