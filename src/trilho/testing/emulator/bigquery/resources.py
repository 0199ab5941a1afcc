"""How datasets and tables look in an answer, and how a PATCH changes them."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from trilho.testing.emulator.bigquery.naming import DatasetName, TableName
from trilho.testing.emulator.http import ApiError, Json, Request

DATASET_FIELDS = ("description", "friendlyName", "labels", "access", "defaultTableExpirationMs", "location",
                  "defaultPartitionExpirationMs", "resourceTags", "maxTimeTravelHours",
                  "storageBillingModel")  # fmt: skip
TABLE_FIELDS = ("description", "friendlyName", "labels", "expirationTime", "timePartitioning", "rangePartitioning",
                "clustering", "requirePartitionFilter", "resourceTags", "view", "tableConstraints")  # fmt: skip


def dataset_resource(document: Json, base: str) -> Json:
    """Give a dataset as the API shows it."""
    name = DatasetName.of(document["datasetReference"])
    link = f"{base}/bigquery/v2/projects/{name.project}/datasets/{name.dataset}"
    return {"kind": "bigquery#dataset", "id": str(name), "selfLink": link, "etag": etag(document), **document}


def table_resource(document: Json, base: str, location: str) -> Json:
    """Give a table as the API shows it."""
    name = TableName.of(document["tableReference"])
    project, dataset = name.dataset.project, name.dataset.dataset
    link = f"{base}/bigquery/v2/projects/{project}/datasets/{dataset}/tables/{name.table}"
    return {"kind": "bigquery#table", "id": str(name), "selfLink": link, "etag": etag(document), "location": location,
            **document}  # fmt: skip


def chosen(given: Json, names: tuple[str, ...]) -> Json:
    """Give what a client may set of a resource."""
    return {key: value for key, value in given.items() if key in names and value is not None}


def changed(document: Json, given: Json, names: tuple[str, ...], *, whole: bool) -> Json:
    """Apply a PATCH (null removes, labels are merged), or a PUT, which sets all that a client may set.

    >>> changed({"labels": {"a": "1"}, "id": 3}, {"labels": {"a": None, "b": "2"}}, ("labels",), whole=False)
    {'labels': {'b': '2'}, 'id': 3}
    """
    result = {key: value for key, value in document.items() if not (whole and key in names)}
    for key, value in given.items():
        if key not in names:
            continue
        if key == "labels" and value is not None:
            merged = {**({} if whole else result.get("labels") or {}), **value}
            value = {name: text for name, text in merged.items() if text is not None}
        if value is None:
            result.pop(key, None)
        else:
            result[key] = value
    return result


def etag(document: Json) -> str:
    """Give a tag that changes when the document does."""
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:22]


def require_etag(request: Request, document: Json) -> None:
    """Raise 412 where a client changes what it has not seen."""
    given = request.headers.get("If-Match")
    if given and given != etag(document):
        raise ApiError(412, "Precondition check failed.", reason="conditionNotMet")


def listed(kind: str, key: str, found: list[Any], request: Request) -> Json:
    """Give a page of a list."""
    token, size = request.first("pageToken"), request.number("maxResults", 1000)
    start = int(token) if token.isdecimal() else 0
    answer: Json = {"kind": kind, key: found[start : start + size], "totalItems": len(found)}
    return answer | ({"nextPageToken": str(start + size)} if start + size < len(found) else {})
