"""The promises of an endpoint, kept by this machine and by Vertex AI (the real clients, against the emulator)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.remote.endpoints import Vertexes

from trilho.testing import conformance, conformance_endpoint

if TYPE_CHECKING:
    from trilho.testing.conformance_endpoint import EndpointCheck, Versions


@pytest.mark.parametrize("check", conformance_endpoint.ENDPOINT, ids=conformance.title)
def test_local_endpoint(check: EndpointCheck, versions: Versions, project_python: Path, tmp_path: Path) -> None:
    from trilho.backends.local.endpoint import LocalEndpoint

    made = LocalEndpoint(tmp_path / "endpoint", python=project_python, model="tiny")
    try:
        check(lambda: LocalEndpoint(tmp_path / "endpoint", python=project_python, model="tiny"), versions)
    finally:
        made.stop()


@pytest.mark.parametrize("check", conformance_endpoint.ENDPOINT, ids=conformance.title)
def test_vertex_endpoint(check: EndpointCheck, versions: Versions, vertexes: Vertexes) -> None:
    model = vertexes.new_model()
    check(lambda: vertexes.endpoint(model), versions)


def test_vertex_endpoint_with_versions_in_one_container(versions: Versions, vertexes: Vertexes) -> None:
    model = vertexes.new_model()
    conformance_endpoint.keeps_a_key_with_its_version(lambda: vertexes.endpoint(model, inside=True), versions)
