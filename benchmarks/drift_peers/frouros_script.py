"""Frouros' Kolmogorov-Smirnov test for numbers and its chi-square test for categories, at 5%."""

import json
import sys

import pandas as pd
from frouros.detectors.data_drift import ChiSquareTest, KSTest

before, after = (pd.read_parquet(path) for path in sys.argv[1:3])
drifted = []
for name in before.columns:
    number = pd.api.types.is_numeric_dtype(before[name])
    detector = KSTest() if number else ChiSquareTest()
    detector.fit(X=before[name].to_numpy())
    result, _ = detector.compare(X=after[name].to_numpy())
    if result.p_value < 0.05:
        drifted.append(name)
print(json.dumps({"drifted": drifted}))
