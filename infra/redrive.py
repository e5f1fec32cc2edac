"""`./dev redrive`: send the dead letters of a running stack again, each to the function that gave it up."""

import argparse
import json
import sys
import urllib.error
import urllib.request
from pathlib import Path

from infra.local.stack import ROOT, StackFailed, load

TIMEOUT_SECONDS = 60


def main(arguments: list[str]) -> int:
    """Send them again, all or one. 1: no stack runs there, or there is no such dead letter."""
    parser = argparse.ArgumentParser(prog="./dev redrive", description="Send dead letters again.")
    parser.add_argument("id", nargs="?", type=int, help="one of them, by its id on the console's page; all if left out")
    parser.add_argument("--data", type=Path, default=ROOT / ".local", metavar="DIR", help="the data folder (.local)")
    options = parser.parse_args(arguments)
    try:
        broker = load(options.data).env["PUBSUB_HTTP_URL"]
        query = "" if options.id is None else f"?id={options.id}"
        request = urllib.request.Request(f"{broker}/dead-letters/redrive{query}", method="POST")
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
            counts = json.load(answer)
    except urllib.error.HTTPError as refusal:
        print(f"./dev redrive: {json.load(refusal)['detail']}", file=sys.stderr)
        return 1
    except (StackFailed, OSError) as fault:
        print(f"./dev redrive: {fault}", file=sys.stderr)
        return 1
    print(f"{counts['redriven']} sent again, {counts['left']} left")
    return 0
