"""From a method and a path to an endpoint: a tree of path segments, built once."""

from collections.abc import Iterable
from typing import Any

from shared.kernel.endpoint import Endpoint
from shared.kernel.problems import MethodNotAllowed, NotFound


class _Node:
    __slots__ = ("children", "endpoints", "parameter")

    def __init__(self) -> None:
        self.children: dict[str, _Node] = {}
        self.parameter: _Node | None = None
        self.endpoints: dict[str, Endpoint] = {}


class Router:
    """The routes of one target: all of them for `api`, one for an endpoint of its own."""

    def __init__(self, endpoints: Iterable[Endpoint]):
        self._root = _Node()
        for endpoint in endpoints:
            node = self._root
            for segment in endpoint.path.split("/")[1:]:
                if segment.startswith("{"):
                    node.parameter = node.parameter or _Node()
                    node = node.parameter
                else:
                    node = node.children.setdefault(segment, _Node())
            if endpoint.method in node.endpoints:
                raise ValueError(f"{endpoint.name} and {node.endpoints[endpoint.method].name} share a route")
            node.endpoints[endpoint.method] = endpoint

    def _find(self, path: str) -> tuple[_Node, list[str]]:
        node = self._root
        values: list[str] = []
        for segment in path.split("/")[1:]:
            child = node.children.get(segment)
            if child is None:
                # A parameter's value is never empty: `/v1/users/` is no profile.
                if node.parameter is None or not segment:
                    raise NotFound("no_such_path", "No endpoint has this path.")
                values.append(segment)
                child = node.parameter
            node = child
        if not node.endpoints:
            raise NotFound("no_such_path", "No endpoint has this path.")
        return node, values

    def methods(self, path: str) -> list[str]:
        """The methods of a path. Raises NotFound."""
        node, _ = self._find(path)
        return sorted({*node.endpoints, *(["HEAD"] if "GET" in node.endpoints else []), "OPTIONS"})

    def match(self, method: str, path: str) -> tuple[Endpoint, dict[str, Any]]:
        """The endpoint and its path parameters as text. Raises NotFound, MethodNotAllowed."""
        node, values = self._find(path)
        endpoint = node.endpoints.get("GET" if method == "HEAD" else method)
        if endpoint is None:
            raise MethodNotAllowed(self.methods(path))
        return endpoint, dict(zip(endpoint.path_parameters, values, strict=True))
