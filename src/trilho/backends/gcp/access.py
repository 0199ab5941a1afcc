"""What Google Cloud's refusals mean: which permission is missing, the least role that has it, and how to get it.

Google names the permission in four wordings (an ErrorInfo, "Permission 'x' denied on resource", "does not have x
access", "permission to act as service account"), some of them in a job's own error long after it was submitted. All
of them end here, as one fact and one command.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from trilho.core.ports import NoAccess
from trilho.errors import TrilhoError

LOGIN = "gcloud auth application-default login"
ACT_AS = "iam.serviceAccounts.actAs"


@dataclass(frozen=True)
class Role:
    """The least predefined role that has a permission and what else trilho needs beside it, and where to grant it."""

    name: str
    on: str  # "project", "bucket", "service account"


# The longest beginning of the permission counts. Reading alone is enough for a viewer; who creates also reads back.
ROLES = {
    "aiplatform.": Role("roles/aiplatform.user", "project"),
    "aiplatform.pipelineJobs.get": Role("roles/aiplatform.viewer", "project"),
    "aiplatform.pipelineJobs.list": Role("roles/aiplatform.viewer", "project"),
    "aiplatform.schedules.get": Role("roles/aiplatform.viewer", "project"),
    "aiplatform.schedules.list": Role("roles/aiplatform.viewer", "project"),
    "artifactregistry.": Role("roles/artifactregistry.reader", "project"),
    "bigquery.": Role("roles/bigquery.dataEditor", "project"),
    "bigquery.jobs.": Role("roles/bigquery.jobUser", "project"),
    "bigquery.tables.getData": Role("roles/bigquery.dataViewer", "project"),
    "iam.serviceAccounts.actAs": Role("roles/iam.serviceAccountUser", "service account"),
    "iam.serviceAccounts.getAccessToken": Role("roles/iam.serviceAccountTokenCreator", "service account"),
    "logging.logEntries.list": Role("roles/logging.viewer", "project"),
    "logging.logEntries.create": Role("roles/logging.logWriter", "project"),
    "serviceusage.services.use": Role("roles/serviceusage.serviceUsageConsumer", "project"),
    "storage.buckets.get": Role("roles/storage.legacyBucketReader", "bucket"),
    "storage.objects.": Role("roles/storage.objectUser", "bucket"),
    "storage.objects.get": Role("roles/storage.objectViewer", "bucket"),
    "storage.objects.list": Role("roles/storage.objectViewer", "bucket"),
    "storage.multipartUploads.": Role("roles/storage.objectUser", "bucket"),
}
PERMISSION = r"[a-z][A-Za-z]*(?:\.[A-Za-z]+){2,}"
WORDINGS = (
    re.compile(rf"[Pp]ermission ['\"]?(?P<permission>{PERMISSION})['\"]?"),
    re.compile(rf"does not have (?P<permission>{PERMISSION}) access"),
    re.compile(rf"does not have `?\[?(?P<permission>{PERMISSION}(?:, {PERMISSION})*)\]?`? IAM permission"),
)
RESOURCE = re.compile(r"denied on resource:? ['\"]?(?P<resource>[^\s'\"(]+)")
ACTS = re.compile(r"permission to act as service[_ ]account:? ['\"]?(?P<account>[^\s'\"()]+@[^\s'\"()]*[^\s'\"().])")
ACCOUNT = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
DISABLED = re.compile(r"(?P<api>[a-z]+\.googleapis\.com)")


@dataclass(frozen=True)
class Missing:
    """A permission that somebody lacks; `account` is who, where Google says so."""

    permission: str
    resource: str | None = None
    account: str | None = None


def role_of(permission: str) -> Role | None:
    """Give the least role that has a permission; None for one that trilho has no use for.

    >>> role_of("aiplatform.pipelineJobs.create").name
    'roles/aiplatform.user'
    >>> role_of("storage.objects.create")
    Role(name='roles/storage.objectUser', on='bucket')
    """
    known = [beginning for beginning in ROLES if permission.startswith(beginning)]
    return ROLES[max(known, key=len)] if known else None


def find_missing(text: str) -> Missing | None:
    """Read which permission is missing out of what Google said, in any of its wordings.

    >>> find_missing("Permission 'aiplatform.pipelineJobs.create' denied on resource '//x/projects/p' (or it may not exist).")
    Missing(permission='aiplatform.pipelineJobs.create', resource='//x/projects/p', account=None)
    >>> find_missing("You do not have permission to act as service_account: a@p.iam.gserviceaccount.com. (or it may not exist).")
    Missing(permission='iam.serviceAccounts.actAs', resource='a@p.iam.gserviceaccount.com', account=None)
    """  # noqa: E501  as Google words it
    acts = ACTS.search(text)
    if acts:
        return Missing(ACT_AS, acts["account"])
    found = next((match for wording in WORDINGS if (match := wording.search(text))), None)
    if found is None:
        return None
    permissions = found["permission"].split(", ")
    resource = RESOURCE.search(text)
    account = ACCOUNT.search(text[: found.start("permission")])
    needed = max(permissions, key=lambda name: role_of(name) == ROLES["storage.objects."])
    return Missing(needed, resource["resource"] if resource else None, account[0] if account else None)


def refused(
    missing: Missing, doing: str, *, project: str, bucket: str | None, account: str | None, acts_as: str | None = None
) -> TrilhoError:
    """Say who lacks which permission to do what, and the command that grants the least role that has it."""
    who = missing.account or account
    service_account = missing.resource if missing.permission == ACT_AS else acts_as
    fact = f"{doing}: {who or 'this account'} lacks the permission {missing.permission}"
    fact += f" on {_plain(missing.resource)}" if missing.resource else ""
    role = role_of(missing.permission)
    if role is None:
        return TrilhoError(fact, hint=f"ask who administers {project} for a role that has {missing.permission}")
    return TrilhoError(fact, hint=_grant(role, who, project, bucket, service_account))


def _grant(role: Role, who: str | None, project: str, bucket: str | None, service_account: str | None) -> str:
    member = f"--member={_member(who)} --role={role.name}"
    if role.on == "bucket" and bucket is not None:
        return f"gcloud storage buckets add-iam-policy-binding gs://{bucket} {member}"
    if role.on == "service account" and service_account is not None:
        return f"gcloud iam service-accounts add-iam-policy-binding {service_account} --project={project} {member}"
    return f"gcloud projects add-iam-policy-binding {project} {member}"


def _member(who: str | None) -> str:
    if who is None:
        return "user:YOU@EXAMPLE.COM"
    return f"serviceAccount:{who}" if who.endswith(".gserviceaccount.com") else f"user:{who}"


def _plain(resource: str) -> str:
    """Shorten a full resource name.

    >>> _plain("//aiplatform.googleapis.com/projects/p/locations/r")
    'projects/p/locations/r'
    """
    return re.sub(r"^//[\w.-]+/", "", resource)


def api_disabled(text: str, doing: str, project: str) -> TrilhoError:
    """Say that a project has not enabled an API, and how it is enabled."""
    named = DISABLED.search(text)
    api = named["api"] if named else "aiplatform.googleapis.com"
    fact = f"{doing}: {api} is not enabled in project {project}"
    return TrilhoError(fact, hint=f"gcloud services enable {api} --project={project}, then wait a minute or two")


def no_credentials(doing: str) -> TrilhoError:
    """Say that there are no credentials, or none that can be read."""
    named = os.environ.get("GOOGLE_APPLICATION_CREDENTIALS")
    if named:
        fact = f"{doing}: GOOGLE_APPLICATION_CREDENTIALS is {named!r}, and no credentials can be read there"
        return TrilhoError(fact, hint=f"correct it, or unset it and {LOGIN}")
    return TrilhoError(
        f"{doing}: no Google credentials were found on this machine",
        hint=f"{LOGIN}, or GOOGLE_APPLICATION_CREDENTIALS=FILE of a service account",
    )


def expired(doing: str, said: str) -> NoAccess:
    """Say that the credentials were refused; once renewed the same command may be tried again."""
    why = f" ({said})" if said else ""
    return NoAccess(f"{doing}: the Google credentials are expired or revoked{why}", hint=f"{LOGIN}, then again")
