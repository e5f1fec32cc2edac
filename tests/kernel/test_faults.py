"""Every body and query that there is, filled with what may be right or wrong in any mixture: faults, never a crash."""

import types
import typing
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra import targets
from shared.kernel import codec
from shared.kernel.endpoint import ENDPOINTS
from shared.kernel.problems import FieldError, Invalid

targets.load()

KINDS = {one.name: kind for one in ENDPOINTS.values() for kind in (one.body, one.query) if kind is not None}
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-1, 5000),
    st.sampled_from(["", " ", "x", "\x00", "post", "actual", "image/png", "video/mp4", "reel", "👍", "2001-02-03"]),
)


def values(kind: Any) -> st.SearchStrategy[Any]:
    """What may be given for a field of this kind: mostly of its shape."""
    origin, options = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return values(options[0])
    if origin in (typing.Union, types.UnionType):
        return st.one_of(*[values(option) for option in options])
    if origin is typing.Literal:
        return st.sampled_from(options) | SCALARS
    if origin is list:
        return st.lists(values(options[0]), max_size=3) | SCALARS
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        fields = {field.encode_name: values(field.type) for field in msgspec.structs.fields(kind)}
        return st.fixed_dictionaries({}, optional=fields | {"colour": SCALARS}) | SCALARS
    return SCALARS


@pytest.mark.parametrize("name", sorted(KINDS))
def test_no_mixture_of_faults_is_a_crash(name: str) -> None:
    kind = KINDS[name]

    @settings(max_examples=60, deadline=None, database=None, derandomize=True)
    @given(values(kind))
    def check(raw: Any) -> None:
        value, told = read(raw, kind)
        if told:
            assert all(one.field and one.code and one.detail for one in told)
            with pytest.raises((msgspec.ValidationError, AssertionError)):
                whole(raw, kind)
        else:
            assert whole(raw, kind) == value

    check()


def read(raw: Any, kind: Any) -> tuple[Any, list[FieldError]]:
    try:
        return codec.convert(raw, kind), []
    except Invalid as invalid:
        return None, invalid.errors or []


def whole(raw: Any, kind: Any) -> Any:
    """As msgspec reads it, at once; it must keep the rules too."""
    value = msgspec.convert(raw, kind)
    for names, rule in getattr(kind, "RULES", {}).items():
        given = [getattr(value, name) for name in ((names,) if isinstance(names, str) else names)]
        assert msgspec.UNSET in given or rule(*given) == []
    assert b"\\u0000" not in msgspec.json.encode(raw)
    return value
