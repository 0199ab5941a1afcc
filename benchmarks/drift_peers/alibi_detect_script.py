"""Alibi Detect's tabular drift: Kolmogorov-Smirnov and chi-square tests, each column at 5%."""

import json
import sys

import numpy as np
import pandas as pd
from alibi_detect.cd import TabularDrift

before, after = (pd.read_parquet(path) for path in sys.argv[1:3])
names = list(before.columns)
categories = {i: None for i, name in enumerate(names) if not pd.api.types.is_numeric_dtype(before[name])}
for place in categories:
    values = pd.unique(pd.concat([before[names[place]], after[names[place]]]))
    code = {value: i for i, value in enumerate(values)}
    for table in (before, after):
        table[names[place]] = table[names[place]].map(code)
first, second = (table.to_numpy(np.float64) for table in (before, after))
found = TabularDrift(first, p_val=0.05, categories_per_feature=categories).predict(second, drift_type="feature")
flags = found["data"]["is_drift"]
print(json.dumps({"drifted": [name for name, flag in zip(names, flags, strict=True) if flag]}))
