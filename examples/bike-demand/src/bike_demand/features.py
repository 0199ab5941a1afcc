"""What the model looks at."""

import pandas as pd


def build(frame: pd.DataFrame) -> pd.DataFrame:
    """Turn raw hourly rows into features; each row by itself, so that training and serving agree."""
    clock = frame["ts"].dt
    return pd.DataFrame(
        {
            "hour": clock.hour,
            "day_of_week": clock.day_of_week,
            "month": clock.month,
            "weekend": clock.day_of_week >= 5,
            "temp_min_c": frame["temp_min_c"],
            "temp_max_c": frame["temp_max_c"],
            "precip_mm": frame["precip_mm"],
        },
        index=frame.index,
    )
