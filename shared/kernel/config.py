"""Settings, from the environment alone. A bad one stops the start with one line: which, and why."""

import base64
import os
from collections.abc import Callable, Mapping
from functools import cache
from typing import Final, Literal
from urllib.parse import urlsplit

import msgspec

KEY_BYTES: Final = 32
# Cloud CDN's keys have 128 bits.
MEDIA_KEY_BYTES: Final = 16


class ConfigError(SystemExit):
    """A setting that the system can't start with. As a SystemExit it ends a process with its one line."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All that the environment decides. README has the table of what each is for."""

    environment: Literal["local", "production"]
    database_url: str
    cloud_sql_instance: str
    db_user: str
    db_password: str
    db_name: str
    db_pool_size: int
    redis_url: str
    neo4j_uri: str
    neo4j_user: str
    neo4j_password: str
    neo4j_database: str
    google_cloud_project: str
    pubsub_emulator_host: str
    storage_bucket: str
    private_bucket: str
    storage_emulator_host: str
    storage_signer_file: str
    media_base_url: str
    private_media_base_url: str
    media_keys: dict[str, bytes]
    token_keys: dict[str, bytes]
    cookie_keys: dict[str, bytes]
    smtp_url: str
    mail_from: str
    public_url: str
    cors_origins: tuple[str, ...]
    log_level: str
    instance_id: str
    proxy_hops: int
    rate_limit_scale: int
    feed_merge_followers: int
    live_away_seconds: int
    live_sockets_per_user: int

    @property
    def is_local(self) -> bool:
        """Whether this runs on a developer's machine."""
        return self.environment == "local"


def _keys(name: str, value: str, size: int = KEY_BYTES) -> dict[str, bytes]:
    keys: dict[str, bytes] = {}
    for part in value.split(","):
        kid, _, encoded = part.strip().partition(":")
        try:
            key = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
        except ValueError:
            key = b""
        if not kid or kid in keys or len(key) != size:
            raise ConfigError(f"{name}: must be kid:key[,kid:key…] with base64url keys of {size} bytes")
        keys[kid] = key
    return keys


def _url(name: str, value: str, schemes: tuple[str, ...]) -> str:
    parts = urlsplit(value)
    if parts.scheme not in schemes or not parts.hostname:
        raise ConfigError(f"{name}: must be a URL with {' or '.join(s + '://' for s in schemes)} and a host")
    try:
        _ = parts.port
    except ValueError:
        raise ConfigError(f"{name}: its port must be a number up to 65535") from None
    return value.rstrip("/")


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise ConfigError(f"{name}: must be one of {', '.join(allowed)}")
    return value


def _count(name: str, value: str, least: int, most: int) -> int:
    if not value.isascii() or not value.isdigit() or not least <= int(value) <= most:
        raise ConfigError(f"{name}: must be a whole number from {least} to {most}")
    return int(value)


def read(env: Mapping[str, str]) -> Settings:
    """The settings in `env`. Raises ConfigError at the first that is missing or wrong."""

    def text(name: str, default: str | None = None) -> str:
        value = env.get(name, "").strip()
        if not value and default is None:
            raise ConfigError(f"{name}: is not set; `./dev up` sets it, README lists what each deployment needs")
        return value or default or ""

    def optional(name: str, parse: Callable[[str, str], str], empty: str) -> str:
        value = env.get(name, "").strip()
        return parse(name, value) if value else empty

    def web(name: str, value: str) -> str:
        return _url(name, value, ("http", "https"))

    instance = text("CLOUD_SQL_INSTANCE", "")
    environment = _one_of("ENVIRONMENT", text("ENVIRONMENT", "production"), ("local", "production"))
    return Settings(
        environment="local" if environment == "local" else "production",
        database_url="" if instance else _url("DATABASE_URL", text("DATABASE_URL"), ("postgresql", "postgres")),
        cloud_sql_instance=instance,
        db_user=text("DB_USER") if instance else "",
        db_password=text("DB_PASSWORD", ""),
        db_name=text("DB_NAME") if instance else "",
        db_pool_size=_count("DB_POOL_SIZE", text("DB_POOL_SIZE", "8"), 1, 200),
        redis_url=_url("REDIS_URL", text("REDIS_URL"), ("redis", "rediss")),
        neo4j_uri=_url("NEO4J_URI", text("NEO4J_URI"), ("bolt", "bolt+s", "bolt+ssc", "neo4j", "neo4j+s", "neo4j+ssc")),
        neo4j_user=text("NEO4J_USER", "neo4j"),
        neo4j_password=text("NEO4J_PASSWORD", ""),
        neo4j_database=text("NEO4J_DATABASE", "neo4j"),
        google_cloud_project=text("GOOGLE_CLOUD_PROJECT"),
        pubsub_emulator_host=text("PUBSUB_EMULATOR_HOST", ""),
        storage_bucket=text("STORAGE_BUCKET"),
        private_bucket=text("PRIVATE_BUCKET", "") or f"{text('STORAGE_BUCKET')}-private",
        storage_emulator_host=optional("STORAGE_EMULATOR_HOST", web, ""),
        storage_signer_file=text("STORAGE_SIGNER_FILE", ""),
        media_base_url=web("MEDIA_BASE_URL", text("MEDIA_BASE_URL")),
        private_media_base_url=web("PRIVATE_MEDIA_BASE_URL", text("PRIVATE_MEDIA_BASE_URL")),
        media_keys=_keys("MEDIA_KEYS", text("MEDIA_KEYS"), MEDIA_KEY_BYTES),
        token_keys=_keys("TOKEN_KEYS", text("TOKEN_KEYS")),
        cookie_keys=_keys("COOKIE_KEYS", text("COOKIE_KEYS")),
        smtp_url=_url("SMTP_URL", text("SMTP_URL"), ("smtp", "smtps")),
        mail_from=text("MAIL_FROM"),
        public_url=web("PUBLIC_URL", text("PUBLIC_URL")),
        cors_origins=tuple(
            web("CORS_ORIGINS", origin.strip()) for origin in env.get("CORS_ORIGINS", "").split(",") if origin.strip()
        ),
        log_level=_one_of("LOG_LEVEL", text("LOG_LEVEL", "INFO"), ("DEBUG", "INFO", "WARNING", "ERROR")),
        proxy_hops=_count("PROXY_HOPS", text("PROXY_HOPS", "0" if environment == "local" else "1"), 0, 5),
        rate_limit_scale=_count("RATE_LIMIT_SCALE", text("RATE_LIMIT_SCALE", "1"), 1, 1_000_000),
        feed_merge_followers=_count("FEED_MERGE_FOLLOWERS", text("FEED_MERGE_FOLLOWERS", "10000"), 1, 1_000_000_000),
        live_away_seconds=_count("LIVE_AWAY_SECONDS", text("LIVE_AWAY_SECONDS", "30"), 1, 3600),
        live_sockets_per_user=_count("LIVE_SOCKETS_PER_USER", text("LIVE_SOCKETS_PER_USER", "50"), 1, 100_000),
        instance_id=text("INSTANCE_ID", "") or f"{os.uname().nodename}-{os.getpid()}",
    )


@cache
def settings() -> Settings:
    """This process's settings, read once."""
    return read(os.environ)
