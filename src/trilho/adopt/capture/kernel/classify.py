"""Sorts what a notebook calls by what it does: fits, asks, measures, splits, reads, writes, or just computes."""

from __future__ import annotations

import types
from typing import Any

from .values import DATASETS, full_name, kind_of

FITS = ("fit", "fit_transform", "fit_predict", "partial_fit", "fit_resample", "fit_regularized", "update", "boost")
PREDICTS = (
    "predict", "predict_proba", "predict_log_proba", "decision_function", "transform", "inverse_transform", "score",
    "score_samples", "staged_predict", "staged_predict_proba", "inplace_predict", "get_prediction", "forecast",
)  # fmt: skip
TRAINS = ("xgboost.training.train", "lightgbm.engine.train", "catboost.core.train")
SPLITS = ("train_test_split", "split", "cross_val_score", "cross_val_predict", "cross_validate", "learning_curve",
          "validation_curve", "permutation_test_score")  # fmt: skip
READERS = {
    "pandas": ("read_csv", "read_table", "read_fwf", "read_parquet", "read_excel", "read_json", "read_feather",
               "read_orc", "read_pickle", "read_sql", "read_sql_query", "read_sql_table", "read_hdf",
               "read_stata", "read_sas", "read_spss", "read_xml", "read_html", "read_clipboard"),
    "polars": ("read_csv", "read_parquet", "read_excel", "read_json", "read_ndjson", "read_ipc", "read_database"),
    "numpy": ("load", "loadtxt", "genfromtxt", "fromfile"),
    "pyarrow": ("read_table", "read_csv", "read_feather", "read_json", "read_pandas"),
    "seaborn": ("load_dataset",),
}  # fmt: skip
WRITERS = {
    "pandas": ("to_csv", "to_parquet", "to_pickle", "to_excel", "to_json", "to_feather", "to_hdf", "to_stata", "to_orc",
               "to_html", "to_latex", "to_markdown", "to_xml", "to_sql", "to_gbq", "ExcelWriter"),
    "polars": ("write_csv", "write_parquet", "write_json", "write_excel", "write_ipc", "write_ndjson", "sink_parquet"),
    "numpy": ("save", "savez", "savez_compressed", "savetxt", "tofile", "dump"),
    "joblib": ("dump",), "pickle": ("dump",), "_pickle": ("dump",), "cloudpickle": ("dump",), "dill": ("dump",),
    "json": ("dump",), "yaml": ("dump", "safe_dump"), "skops": ("dump",),
    "pyarrow": ("write_table", "write_csv", "write_feather", "write_dataset", "write_to_dataset"),
    "matplotlib": ("savefig", "imsave"), "plotly": ("write_html", "write_image", "write_json"),
    "xgboost": ("save_model", "dump_model"), "lightgbm": ("save_model",), "catboost": ("save_model",),
    "keras": ("save", "save_weights"), "torch": ("save",), "onnx": ("save_model", "save"),
    "scipy": ("savemat", "save_npz"),
    "mlflow": ("log_model", "save_model", "log_artifact"), "shap": ("save_html",),
    "duckdb": ("write_csv", "write_parquet", "to_parquet", "to_csv"),
    "google": ("load_table_from_dataframe", "load_table_from_file", "load_table_from_json", "load_table_from_uri",
               "insert_rows", "insert_rows_json", "insert_rows_from_dataframe", "upload_from_filename",
               "upload_from_string", "upload_from_file"),
    "pandas_gbq": ("to_gbq",), "boto3": ("upload_file", "upload_fileobj", "put_object"),
    "botocore": ("upload_file", "upload_fileobj", "put_object"), "statsmodels": ("save",),
}  # fmt: skip
CONNECTS = ("_sqlite3.connect", "sqlite3.connect", "sqlite3.Connection", "duckdb.connect", "_duckdb.connect",
            "duckdb.duckdb.connect")  # fmt: skip
QUERIES = ("query", "query_and_wait")
RELATIONS = ("df", "to_df", "fetchdf", "fetch_df", "arrow", "to_arrow_table", "fetch_arrow_table", "pl", "fetchall",
             "fetchnumpy")  # fmt: skip
COMPUTES = ("numpy", "pandas", "scipy", "sklearn", "xgboost", "lightgbm", "catboost", "imblearn", "category_encoders",
            "polars", "statsmodels", "pyarrow", "feature_engine", "unidecode", "holidays")  # fmt: skip
FRAMES_MATTER = ("query", "eval", "sql", "from_formula", "pipe")
FRAMES_MATTER_IN = (
    "statsmodels.formula",
    "statsmodels.base.model.Model.from_formula",
    "patsy",
    "formulaic",
    "numpy.testing",
    "pandas.core.computation",
    "pandas.util",
)


def classify(function: Any) -> str:
    """Name the handler of a call, "" where it is not watched."""
    if isinstance(function, types.FunctionType) and function.__module__ == "__main__":
        return ""
    owner = getattr(function, "__self__", None)
    if isinstance(owner, type) and getattr(function, "__name__", "") == "from_formula":
        return "formula"
    if owner is not None and not isinstance(owner, (types.ModuleType, type)):
        return _method(owner, getattr(function, "__name__", ""))
    if isinstance(function, type):
        return _class(function)
    return _function(function)


def _method(owner: Any, name: str) -> str:
    kind = kind_of(owner)
    library = _library(type(owner).__module__)
    if name in WRITERS.get(library, ()):
        return "write"
    if kind in ("estimator", "booster"):
        if name in FITS:
            return "fit"
        return "predict" if name in PREDICTS else "compute"
    if name in ("split", "get_n_splits") and _library(type(owner).__module__) == "sklearn":
        return "split" if name == "split" else "compute"
    if library == "google":
        if name in ("to_dataframe", "to_arrow", "to_geodataframe", "to_dataframe_iterable"):
            return "table"
        return "ask" if name in (*QUERIES, "list_rows") else "rows" if name == "result" else ""
    if library in ("duckdb", "_duckdb"):
        return "relation" if name in RELATIONS else "local"
    if type(owner).__name__ == "ExcelFile" and name == "parse":
        return "read"
    if library not in COMPUTES:
        return ""
    return "local" if name in FRAMES_MATTER else "compute"


def _class(kind: Any) -> str:
    library = _library(kind.__module__)
    if library == "statsmodels" and callable(getattr(kind, "fit", None)):
        return "dataset"
    if kind.__name__ in DATASETS and library in ("xgboost", "lightgbm", "catboost"):
        return "dataset"
    if kind.__name__ in WRITERS.get(library, ()):
        return "write"
    if full_name(kind) in CONNECTS:
        return "connect"
    return "compute" if library in COMPUTES else ""


def _function(function: Any) -> str:
    name = full_name(function)
    library, last = _library(name), name.rsplit(".", 1)[-1]
    if name in TRAINS or (library in ("xgboost", "lightgbm") and last == "train"):
        return "train"
    if name.startswith("sklearn.metrics") and last not in ("make_scorer", "get_scorer"):
        return "metric"
    if name.startswith(("sklearn.model_selection", "sklearn.utils.resample")) and last in SPLITS:
        return "split"
    if name.startswith("sklearn.datasets") and last.startswith(("load_", "fetch_", "make_")):
        return "read"
    if last == "read_gbq":
        return "gbq"
    if last in READERS.get(library, ()):
        return "read"
    if last in WRITERS.get(library, ()):
        return "write"
    if name in CONNECTS:
        return "connect"
    if library in ("duckdb", "_duckdb"):
        return "local" if last in FRAMES_MATTER else "read" if last.startswith(("read_", "from_")) else ""
    if library not in COMPUTES:
        return ""
    return "local" if last in FRAMES_MATTER or name.startswith(FRAMES_MATTER_IN) else "compute"


def _library(name: str | None) -> str:
    return (name or "").split(".", 1)[0]
