"""Uploads: what may be uploaded for what, and what media look like in answers."""

from collections.abc import Iterator
from typing import Annotated, ClassVar, Final, Literal

import msgspec

from shared.kernel.codec import Rules
from shared.kernel.events import Event
from shared.kernel.problems import FieldError

Purpose = Literal["post", "comment", "message", "profile_picture"]
Variant = Literal["placeholder", "actual", "small", "medium", "large"]
Kind = Literal["photo", "video", "audio", "file"]

KIB: Final = 1 << 10
MIB: Final = 1 << 20
PHOTO_TYPES: Final = {"image/jpeg": "jpg", "image/png": "png", "image/webp": "webp", "image/avif": "avif"}
VIDEO_TYPES: Final = {"video/mp4": "mp4", "video/webm": "webm"}
AUDIO_TYPES: Final = {
    "audio/mpeg": "mp3",
    "audio/mp4": "m4a",
    "audio/aac": "aac",
    "audio/ogg": "ogg",
    "audio/webm": "weba",
    "audio/wav": "wav",
    "audio/flac": "flac",
}
SIZES: Final[dict[Kind, tuple[int, int]]] = {
    "photo": (KIB, 10 * MIB),
    "video": (KIB, 100 * MIB),
    "audio": (1, 20 * MIB),
    "file": (1, 50 * MIB),
}
PLACEHOLDER_SIZE: Final = (KIB, 300 * KIB)
KINDS: Final[dict[Purpose, tuple[Kind, ...]]] = {
    "post": ("photo", "video"),
    "comment": ("photo", "video", "audio"),
    "message": ("photo", "video", "audio", "file"),
    "profile_picture": ("photo",),
}
ORPHAN_MS: Final = 24 * 3600 * 1000


class UploadFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file to be uploaded: `content_type` without parameters, `size` in bytes, exact."""

    variant: Variant
    content_type: Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9]+/[a-z0-9.+-]+$", max_length=100)]
    size: Annotated[int, msgspec.Meta(ge=1, le=100 * MIB)]


def _purpose_faults(purpose: Purpose, files: list[UploadFile | msgspec.UnsetType]) -> list[FieldError]:
    """Which files are not for this purpose."""
    found: list[FieldError] = []
    variants = ("small", "medium", "large") if purpose == "profile_picture" else ("placeholder", "actual")
    for path, file in _those_read(files):
        if file.variant not in (*variants, msgspec.UNSET):
            found.append(FieldError(f"{path}.variant", "wrong_variant", f"For {purpose}: {', '.join(variants)}."))
        if file.content_type is not msgspec.UNSET and kind_of(file.content_type) not in KINDS[purpose]:
            found.append(FieldError(f"{path}.content_type", "wrong_content_type", f"Not allowed for {purpose} here."))
    return found


def _file_faults(files: list[UploadFile | msgspec.UnsetType]) -> list[FieldError]:
    """Which files are of a wrong size, or no placeholder, whatever they are for."""
    found: list[FieldError] = []
    for path, file in _those_read(files):
        if msgspec.UNSET in (file.variant, file.content_type):
            continue
        kind = kind_of(file.content_type)
        least, most = PLACEHOLDER_SIZE if file.variant == "placeholder" else SIZES[kind]
        if file.variant == "placeholder" and kind != "photo":
            found.append(FieldError(f"{path}.content_type", "wrong_content_type", "A placeholder is a photo."))
        if file.size is not msgspec.UNSET and not least <= file.size <= most:
            found.append(FieldError(f"{path}.size", "wrong_size", f"Must be {least} to {most} bytes."))
    return found


def _those_read(files: list[UploadFile | msgspec.UnsetType]) -> Iterator[tuple[str, UploadFile]]:
    return ((f"files[{index}]", file) for index, file in enumerate(files) if file is not msgspec.UNSET)


class UploadRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is to be uploaded, and for what."""

    RULES: ClassVar[Rules] = {("purpose", "files"): _purpose_faults, "files": _file_faults}

    purpose: Purpose
    files: Annotated[list[UploadFile], msgspec.Meta(min_length=1, max_length=20)]


class Upload(msgspec.Struct, frozen=True):
    """Send the bytes to `url` by `method` with exactly these `headers`, then name `object`."""

    object: str
    method: str
    url: str
    headers: dict[str, str]
    expires_at: int


class Uploads(msgspec.Struct, frozen=True):
    """The authorisations, in the order of the files."""

    uploads: list[Upload]


class Media(msgspec.Struct, frozen=True):
    """A photo or video in an answer."""

    type: Literal["photo", "video"]
    content_type: str
    url: str
    placeholder_url: str
    width: int
    height: int
    alt_text: str | None


class MediaReleased(Event, frozen=True):
    """Objects that nothing holds any more: to be deleted from storage."""

    objects: list[str]


class OrphansDue(Event, frozen=True):
    """It is time to sweep uploads that were never attached (a schedule). `at` is when, in milliseconds."""

    at: int


def is_private(object: str) -> bool:
    """Whether an object, whose name begins with what it is for, lies where only signed URLs read it."""
    return object.startswith("message/")


def kind_of(content_type: str) -> Kind:
    """The kind of a content type; anything else is a plain file."""
    if content_type in PHOTO_TYPES:
        return "photo"
    if content_type in VIDEO_TYPES:
        return "video"
    return "audio" if content_type in AUDIO_TYPES else "file"


def extension_of(content_type: str) -> str:
    """The file extension of a content type."""
    return (PHOTO_TYPES | VIDEO_TYPES | AUDIO_TYPES).get(content_type, "bin")
