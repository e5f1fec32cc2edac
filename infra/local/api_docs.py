"""An OpenAPI document as the console's page shows it: operations by tag, and the models that they name."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

METHODS = ("get", "put", "post", "patch", "delete")
REFERENCE = "#/components/schemas/"
SHARED = "#/components/responses/"


@dataclass(frozen=True)
class Field:
    """A parameter, or a property of a model."""

    name: str
    type: str
    model: str
    required: bool
    description: str


@dataclass(frozen=True)
class Operation:
    """One endpoint."""

    id: str
    method: str
    path: str
    summary: str
    description: str
    parameters: list[Field]
    body: Field | None
    answers: list[Field]


@dataclass(frozen=True)
class Docs:
    """All of the page."""

    title: str
    version: str
    description: str
    groups: dict[str, list[Operation]]
    models: dict[str, list[Field]]


def view(document: dict[str, Any]) -> Docs:
    """The page's content. What the document lacks stays empty."""
    groups: dict[str, list[Operation]] = {}
    shared = document.get("components", {}).get("responses", {})
    for path, item in document.get("paths", {}).items():
        for method in METHODS:
            if method in item:
                tags = item[method].get("tags") or ["endpoints"]
                groups.setdefault(tags[0], []).append(_operation(method, path, item[method], shared))
    schemas = document.get("components", {}).get("schemas", {})
    info = document.get("info", {})
    return Docs(
        title=info.get("title", ""),
        version=info.get("version", ""),
        description=info.get("description", ""),
        groups=groups,
        models={name: list(properties_of(schema)) for name, schema in sorted(schemas.items())},
    )


def _operation(method: str, path: str, operation: dict[str, Any], shared: dict[str, Any]) -> Operation:
    answers = {
        status: shared.get(answer["$ref"].removeprefix(SHARED), {}) if "$ref" in answer else answer
        for status, answer in operation.get("responses", {}).items()
    }
    summary, description = operation.get("summary", ""), operation.get("description", "")
    return Operation(
        id=operation.get("operationId", ""),
        method=method.upper(),
        path=path,
        summary=summary,
        description=description.removeprefix(summary).strip(),
        parameters=[
            field_of(p.get("name", ""), p.get("schema", {}), p.get("required", False), p.get("description", ""))
            for p in operation.get("parameters", [])
        ],
        body=_content("body", operation.get("requestBody", {})),
        answers=[
            _content(status, answer) or Field(status, "", "", False, answer.get("description", ""))
            for status, answer in answers.items()
        ],
    )


def _content(name: str, holder: dict[str, Any]) -> Field | None:
    for media in holder.get("content", {}).values():
        return field_of(name, media.get("schema", {}), holder.get("required", False), holder.get("description", ""))
    return None


def properties_of(schema: dict[str, Any]) -> Iterator[Field]:
    """The fields of a map."""
    required = schema.get("required", [])
    for name, of in schema.get("properties", {}).items():
        yield field_of(name, of, name in required, of.get("description", ""))


def field_of(name: str, schema: dict[str, Any], required: bool = False, description: str = "") -> Field:
    """A field of this schema."""
    kind, model = _type(schema)
    return Field(name, kind, model, required, description or schema.get("description", ""))


def _type(schema: dict[str, Any]) -> tuple[str, str]:
    """A schema in words, and the model that it names, if it names one."""
    if "$ref" in schema:
        name = schema["$ref"].removeprefix(REFERENCE)
        return name, name
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            parts = [_type(part) for part in schema[key]]
            return " | ".join(kind for kind, _ in parts), next((model for _, model in parts if model), "")
    if "enum" in schema or "const" in schema:
        return " | ".join(repr(value) for value in schema.get("enum", [schema.get("const")])), ""
    kind = schema.get("type", "any")
    if kind == "array":
        inner, model = _type(schema.get("items", {}))
        return f"[{inner}]", model
    kind = " | ".join(kind) if isinstance(kind, list) else kind
    limits = [f"{word} {schema[key]}" for key, word in _LIMITS.items() if key in schema]
    return f"{kind} ({', '.join(limits)})" if limits else kind, ""


_LIMITS = {
    "minLength": "at least",
    "maxLength": "at most",
    "minimum": "from",
    "maximum": "to",
    "pattern": "like",
    "format": "as",
}
