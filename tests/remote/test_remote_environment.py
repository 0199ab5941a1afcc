"""Which environment is meant, by trilho.toml, by the variables of the process, and by neither."""

from __future__ import annotations

import pytest

from trilho.config import Environment
from trilho.errors import ConfigError, UsageError
from trilho.project import Project
from trilho.remote import resolve, submit_training, target_of


def test_the_environment_that_is_meant(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve(project.settings, "kubeflow")[:2] == ("kubeflow", "cluster")
    with pytest.raises(ConfigError, match=r'no \[environments.NAME\] has backend = "gcp"'):
        resolve(project.settings, "vertex")
    with pytest.raises(ConfigError, match="no environment 'prod' for kubeflow: there are: cluster"):
        resolve(project.settings, "kubeflow", "prod")
    with pytest.raises(UsageError, match="--on is 'mars'; allowed: local, vertex, kubeflow"):
        resolve(project.settings, "mars")
    monkeypatch.setenv("TRILHO_BUCKET", "gs://elsewhere")
    assert resolve(project.settings, "kubeflow")[2].bucket == "gs://elsewhere"


def test_an_emulator_needs_no_environment(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRILHO_AIPLATFORM", "localhost:1")
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "trilho-emulated")
    _, name, environment = resolve(project.settings, "vertex")
    assert (name, environment.project, environment.bucket) == (
        "emulated",
        "trilho-emulated",
        "gs://trilho-emulated-trilho",
    )


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("TRILHO_BUCKET", "s3://elsewhere", "TRILHO_BUCKET is 's3://elsewhere'; allowed: a bucket as \"gs://NAME\""),
        ("TRILHO_BUCKET", "file:///mnt/models", 'bucket: backend "gcp" needs one of Cloud Storage'),
    ],
)
def test_a_variable_that_is_wrong_is_named(
    project: Project, monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv("TRILHO_AIPLATFORM", "localhost:1")
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "trilho-emulated")
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as caught:
        resolve(project.settings, "vertex")
    assert said in caught.value.fact
    assert name in (caught.value.hint or "")


def test_vertex_takes_no_folder_for_a_bucket() -> None:
    with pytest.raises(ValueError, match='bucket: backend "gcp" needs one of Cloud Storage'):
        Environment(backend="gcp", project="shop", bucket="file:///mnt/models")


def test_a_password_in_an_address_never_reaches_the_journal(project: Project) -> None:
    toml = project.folder / "trilho.toml"
    toml.write_text(toml.read_text().replace("http://127.0.0.1:9", "http://ana:secret@127.0.0.1:9"))
    changed = Project.open(project.folder)
    with pytest.raises(UsageError, match="names a user or a password"):
        submit_training(changed, target_of(changed, "kubeflow"))
    assert list(changed.journal.read_from()) == []
    assert "secret" not in "".join(path.read_text() for path in changed.home.rglob("*.json"))
