"""What is a mention and what a hashtag in a text."""

import pytest

from shared.posts.model import hashtags_in, mentions_in


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        ("#Sunset, #sunset #夕焼け #غروب #закат", ["sunset", "夕焼け", "غروب", "закат"]),
        ("https://example.com/#frag a#b &#39; ##x", []),
        ("#2026 #2026goals", ["2026goals"]),
        ("#" + "a" * 101, []),
        ("#" + "a" * 100, ["a" * 100]),
        ("#ＡＢＣ #abc", ["abc"]),
        ("#क्षत्रिय #می‌خواهم", ["क्षत्रिय", "می‌خواهم"]),
    ],
)
def test_hashtags(text: str, tags: list[str]) -> None:
    assert hashtags_in(text) == tags


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("@bob and @Ada.", ["bob", "ada"]),
        ("mail@example.com @@x @a_b.c!", ["a_b.c"]),
        ("@bob@example.social", []),
        ("@zoe @ann @zoe", ["zoe", "ann"]),
        ("https://example.com/@bob w/@ann", ["ann"]),
    ],
)
def test_mentions_in_order(text: str, names: list[str]) -> None:
    assert mentions_in(text) == names
