"""Evidently's own choice of tests for each column, as its data drift preset has them."""

import json
import re
import sys

import pandas as pd
from evidently import Report
from evidently.presets import DataDriftPreset

before, after = (pd.read_parquet(path) for path in sys.argv[1:3])
found = Report([DataDriftPreset()]).run(after, before).dict()
drifted = []
for metric in found["metrics"]:
    name = re.search(
        r"ValueDrift\(column=([^,]+),method=([^,]+),threshold=([\d.]+)",
        metric.get("metric_name", metric.get("metric_id", "")),
    )
    if name:
        value, limit = float(metric["value"]), float(name[3])
        if value < limit if "p_value" in name[2] else value >= limit:
            drifted.append(name[1])
print(json.dumps({"drifted": drifted}))
