"""The broker's JSON for the console and `./dev redrive`: how deliveries went, dead letters, and sending them again.

And for tests, `PUT /chaos`: what it does on purpose from now on.
"""

import ipaddress
import logging
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
from aiohttp import web

from infra.local import pubsub_history as history
from infra.local.pubsub_broker import Broker
from infra.local.pubsub_chaos import Chaos, Told

log = logging.getLogger("pubsub")
DEFAULT_LIMIT: Final = 100
MAX_LIMIT: Final = 1000


def console(broker: Broker) -> web.Application:
    """The application, to be run on the loopback interface."""

    async def events(request: web.Request) -> web.Response:
        return _items(history.events(broker.store.db, request.query.get("type"), _limit(request)))

    async def dead_letters(request: web.Request) -> web.Response:
        return _items(history.dead_letters(broker.store.db, _limit(request)))

    async def redrive(request: web.Request) -> web.Response:
        id = _number(request, "id", None)
        if id is not None and not history.letters(broker.store.db, id, 0, 1):
            raise web.HTTPNotFound(text="There is no such dead letter.")
        sent = await broker.redrive(id)
        return web.json_response({"redriven": sent, "left": history.dead_letter_count(broker.store.db)})

    async def chaos(request: web.Request) -> web.Response:
        try:
            told = msgspec.json.decode(await request.read(), type=Told)
        except msgspec.MsgspecError as fault:
            raise web.HTTPBadRequest(text=str(fault)) from None
        broker.chaos = Chaos(**msgspec.structs.asdict(told))
        return web.json_response(msgspec.structs.asdict(told))

    async def health(_: web.Request) -> web.Response:
        return web.json_response({"status": "ok", "waiting": broker.store.waiting()})

    app = web.Application(middlewares=[_guard])
    app.router.add_get("/events.json", events)
    app.router.add_get("/dead-letters.json", dead_letters)
    app.router.add_post("/dead-letters/redrive", redrive)
    app.router.add_put("/chaos", chaos)
    app.router.add_get("/healthz", health)
    return app


@web.middleware
async def _guard(request: web.Request, handler: Any) -> web.StreamResponse:
    """Only programs of this machine: no page of a browser, also not one that points its own name to this machine."""
    try:
        if not is_loopback(request.host):
            raise web.HTTPForbidden(text="The Host is not this machine.")
        if "Origin" in request.headers or request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            raise web.HTTPForbidden(text="This is not for pages of browsers.")
        return await handler(request)
    except web.HTTPException as refusal:
        return _problem(refusal.status, refusal.reason, refusal.text, refusal.headers)
    except Exception:
        log.exception("%s %s failed", request.method, request.path)
        return _problem(500, "Internal Server Error", "The broker has a bug; its log says more.", {})


def is_loopback(host: str) -> bool:
    """Whether a host, with or without a port, is this machine."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _items(items: list[dict[str, Any]]) -> web.Response:
    return web.json_response({"items": items})


def _limit(request: web.Request) -> int:
    return min(MAX_LIMIT, _number(request, "limit", DEFAULT_LIMIT) or DEFAULT_LIMIT)


def _number(request: web.Request, name: str, default: int | None) -> int | None:
    text = request.query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and 0 < len(text) <= 18 and int(text) > 0):
        raise web.HTTPBadRequest(text=f"{name} must be a positive number.")
    return int(text)


def _problem(status: int, title: str, detail: str | None, headers: Any) -> web.Response:
    kept = {"Allow": headers["Allow"]} if "Allow" in headers else {}
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    return web.json_response(body, status=status, headers=kept, content_type="application/problem+json")
