"""The local Pub/Sub: `python -m infra.local.pubsub`. gRPC for clients, push as Eventarc does it, JSON for the console.

Told to (`--duplicate`, `--reorder`, `--delay`, `--drop-acks`), it does what the real service may do on a bad day.
"""

import argparse
import asyncio
import contextlib
import os
import signal
from pathlib import Path

import grpc
from aiohttp import web

from infra.local.pubsub_grpc import MAX_MESSAGE, Broker, handlers
from infra.local.pubsub_push import Chaos, Pusher
from infra.local.pubsub_store import Store

LOOPBACK = "127.0.0.1"
STOP_SECONDS = 5.0


def _console(store: Store, pusher: Pusher) -> web.Application:
    async def events(request: web.Request) -> web.Response:
        limit = min(1000, _number(request.query.get("limit"), 100))
        return web.json_response({"items": store.history(request.query.get("type"), limit)})

    async def dead_letters(request: web.Request) -> web.Response:
        return web.json_response({"items": store.dead_letters(min(1000, _number(request.query.get("limit"), 100)))})

    async def redrive(request: web.Request) -> web.Response:
        given = request.query.get("id")
        moved = store.redrive(None if given is None else _number(given, -1))
        pusher.wake.set()
        return web.json_response({"redriven": moved})

    async def healthz(_: web.Request) -> web.Response:
        return web.json_response({"status": "up"})

    app = web.Application()
    app.router.add_get("/events.json", events)
    app.router.add_get("/dead-letters.json", dead_letters)
    app.router.add_post("/dead-letters/redrive", redrive)
    app.router.add_get("/healthz", healthz)
    return app


def _number(text: str | None, default: int) -> int:
    return int(text) if text is not None and text.isascii() and text.isdigit() else default


async def serve(port: int, http_port: int, data: Path, chaos: Chaos) -> None:
    """Serve until SIGTERM or SIGINT; attempts under way are finished."""
    store = Store(data)
    pusher: Pusher
    broker = Broker(store, chaos, lambda: pusher.wake.set())
    pusher = Pusher(store, lambda: broker.subscriptions, chaos)
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", MAX_MESSAGE), ("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers(tuple(handlers(broker)))
    server.add_insecure_port(f"{LOOPBACK}:{port}")
    await server.start()
    runner = web.AppRunner(_console(store, pusher), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, LOOPBACK, http_port).start()
    pushing = asyncio.create_task(pusher.run())
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({stopping, pushing}, return_when=asyncio.FIRST_COMPLETED)
    await server.stop(grace=1.0)
    if pushing.done():
        pushing.result()  # it never ends by itself but by a fault
    pushing.cancel()
    with contextlib.suppress(asyncio.CancelledError, TimeoutError):
        await asyncio.wait_for(pushing, STOP_SECONDS)
    await runner.cleanup()
    store.close()


def main() -> None:
    """Read the options and serve."""
    options = argparse.ArgumentParser(prog="python -m infra.local.pubsub", description="A local Pub/Sub.")
    options.add_argument("--port", type=int, required=True)
    options.add_argument("--http-port", type=int, required=True)
    options.add_argument("--data", type=Path, required=True)
    options.add_argument("--duplicate", type=float, default=0.0)
    options.add_argument("--reorder", type=float, default=0.0)
    options.add_argument("--drop-acks", type=float, default=0.0)
    options.add_argument("--delay", type=float, default=0.0, help="milliseconds")
    options.add_argument("--seed", type=int, default=0)
    given = options.parse_args()
    # Its own clients must not be led to the port that is being opened.
    os.environ.pop("PUBSUB_EMULATOR_HOST", None)
    chaos = Chaos(given.duplicate, given.reorder, given.drop_acks, given.delay / 1000, given.seed)
    asyncio.run(serve(given.port, given.http_port, given.data, chaos))


if __name__ == "__main__":
    main()
