"""How the model is fitted."""

import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OrdinalEncoder

from flight_delay.features import CATEGORIES


def fit(X: pd.DataFrame, y: pd.Series) -> Pipeline:
    """Fit gradient boosted trees to whether a flight left more than 15 minutes late.

    The codes of carriers and airports are fitted with the trees; one that was never seen counts as missing.
    """
    codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan, encoded_missing_value=np.nan)
    encode = make_column_transformer((codes, CATEGORIES), remainder="passthrough")
    trees = HistGradientBoostingClassifier(categorical_features=list(range(len(CATEGORIES))), random_state=0)
    return make_pipeline(encode, trees).fit(X, y)
