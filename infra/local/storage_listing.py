"""A page of a bucket's objects: prefix, delimiter and bounds, as `objects.list` of the JSON API has them."""

import base64
from collections.abc import Mapping
from typing import Any

from infra.local.storage_errors import StorageError, invalid
from infra.local.storage_index import Index, Resource

_MOST = 1000


def list_objects(index: Index, bucket: str, query: Mapping[str, str]) -> dict[str, Any]:
    """Items and common prefixes in the order of names, and the token of the next page. Raises StorageError.

    Runs in the index's thread. An object has but its one version, so `versions` changes nothing. A token
    is where the next page starts, so it stays true under inserts and deletes.
    """
    for name in ("matchGlob", "softDeleted"):
        if query.get(name, "false") != "false":
            raise StorageError(501, "NotImplemented", f"{name} is not supported here.")
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    start = max(prefix, query.get("startOffset", ""), _from_token(query.get("pageToken", "")))
    limit = _limit(query.get("maxResults", ""))
    items: list[Resource] = []
    prefixes: list[str] = []
    while len(items) + len(prefixes) <= limit:
        common = None
        for name, resource in index.objects_from(bucket, start, query.get("endOffset", "")):
            if not name.startswith(prefix):
                break
            if len(items) + len(prefixes) == limit:
                return _page(items, prefixes, name)
            common = _common_prefix(name, prefix, delimiter)
            if common:
                prefixes.append(common)
                break
            items.append(resource)
        if not common:
            break
        start = common[:-1] + chr(ord(common[-1]) + 1)  # the first name that can't begin with it
    return _page(items, prefixes, None)


def _page(items: list[Resource], prefixes: list[str], following: str | None) -> dict[str, Any]:
    page: dict[str, Any] = {"kind": "storage#objects", "items": items, "prefixes": prefixes}
    if following is not None:
        page["nextPageToken"] = base64.urlsafe_b64encode(following.encode()).decode()
    return page


def _common_prefix(name: str, prefix: str, delimiter: str) -> str | None:
    at = name.find(delimiter, len(prefix)) if delimiter else -1
    return name[: at + len(delimiter)] if at >= 0 else None


def _from_token(token: str) -> str:
    try:
        return base64.b64decode(token, altchars=b"-_", validate=True).decode()
    except ValueError:
        raise invalid("pageToken can't be read.") from None


def _limit(text: str) -> int:
    if not text:
        return _MOST
    if not (text.isascii() and text.isdigit() and 0 < len(text) < 10 and int(text) > 0):
        raise invalid("maxResults must be a positive number.")
    return min(int(text), _MOST)
