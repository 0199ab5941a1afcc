"""Type hints: the public name of a class that was seen, and the import that gives it."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass

from trilho.adopt.trace import Value

PUBLIC = {  # where the public name is not simply the path without its private parts
    "pandas.core.frame.DataFrame": "pandas.DataFrame",
    "pandas.core.series.Series": "pandas.Series",
    "pandas.core.api.DataFrame": "pandas.DataFrame",
    "pandas.core.api.Series": "pandas.Series",
    "xgboost.core.Booster": "xgboost.Booster",
    "xgboost.core.DMatrix": "xgboost.DMatrix",
    "xgboost.sklearn.XGBClassifier": "xgboost.XGBClassifier",
    "xgboost.sklearn.XGBRegressor": "xgboost.XGBRegressor",
    "lightgbm.basic.Booster": "lightgbm.Booster",
    "lightgbm.basic.Dataset": "lightgbm.Dataset",
    "lightgbm.sklearn.LGBMClassifier": "lightgbm.LGBMClassifier",
    "lightgbm.sklearn.LGBMRegressor": "lightgbm.LGBMRegressor",
    "catboost.core.CatBoostClassifier": "catboost.CatBoostClassifier",
    "catboost.core.CatBoostRegressor": "catboost.CatBoostRegressor",
    "catboost.core.CatBoost": "catboost.CatBoost",
    "imblearn.pipeline.Pipeline": "imblearn.pipeline.Pipeline",
}
ALIASES = {"pandas": "pd", "numpy": "np", "xgboost": "xgb", "lightgbm": "lgb"}
WHOLE = {*ALIASES, "catboost"}  # imported as modules
STANDARD = {
    "pd": "import pandas as pd",
    "np": "import numpy as np",
    "xgb": "import xgboost as xgb",
    "lgb": "import lightgbm as lgb",
    "catboost": "import catboost",
    "Path": "from pathlib import Path",
    "Any": "from typing import Any",
    "NDArray": "from numpy.typing import NDArray",
    "NamedTuple": "from typing import NamedTuple",
    "Callable": "from collections.abc import Callable",
    "Mapping": "from collections.abc import Mapping",
    "Sequence": "from collections.abc import Sequence",
    "Iterator": "from collections.abc import Iterator",
    "cache": "from functools import cache",
    "dataclass": "from dataclasses import dataclass",
    "field": "from dataclasses import field",
    "warnings": "import warnings",
    "functools": "import functools",
    "os": "import os",
    "re": "import re",
    "math": "import math",
    "pickle": "import pickle",
    "datetime": "import datetime",
}


@dataclass(frozen=True)
class Hint:
    """An annotation as it is written, and the import line that it needs ("" for a built-in)."""

    text: str
    line: str = ""


def hint_of(type_name: str, imports: Mapping[str, str]) -> Hint:
    """Write the class of this full name as a hint; `imports` gives the line that binds each name in the notebook.

    >>> hint_of("sklearn.ensemble._forest.RandomForestRegressor", {})
    Hint(text='RandomForestRegressor', line='from sklearn.ensemble import RandomForestRegressor')
    >>> hint_of("xgboost.core.Booster", {"xgb": "import xgboost as xgb"})
    Hint(text='xgb.Booster', line='import xgboost as xgb')
    """
    public = PUBLIC.get(type_name) or _without_private_parts(type_name)
    module, _, name = public.rpartition(".")
    if not module or module == "builtins":
        return Hint(name)
    if module == "__main__":
        return Hint(name)
    if name in imports:
        return Hint(name, imports[name])
    if module in WHOLE:
        for bound, line in imports.items():
            if re.fullmatch(rf"import {module}( as {bound})?", line):
                return Hint(f"{bound}.{name}", line)
        alias = ALIASES.get(module, module)
        return Hint(f"{alias}.{name}", f"import {module} as {alias}" if alias != module else f"import {module}")
    return Hint(name, f"from {module} import {name}")


def _without_private_parts(type_name: str) -> str:
    *modules, name = type_name.split(".")
    kept: list[str] = []
    for part in modules:
        if part.startswith("_") and part != "__main__":
            break
        kept.append(part)
    return ".".join([*kept, name])


def hint_of_value(value: Value) -> str:
    """Give the hint of a value of the kinds that pass between functions.

    >>> hint_of_value(Value("series", "pandas.core.series.Series"))
    'pd.Series'
    """
    kinds = {"frame": "pd.DataFrame", "series": "pd.Series", "array": "np.ndarray"}
    return kinds.get(value.kind, "object")


def is_annotation(text: str) -> bool:
    """Say whether a text can stand as a hint."""
    try:
        ast.parse(f"x: {text}")
    except SyntaxError:
        return False
    return bool(text.strip())
