"""What is one emoji: the families of sequences that UTS #51 names, made up of their parts."""

import itertools
import unicodedata

import pytest

from shared.engagement.model import emoji_of

STYLE, TEXT, JOINER, KEYCAP, END = "\ufe0f", "\ufe0e", "\u200d", "\u20e3", "\U000e007f"
TONES = [chr(code) for code in range(0x1F3FB, 0x1F400)]
REGIONS = {letter: chr(0x1F1E6 + index) for index, letter in enumerate("ABCDEFGHIJKLMNOPQRSTUVWXYZ")}
FLAGS = [REGIONS[a] + REGIONS[b] for a, b in ("DE", "JP", "BR", "ZA", "UN", "EU", "AQ")]
TAGGED = ["\U0001f3f4" + "".join(chr(0xE0000 + ord(c)) for c in region) + END for region in ("gbeng", "gbsct", "gbwls")]
FAMILIES = [JOINER.join(parts) for parts in itertools.product("👨👩", "👨👩", "👦👧") if parts[:2] != ("👩", "👨")]
PAIRS = itertools.product(("👩👩", "👨👨", "👩👨"), TONES, TONES)
COUPLES = [JOINER.join((pair[0] + one, "❤" + STYLE, pair[1] + other)) for pair, one, other in PAIRS]
WORKERS = [JOINER.join((who + tone, what)) for who in "👩👨🧑" for tone in ("", *TONES) for what in "🚀🎨🔬🎤🌾"]
TONED = [base + tone for base in "👍👋🤝🙏🧑👶" for tone in TONES]
STYLED = [base + STYLE for base in "❤☀☎✈☺✂©®™"]
KEYCAPS = [key + STYLE + KEYCAP for key in "0123456789#*"]
OTHERS = ["😀", "🫠", "🏳️‍🌈", "🏳️‍⚧️", "🏴‍☠️", "👁️‍🗨️", "❤️‍🔥", "🧑‍🦰", "🐻‍❄️", "🏃🏽‍♀️‍➡️"]


@pytest.mark.parametrize(
    "whole", [FLAGS, TAGGED, FAMILIES, COUPLES, WORKERS, TONED, STYLED, KEYCAPS, OTHERS], ids=lambda some: str(some[0])
)
def test_a_fully_qualified_emoji_is_itself(whole: list[str]) -> None:
    assert [emoji_of(one) for one in whole] == whole


@pytest.mark.parametrize("whole", [COUPLES, STYLED, KEYCAPS, OTHERS], ids=lambda some: str(some[0]))
def test_without_its_variation_selectors_it_is_the_same(whole: list[str]) -> None:
    assert [emoji_of(one.replace(STYLE, "")) for one in whole] == whole
    assert [emoji_of(one.replace(STYLE, "", 1)) for one in whole] == whole


def test_every_emoji_that_python_names_as_a_face_is_one() -> None:
    faces = [chr(code) for code in range(0x1F600, 0x1F650) if "FACE" in unicodedata.name(chr(code))]
    assert len(faces) > 50
    assert [emoji_of(face) for face in faces] == faces


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "a", "ok", "ß", "あ", "1", "#", "*", "12", ":)", ":heart:", "&#x2764;", "\u00a0"),
        *(STYLE, TEXT, JOINER, KEYCAP, END, STYLE + JOINER, TONES[0], "".join(TONES), "🦰"),
        *(REGIONS["D"], REGIONS["X"] + REGIONS["X"], FLAGS[0] + REGIONS["D"], "".join(FLAGS[:2])),
        *("👍👍", "❤️❤️", "👍 ", " 👍", "👍a", "1️⃣2️⃣", "👍🏽🏽", "👩‍", "‍👩", "👩‍👩‍👩‍👩‍👩", "👍‍👍", "❤" + TEXT),
        *("1" + KEYCAP + "1", "a" + STYLE + KEYCAP, "\U0001f3f4" + "\U000e0067" + END, "←", "✓", "★", "…", "½"),
    ],
)
def test_anything_else_is_none(text: str) -> None:
    assert emoji_of(text) is None
