"""Uploads."""

from shared.kernel.endpoint import Caller, endpoint
from shared.media import actions
from shared.media.model import UploadRequest, Uploads


@endpoint("POST /v1/uploads", status=201, limit="upload")
def authorize_uploads(caller: Caller, body: UploadRequest) -> Uploads:
    """Authorise uploads straight to storage, each by a signed URL good for one type, one exact size, 15 minutes.

    Photos have 1 KiB to 10 MiB (jpeg, png, webp, avif), videos to 100 MiB (mp4, webm), audio to 20 MiB, files to
    50 MiB; a placeholder is a photo of 1 KiB to 300 KiB. What is never attached is deleted after 24 hours.
    Send exactly the `headers` of each. Files, which are of any other type, are served as attachments.
    """
    return actions.authorize(caller, body)
