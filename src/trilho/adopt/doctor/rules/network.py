"""Calls to other machines: what may be down, may change, and may cost."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from trilho.adopt.doctor.flow.names import last
from trilho.adopt.doctor.flow.values import Place
from trilho.adopt.doctor.subject import Subject, finding
from trilho.adopt.plan import Finding

SENDS = re.compile(
    r"(requests|httpx)\.(\w+\.)?(post|put|patch|delete)|smtplib\.\w+|slack_sdk\..*|telegram\..*|"
    r"(mlflow|wandb|neptune|comet_ml)\.(set_tracking_uri|init|log\w*|start_run|login)|paho\..*|pika\..*|"
    r"kafka\..*|boto3\.(client|resource|Session)|twilio\..*|sendgrid\..*"
)
GETS = re.compile(
    r"(requests|httpx|urllib3|aiohttp)\.(\w+\.)?(get|request|Session|Client|head|ClientSession|"
    r"PoolManager)|"
    r"urllib\.request\.(urlopen|urlretrieve|Request)|urllib2\.urlopen|wget\.download|gdown\.\w+|"
    r"kaggle\..*|kagglehub\..*|socket\.(socket|create_connection)|http\.client\.\w+Connection|ftplib\.\w+|"
    r"paramiko\..*|yfinance\..*|pandas_datareader\..*|bs4\..*|selenium\..*|openai\..*|anthropic\..*|"
    r"(datasets|transformers)\.(load_dataset|\w+\.from_pretrained|pipeline)|torch\.hub\.load|"
    r"nltk\.download|spacy\.cli\.download|geopy\..*|googlemaps\..*|basedosdados\..*|sidrapy\..*|bcb\..*|"
    r"sgs\..*|ipeadatapy\..*"
)
CLOUD = re.compile(
    r"google\.cloud\.(bigquery|bigquery_storage|storage|firestore|aiplatform)\.\w*Client|"
    r"pandas_gbq\.\w+|pandas\.(read_gbq|io\.gbq\.\w+)|awswrangler\..*|snowflake\.connector\.connect|"
    r"(psycopg2?|pymysql|MySQLdb|pyodbc|oracledb|cx_Oracle|pymssql)\.connect|sqlalchemy\.create_engine|"
    r"pymongo\.MongoClient|redis\.(Redis|StrictRedis)|gcsfs\..*|s3fs\..*"
)
DOWNLOADED = re.compile(r"sklearn\.datasets\.(fetch_\w+)|seaborn\.load_dataset")
URL = re.compile(r"(?i)^(https?|ftp)://")
SHELL = re.compile(r"^\s*[!%]*\s*(curl|wget|gdown|kaggle|git clone|aws|scp|ssh|rsync)\b", re.MULTILINE)
READERS = re.compile(r"(read|scan)_\w+|urlopen|urlretrieve|open")


def network_calls(subject: Subject) -> Iterator[Finding]:
    """Find calls that leave this machine, one finding a line."""
    seen: set[Place] = set()
    for chunk, node, name in subject.calls():
        made = _judge(subject, node, name)
        place = chunk.place(node)
        if made is not None and place not in seen:
            seen.add(place)
            message, severity, fix = made
            yield finding("network-call", place, message, severity, fix)  # type: ignore[arg-type]


def shell_downloads(subject: Subject) -> Iterator[Finding]:
    """Find shell lines that fetch something."""
    for text in subject.texts if subject.kind == "notebook" else ():
        for match in SHELL.finditer(text.text) if text.kind == "source" else ():
            if "!" in match[0] or "%" in match[0]:
                line = text.text.count("\n", 0, match.start(1)) + 1
                yield finding(
                    "network-call",
                    Place(text.cell, line),
                    f"`{match[1]}` fetches from another machine by hand: nobody can say later what was fetched",
                    "warning",
                    "fetch it once, version it as data (trilho data), and read the version",
                )


def _judge(subject: Subject, node: ast.Call, name: str) -> tuple[str, str, str] | None:
    argument = subject.constants.text(node.args[0]) if node.args else None
    if SENDS.fullmatch(name) and not (name.startswith(("requests", "httpx")) and not node.args and not node.keywords):
        return (
            f"`{name}` sends to another machine: to run the code again is to send again",
            "warning",
            "keep it out of load, features and fit; send what a pipeline found after it has ended",
        )
    if argument is not None and URL.match(argument) and READERS.fullmatch(last(name)):
        host = argument.split("/")[2].rpartition("@")[2]
        return (
            f"data is read from {host}: what lies there may change or be gone, and the same training gives another "
            "model",
            "warning",
            "fetch it once, version it as data, and read the version",
        )
    if GETS.fullmatch(name):
        return (
            f"`{name}` calls another machine: it may be down, slow, or answer differently, in training and in every "
            "prediction that needs it",
            "warning",
            "fetch it once, version it as data, and read the version",
        )
    if DOWNLOADED.fullmatch(name) and not name.endswith(("load_iris", "load_wine")):
        return (f"`{last(name)}` downloads its data", "note", "keep a copy with the project: data/ and [data] source")
    if CLOUD.fullmatch(name):
        return (
            f"`{name}` reads from a service: it needs credentials and may cost",
            "note",
            "name the query or table in trilho.toml; each training keeps an extract of what it read",
        )
    return None
