"""whylogs' profiles, compared by its own drift scores (Kolmogorov-Smirnov and chi-square on sketches)."""

import json
import sys

import pandas as pd
import whylogs
from whylogs.viz.drift.column_drift_algorithms import calculate_drift_scores

before, after = (whylogs.log(pd.read_parquet(path)).view() for path in sys.argv[1:3])
scores = calculate_drift_scores(target_view=after, reference_view=before, with_thresholds=True)
drifted = [name for name, score in scores.items() if score and score["drift_category"] == "DRIFT"]
print(json.dumps({"drifted": drifted}))
