"""The certificate as one page that needs nothing else: for whoever must believe it, and has a minute."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from trilho.adopt.parity.certificate import Certificate
from trilho.adopt.parity.wording import LANGUAGES
from trilho.errors import UsageError

HERE = Path(__file__).parent
SIDE = 240
MARGIN = 12
METRICS = {"mae": "MAE", "mse": "MSE", "rmse": "RMSE", "mape": "MAPE", "r2": "R²", "roc_auc": "ROC AUC", "f1": "F1"}
LIBRARIES = ("pandas", "numpy", "scikit-learn", "xgboost", "lightgbm", "catboost", "statsmodels")


def page(certificate: Certificate, language: str = "en") -> str:
    """Give the page in a language: "en" or "pt". Raises UsageError for another."""
    if language not in LANGUAGES:
        raise UsageError(f"the language is {language!r}; allowed: {', '.join(LANGUAGES)}", hint="--lang pt")
    words = LANGUAGES[language]
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    comma = words["lang"] != "en"
    return environment.get_template("page.html").render(
        c=_Shown(certificate),
        t=words,
        verdict=_verdict(certificate, words),
        unproven=_unproven(certificate, words, comma),
        picture=_picture(certificate.pairs, words),
        shown_libraries=[name for name in certificate.libraries if name.startswith(LIBRARIES)],
        number=lambda value: _spelled(f"{value:.6g}", comma),
        count=lambda value: _spelled(f"{value:,}", comma),
        difference=lambda value: _difference(value, words, comma),
        first=lambda told: _first(told, words),
        metric=_metric,
    )


class _Shown:
    """A certificate whose digests can be asked for by name."""

    def __init__(self, certificate: Certificate) -> None:
        self._certificate = certificate
        self.digests = asdict(certificate.digests)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._certificate, name)


def _verdict(certificate: Certificate, words: Mapping[str, Any]) -> str:
    if not certificate.certified:
        return str(words["no_text"])
    metric = words["metric_text"].format(name=_metric(certificate.metrics[0].name)) if certificate.metrics else ""
    end = words["end_batch" if certificate.batch_only else "end_past" if certificate.past else "end_http"]
    return str(words["yes_text"].format(end=end, metric=metric))


def _unproven(certificate: Certificate, words: Mapping[str, Any], comma: bool) -> list[str]:
    found = []
    if certificate.batch_only:
        found.append(words["batch"].format(lags=", ".join(certificate.lags[:3])))
    if certificate.past:
        entity = " + ".join(certificate.past["entity"])
        whose = words["past_of"].format(entity=entity) if entity else words["past_of_all"]
        found.append(words["past"].format(rows=certificate.past["rows"], whose=whose))
    if certificate.form == "whole":
        found.append(words["whole"])
    if certificate.evaluated is not None and certificate.evaluated != certificate.shipped and _refitted(certificate):
        found.append(words["refitted"].format(name=certificate.evaluated.name))
    if certificate.enforcement != "landlock":
        found.append(words["hooked"])
    if certificate.rows < certificate.data_rows:
        told = {"rows": certificate.data_rows, "sample": certificate.rows}
        found.append(
            words["sampled_past" if certificate.past else "sampled"].format(
                **{k: _spelled(f"{v:,}", comma) for k, v in told.items()}
            )
        )
    return [*found, words["good"], words["unseen"]]


def _metric(name: str) -> str:
    return METRICS.get(name, name)


def _refitted(certificate: Certificate) -> bool:
    evaluated = certificate.evaluated
    return evaluated is not None and evaluated.cell != certificate.shipped.cell


def _first(told: Mapping[str, Any], words: Mapping[str, Any]) -> str:
    column = f", {told['column']}" if "column" in told else ""
    return str(
        words["first"].format(row=told["row"], column=column, notebook=told["notebook"], project=told["project"])
    )


def _difference(value: float | None, words: Mapping[str, Any], comma: bool) -> str:
    if value is None:
        return str(words["unknown"])
    return str(words["none"]) if value == 0 else _spelled(f"{value:.2g}", comma)


def _spelled(text: str, comma: bool) -> str:
    """Give a number as a language writes it.

    >>> _spelled("1,234.5", comma=True)
    '1.234,5'
    """
    return text.translate(str.maketrans(",.", ".,")) if comma else text


def _picture(pairs: Sequence[tuple[Any, Any]], words: Mapping[str, Any]) -> Markup | None:
    """Draw the notebook's predictions against the project's."""
    points = [(a, b) for a, b in pairs if isinstance(a, (int, float)) and isinstance(b, (int, float))]
    if len(points) < 2:
        return None
    low, high = (end(min_max for pair in points for min_max in pair) for end in (min, max))
    span = (high - low) or 1.0
    inner = SIDE - 2 * MARGIN
    dots = Markup("").join(
        Markup('<circle cx="{}" cy="{}" r="2.2"{}/>').format(
            f"{MARGIN + (a - low) / span * inner:.1f}",
            f"{SIDE - MARGIN - (b - low) / span * inner:.1f}",
            "" if math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12) else Markup(' fill="var(--bad)"'),
        )
        for a, b in points
    )
    return Markup(
        '<svg viewBox="0 0 {side} {side}" width="100%" role="img" aria-label="{label}">'
        '<rect x=".5" y=".5" width="{edge}" height="{edge}" fill="none" stroke="var(--line)"/>'
        '<line x1="{m}" y1="{far}" x2="{far}" y2="{m}" stroke="var(--soft)" stroke-width=".7"/>'
        '<g fill="var(--good)" fill-opacity=".65">{dots}</g>'
        '<text x="{mid}" y="{below}" font-size="10" text-anchor="middle" fill="var(--soft)">{x}</text>'
        '<text x="10" y="{mid}" font-size="10" text-anchor="middle" fill="var(--soft)"'
        ' transform="rotate(-90 10 {mid})">{y}</text></svg>'
    ).format(
        side=SIDE, edge=SIDE - 1, m=MARGIN, far=SIDE - MARGIN, mid=SIDE // 2, below=SIDE - 3, dots=dots,
        label=words["figure"].format(rows=len(points)), x=words["notebook"], y=words["project"],
    )  # fmt: skip
