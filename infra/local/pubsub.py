"""`python -m infra.local.pubsub`: Pub/Sub for a developer's machine, on the loopback interface.

gRPC for google-cloud-pubsub's clients, push as Eventarc does it, JSON over HTTP for the console. What was confirmed is
kept over a kill -9. Told to, it duplicates, reorders, delays, and loses acknowledgements, as the real one may.
"""

import argparse
import asyncio
import fcntl
import logging
import signal
import sys
from pathlib import Path
from typing import Final, TextIO

import grpc
from aiohttp import web

from infra.local.pubsub_broker import Broker
from infra.local.pubsub_chaos import Chaos
from infra.local.pubsub_console import console, is_loopback
from infra.local.pubsub_grpc import OPTIONS
from infra.local.pubsub_publisher import Publisher
from infra.local.pubsub_push import Pusher
from infra.local.pubsub_store import Store
from infra.local.pubsub_subscriber import Subscriber

DRAIN_SECONDS: Final = 5.0
CALL_SECONDS: Final = 1.0


async def serve(broker: Broker, host: str, port: int, http_port: int) -> None:
    """Until SIGTERM or SIGINT; calls and pushes under way may finish. Raises OSError if it can't listen."""
    ending = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ending.set)
    runner = web.AppRunner(console(broker), access_log=None, shutdown_timeout=CALL_SECONDS)
    await runner.setup()
    pusher = Pusher(broker)
    sweeping = asyncio.create_task(broker.sweep())
    server = grpc.aio.server(options=OPTIONS)
    server.add_generic_rpc_handlers((Publisher(broker).handler(), Subscriber(broker).handler()))
    try:
        try:
            bound = server.add_insecure_port(f"{host}:{port}")
        except RuntimeError as fault:
            raise OSError(None, f"can't listen on {host}:{port}") from fault
        await web.TCPSite(runner, host, http_port).start()
        await server.start()
        broker.push_with(pusher.attend)
        print(f"pubsub listens on {host}:{bound} and http://{host}:{runner.addresses[0][1]}", flush=True)
        await ending.wait()
    finally:
        broker.close()
        sweeping.cancel()
        await asyncio.gather(pusher.close(DRAIN_SECONDS), server.stop(CALL_SECONDS), runner.cleanup())


def _lock(file: Path) -> TextIO:
    """Held while the process lives: two on one folder would deliver everything twice. Raises BlockingIOError."""
    handle = file.open("w")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.close()
        raise
    return handle


def _probability(text: str) -> float:
    number = float(text)
    if not 0 <= number <= 1:
        raise ValueError
    return number


_probability.__name__ = "probability"  # for argparse's message


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m infra.local.pubsub", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True, help="for gRPC; 0 = a free one, printed")
    parser.add_argument("--http-port", type=int, required=True, help="for the console; 0 = a free one, printed")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    chaos = parser.add_argument_group("chaos", "probabilities are from 0 to 1")
    chaos.add_argument("--duplicate", type=_probability, default=0.0, metavar="P", help="deliver twice")
    chaos.add_argument("--reorder", type=_probability, default=0.0, metavar="P", help="let later messages overtake")
    chaos.add_argument("--delay", type=int, default=0, metavar="MS", help="deliver later")
    chaos.add_argument("--drop-acks", type=_probability, default=0.0, metavar="P", help="lose acknowledgements")
    chaos.add_argument("--seed", type=int, help="make the same choices again")
    return parser.parse_args()


def main() -> None:
    """Read the arguments and serve; what can't start ends with one line."""
    options = _options()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr)
    if not is_loopback(options.host):
        sys.exit(f"pubsub: --host {options.host}: it serves this machine alone")
    chaos = Chaos(options.duplicate, options.reorder, options.delay, options.drop_acks, options.seed)
    try:
        options.data.mkdir(parents=True, exist_ok=True)
        lock = _lock(options.data / "lock")
    except BlockingIOError:
        sys.exit(f"pubsub: another process serves {options.data}")
    except OSError as fault:
        sys.exit(f"pubsub: {fault}")
    with lock:
        store = Store(options.data)
        try:
            asyncio.run(serve(Broker(store, chaos), options.host, options.port, options.http_port))
        except OSError as fault:
            sys.exit(f"pubsub: {fault.strerror or fault}")
        finally:
            store.close()


if __name__ == "__main__":
    main()
