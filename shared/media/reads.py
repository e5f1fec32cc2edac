"""Media as answers show them."""

from typing import Any

from shared.kernel import storage
from shared.media.model import Media, kind_of


def shown(medium: dict[str, Any]) -> Media:
    """A photo or video as it was attached: its two objects, content type, size and text."""
    return Media(
        type="video" if kind_of(medium["content_type"]) == "video" else "photo",
        content_type=medium["content_type"],
        url=storage.public_url(medium["actual"]),
        placeholder_url=storage.public_url(medium["placeholder"]),
        width=medium["width"],
        height=medium["height"],
        alt_text=medium["alt_text"],
    )
