"""[telemetry]: where traces of training and serving go; nowhere by default."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from trilho.config.values import Table


class Telemetry(Table):
    """OpenTelemetry traces of training runs and of requests."""

    endpoint: Annotated[str, Field(pattern=r"^https?://[^\s/]+(:\d+)?(/\S*)?$")] | None = None
    """The collector, as OTLP over HTTP: "http://127.0.0.1:4318". Without one nothing is traced."""
    share: Annotated[float, Field(ge=0, le=1)] = 0.1
    """The share of requests that is traced where the caller has not decided it; a training run always is."""

    def environment(self) -> dict[str, str]:
        """Give what servers and routers find in their environment.

        >>> Telemetry(endpoint="http://127.0.0.1:4318").environment()
        {'TRILHO_TRACES': 'http://127.0.0.1:4318', 'TRILHO_TRACES_SHARE': '0.1'}
        """
        return {"TRILHO_TRACES": self.endpoint, "TRILHO_TRACES_SHARE": repr(self.share)} if self.endpoint else {}
