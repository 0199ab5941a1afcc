"""What makes an endpoint right: one check per promise of the port, with the same body on this machine and on a cloud.

A check is given what makes the endpoint, without anything deployed, and two versions; what it leaves is for the caller
to take away. In a test of a backend of your own:

    @pytest.mark.parametrize("check", conformance_endpoint.ENDPOINT, ids=conformance.title)
    def test_my_endpoint(check, versions):
        check(lambda: MyEndpoint(...), versions)
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trilho.core.ports import Endpoint, NotFound, ServedPackage, Split
from trilho.errors import NotYet, Refused, UsageError
from trilho.testing.conformance import WAIT_SECONDS, Make, raises


@dataclass(frozen=True)
class Versions:
    """Two versions of one model for the checks of an endpoint: what each predicts for a row, which differs."""

    packages: Mapping[int, Path]
    row: Any
    answers: Mapping[int, Any]
    key: str
    """A text field of the row that the answers do not depend on."""

    def served(self, version: int) -> ServedPackage:
        """Give a version as it is deployed."""
        return ServedPackage(version=version, package=self.packages[version])

    def ask(self, endpoint: Endpoint, times: int, key: str = "a") -> Counter[int]:
        """Ask for the row again and again; count the versions that answered, each as it should."""
        found: Counter[int] = Counter()
        for _ in range(times):
            answer = endpoint.predict([{**self.row, self.key: key}])
            assert list(answer.predictions) == [self.answers[answer.version]]
            found[answer.version] += 1
        return found


EndpointCheck = Callable[[Make[Endpoint], Versions], None]


def moves_traffic_and_back(make: Make[Endpoint], versions: Versions) -> None:
    """Deployed versions get no traffic until they are given some; then they share it, and give it back at once."""
    endpoint = make()
    assert dict(endpoint.status().versions) == {}
    raises(NotYet, lambda: make().predict([versions.row]))
    endpoint.deploy(versions.served(1))
    assert (dict(make().status().versions), make().status().split) == ({1: "ready"}, None)
    raises(NotYet, lambda: make().predict([versions.row]))
    endpoint.route(Split(shares={1: 100}))
    assert versions.ask(make(), 3) == {1: 3}
    endpoint.deploy(versions.served(2))
    assert dict(make().status().versions) == {1: "ready", 2: "ready"}
    assert versions.ask(endpoint, 3) == {1: 3}
    endpoint.route(Split(shares={1: 60, 2: 40}))
    assert set(versions.ask(endpoint, 40)) == {1, 2}
    assert make().status().split == Split(shares={1: 60, 2: 40})
    endpoint.route(Split(shares={1: 100}))
    assert versions.ask(endpoint, 10) == {1: 10}
    raises(NotFound, lambda: endpoint.route(Split(shares={1: 90, 3: 10})))
    raises(Refused, lambda: endpoint.undeploy(1))
    endpoint.undeploy(2)
    endpoint.undeploy(2)
    assert dict(make().status().versions) == {1: "ready"}
    endpoint.undeploy(1)
    assert (dict(make().status().versions), make().status().split) == ({}, None)


def deploys_once(make: Make[Endpoint], versions: Versions) -> None:
    """To deploy what is deployed changes nothing, whoever does it; rows that are wrong are refused in words."""
    make().deploy(versions.served(1))
    make().route(Split(shares={1: 100}))
    before = make().status()
    make().deploy(versions.served(1))
    make().route(Split(shares={1: 100}))
    assert make().status() == before
    raises(UsageError, lambda: make().predict(["no row at all"]))


def is_deployed_to_by_two_at_once(make: Make[Endpoint], versions: Versions) -> None:
    """Two who deploy the same version at the same time, or another each, all succeed, and each version is there."""
    failed: list[Exception] = []

    def deploy(version: int) -> None:
        try:
            make().deploy(versions.served(version))
        except Exception as error:  # noqa: BLE001  whatever it is, it is to be seen
            failed.append(error)

    threads = [threading.Thread(target=deploy, args=(version,)) for version in (1, 1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_SECONDS)
    assert failed == []
    assert dict(make().status().versions) == {1: "ready", 2: "ready"}


def never_follows_an_older_decision(make: Make[Endpoint], versions: Versions) -> None:
    """Of two deciders the one who knows more of the journal stays, whoever comes last."""
    make().deploy(versions.served(1))
    make().deploy(versions.served(2))
    make().route(Split(shares={1: 50, 2: 50}, position=7))
    raises(Refused, lambda: make().route(Split(shares={2: 100}, position=6)))
    assert make().status().split == Split(shares={1: 50, 2: 50}, position=7)
    make().route(Split(shares={1: 100}, position=8))
    assert make().status().split == Split(shares={1: 100}, position=8)


def keeps_a_key_with_its_version(make: Make[Endpoint], versions: Versions) -> None:
    """With a sticky field a key always meets the same version, also one that is asked unseen beside; where the traffic
    cannot be asked to, it is refused and nothing has changed."""
    for version in (1, 2):
        make().deploy(versions.served(version))
    make().route(Split(shares={1: 100}))
    split = Split(shares={1: 50, 2: 50}, sticky=versions.key)
    if not make().capabilities.sticky:
        raises(UsageError, lambda: make().route(split))
        raises(UsageError, lambda: make().route(Split(shares={1: 100}, shadow=2)))
        assert make().status().split == Split(shares={1: 100})
        return
    make().route(split)
    assert make().status().split == split
    first = {key: versions.ask(make(), 1, key) for key in "abcdefghij"}
    assert len({next(iter(found)) for found in first.values()}) == 2
    assert {key: versions.ask(make(), 1, key) for key in first} == first
    unseen = Split(shares={1: 100}, shadow=2, shadow_share=100)
    make().route(unseen)
    assert make().status().split == unseen
    assert versions.ask(make(), 5) == {1: 5}
    make().route(Split(shares={1: 100}))
    assert make().status().split == Split(shares={1: 100})


ENDPOINT: tuple[EndpointCheck, ...] = (
    moves_traffic_and_back,
    deploys_once,
    is_deployed_to_by_two_at_once,
    never_follows_an_older_decision,
    keeps_a_key_with_its_version,
)
