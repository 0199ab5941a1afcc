"""The model registry, driven by the SDK: versions, aliases, what may be deleted, what is refused."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("google.cloud.aiplatform")

from google.api_core import exceptions
from google.cloud import aiplatform_v1 as v1
from google.protobuf import field_mask_pb2

IMAGE = "southamerica-east1-docker.pkg.dev/shop/images/churn@sha256:0"


@pytest.fixture(scope="module")
def sdk(emulated: Any) -> Any:
    emulated.put("gs://models/churn/model.txt", "a model")
    return emulated.init()


@pytest.fixture(scope="module")
def client(emulated: Any) -> Any:
    return emulated.client("ModelServiceClient")


def upload(sdk: Any, **more: Any) -> Any:
    return sdk.Model.upload(
        **{
            "display_name": "churn",
            "artifact_uri": "gs://models/churn",
            "serving_container_image_uri": IMAGE,
            "serving_container_predict_route": "/predict",
            "serving_container_health_route": "/health",
            **more,
        }
    )


def aliases(sdk: Any, name: str) -> dict[str, list[str]]:
    versions = sdk.ModelRegistry(name).list_versions()
    return {version.version_id: sorted(version.version_aliases) for version in versions}


def test_versions_and_aliases_move(emulated: Any, sdk: Any) -> None:
    first = upload(sdk, labels={"commit": "abc"}, version_aliases=["stable"])
    name = first.resource_name
    assert name.startswith(f"{emulated.parent}/models/")
    assert (first.version_id, first.labels["commit"]) == ("1", "abc")
    assert aliases(sdk, name) == {"1": ["default", "stable"]}
    second = upload(sdk, parent_model=name, is_default_version=False, version_aliases=["candidate"])
    assert (second.resource_name, second.version_id) == (name, "2")
    assert sdk.Model(name).version_id == "1"
    assert sdk.Model(f"{name}@candidate").version_id == "2"
    third = upload(sdk, parent_model=name, is_default_version=True, version_aliases=["candidate"])
    assert aliases(sdk, name) == {"1": ["stable"], "2": [], "3": ["candidate", "default"]}
    assert third.versioned_resource_name == f"{name}@3"
    sdk.ModelRegistry(name).add_version_aliases(["default", "stable"], version="2")
    sdk.ModelRegistry(name).remove_version_aliases(["candidate"], version="3")
    assert aliases(sdk, name) == {"1": [], "2": ["default", "stable"], "3": []}
    assert sdk.Model(name).version_id == "2"


def test_the_default_alias_is_given_on_but_not_taken_away(sdk: Any) -> None:
    name = upload(sdk).resource_name
    with pytest.raises(exceptions.InvalidArgument, match="One version must be the default"):
        sdk.ModelRegistry(name).remove_version_aliases(["default"], version="1")
    sdk.ModelRegistry(name).remove_version_aliases(["never-given"], version="1")
    assert aliases(sdk, name) == {"1": ["default"]}


def test_an_alias_both_added_and_removed_stays_as_it_was(sdk: Any, client: Any) -> None:
    name = upload(sdk, version_aliases=["stable"]).resource_name
    client.merge_version_aliases(name=f"{name}@1", version_aliases=["stable", "-stable", "new", "-new"])
    assert aliases(sdk, name) == {"1": ["default", "stable"]}


@pytest.mark.parametrize("alias", ["2", "Golden", "-", "a", "golden_1", "golden-"])
def test_an_alias_is_written_as_aliases_are(sdk: Any, client: Any, alias: str) -> None:
    name = upload(sdk).resource_name
    with pytest.raises(exceptions.InvalidArgument, match="does not match"):
        client.merge_version_aliases(name=f"{name}@1", version_aliases=[alias])


def test_models_are_listed_by_their_default_version_and_filtered(emulated: Any, sdk: Any, client: Any) -> None:
    name = upload(sdk, display_name="listed", labels={"team": "growth"}).resource_name
    upload(sdk, display_name="listed", parent_model=name, labels={"team": "risk"})
    assert [(model.name, model.version_id) for model in sdk.Model.list(filter='display_name="listed"')] == [
        (name.rpartition("/")[2], "2")
    ]
    asked = {"parent": emulated.parent, "filter": f"model={name.rpartition('/')[2]}"}
    assert [model.name for model in client.list_models(asked)] == [name]
    versions = client.list_model_versions({"name": name, "filter": "labels.team=growth"})
    assert [model.version_id for model in versions] == ["1"]


def test_a_model_and_a_version_are_updated_each_in_its_fields(sdk: Any, client: Any) -> None:
    model = upload(sdk, version_description="first")
    name = model.resource_name
    upload(sdk, parent_model=name)
    model.update(description="of the model", labels={"team": "risk"})
    sdk.ModelRegistry(name).update_version("1", version_description="the first", labels={"team": "growth"})
    held = {version: client.get_model(name=f"{name}@{version}") for version in ("1", "2")}
    assert {version: one.description for version, one in held.items()} == {"1": "of the model", "2": "of the model"}
    assert held["1"].version_description == "the first"
    assert {version: one.labels["team"] for version, one in held.items()} == {"1": "growth", "2": "risk"}
    mask = field_mask_pb2.FieldMask(paths=["artifact_uri"])
    with pytest.raises(exceptions.InvalidArgument, match="artifact_uri cannot be updated"):
        client.update_model(model=v1.Model(name=name), update_mask=mask)


def test_the_only_version_and_the_default_stay(sdk: Any, client: Any) -> None:
    name = upload(sdk).resource_name
    with pytest.raises(exceptions.FailedPrecondition, match="only version"):
        client.delete_model_version(name=f"{name}@1")
    upload(sdk, parent_model=name)
    with pytest.raises(exceptions.FailedPrecondition, match="default version"):
        client.delete_model_version(name=f"{name}@2")
    sdk.ModelRegistry(name).delete_version("1")
    assert aliases(sdk, name) == {"2": ["default"]}
    assert upload(sdk, parent_model=name).version_id == "3"
    with pytest.raises(exceptions.NotFound, match=f"Model `{name}@1` not found"):
        client.get_model(name=f"{name}@1")


def test_a_deleted_model_is_gone(sdk: Any, client: Any) -> None:
    model = upload(sdk, model_id="short-lived")
    with pytest.raises(exceptions.AlreadyExists, match="short-lived` already exists"):
        upload(sdk, model_id="short-lived")
    model.delete()
    with pytest.raises(exceptions.NotFound, match=f"Model `{model.resource_name}` not found"):
        client.get_model(name=model.resource_name)
    assert upload(sdk, model_id="short-lived").version_id == "1"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"display_name": ""}, "model.display_name; Message: Required field is not set"),
        ({"display_name": "x" * 129}, "at most 128 characters"),
        ({"artifact_uri": "/tmp/model"}, "is not a Cloud Storage URI"),
        ({"container_spec": {"predict_route": "/p"}}, "container_spec.image_uri; Message: Required field is not set"),
        ({"labels": {"Team": "a"}}, "Label Team='a'"),
        ({"version_aliases": ["Best"]}, "'Best' does not match"),
    ],
)
def test_an_upload_is_refused(emulated: Any, client: Any, changes: dict[str, Any], message: str) -> None:
    good = {"display_name": "churn", "container_spec": {"image_uri": IMAGE}}
    with pytest.raises(exceptions.InvalidArgument) as caught:
        client.upload_model(parent=emulated.parent, model={**good, **changes})
    assert message in caught.value.message


def test_an_upload_needs_its_parent_and_not_yet_its_files(emulated: Any, sdk: Any) -> None:
    assert upload(sdk, artifact_uri="gs://models/none").uri == "gs://models/none"
    missing = f"{emulated.parent}/models/404"
    with pytest.raises(exceptions.NotFound, match=f"Model `{missing}` not found"):
        upload(sdk, parent_model=missing)
