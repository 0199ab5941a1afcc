"""One project of Google Cloud: credentials, clients, and calls that are tried again and whose errors are told."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

from trilho.backends.gcp import access
from trilho.core.retry import Patience, retry
from trilho.errors import TrilhoError, Unreachable, UsageError

T = TypeVar("T")
SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
CALL_SECONDS = 60.0
QUOTAS = "https://console.cloud.google.com/iam-admin/quotas"
PLUGIN = "Getting metadata from plugin failed"
"""How gRPC reports that a token could not be had: as UNAVAILABLE, whatever the reason was."""
OFFLINE = ("Max retries exceeded", "Connection", "timed out", "Temporary failure")


@dataclass(frozen=True, kw_only=True)
class Cloud:
    """A project, a region and a bucket, and how they are reached.

    `aiplatform` and `logging` are other addresses than Google's, as `trilho emulate` sets them.
    """

    project: str
    region: str
    bucket: str
    service_account: str | None = None
    aiplatform: str | None = None
    logging: str | None = None
    patience: Patience = field(default_factory=Patience)
    say: Callable[[str], None] = lambda _line: None

    @property
    def parent(self) -> str:
        """The location that jobs and schedules belong to."""
        return f"projects/{self.project}/locations/{self.region}"

    @property
    def aiplatform_address(self) -> str:
        """Where Vertex AI answers."""
        return self.aiplatform or f"{self.region}-aiplatform.googleapis.com"

    @cached_property
    def credentials(self) -> Any:
        """The credentials of this machine (application default). Raises TrilhoError where there are none."""
        import google.auth

        return google.auth.default(scopes=SCOPES, quota_project_id=None)[0]

    @cached_property
    def pipelines(self) -> Any:
        """The client of Vertex AI Pipelines."""
        with needed_extra():
            from google.cloud.aiplatform_v1.services.pipeline_service import PipelineServiceClient
        return PipelineServiceClient(
            credentials=self.credentials, client_options={"api_endpoint": self.aiplatform_address}
        )

    @cached_property
    def schedules(self) -> Any:
        """The client of Vertex AI's schedules."""
        with needed_extra():
            from google.cloud.aiplatform_v1.services.schedule_service import ScheduleServiceClient
        return ScheduleServiceClient(
            credentials=self.credentials, client_options={"api_endpoint": self.aiplatform_address}
        )

    @cached_property
    def storage(self) -> Any:
        """The client of Cloud Storage; STORAGE_EMULATOR_HOST points it elsewhere."""
        with needed_extra():
            from google.cloud.storage import Client
        return Client(project=self.project, credentials=self.credentials)

    @cached_property
    def web(self) -> Any:
        """An HTTP session that signs its requests, for the APIs without a client here."""
        from google.auth.transport.requests import AuthorizedSession

        session: Any = AuthorizedSession
        return session(self.credentials)

    def call(self, doing: str, make: Callable[[], T]) -> T:
        """Make a call; what passes is tried again for a while, everything else becomes an error of ours.

        `doing` begins the error's sentence, as in "submitting run r1".
        """
        with needed_extra():
            import google.auth.exceptions
            from google.api_core.exceptions import GoogleAPIError
            from requests.exceptions import RequestException  # type: ignore[import-untyped]

        try:
            self.credentials  # noqa: B018  found, or not, before anything is tried twice
            return retry(make, passing=is_passing, patience=self.patience, on_wait=self._say_wait)
        except TrilhoError:
            raise
        except google.auth.exceptions.DefaultCredentialsError:
            raise access.no_credentials(doing) from None
        except (google.auth.exceptions.GoogleAuthError, GoogleAPIError, RequestException, ConnectionError) as error:
            raise self.explain(error, doing) from error

    def explain(self, error: Exception, doing: str) -> TrilhoError:
        """Turn an error of Google's clients into one of ours."""
        said = getattr(error, "message", None) or str(error)
        if is_credentials_problem(error):
            return access.expired(doing, _shortly(said.removeprefix(PLUGIN).removeprefix(" with error:")))
        if getattr(error, "code", None) == 429:
            return Unreachable(
                f"{doing}: a quota or rate limit of project {self.project} is used up: {_shortly(said)}",
                hint=f"try again later, or ask for more: {QUOTAS}?project={self.project}",
            )
        if is_passing(error):
            return Unreachable(
                f"{doing}: {self._where(error)} did not answer for {self.patience.seconds:g} s: {_shortly(said)}",
                hint="nothing is lost; try again, and if it lasts look at https://status.cloud.google.com",
            )
        if getattr(error, "reason", None) == "SERVICE_DISABLED" or "it is disabled" in said:
            return access.api_disabled(said, doing, self.project)
        return self._denied(error, said, doing) or self._absent(error, said, doing) or _other(said, doing)

    def _denied(self, error: Exception, said: str, doing: str) -> TrilhoError | None:
        details = getattr(error, "metadata", None) or {}
        missing = access.find_missing(said)
        if missing is None and details.get("permission"):
            missing = access.Missing(details["permission"], details.get("resource"))
        if missing is not None:
            return access.refused(
                missing,
                doing,
                project=self.project,
                bucket=self.bucket,
                account=self.account,
                acts_as=self.service_account,
            )
        if getattr(error, "code", None) == 403:
            hint = f"see whether project {self.project} is the right one, and what this account may do there"
            return TrilhoError(f"{doing}: refused: {_shortly(said)}", hint=hint)
        return None

    def _absent(self, error: Exception, said: str, doing: str) -> TrilhoError | None:
        if getattr(error, "code", None) != 404 or "bucket" not in said.lower():
            return None
        return UsageError(
            f"{doing}: there is no bucket {self.bucket}",
            hint=f"gcloud storage buckets create gs://{self.bucket} --location={self.region}, or correct bucket",
        )

    @property
    def account(self) -> str | None:
        """Whose credentials these are, where they say so."""
        found = getattr(self.credentials, "service_account_email", None) or getattr(self.credentials, "account", None)
        return found if isinstance(found, str) and "@" in found else None

    def _where(self, error: Exception) -> str:
        module = type(error).__module__
        return "Google's token service" if module.startswith("google.auth") else f"Google Cloud ({self.region})"

    def _say_wait(self, error: Exception, seconds: float) -> None:
        said = getattr(error, "message", None) or str(error)
        self.say(f"{type(error).__name__}: {_shortly(said)}; trying again in {seconds:.1f} s")


class needed_extra:  # noqa: N801  reads as a statement
    """Turns a missing client library into the line that installs it."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, ModuleNotFoundError):
            raise UsageError(
                f"Google Cloud's client libraries are not installed (no module {error.name})",
                hint='pip install "trilho[gcp]"',
            ) from None


def is_passing(error: Exception) -> bool:
    """Say whether a call that failed so may succeed when it is made again: UNAVAILABLE, timeouts, 429, 5xx, a dropped
    connection."""
    import google.auth.exceptions
    from google.api_core import exceptions
    from requests.exceptions import ConnectionError as NotConnected
    from requests.exceptions import Timeout

    if is_credentials_problem(error):
        return False
    if isinstance(error, exceptions.MethodNotImplemented):
        return False
    passing = (
        exceptions.ServerError,
        exceptions.TooManyRequests,
        exceptions.RetryError,
        google.auth.exceptions.TransportError,
        NotConnected,
        Timeout,
        ConnectionError,
        TimeoutError,
    )
    return isinstance(error, passing)


def is_credentials_problem(error: Exception) -> bool:
    """Say whether an error means that no token could be had, which no further try will change."""
    import google.auth.exceptions
    from google.api_core import exceptions

    if isinstance(error, google.auth.exceptions.TransportError):
        return False
    if isinstance(error, (google.auth.exceptions.GoogleAuthError, exceptions.Unauthenticated, exceptions.Unauthorized)):
        return not getattr(error, "retryable", False)
    return PLUGIN in str(error) and not any(word in str(error) for word in OFFLINE)


def _other(said: str, doing: str) -> TrilhoError:
    return TrilhoError(f"{doing}: {_shortly(said)}", hint="--debug shows all that was said")


def _shortly(said: str) -> str:
    line = next((line.strip() for line in said.strip(" ('").splitlines() if line.strip()), "no reason was given")
    return line if len(line) <= 300 else line[:299] + "…"


def other_address(name: str) -> str | None:
    """Give an address that the environment sets in place of Google's: TRILHO_AIPLATFORM, TRILHO_LOGGING."""
    return os.environ.get(name) or None
