"""NannyML's univariate drift, its default Jensen-Shannon distance, the current table as one chunk."""

import json
import sys

import nannyml
import pandas as pd

before, after = (pd.read_parquet(path) for path in sys.argv[1:3])
names = list(before.columns)
calculator = nannyml.UnivariateDriftCalculator(column_names=names, chunk_number=10)
calculator.fit(before)
table = calculator.calculate(after).filter(period="analysis").to_df()
drifted = [name for name in names if bool(table[name]["jensen_shannon"]["alert"].any())]
print(json.dumps({"drifted": drifted}))
