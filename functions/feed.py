"""The feed."""

from shared.feed import reads
from shared.kernel.endpoint import Caller, Encoded, endpoint
from shared.kernel.pages import Page, PageQuery
from shared.posts.model import Post


@endpoint("GET /v1/feed", answers=Page[Post])
async def get_feed(caller: Caller, query: PageQuery) -> Encoded:
    """Posts and reposts of those you follow and your own, newest first.

    The same post comes once a page: as its newest entry, with `reposted_by` if that is a repost.
    """
    return await reads.page(caller, query)
