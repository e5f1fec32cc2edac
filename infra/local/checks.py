"""`./dev check`, `./dev test` and `./dev lock`: what CI runs, and how the requirements are pinned."""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from infra.local.stack import ROOT

PROGRAMS = Path(sys.executable).parent
OFFLINE = re.compile(
    r"ConnectionError|NewConnectionError|NameResolutionError|ConnectTimeout|ReadTimeout|ProxyError|HTTPError"
)
COMPILE = (
    "pip",
    "compile",
    "--universal",
    "--generate-hashes",
    "--no-emit-index-url",
    "--no-header",
    "--upgrade",
    "--quiet",
)
OLDEST_PYTHON = "3.11"


@dataclass(frozen=True)
class Outcome:
    """What a check came to: `passed`, `failed` or `skipped`, and why where that isn't plain."""

    state: str
    why: str = ""


def check(arguments: list[str]) -> int:
    """Run every check, show what each came to, and return 1 if one failed."""
    argparse.ArgumentParser(prog="./dev check", description="Every check that CI runs.").parse_args(arguments)
    checks: dict[str, Callable[[], Outcome]] = {
        "lint": lambda: _run("ruff", "check", "."),
        "format": lambda: _run("ruff", "format", "--check", "."),
        "types": lambda: _run("pyright"),
        "imports": lambda: _run("lint-imports", "--no-cache"),
        "openapi": _openapi,
        "audit": _audit,
    }
    table = Table("check", "outcome", "seconds", "", box=None, pad_edge=False)
    failed = False
    for name, run in checks.items():
        print(f"— {name}", flush=True)
        began = time.monotonic()
        outcome = run()
        failed |= outcome.state == "failed"
        style = {"passed": "green", "failed": "bold red", "skipped": "yellow"}[outcome.state]
        table.add_row(name, outcome.state, f"{time.monotonic() - began:.1f}", outcome.why, style=style)
    Console(highlight=False).print("", table)
    return int(failed)


def test(arguments: list[str]) -> int:
    """Run pytest with these arguments; it takes this process's place."""
    os.chdir(ROOT)
    os.execv(sys.executable, [sys.executable, "-m", "pytest", *arguments])


def lock(arguments: list[str]) -> int:
    """Pin the newest versions that fit the *.in files, with their hashes, for every platform."""
    argparse.ArgumentParser(prog="./dev lock", description="Pin the requirements again.").parse_args(arguments)
    for name in ("requirements", "requirements-dev"):
        outcome = _run("uv", *COMPILE, "--python-version", OLDEST_PYTHON, f"{name}.in", "-o", f"{name}.txt")
        if outcome.state == "failed":
            return 1
    return 0


def _run(program: str, *arguments: str) -> Outcome:
    code = subprocess.run([str(PROGRAMS / program), *arguments], cwd=ROOT, check=False).returncode
    return Outcome("passed") if code == 0 else Outcome("failed", f"{program} ended with {code}")


def _openapi() -> Outcome:
    """The document that the API serves is valid OpenAPI 3.1."""
    made = subprocess.run(
        [sys.executable, "-m", "infra.targets", "--openapi"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if made.returncode != 0:
        sys.stderr.write(made.stderr)
        return Outcome("failed", "the document could not be made")
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        file.write(made.stdout)
        file.flush()
        return _run("openapi-spec-validator", "--subschema-errors", "all", file.name)


def _audit() -> Outcome:
    """No pinned version has a known vulnerability; skipped where the database of those can't be asked."""
    command = [
        str(PROGRAMS / "pip-audit"),
        "--disable-pip",
        "--require-hashes",
        "--no-deps",
        "--progress-spinner",
        "off",
    ]
    for name in ("requirements.txt", "requirements-dev.txt"):
        command += ["-r", name]
    audit = subprocess.run([*command, "--timeout", "15"], cwd=ROOT, capture_output=True, text=True, check=False)
    if audit.returncode == 0:
        return Outcome("passed", audit.stderr.strip().splitlines()[-1] if audit.stderr.strip() else "")
    if OFFLINE.search(audit.stderr):
        return Outcome("skipped", "the vulnerability database can't be reached from here")
    sys.stdout.write(audit.stdout + audit.stderr)
    return Outcome("failed", "a pinned version is vulnerable, or the audit broke")
