"""A planned chat on its way into a stack. Messages have names of their own: one that was sent before is the same."""

from typing import Any

from infra.client import Client, Refused
from infra.photos import Photo, make_photo
from infra.seed.chats import PlannedChat, PlannedMessage
from infra.seed.films import Film, make_film
from infra.seed.sounds import make_sound
from shared.chat.model import Message, TextContent
from shared.media.model import Purpose

# Names no object: what is asked for by it has been sent before, or is refused.
NOTHING = "nothing"


def hold(chat: PlannedChat, people: dict[str, Client], returned: set[str]) -> None:
    """Have it all written, and then what becomes of it."""
    paths = {chat.one: f"/v1/chats/{chat.other}", chat.other: f"/v1/chats/{chat.one}"}
    sent: list[Message] = []
    for place, planned in enumerate(chat.messages):
        body = {"client_id": f"seed {place}"}
        if planned.reply_to is not None:
            body["reply_to"] = sent[planned.reply_to].id
        path = f"{paths[planned.sender]}/messages"
        sent.append(_send(people[planned.sender], path, body, planned, was_there=planned.sender in returned))
    for planned, message in zip(chat.messages, sent, strict=True):
        _befall(planned, message, people)
    if chat.fate in ("accept", "decline"):
        people[chat.other].put(f"{paths[chat.other]}/{chat.fate}")
    for name, (delivered, read) in chat.marks.items():
        marks = {"delivered_up_to": sent[delivered].id, "read_up_to": sent[read].id}
        people[name].put(f"{paths[name]}/ack", marks)


def upload(owner: Client, made: Photo | Film, purpose: Purpose) -> dict[str, Any]:
    """A photo or film, uploaded, and its placeholder: their objects' names."""
    kind = "image/jpeg" if isinstance(made, Photo) else "video/webm"
    actual, placeholder = owner.upload(
        [("actual", kind, made.actual), ("placeholder", "image/jpeg", made.placeholder)], purpose
    )
    return {"actual": actual, "placeholder": placeholder}


def _send(sender: Client, path: str, body: dict[str, Any], planned: PlannedMessage, *, was_there: bool) -> Message:
    if planned.sort == "text":
        return sender.post(path, body | {"content": {"type": "text", "text": planned.text}}, into=Message)
    if was_there:
        try:
            content = {"type": "audio", "object": NOTHING}
            return sender.post(path, body | {"content": content}, into=Message)
        except Refused as refused:
            if refused.status != 422:
                raise
    return sender.post(path, body | {"content": _uploaded(sender, planned)}, into=Message)


def _uploaded(sender: Client, planned: PlannedMessage) -> dict[str, Any]:
    """What a message has attached, as its content."""
    match planned.sort:
        case "photo" | "video":
            made = make_photo(planned.seed) if planned.sort == "photo" else make_film(planned.seed, "video:square")
            return {"type": planned.sort, "caption": planned.text} | upload(sender, made, "message")
        case "voice" | "audio":
            sound = make_sound(planned.seed)
            (name,) = sender.upload([("actual", "audio/wav", sound.actual)], "message")
            more = {"duration_ms": sound.duration_ms} if planned.sort == "voice" else {"title": planned.text}
            return {"type": planned.sort, "object": name} | more
        case _:
            (name,) = sender.upload([("actual", "text/plain", planned.text.encode())], "message")
            return {"type": "file", "object": name, "name": f"{planned.seed}.txt"}


def _befall(planned: PlannedMessage, message: Message, people: dict[str, Client]) -> None:
    path = f"/v1/messages/{message.id}"
    for name, emoji in planned.reactions:
        people[name].put(f"{path}/reaction", {"emoji": emoji})
    if planned.edited is not None and message.content != TextContent(planned.edited):
        people[planned.sender].patch(path, {"content": {"type": "text", "text": planned.edited}})
    if planned.deleted and message.deleted_at is None:
        people[planned.sender].delete(f"{path}?for=everyone")
