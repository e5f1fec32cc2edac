"""What the README shows is what happens."""

import os
import re
import subprocess
import sys
from pathlib import Path

from infra.local.stack import Stack
from tests.client import sign_up

README = Path(__file__).parents[2] / "README.md"


def test_the_session_pasted_gives_what_it_shows(stack: Stack) -> None:
    match = re.search(r"## A session\n.*?```sh\n(.*?)```", README.read_text(), re.DOTALL)
    assert match
    env = os.environ | {"API": stack.api, "CONSOLE": stack.console}
    done = subprocess.run(["bash", "-c", match[1]], capture_output=True, text=True, timeout=60, env=env)
    assert done.stdout.splitlines() == ["Hello, world! #first", "['first']"], done.stderr


def test_the_client_does_what_it_shows(stack: Stack) -> None:
    match = re.search(r"## The same in Python\n.*?```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert match
    names = {name: sign_up(stack, password="a long enough one").username for name in ("ada", "grace")}
    told = {"http://127.0.0.1:8080": stack.api, "ws://127.0.0.1:8081/v1/live": stack.live}
    lines = match[1]
    for shown, real in told.items():
        assert shown in lines
        lines = lines.replace(shown, real)
    for shown, real in names.items():
        lines = re.sub(rf"(?<=[\"/]){shown}(?=[\"/])", real, lines)
    done = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, timeout=60, cwd=README.parent)
    assert done.stdout.splitlines() == [f"{names['ada']} Hello, Grace!"], done.stderr
