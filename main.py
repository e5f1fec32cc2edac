"""The table of function targets: name → module. A module is loaded when one of its targets is first asked for.

`api` serves every endpoint behind one router, `background` every event function; each other name is one of them.
"""

import gc
from importlib import import_module
from typing import Any

ENDPOINT_TARGETS = {
    "functions.accounts": (
        "request_signup verify_signup complete_signup login refresh_session logout list_sessions"
        " end_session end_other_sessions request_password_reset verify_password_reset"
        " complete_password_reset change_password delete_account export_account"
    ),
    "functions.profiles": (
        "get_me get_profile follow unfollow edit_profile change_profile_picture remove_profile_picture"
        " block unblock mute unmute list_followers list_following list_blocked list_muted"
    ),
    "functions.media": "authorize_uploads",
    "functions.posts": "create_post get_post delete_post list_user_posts react_to_post unreact_to_post"
    " save_post unsave_post repost undo_repost edit_post list_post_reactions list_reposts list_saved_posts"
    " list_reacted_posts list_mentioned_posts",
    "functions.comments": "comment_on_post list_post_comments reply_to_comment list_replies"
    " get_comment edit_comment delete_comment react_to_comment unreact_to_comment list_comment_reactions"
    " list_commented_posts",
    "functions.chat": "list_chats clear_chat accept_chat decline_chat send_message list_messages acknowledge_messages"
    " edit_message delete_message react_to_message unreact_to_message",
    "functions.feed": "get_feed",
    "functions.notifications": "list_notifications mark_notification_read mark_all_read edit_notification_settings",
    "functions.live": "create_live_ticket",
    "functions.moderation": "report list_reports resolve_report",
}
EVENT_TARGETS = {
    "functions.background.projections": "project_users project_relationships project_posts project_notifications",
    "functions.background.comments": "project_comments project_comment_reactions",
    "functions.background.chat": "push_message push_acknowledgement project_chat",
    "functions.background.feeds": "fan_out_post fan_out_chunk merge_author tell_of_erasure"
    " tell_of_suspension drop_feed",
    "functions.background.notifications": "notify_of_follow notify_of_post notify_of_comment revoke_blocked"
    " notify_of_user revoke_hidden",
    "functions.background.live": "push_notification",
    "functions.background.engagement": "project_engagement notify_of_engagement fan_out_repost",
    "functions.background.graph": "project_to_graph",
    "functions.background.mail": "send_signup_mail send_reset_mail send_suspension send_password_changed"
    " send_export_link send_farewell",
    "functions.background.erasure": "erase_account",
    "functions.background.exports": "make_export delete_exports",
    "functions.background.media": "sweep_uploads delete_media",
    "functions.background.sessions": "stop_session",
    "functions.background.upkeep": "sweep_expired",
}


def _modules(table: dict[str, str]) -> dict[str, str]:
    return {target: module for module, targets in table.items() for target in targets.split()}


MODULES = _modules(ENDPOINT_TARGETS) | _modules(EVENT_TARGETS)


def __getattr__(name: str) -> Any:
    """Make the target when functions-framework asks for it, and keep it."""
    if name not in MODULES and name not in ("api", "background"):
        raise AttributeError(f"there is no target {name!r}")
    try:
        made = _make(name)
    except AttributeError as fault:
        # functions-framework takes an AttributeError for a missing target, and hides what went wrong.
        raise ImportError(f"target {name!r} can't be loaded: {fault}") from fault
    globals()[name] = made
    _spare_the_collector()
    return made


def __dir__() -> list[str]:
    """The targets, for whoever looks for them."""
    return [*MODULES, "api", "background"]


def _spare_the_collector() -> None:
    # What is loaded by now stays: going through all of it again and again held up requests for 40 ms at a time.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def _make(name: str) -> Any:
    from shared.kernel import log

    log.setup("functions")
    if name == "background" or name in _modules(EVENT_TARGETS):
        return _event_target(name)
    from shared.kernel import endpoint, serve

    wanted = ENDPOINT_TARGETS if name == "api" else [MODULES[name]]
    for module in wanted:
        import_module(module)
    found = endpoint.ENDPOINTS.values() if name == "api" else [endpoint.ENDPOINTS[name]]
    return serve.target(name, found)


def _event_target(name: str) -> Any:
    from shared.kernel import events

    for module in EVENT_TARGETS if name == "background" else [MODULES[name]]:
        import_module(module)
    found = list(events.REACTIONS.values()) if name == "background" else [events.REACTIONS[name]]
    return events.target(name, found)
