"""The commands behind `./dev`."""

import contextlib
import importlib
import importlib.util
import resource
import sys
from typing import Final

OPEN_FILES: Final = 8192

COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "up": ("infra.local.up:up", "start the whole stack on this machine"),
    "reset": ("infra.local.up:reset", "delete the local stack's data"),
    "test": ("infra.local.checks:test", "run the tests"),
    "check": ("infra.local.checks:check", "lint, types, imports, OpenAPI, audit: what CI runs before the tests"),
    "lock": ("infra.local.checks:lock", "pin the newest versions of the requirements again"),
    "targets": ("infra.targets:main", "list the function targets"),
    "seed": ("infra.seed:main", "fill a running stack with a world"),
    "bench": ("infra.bench.run:main", "measure, and compare with the budgets"),
    "verify": ("infra.verify:main", "compare the projections with Postgres"),
    "redrive": ("infra.redrive:main", "send dead letters again"),
    "moderator": ("infra.moderator:main", "make an account a moderator"),
    "leaks": ("infra.leaks:main", "walk every viewer, relation and surface for leaks"),
}


def main() -> int:
    """Run the command that the arguments name. Returns its exit code."""
    known = {name: what for name, what in COMMANDS.items() if _exists(what[0].partition(":")[0])}
    match sys.argv[1:]:
        case [name, *arguments] if name in known:
            _allow_many_sockets()
            module, _, function = known[name][0].partition(":")
            return getattr(importlib.import_module(module), function)(arguments) or 0
        case [] | ["-h" | "--help" | "help"]:
            print("usage: ./dev COMMAND …\n")
            print("\n".join(f"  {name:<10} {help}" for name, (_, help) in known.items()))
            return 0
        case [name, *_]:
            print(f"./dev: no command {name!r}; there are {', '.join(known)}", file=sys.stderr)
            return 2
    return 2


def _allow_many_sockets() -> None:
    # A socket is a file, and shells allow 1,024 (macOS: 256) where more are to be had. What is started inherits it.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _exists(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


if __name__ == "__main__":
    sys.exit(main())
