"""The sequential tests keep their promise however often one looks."""

from __future__ import annotations

import numpy as np
import pytest

from trilho.release.evidence import over_allowed, over_champion


@pytest.mark.parametrize("rate", [0.002, 0.02, 0.3])
def test_a_hundredfold_evidence_against_an_equal_version_is_rare(rate: float) -> None:
    rng = np.random.default_rng(2)
    crossed = 0
    for _ in range(300):
        new = np.cumsum(rng.random(200) < rate)
        old = np.cumsum(rng.random((200, 9)) < rate).reshape(200, 9)[:, -1]
        crossed += any(over_champion(int(new[i]), i + 1, int(old[i]), 9 * (i + 1)) >= 100 for i in range(200))
    assert crossed <= 3  # 1% promised


def test_a_hundredfold_evidence_against_an_allowed_rate_is_rare() -> None:
    rng = np.random.default_rng(2)
    crossed = 0
    for _ in range(300):
        new = np.cumsum(rng.random(300) < 0.05)
        crossed += any(over_allowed(int(new[i]), i + 1, 0.05) >= 100 for i in range(300))
    assert crossed <= 3


def test_evidence_grows_with_errors_and_is_none_without_requests() -> None:
    assert over_champion(0, 0, 0, 100) == 0.0
    assert over_champion(3, 3, 0, 0) == 0.0
    grown = [over_champion(k, 10, 0, 90) for k in range(11)]
    assert grown == sorted(grown)
    assert over_allowed(0, 0, 0.05) == 0.0
    assert over_champion(100_000, 100_000, 0, 100_000) > 1e300
