"""Which calls read, write, send or run something, by the names of the functions.

A reader or writer is known by its full name, or by its method's where only one kind of object has such a method. Each
entry is (kind, position of the argument that says where, its keyword).
"""

from __future__ import annotations

from typing import NamedTuple


class Place(NamedTuple):
    """Where a call's path, query or address is."""

    kind: str
    position: int = 0
    keyword: str = ""


_PANDAS = {
    "csv": "filepath_or_buffer", "table": "filepath_or_buffer", "fwf": "filepath_or_buffer", "parquet": "path",
    "excel": "io", "json": "path_or_buf", "pickle": "filepath_or_buffer", "feather": "path", "orc": "path",
    "hdf": "path_or_buf", "stata": "filepath_or_buffer", "sas": "filepath_or_buffer", "xml": "path_or_buffer",
    "html": "io", "sql": "sql", "sql_query": "sql", "sql_table": "table_name", "gbq": "query", "spss": "path",
}  # fmt: skip
_KINDS = {"table": "csv", "fwf": "csv", "sql_query": "sql", "sql_table": "sql", "gbq": "bigquery"}

READERS: dict[str, Place] = {
    **{f"pandas.read_{name}": Place(_KINDS.get(name, name), 0, word) for name, word in _PANDAS.items()},
    **{f"polars.{verb}_{name}": Place(name, 0, "source")
       for verb in ("read", "scan") for name in ("csv", "parquet", "json", "excel")},
    "pandas_gbq.read_gbq": Place("bigquery", 0, "query_or_table"),
    "geopandas.read_file": Place("file", 0, "filename"),
    "pyarrow.parquet.read_table": Place("parquet", 0, "source"),
    "pyarrow.csv.read_csv": Place("csv", 0, "input_file"),
    "numpy.load": Place("numpy", 0, "file"),
    "numpy.loadtxt": Place("csv", 0, "fname"),
    "numpy.genfromtxt": Place("csv", 0, "fname"),
    "numpy.fromfile": Place("numpy", 0, "file"),
    "joblib.load": Place("model", 0, "filename"),
    "sqlite3.connect": Place("sql", 0, "database"),
    "duckdb.connect": Place("sql", 0, "database"),
    "duckdb.sql": Place("sql", 0, "query"),
    "duckdb.query": Place("sql", 0, "query"),
    "duckdb.read_csv": Place("csv"),
    "duckdb.read_parquet": Place("parquet"),
    "lightgbm.Booster": Place("model", 9, "model_file"),
    "xgboost.Booster": Place("model", 9, "model_file"),
    "scipy.io.loadmat": Place("file", 0, "file_name"),
    "seaborn.load_dataset": Place("http", 0, "name"),
    "requests.get": Place("http", 0, "url"),
    "urllib.request.urlopen": Place("http", 0, "url"),
    "urllib.request.urlretrieve": Place("http", 0, "url"),
}  # fmt: skip

READER_METHODS: dict[str, Place] = {
    "read_text": Place("file", -1), "read_bytes": Place("file", -1), "list_rows": Place("bigquery", 0, "table"),
    "load_model": Place("model", 0, "fname"),
}  # fmt: skip
"""A position of -1 is the object that the method is called on."""

WRITERS: dict[str, Place] = {
    "joblib.dump": Place("model", 1, "filename"),
    "cloudpickle.dump": Place("model", 9),
    "numpy.save": Place("numpy", 0, "file"),
    "numpy.savez": Place("numpy", 0, "file"),
    "numpy.savez_compressed": Place("numpy", 0, "file"),
    "numpy.savetxt": Place("csv", 0, "fname"),
    "torch.save": Place("model", 1, "f"),
    "pandas_gbq.to_gbq": Place("bigquery", 1, "destination_table"),
    "pandas.ExcelWriter": Place("excel", 0, "path"),
    "os.makedirs": Place("folder", 0, "name"),
    "os.mkdir": Place("folder", 0, "path"),
    "os.remove": Place("deletion", 0, "path"),
    "os.unlink": Place("deletion", 0, "path"),
    "os.rename": Place("file", 1, "dst"),
    "shutil.rmtree": Place("deletion", 0, "path"),
    "shutil.copy": Place("file", 1, "dst"),
    "shutil.copyfile": Place("file", 1, "dst"),
    "shutil.move": Place("file", 1, "dst"),
    "mlflow.sklearn.save_model": Place("model", 1, "path"),
}

WRITER_METHODS: dict[str, Place] = {
    **{f"to_{kind}": Place(kind, 0, word) for kind, word in (
        ("csv", "path_or_buf"), ("parquet", "path"), ("excel", "excel_writer"), ("json", "path_or_buf"),
        ("pickle", "path"), ("feather", "path"), ("hdf", "path_or_buf"), ("stata", "path"), ("html", "buf"),
        ("sql", "name"))},
    "to_gbq": Place("bigquery", 0, "destination_table"),
    "write_csv": Place("csv", 0, "file"),
    "write_parquet": Place("parquet", 0, "file"),
    "savefig": Place("figure", 0, "fname"),
    "write_image": Place("figure", 0, "file"),
    "write_html": Place("figure", 0, "file"),
    "save_model": Place("model", 0, "fname"),
    "dump_model": Place("model", 0, "fname"),
    "write_text": Place("file", -1),
    "write_bytes": Place("file", -1),
    "load_table_from_dataframe": Place("bigquery", 1, "destination"),
    "load_table_from_file": Place("bigquery", 1, "destination"),
    "insert_rows_json": Place("bigquery", 0, "table"),
    "insert_rows_from_dataframe": Place("bigquery", 0, "table"),
    "upload_from_filename": Place("upload", 0, "filename"),
    "upload_from_string": Place("upload", 9),
    "upload_file": Place("upload", 0, "Filename"),
}  # fmt: skip

SENDERS: dict[str, Place] = {
    **{f"requests.{verb}": Place("http", 0, "url") for verb in ("get", "post", "put", "patch", "delete", "head")},
    "requests.request": Place("http", 1, "url"),
    "urllib.request.urlopen": Place("http", 0, "url"),
    "urllib.request.urlretrieve": Place("http", 0, "url"),
    "smtplib.SMTP": Place("mail", 0, "host"),
    "smtplib.SMTP_SSL": Place("mail", 0, "host"),
    "mlflow.set_tracking_uri": Place("mlflow", 0, "uri"),
    "mlflow.start_run": Place("mlflow", 9),
    "wandb.init": Place("wandb", 9, "project"),
    "google.cloud.storage.Client": Place("storage", 9, "project"),
    "boto3.client": Place("aws", 0, "service_name"),
    "boto3.resource": Place("aws", 0, "service_name"),
    "sqlalchemy.create_engine": Place("database", 0, "url"),
    "psycopg2.connect": Place("database", 0, "dsn"),
    "pymysql.connect": Place("database", 0, "host"),
    "pyodbc.connect": Place("database", 0, "connectionstring"),
    "kagglehub.dataset_download": Place("http", 0, "handle"),
    "huggingface_hub.hf_hub_download": Place("http", 0, "repo_id"),
    "seaborn.load_dataset": Place("http", 0, "name"),
    "openai.OpenAI": Place("http", 9),
}

RUNNERS: dict[str, Place] = {
    **{f"subprocess.{name}": Place("process", 0, "args") for name in ("run", "call", "check_call", "check_output",
                                                                      "Popen", "getoutput")},
    "os.system": Place("process", 0, "command"),
    "os.popen": Place("process", 0, "cmd"),
    "os.execv": Place("process", 0, "path"),
}  # fmt: skip

DOWNLOADED = frozenset({
    "fetch_20newsgroups", "fetch_20newsgroups_vectorized", "fetch_california_housing", "fetch_covtype",
    "fetch_kddcup99", "fetch_lfw_pairs", "fetch_lfw_people", "fetch_olivetti_faces", "fetch_openml", "fetch_rcv1",
    "fetch_species_distributions",
})  # fmt: skip
"""Functions of sklearn.datasets that fetch their data from the network."""
