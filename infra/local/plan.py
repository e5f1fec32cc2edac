"""The processes of the local stack: which there are, what each needs, and the settings they run with."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from infra.local import stores
from infra.local.leftovers import MARK
from infra.local.ports import LOOPBACK
from infra.local.services import Service, http_ready, port_ready

PROJECT = "i9lyfe-local"
BUCKET = "i9lyfe-media"
PRIVATE_BUCKET = f"{BUCKET}-private"
PYTHON = sys.executable
FRAMEWORK = str(Path(sys.executable).with_name("functions-framework"))
CODE = ("main.py", "shared", "functions")
LIVE_CODE = ("shared", "functions", "realtime_service", "main.py")
OUTSIDE_GRAPH = ("NEO4J_URI", "NEO4J_USER", "NEO4J_PASSWORD", "NEO4J_DATABASE")
# Not passed on: they would lead the stack out of this machine, or change how its servers start.
DROPPED = (
    "GOOGLE_APPLICATION_CREDENTIALS",
    "CLOUD_SQL_INSTANCE",
    "JAVA_TOOL_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "_JAVA_OPTIONS",
)


class UnknownPart(Exception):
    """A name that no part of the stack has."""


@dataclass(frozen=True)
class Plan:
    """What is started, and where it will answer."""

    services: list[Service]
    env: dict[str, str]
    addresses: dict[str, str]


def _graph_is_given() -> bool:
    # A process that uses another local stack has that one's settings: its graph is not ours.
    return "NEO4J_URI" in os.environ and MARK not in os.environ


def settings(data: Path, ports: dict[str, int], secrets: dict[str, str]) -> dict[str, str]:
    """The environment of every process of the stack: shared/kernel/config.py says what each setting is."""
    http = {name: f"http://{LOOPBACK}:{port}" for name, port in ports.items()}
    graph = {
        "NEO4J_URI": f"bolt://{LOOPBACK}:{ports['graph']}",
        "NEO4J_USER": stores.GRAPH_USER,
        "NEO4J_PASSWORD": secrets["graph"],
        "NEO4J_DATABASE": stores.GRAPH_DATABASE,
    }
    if _graph_is_given():
        graph = {name: os.environ.get(name, "neo4j") for name in OUTSIDE_GRAPH}
    return {
        MARK: str(data),
        "ENVIRONMENT": "local",
        "DATABASE_URL": f"postgresql://{stores.DATABASE}:{quote(secrets['database'], safe='')}"
        f"@{LOOPBACK}:{ports['postgres']}/{stores.DATABASE}",
        "REDIS_URL": f"redis://:{quote(secrets['valkey'], safe='')}@{LOOPBACK}:{ports['valkey']}/0",
        **graph,
        "GOOGLE_CLOUD_PROJECT": PROJECT,
        "PUBSUB_EMULATOR_HOST": f"{LOOPBACK}:{ports['pubsub']}",
        "STORAGE_BUCKET": BUCKET,
        "PRIVATE_BUCKET": PRIVATE_BUCKET,
        "STORAGE_EMULATOR_HOST": http["storage"],
        "STORAGE_SIGNER_FILE": str(data / "signer.json"),
        "MEDIA_BASE_URL": f"{http['storage']}/{BUCKET}",
        "PRIVATE_MEDIA_BASE_URL": f"{http['storage']}/{PRIVATE_BUCKET}",
        "MEDIA_KEYS": secrets["media_keys"],
        "TOKEN_KEYS": secrets["token_keys"],
        "COOKIE_KEYS": secrets["cookie_keys"],
        "SMTP_URL": f"smtp://{LOOPBACK}:{ports['smtp']}",
        "MAIL_FROM": "i9lyfe <hello@i9lyfe.local>",
        "PUBLIC_URL": http["api"],
        "CORS_ORIGINS": http["console"],
        # One machine plays every client here, and seed and bench play thousands.
        "RATE_LIMIT_SCALE": os.environ.get("RATE_LIMIT_SCALE", "10000"),
        "FEED_MERGE_FOLLOWERS": os.environ.get("FEED_MERGE_FOLLOWERS", "10000"),
        "LIVE_SOCKETS_PER_USER": os.environ.get("LIVE_SOCKETS_PER_USER", "1000"),
        "LIVE_AWAY_SECONDS": os.environ.get("LIVE_AWAY_SECONDS", "30"),
        "LOG_LEVEL": os.environ.get("LOG_LEVEL", "INFO"),
        "PUBSUB_HTTP_URL": http["pubsub_http"],
        "PUSH_URL": http["background"],
        "LIVE_PORT": str(ports["live"]),
        "CONSOLE_PORT": str(ports["console"]),
    }


def make(data: Path, ports: dict[str, int], secrets: dict[str, str], only: Sequence[str] = ()) -> Plan:
    """The parts named by `only` and what they need, or all of them. Raises UnknownPart, or stores.NoServer."""
    env = settings(data, ports, secrets)
    services = {service.name: service for service in _all(data, ports, secrets, env)}
    if unknown := [name for name in only if name not in services]:
        raise UnknownPart(f"no part is called {', '.join(unknown)}; there are {', '.join(services)}")
    wanted = set(only or services)
    while more := {need for name in wanted for need in services[name].needs} - wanted:
        wanted |= more
    addresses = {
        "api": env["PUBLIC_URL"],
        "live": f"ws://{LOOPBACK}:{ports['live']}/v1/live",
        "console": env["CORS_ORIGINS"],
        "postgres": env["DATABASE_URL"],
        "redis": env["REDIS_URL"],
        "neo4j": env["NEO4J_URI"],
        "storage": env["STORAGE_EMULATOR_HOST"],
        "pubsub": env["PUBSUB_EMULATOR_HOST"],
        "smtp": env["SMTP_URL"].removeprefix("smtp://"),
    }
    return Plan([service for name, service in services.items() if name in wanted], env, addresses)


def _all(data: Path, ports: dict[str, int], secrets: dict[str, str], env: dict[str, str]) -> list[Service]:
    return [
        *_stores(data, ports, secrets, env),
        *_google(data, ports, env),
        Service(
            name="console",
            command=(PYTHON, "-m", "infra.local.console"),
            ready=http_ready(f"http://{LOOPBACK}:{ports['console']}/healthz"),
            ports=(ports["console"], ports["smtp"]),
        ),
        Service(name="migrate", command=(PYTHON, "-m", "infra.migrations"), needs=("postgres",), once=True),
        Service(name="wire", command=(PYTHON, "-m", "infra.local.wire"), needs=("pubsub",), once=True),
        _function("api", data, ports, needs=("migrate", "valkey")),
        _function("background", data, ports, needs=("migrate", "valkey")),
        Service(
            name="live",
            command=(PYTHON, "-m", "realtime_service"),
            needs=("migrate", "valkey"),
            ready=http_ready(f"http://{LOOPBACK}:{ports['live']}/healthz"),
            ports=(ports["live"],),
            watches=LIVE_CODE,
        ),
        Service(
            name="relay",
            command=(PYTHON, "-m", "realtime_service.relay"),
            needs=("migrate", "valkey", "wire"),
            watches=("shared", "realtime_service"),
        ),
    ]


def _stores(data: Path, ports: dict[str, int], secrets: dict[str, str], env: dict[str, str]) -> list[Service]:
    if _graph_is_given():
        check = stores.bolt_ready(*(env[name] for name in OUTSIDE_GRAPH))
        graph = Service(name="graph", command=(), once=True, prepare=check)
    else:
        graph = stores.graph(data, ports["graph"], ports["graph_http"], secrets["graph"])
    return [
        stores.postgres(data, ports["postgres"], secrets["postgres"], secrets["database"]),
        graph,
        stores.valkey(data, ports["valkey"], secrets["valkey"]),
    ]


def _google(data: Path, ports: dict[str, int], env: dict[str, str]) -> list[Service]:
    storage = (PYTHON, "-m", "infra.local.storage", "--port", str(ports["storage"]), "--data", str(data / "storage"))
    storage += ("--signer", env["STORAGE_SIGNER_FILE"], "--bucket", BUCKET)
    storage += ("--private-bucket", PRIVATE_BUCKET, "--cors-origin", env["CORS_ORIGINS"])
    pubsub = (PYTHON, "-m", "infra.local.pubsub", "--port", str(ports["pubsub"]), "--data", str(data / "pubsub"))
    pubsub += ("--http-port", str(ports["pubsub_http"]))
    return [
        Service(
            name="pubsub",
            command=pubsub,
            ready=http_ready(f"{env['PUBSUB_HTTP_URL']}/healthz"),
            ports=(ports["pubsub"], ports["pubsub_http"]),
        ),
        Service(name="storage", command=storage, ready=port_ready(ports["storage"]), ports=(ports["storage"],)),
    ]


def _function(target: str, data: Path, ports: dict[str, int], *, needs: tuple[str, ...]) -> Service:
    port = ports[target]
    runtime = data / "run" / target
    command = (FRAMEWORK, "--source", "main.py", "--target", target, "--asgi", "--host", LOOPBACK, "--port", str(port))
    return Service(
        name=target,
        command=command,
        needs=needs,
        ready=http_ready(f"http://{LOOPBACK}:{port}/healthz"),
        watches=CODE,
        ports=(port,),
        hands_over=True,
        env={
            "XDG_RUNTIME_DIR": str(runtime),  # gunicorn puts a control socket there, or else in the home folder
            "FORWARDED_ALLOW_IPS": "",  # else uvicorn believes X-Forwarded-For of whoever is on this machine
        },
        prepare=lambda: runtime.mkdir(parents=True, exist_ok=True),
    )
