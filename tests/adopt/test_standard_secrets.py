"""What looks like a secret is found, and named by its kind; what only speaks of one is not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from trilho.adopt.standard.render import Values, render
from trilho.config import load_settings
from trilho.core.vault import reveal
from trilho.errors import ConfigError
from trilho.secrets import PATTERNS, find_secrets

LONG = "Zx81" * 10  # joined at run time, so that this file passes its own check
SECRETS = {
    "a private key": "-----BEGIN RSA " + "PRIVATE KEY-----",
    "a key of an AWS account": "AKIA" + "Z7Q2M4N8P1R5T9V3",
    "a Google API key": "AIza" + LONG[:35],
    "a Google OAuth token": "ya29." + LONG,
    "a GitHub token": "ghp_" + LONG,
    "a GitLab token": "glpat-" + LONG,
    "a Slack token": "xoxb-" + "12345678901-abcdef",
    "the address of a webhook": "https://hooks.slack.com" + "/services/T00000000/B00000000/" + LONG,
    "a key of OpenAI or Anthropic": "sk-ant-" + LONG,
    "a Hugging Face token": "hf_" + LONG,
    "a PyPI token": "pypi-" + LONG * 2,
    "a Stripe key": "sk_live_" + LONG,
    "a SendGrid key": "SG." + LONG[:20] + "." + LONG,
    "a Databricks token": "dapi" + "0123456789abcdef" * 2,
    "a JSON web token": "eyJ" + LONG + ".eyJ" + LONG + "." + LONG,
    "an Azure storage key": "AccountKey" + "=" + LONG * 2 + "==",
    "a password in an address": "postgresql://ana" + ":s3nh4@db/prod",
    "a secret in an assignment": "password" + ' = "hunter2!x"',
}
ASSIGNED = [
    'db_password="tiger9x"', "senha = 'minhasenha'", "export DB_PASSWORD=Xk29!kd", "api_key: str = 'a8f5f167f44f49'",
    "'client_secret': 'f8s7df6s8d7f6s8d'", "connect(host='db', password='p4ssw0rd!')", "PGPASSWORD=abc12345 psql",
    '  "source": ["senha = \\"S3nh4Forte\\"\\n"]', "os.environ['API_TOKEN'] = 'gkj349gjk34gkj34'",
    "senha: 's3nha-aqui'",
]  # fmt: skip
HARMLESS = [
    'password = os.environ["DB_PASSWORD"]', "password = getpass.getpass()", 'password = "secret://db-password"',
    "token = tokenizer.encode(text)", "max_tokens = 4096", "password: <your password>", 'password = "changeme"',
    "TRILHO_SLACK_WEBHOOK=secret://slack-webhook", "postgresql://user:$PASSWORD@db", "postgresql://ana:{senha}@db",
    "token: ${{ secrets.GITHUB_TOKEN }}", 'def f(password: str = "") -> None:', "password = None", "secrets: inherit",
    'x.password == "abc123def"', 'tokens = text.split(" ")', 'senha = input("Senha: ")', "api_key=API_KEY",
    "password = 'hunter2x'  # not-a-secret", '"password": "string"', "digest = 'sha256:" + "0af3" * 16 + "'",
    "A token is a word; the password is asked for.", "credentials = Credentials.from_service_account_file(path)",
]  # fmt: skip


def test_every_kind_has_an_example() -> None:
    assert set(SECRETS) == set(PATTERNS)


@pytest.mark.parametrize("kind", SECRETS)
def test_a_secret_is_found_by_its_kind(kind: str) -> None:
    found = list(find_secrets(f"x = 1\nsend({SECRETS[kind]!r})\n"))
    assert [(one.line, one.kind) for one in found] == [(2, kind)]


@pytest.mark.parametrize("line", ASSIGNED)
def test_a_value_given_to_a_secrets_name_is_found(line: str) -> None:
    assert [one.kind for one in find_secrets(line)] == ["a secret in an assignment"]


@pytest.mark.parametrize("line", HARMLESS)
def test_what_only_speaks_of_a_secret_is_let_through(line: str) -> None:
    assert list(find_secrets(line)) == []


def test_a_plot_in_a_notebook_is_passed_over_quickly() -> None:
    line = '"image/png": "' + "iVBORw0KGgoToken" * 100_000 + '", "text": "' + SECRETS["a GitHub token"] + '"'
    assert [one.kind for one in find_secrets(line)] == ["a GitHub token"]


def git(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    names = ["-c", "user.name=Ana", "-c", "user.email=ana@example.com"]
    return subprocess.run(["git", *names, *words], cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    files = render(Values(name="rides", package="rides", task="regression"))
    for name in ("tools/check_secrets.py", "tools/hooks/pre-commit"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(files[name])
        (tmp_path / name).chmod(0o755)
    return tmp_path


def test_the_projects_own_script_checks_what_git_knows(project: Path) -> None:
    words = [sys.executable, "-S", "tools/check_secrets.py"]
    (project / "notes.txt").write_text(SECRETS["a Slack token"])
    assert subprocess.run(words, cwd=project, capture_output=True).returncode == 1  # no repository: every file
    git(project, "init", "-q")
    (project / ".gitignore").write_text("notes.txt\n")
    assert subprocess.run(words, cwd=project, capture_output=True).returncode == 0
    (project / "run.sh").write_text("\n" + SECRETS["a secret in an assignment"])
    said = subprocess.run(words, cwd=project, capture_output=True, text=True)
    assert (said.returncode, said.stderr.splitlines()[0]) == (1, "run.sh:2:1: it looks like a secret in an assignment")
    assert "hunter2" not in said.stderr
    assert "secret://NAME" in said.stderr.splitlines()[1]


def test_git_refuses_a_commit_with_a_secret_in_what_is_staged(project: Path) -> None:
    git(project, "init", "-q")
    git(project, "config", "core.hooksPath", "tools/hooks")
    git(project, "add", "-A")
    assert git(project, "commit", "-qm", "begin").returncode == 0
    settings = project / "settings.py"
    settings.write_text(SECRETS["a secret in an assignment"])
    git(project, "add", "settings.py")
    settings.write_text("nothing here any more")  # what is staged counts
    refused = git(project, "commit", "-qm", "oops")
    assert refused.returncode != 0
    assert "settings.py:1:1: it looks like a secret in an assignment" in refused.stderr
    git(project, "add", "settings.py")
    assert git(project, "commit", "-qm", "better").returncode == 0


def test_trilho_toml_holds_no_secret(tmp_path: Path) -> None:
    text = '[model]\nname = "a"\ntask = "regression"\ntarget = "y"\n[data]\nsource = "{}"\n[steps]\ntrain = "a.b:c"\n'
    (tmp_path / "trilho.toml").write_text(text.format(SECRETS["a password in an address"]))
    with pytest.raises(ConfigError) as caught:
        load_settings(tmp_path)
    assert caught.value.fact.endswith(
        "data.source holds what looks like a password in an address; allowed: its name, secret://NAME"
    )
    assert "s3nh4" not in str(caught.value)
    (tmp_path / "trilho.toml").write_text(text.format("data/*.csv"))
    assert load_settings(tmp_path).data.source == "data/*.csv"


def test_a_reference_is_the_file_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRILHO_SECRETS", str(tmp_path))
    (tmp_path / "slack-webhook").write_text("https://example.com/hook\n")
    assert reveal("secret://slack-webhook") == "https://example.com/hook"
    assert reveal("https://example.com") == "https://example.com"
    with pytest.raises(ConfigError, match="secret://teams-webhook is not here"):
        reveal("secret://teams-webhook")
    with pytest.raises(ConfigError, match="names no secret"):
        reveal("secret://../passwd")
