"""Secrets and personal data: found wherever they stand, never repeated, and not seen where there are none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.adopt.doctor_cells import examined, notebook

from trilho.adopt.doctor import examine_notebook

KEY = "AKIA" + "Q3EGRLPMZ7VX2TNB"
TOKEN = "ghp" + "_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"
RANDOM = "wJalrXUtnFEMI" + "K7MDENGbPxRfiCYzq9dL0sT4vQ8"
SECRETS = {
    f"aws = '{KEY}'": KEY,
    f"headers = {{'Authorization': 'Bearer {TOKEN}'}}": TOKEN,
    "PASSWORD = 'correct-horse-9'": "correct-horse-9",
    "senha = 'Abc12345'": "Abc12345",
    "conn = connect(host='db', user='ana', password='s3nh4!forte')": "s3nh4!forte",
    "import os\nos.environ['API_KEY'] = '9f8a7b6c5d4e3f2a1b0c'": "9f8a7b6c5d4e3f2a1b0c",
    "url = 'postgresql://ana:p4ssw0rd@db.local:5432/sales'": "p4ssw0rd",
    "c = 'Driver={SQL Server};Server=x;UID=sa;PWD=Str0ng#1;'": "Str0ng#1",
    "# token: 8f14e45fceea167a5a36": "8f14e45fceea167a5a36",
    "info = {'type': 'service_account', \"type\": \"service_account\"}": "{'type'",
    "k = '-----BEGIN PRIVATE KEY-----\\nMIIE'": "MIIE",
    f"x = '{RANDOM}'": RANDOM,
}
HARMLESS = [
    "password = getpass.getpass()",
    "password = os.environ['PASSWORD']",
    "password = ''",
    "password = 'secret://db-password'",
    "api_key = 'YOUR_API_KEY'",
    "token = '<your token>'",
    "CountVectorizer(token_pattern=r'(?u)\\b\\w\\w+\\b')",
    "df.merge(other, on='customer_key')",
    "key = 'customer_id'",
    "sha256 = '9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08'",
    "url = 'https://example.org/a/b/c?x=1'",
    "url = 'postgresql://user:${PASSWORD}@db/sales'",
    "columns = ['HistGradientBoostingClassifierFeatureImportance1']",
    "tokenizer = 'bert-base-portuguese-cased'",
    "'gs://shop-models/2024/01/churn_model_v12_final.parquet'",
    "secret_santa = 'Maria'",
]


@pytest.mark.parametrize("source", SECRETS)
def test_secrets_are_found_and_not_repeated(tmp_path: Path, source: str) -> None:
    found = [one for one in examined(tmp_path, "x = 0", source) if one.rule == "secret"]
    assert [(one.cell, one.severity) for one in found] == [(1, "error")]
    assert SECRETS[source] not in json.dumps([found[0].message, found[0].fix])


@pytest.mark.parametrize("source", HARMLESS)
def test_what_is_no_secret(tmp_path: Path, source: str) -> None:
    assert [one.message for one in examined(tmp_path, source) if one.rule == "secret"] == []


def test_secrets_in_outputs_and_prose(tmp_path: Path) -> None:
    cells = ["x = 0", "## Access\nsenha: Abc12345"]
    found = [
        one for one in examined(tmp_path, *cells, outputs={0: [f"logged in with {TOKEN}\n"]}) if one.rule == "secret"
    ]
    assert [(one.cell, "output" in one.message) for one in found] == [(0, True), (1, False)]


CUSTOMERS = (
    "codigo;nome;documento;contato;fone;valor\n1;Ana Souza;529.982.247-25;ana@loja.com.br;(11) "
    "91234-5678;10,5\n2;Rui da Silva;111.444.777-35;rui@loja.com.br;(21) 99876-5432;7,0\n3;Eva "
    "Lima;935.411.347-80;eva@mail.com;(31) 98888-1234;3,2\n4;José Prado;168.995.350-09;jose@mail.com;(41) "
    "97777-4321;8,9\n"
)


def test_personal_data_in_columns_by_their_values(tmp_path: Path) -> None:
    (tmp_path / "clientes.csv").write_bytes(CUSTOMERS.encode("latin-1"))
    cells = ["import pandas as pd", "df = pd.read_csv('clientes.csv', sep=';', encoding='latin-1', decimal=',')"]
    found = [one for one in examined(tmp_path, *cells) if one.rule == "personal-data"]
    assert [(one.cell, one.line) for one in found] == [(1, 1)]
    for column in ("nome", "documento", "contato", "fone"):
        assert f"column `{column}`" in found[0].message
    assert "valor" not in found[0].message
    assert "529" not in found[0].message


def test_numbers_and_names_of_things_are_no_personal_data(tmp_path: Path) -> None:
    rows = "name,sku,phone_model,value\n" + "".join(f"Blue chair {n},{10000000000 + n},X{n},{n}\n" for n in range(50))
    (tmp_path / "products.csv").write_text(rows)
    assert examined(tmp_path, "import pandas as pd\ndf = pd.read_csv('products.csv')") == []


def test_personal_data_in_columns_by_their_names(tmp_path: Path) -> None:
    cells = ["import pandas as pd\ndf = pd.read_gbq('select 1')", "df = df[['cpf', 'email', 'value']]"]
    found = [one for one in examined(tmp_path, *cells) if one.rule == "personal-data"]
    assert [(one.cell, "`cpf`" in one.message, "`email`" in one.message) for one in found] == [(1, True, True)]


def test_personal_data_in_saved_outputs(tmp_path: Path) -> None:
    table = "        nome             cpf\n0  Ana Souza  52998224725\n1  Rui Silva  11144477735\n"
    shown = {"output_type": "execute_result", "data": {"text/html": ["<td>ana@loja.com.br</td>"]}}
    found = [one for one in examined(tmp_path, "x = 1", "y = 2", outputs={0: [table], 1: [shown]})
             if one.rule == "personal-data"]  # fmt: skip
    assert [one.cell for one in found] == [0, 1]
    assert "CPF numbers (2)" in found[0].message
    assert "names of people (2)" in found[0].message
    assert "52998224725" not in found[0].message


def test_numbers_in_outputs_are_no_telephones(tmp_path: Path) -> None:
    printed = "0.1234567891  12345678901  2024-01-01 10:00  [1234-5678]\nmean 11987654321.5 rows 1199999999\n"
    assert examined(tmp_path, "x = 1", outputs={0: [printed]}) == []


def test_a_trace_and_a_choice_are_not_needed(tmp_path: Path) -> None:
    assert examine_notebook(notebook(tmp_path, "x = 1"), None, None) == []
