"""`python -m realtime_service`: the WebSocket service, on HOST and PORT (in the local stack LIVE_PORT)."""

import asyncio
import gc
import os
import resource
import signal

import uvloop

from realtime_service.server import Server
from shared.kernel import log


async def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    log.setup("live")
    # What was imported stays: the garbage collector needn't go through it whenever it looks at the sockets.
    gc.collect()
    gc.freeze()
    # A socket is an open file, and what a shell gives a process is often a thousand.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    port = int(os.environ.get("PORT") or os.environ.get("LIVE_PORT") or "8081")
    await Server().run(os.environ.get("HOST", "127.0.0.1"), port, stop)


uvloop.run(main())
