"""What Google Cloud's refusals become: one fact and the one command that helps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import google.auth.exceptions as auth_exceptions
import pytest
import requests  # type: ignore[import-untyped]
from google.api_core import exceptions as api_exceptions
from google.rpc import error_details_pb2

from trilho.backends.gcp import access
from trilho.backends.gcp.cloud import Cloud, is_passing
from trilho.core.ports import NoAccess
from trilho.core.retry import Patience
from trilho.errors import TrilhoError, Unreachable, UsageError

exceptions: Any = api_exceptions
auth: Any = auth_exceptions

SA = "runner@shop.iam.gserviceaccount.com"


class Credentials:
    """Stands for what google.auth finds."""

    account = "ana@example.com"


@pytest.fixture
def cloud() -> Cloud:
    made = Cloud(
        project="shop",
        region="southamerica-east1",
        bucket="shop-models",
        patience=Patience(seconds=0.2, first_seconds=0.001, most_seconds=0.01),
    )
    made.__dict__["credentials"] = Credentials()
    return made


def failing(*errors: Exception, then: str = "done") -> tuple[Callable[[], str], list[int]]:
    calls: list[int] = []
    left: Iterator[Exception] = iter(errors)

    def call() -> str:
        calls.append(1)
        for error in left:
            raise error
        return then

    return call, calls


def test_what_passes_is_tried_again(cloud: Cloud) -> None:
    lines: list[str] = []
    object.__setattr__(cloud, "say", lines.append)
    call, calls = failing(
        exceptions.ServiceUnavailable("the service is restarting"),
        exceptions.DeadlineExceeded("too slow"),
        exceptions.TooManyRequests("quota of requests a minute"),
        ConnectionResetError("reset by peer"),
        requests.exceptions.ConnectionError("refused"),
    )
    assert cloud.call("looking", call) == "done"
    assert len(calls) == 6
    assert lines[0].startswith("ServiceUnavailable: the service is restarting; trying again in 0.0")


def test_patience_has_an_end(cloud: Cloud) -> None:
    def call() -> str:
        raise exceptions.ServiceUnavailable("down")

    with pytest.raises(Unreachable) as caught:
        cloud.call("submitting run r1", call)
    assert caught.value.fact == ("submitting run r1: Google Cloud (southamerica-east1) did not answer for 0.2 s: down")
    assert caught.value.exit_code == 5


def test_a_quota_that_stays_used_up_is_told_as_one(cloud: Cloud) -> None:
    def call() -> str:
        raise exceptions.ResourceExhausted("Quota exceeded for create_pipeline_job per minute")

    with pytest.raises(Unreachable) as caught:
        cloud.call("submitting run r1", call)
    assert caught.value.fact == (
        "submitting run r1: a quota or rate limit of project shop is used up: "
        "Quota exceeded for create_pipeline_job per minute"
    )
    assert (caught.value.hint or "").endswith("https://console.cloud.google.com/iam-admin/quotas?project=shop")


def test_a_mistake_is_not_tried_again(cloud: Cloud) -> None:
    call, calls = failing(exceptions.InvalidArgument("machine type n9 is unknown"))
    with pytest.raises(TrilhoError, match="submitting: machine type n9 is unknown"):
        cloud.call("submitting", call)
    assert calls == [1]


@pytest.mark.parametrize(
    ("error", "permission", "role"),
    [
        (
            exceptions.PermissionDenied(
                "Permission 'aiplatform.pipelineJobs.create' denied on resource "
                "'//aiplatform.googleapis.com/projects/shop/locations/southamerica-east1' (or it may not exist)."
            ),
            "aiplatform.pipelineJobs.create",
            "gcloud projects add-iam-policy-binding shop --member=user:ana@example.com --role=roles/aiplatform.user",
        ),
        (
            exceptions.InvalidArgument(
                f"You do not have permission to act as service_account: {SA}. (or it may not exist)."
            ),
            "iam.serviceAccounts.actAs",
            f"gcloud iam service-accounts add-iam-policy-binding {SA} --project=shop "
            "--member=user:ana@example.com --role=roles/iam.serviceAccountUser",
        ),
        (
            exceptions.Forbidden(
                "POST https://storage.googleapis.com/upload/...: ana@example.com does not have storage.objects.create "
                "access to the Google Cloud Storage object. Permission 'storage.objects.create' denied on resource "
                "(or it may not exist)."
            ),
            "storage.objects.create",
            "gcloud storage buckets add-iam-policy-binding gs://shop-models --member=user:ana@example.com "
            "--role=roles/storage.objectUser",
        ),
        (
            exceptions.PermissionDenied(
                "Failed to create pipeline job. Error: Service account `" + SA + "` does not have "
                '`[storage.objects.get, storage.objects.create]` IAM permission(s) to the bucket "shop-models".'
            ),
            "storage.objects.create",
            "gcloud storage buckets add-iam-policy-binding gs://shop-models "
            f"--member=serviceAccount:{SA} --role=roles/storage.objectUser",
        ),
        (
            exceptions.PermissionDenied(
                "The caller does not have permission",
                error_info=error_details_pb2.ErrorInfo(
                    reason="IAM_PERMISSION_DENIED", metadata={"permission": "logging.logEntries.list"}
                ),
            ),
            "logging.logEntries.list",
            "gcloud projects add-iam-policy-binding shop --member=user:ana@example.com --role=roles/logging.viewer",
        ),
    ],
)
def test_a_refusal_names_the_permission_and_the_least_role(
    cloud: Cloud, error: Exception, permission: str, role: str
) -> None:
    call, calls = failing(error)
    with pytest.raises(TrilhoError) as caught:
        cloud.call("submitting run r1", call)
    assert f"lacks the permission {permission}" in caught.value.fact
    assert caught.value.fact.count("\n") == 0
    assert caught.value.hint == role
    assert calls == [1]


@pytest.mark.parametrize(
    "error",
    [
        auth.RefreshError("invalid_grant: Token has been expired or revoked."),
        exceptions.Unauthenticated("Request had invalid authentication credentials."),
        exceptions.ServiceUnavailable(
            "Getting metadata from plugin failed with error: ('invalid_grant: Bad Request', {'error': 'invalid_grant'})"
        ),
        auth.ReauthFailError("Reauthentication failed."),
    ],
)
def test_expired_credentials_are_one_clear_error_at_once(cloud: Cloud, error: Exception) -> None:
    call, calls = failing(error)
    with pytest.raises(NoAccess) as caught:
        cloud.call("looking at run r1", call)
    assert caught.value.fact.startswith("looking at run r1: the Google credentials are expired or revoked")
    assert caught.value.hint == "gcloud auth application-default login, then again"
    assert (caught.value.exit_code, calls) == (5, [1])


def test_a_token_service_that_is_out_of_reach_is_tried_again() -> None:
    offline = "Getting metadata from plugin failed with error: HTTPSConnectionPool: Max retries exceeded"
    assert is_passing(exceptions.ServiceUnavailable(offline))
    assert is_passing(auth.TransportError("no route"))
    assert not is_passing(exceptions.MethodNotImplemented("never"))


def test_no_credentials_at_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "absent.json"))
    cloud = Cloud(project="shop", region="r", bucket="b")
    with pytest.raises(TrilhoError) as caught:
        cloud.call("looking", lambda: "never")
    assert "GOOGLE_APPLICATION_CREDENTIALS is" in caught.value.fact
    assert caught.value.hint == "correct it, or unset it and gcloud auth application-default login"
    assert caught.value.exit_code == 1


def test_an_api_that_is_not_enabled(cloud: Cloud) -> None:
    said = (
        "Vertex AI API has not been used in project 12 before or it is disabled. Enable it by visiting "
        "https://console.developers.google.com/apis/api/aiplatform.googleapis.com/overview?project=12 then retry."
    )
    call, _ = failing(exceptions.PermissionDenied(said))
    with pytest.raises(TrilhoError) as caught:
        cloud.call("submitting", call)
    assert caught.value.fact == "submitting: aiplatform.googleapis.com is not enabled in project shop"
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("gcloud services enable aiplatform.googleapis.com --project=shop")


def test_a_bucket_that_is_not_there(cloud: Cloud) -> None:
    call, _ = failing(exceptions.NotFound("The specified bucket does not exist."))
    with pytest.raises(UsageError) as caught:
        cloud.call("writing", call)
    assert caught.value.fact == "writing: there is no bucket shop-models"


def test_every_role_is_the_longest_match() -> None:
    assert access.role_of("aiplatform.pipelineJobs.get") == access.Role("roles/aiplatform.viewer", "project")
    assert access.role_of("aiplatform.pipelineJobs.cancel") == access.Role("roles/aiplatform.user", "project")
    assert access.role_of("compute.instances.list") is None
