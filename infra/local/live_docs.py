"""An AsyncAPI document as the console's page shows it: actions with their replies, events, and the models they name."""

from typing import Any

from infra.local.api_docs import Docs, Field, Operation, field_of, properties_of


def view(document: dict[str, Any]) -> Docs:
    """The page's content: what is asked, and what comes unasked."""
    channel = document["channels"]["live"]
    messages = channel["messages"]
    asked = [name for name, one in document["operations"].items() if one["action"] == "receive"]
    told = [message["$ref"].rpartition("/")[2] for message in document["operations"]["events"]["messages"]]
    return Docs(
        title=document["info"]["title"],
        version=document["info"]["version"],
        description=document["info"]["description"],
        groups={
            "actions": [_action(name, messages) for name in asked],
            "events": [_event(name, messages[name]) for name in told],
        },
        models={
            name: list(properties_of(schema)) for name, schema in sorted(document["components"]["schemas"].items())
        },
    )


def _action(name: str, messages: dict[str, Any]) -> Operation:
    request, reply = messages[f"{name}.request"], messages[f"{name}.reply"]
    data = request["payload"]["properties"]["data"]
    done, refused = reply["payload"]["oneOf"]
    named = "$ref" in data
    return _operation(
        "action",
        name,
        request,
        parameters=[] if named else list(properties_of(data)),
        body=field_of("data", data) if named else None,
        answers=[
            field_of("ok", done["properties"]["data"]),
            field_of("not ok", refused["properties"]["error"]),
        ],
    )


def _event(name: str, message: dict[str, Any]) -> Operation:
    properties = message["payload"]["properties"]
    kept = [field_of("seq", properties["seq"])] if "seq" in properties else []
    return _operation("event", name, message, parameters=kept, body=field_of("data", properties["data"]), answers=[])


def _operation(
    method: str,
    name: str,
    message: dict[str, Any],
    *,
    parameters: list[Field],
    body: Field | None,
    answers: list[Field],
) -> Operation:
    summary = message.get("summary", "")
    return Operation(
        id=f"{method}-{name}",
        method=method,
        path=name,
        summary=summary,
        description=message.get("description", "").removeprefix(summary).strip(),
        parameters=parameters,
        body=body,
        answers=answers,
    )
