"""What the model looks at."""

import pandas as pd

CATEGORIES = ["carrier", "origin", "dest"]
NUMBERS = ["distance", "temp", "dewp", "humid", "wind_speed", "precip", "pressure", "visib"]


def build(frame: pd.DataFrame) -> pd.DataFrame:
    """Turn raw flights into features; each row by itself, so that training and serving agree."""
    clock = frame["ts"].dt
    return frame[CATEGORIES + NUMBERS].assign(hour=clock.hour + clock.minute / 60, day_of_week=clock.day_of_week)
