"""What the README shows is what happens."""

import os
import re
import subprocess
from pathlib import Path

from infra.local.stack import Stack

README = Path(__file__).parents[2] / "README.md"


def test_the_session_pasted_gives_what_it_shows(stack: Stack) -> None:
    match = re.search(r"## A session\n.*?```sh\n(.*?)```", README.read_text(), re.DOTALL)
    assert match
    env = os.environ | {"API": stack.api, "CONSOLE": stack.console}
    done = subprocess.run(["bash", "-c", match[1]], capture_output=True, text=True, timeout=60, env=env)
    assert done.stdout.splitlines() == ["Hello, world! #first", "['first']"], done.stderr
