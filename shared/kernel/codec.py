"""Bodies in JSON and MessagePack: decoded into one typed model, with every fault of a bad one named.

Depth is checked on the bytes before JSON is parsed (deep input can crash CPython before 3.14, and msgspec has no
limit); MessagePack goes through `msgpack`, whose unpacker doesn't recurse, then through msgspec's conversion.
"""

import re
import types
import typing
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any, Final, Literal

import msgpack  # pyright: ignore[reportMissingTypeStubs]
import msgspec

from shared.kernel.problems import FieldError, Invalid, NotAcceptable, Unreadable, UnsupportedMediaType

MAX_DEPTH: Final = 32
# More faults than anybody mends at once; and what finding them may cost, since who sends them may do so on purpose.
MAX_FAULTS: Final = 100
MAX_LOOKED_AT: Final = 10_000
Format = Literal["json", "msgpack"]
Rules = Mapping[str | tuple[str, ...], Callable[..., list[FieldError]]]
JSON_TYPE: Final = "application/json"
MSGPACK_TYPE: Final = "application/vnd.msgpack"
FORMATS: Final[dict[str, Format]] = {
    "application/json": "json",
    "application/vnd.msgpack": "msgpack",
    "application/msgpack": "msgpack",
}
_NO_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))
_STRINGS: Final = re.compile(rb'"(?:[^"\\]|\\.)*"?', re.DOTALL)
_unpack_msgpack: Callable[..., Any] = typing.cast("Any", msgpack).unpackb
_encode_json = msgspec.json.Encoder().encode
_encode_msgpack = msgspec.msgpack.Encoder().encode


def format_of_body(content_type: str | None) -> Format:
    """The format of a body. Raises UnsupportedMediaType."""
    if content_type is None:
        return "json"
    media, _, parameters = content_type.partition(";")
    found = FORMATS.get(media.strip().lower())
    charset = parameters.partition("charset=")[2].strip(' "').lower()
    if found is None or charset not in ("", "utf-8", "utf8"):
        raise UnsupportedMediaType("unsupported_media_type", f"Send {JSON_TYPE} or {MSGPACK_TYPE}.")
    return found


def type_of_answer(accept: str | None) -> str:
    """The media type the client likes best, one of those with a format. Raises NotAcceptable when it takes none."""
    if accept is None or accept == "*/*" or accept == JSON_TYPE:
        return JSON_TYPE
    best = ""
    best_quality = 0.0
    for part in accept.split(","):
        media, *parameters = (piece.strip().lower() for piece in part.split(";"))
        quality = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    quality = float(parameter[2:])
                except ValueError:
                    quality = 0.0
        found = JSON_TYPE if media in ("*/*", "application/*", "") else media
        if found in FORMATS and quality > best_quality:
            best, best_quality = found, quality
    if not best:
        raise NotAcceptable("not_acceptable", f"Answers come as {JSON_TYPE} or {MSGPACK_TYPE}.")
    return best


def encode(value: Any, format: Format) -> bytes:
    """The bytes of a typed answer."""
    return _encode_json(value) if format == "json" else _encode_msgpack(value)


def transcode(encoded_json: bytes, format: Format) -> bytes:
    """JSON bytes in the format asked for."""
    return encoded_json if format == "json" else _encode_msgpack(msgspec.json.decode(encoded_json))


def decode(body: bytes, format: Format, decoder: Any) -> Any:
    """The body as `decoder.type`. Raises Unreadable, or Invalid with a fault for every bad field."""
    if format == "json":
        _check_json_depth(body)
        # A NUL can't be stored in Postgres; it can only come in as an escape.
        if b"\\u0000" not in body:
            try:
                value = decoder.decode(body)
                if not any(_broken_rules(value)):
                    return value
            except msgspec.ValidationError:
                pass
            except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
                raise Unreadable("unreadable_body", "The body is not JSON in UTF-8.") from None
    return convert(unpack(body, format), decoder.type)


def unpack(body: bytes, format: Format) -> Any:
    """The body as plain maps, lists and scalars. Raises Unreadable."""
    try:
        if format == "json":
            _check_json_depth(body)
            return msgspec.json.decode(body)
        raw = _unpack_msgpack(body, strict_map_key=True, max_ext_len=0)
    except msgspec.DecodeError:
        raise Unreadable("unreadable_body", "The body is not JSON in UTF-8.") from None
    except (RecursionError, ValueError, TypeError, msgpack.UnpackException, OverflowError):
        raise Unreadable("unreadable_body", "The body is not one MessagePack value.") from None
    _check_depth(raw)
    return raw


def canonical(body: bytes, format: Format) -> bytes:
    """The one form of all bodies that say the same, in either format and any order. Raises Unreadable."""
    try:
        return msgspec.json.encode(unpack(body, format), order="sorted")
    except TypeError:
        return body  # a map whose keys are no strings, which fits no type


def convert(raw: Any, kind: Any, *, path: str = "") -> Any:
    """Plain values as `kind`. Raises Invalid with a fault for every bad field."""
    found: list[FieldError] = []
    try:
        value = msgspec.convert(raw, kind)
    except (msgspec.ValidationError, RecursionError):
        value = _salvaged(raw, kind, path, found)
        found = found or [FieldError(path or "body", "invalid", "This is not valid.")]
    found = [*found, *_broken_rules(value)][:MAX_FAULTS]
    # A value that fits its type is small; of another, whatever its size, no more is looked at than faults are worth.
    strings = islice(_strings(raw, path), MAX_LOOKED_AT)
    found += [
        FieldError(place or "body", "nul_character", "A string can't hold U+0000.")
        for place, string in strings
        if string is not None and "\x00" in string
    ][:MAX_FAULTS]
    if found:
        raise Invalid(found)
    return value


def _check_json_depth(body: bytes) -> None:
    if body.count(b"[") + body.count(b"{") <= MAX_DEPTH:
        return
    depth = 0
    for byte in _STRINGS.sub(b"", body).translate(None, _NO_BRACKETS):
        if byte in b"[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise _too_deep()
        else:
            depth -= 1


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [
            child
            for parent in level
            if isinstance(parent, (dict, list))
            for child in (typing.cast("Any", parent.values() if isinstance(parent, dict) else parent))
        ]
        if not level:
            return
    raise _too_deep()


def _too_deep() -> Unreadable:
    return Unreadable("too_deep", f"The body nests deeper than {MAX_DEPTH} levels.")


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _strings(value: Any, path: str) -> typing.Iterator[tuple[str, str | None]]:
    """Every leaf and where it is; None for one that is no string."""
    if isinstance(value, dict):
        for name, child in typing.cast("dict[str, Any]", value).items():
            yield from _strings(child, _join(path, str(name)))
    elif isinstance(value, list):
        for index, child in enumerate(typing.cast("list[Any]", value)):
            yield from _strings(child, f"{path}[{index}]")
    else:
        yield path, value if isinstance(value, str) else None


def _broken_rules(value: Any) -> typing.Iterator[FieldError]:
    """Rules beyond types: a struct may have `RULES`, from the name of a field, or of several, to a function of them.

    They are apart from the actions so that their faults are named beside those of types, all at once. What was left
    out of a change has none, nor has what is wrong already: that is UNSET here, in lists and structs within too.
    """
    rules: Rules = getattr(value, "RULES", {})
    for names, rule in rules.items():
        given = [getattr(value, name) for name in ((names,) if isinstance(names, str) else names)]
        if not any(one is msgspec.UNSET for one in given):
            yield from rule(*given)


def _salvaged(value: Any, kind: Any, path: str, found: list[FieldError]) -> Any:
    """What of `value` can be read as a `kind`, with UNSET in place of what can't, whose faults are put in `found`.

    msgspec stops at the first fault, so this goes field by field.
    """
    if len(found) >= MAX_FAULTS:
        return msgspec.UNSET
    origin = typing.get_origin(kind)
    if origin is typing.Annotated:
        inner = typing.get_args(kind)[0]
        if isinstance(value, list) and typing.get_origin(inner) is list:
            whole = _as_one(value, kind, path, found, shallow=True)
            items = _salvaged(value, inner, path, found)
            return items if whole is not msgspec.UNSET else whole
    if origin in (typing.Union, types.UnionType):
        options = [option for option in typing.get_args(kind) if option not in (type(None), msgspec.UnsetType)]
        if len(options) == 1 and value is not None:
            return _salvaged(value, options[0], path, found)
        if isinstance(value, dict):
            told = typing.cast("dict[str, Any]", value)
            chosen = _chosen_by_tag(told, options)
            if chosen is not None:
                rest = {name: child for name, child in told.items() if name != chosen.__struct_config__.tag_field}
                return _salvaged_struct(rest, chosen, path, found)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        if not isinstance(value, dict):
            found.append(FieldError(path or "body", "wrong_type", "Expected a map."))
            return msgspec.UNSET
        return _salvaged_struct(typing.cast("dict[str, Any]", value), kind, path, found)
    if origin is list and isinstance(value, list):
        item = typing.get_args(kind)[0]
        looked_at = typing.cast("list[Any]", value)[:MAX_LOOKED_AT]
        return [_salvaged(child, item, f"{path}[{index}]", found) for index, child in enumerate(looked_at)]
    return _as_one(value, kind, path, found)


def _chosen_by_tag(value: dict[str, Any], options: list[Any]) -> type[msgspec.Struct] | None:
    """Which of several tagged structs a map says that it is."""
    for option in options:
        config = getattr(option, "__struct_config__", None)
        if config is not None and config.tag_field is not None and value.get(config.tag_field) == config.tag:
            return option
    return None


def _salvaged_struct(
    value: dict[str, Any], kind: type[msgspec.Struct], path: str, found: list[FieldError]
) -> msgspec.Struct:
    known = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    values: dict[str, Any] = {}
    for name, field in known.items():
        if name in value:
            values[field.name] = _salvaged(value[name], field.type, _join(path, name), found)
        elif field.required:
            values[field.name] = msgspec.UNSET
            found.append(FieldError(_join(path, name), "missing", "This field is required."))
    unknown = (name for name in value if name not in known)
    found += [
        FieldError(_join(path, str(name)[:100]), "unknown_field", "There is no such field.")
        for name in islice(unknown, max(0, MAX_FAULTS - len(found)))
    ]
    return kind(**values)


def _as_one(value: Any, kind: Any, path: str, found: list[FieldError], *, shallow: bool = False) -> Any:
    """As `_salvaged`, of what is whole or not at all; `shallow` leaves the faults within it to others."""
    try:
        return msgspec.convert(value, kind)
    except (msgspec.ValidationError, RecursionError) as fault:
        detail, _, place = str(fault).partition(" - at `$")
        if shallow and place:
            return None
        code = "wrong_type" if detail.startswith("Expected") and ", got" in detail else "invalid"
        found.append(FieldError(path or "body", code, detail.rstrip(".") + "."))
        return msgspec.UNSET
