"""`./dev moderator`: make an account of a running stack a moderator, or no longer one, or lift its suspension."""

import argparse
import sys
from pathlib import Path

from infra.local.stack import ROOT, StackFailed, load


def main(arguments: list[str]) -> int:
    """Do it, and say what was done. 1: no stack runs there, or the account is not there or not fit for it."""
    parser = argparse.ArgumentParser(prog="./dev moderator", description="Make an account a moderator.")
    parser.add_argument("username", help="the account's")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--remove", action="store_true", help="make it one no longer")
    what.add_argument("--unsuspend", action="store_true", help="lift its suspension instead")
    parser.add_argument(
        "--data",
        type=Path,
        default=ROOT / ".local",
        metavar="DIR",
        help="the data folder of the stack, as its `ready` names it (.local)",
    )
    options = parser.parse_args(arguments)
    try:
        load(options.data).apply()
        print(_done(options.username.lower(), remove=options.remove, unsuspend=options.unsuspend))
    except StackFailed as fault:
        return _fail(str(fault))
    return 0


def _done(username: str, *, remove: bool, unsuspend: bool) -> str:
    # Not before the stack's settings are this process's.
    from shared.kernel.problems import Problem
    from shared.moderation import actions

    try:
        if unsuspend:
            changed = actions.unsuspend(username)
            return f"{username} is suspended no longer" if changed else f"{username} was not suspended"
        changed = actions.set_moderator(username, moderator=not remove)
    except Problem as refusal:
        raise StackFailed(refusal.detail or refusal.code) from None
    if remove:
        return f"{username} is a moderator no longer" if changed else f"{username} was no moderator"
    return f"{username} is a moderator now" if changed else f"{username} was a moderator already"


def _fail(reason: str) -> int:
    print(f"./dev moderator: {reason}", file=sys.stderr)
    return 1
