"""`./dev redrive`: what the broker does is tested with the broker; here, that the command asks it."""

from pathlib import Path

import httpx

from infra import redrive
from infra.local.stack import Stack


def test_dead_letters_are_sent_again(stack: Stack, capsys) -> None:
    left = len(httpx.get(f"{stack.console}/dead-letters.json").json()["items"])
    assert redrive.main(["--data", str(stack.data)]) == 0
    assert capsys.readouterr().out == f"{left} sent again, 0 left\n"


def test_what_cannot_be_sent_again_is_said_in_a_line(stack: Stack, tmp_path: Path, capsys) -> None:
    assert redrive.main(["987654321", "--data", str(stack.data)]) == 1
    assert redrive.main(["--data", str(tmp_path)]) == 1
    unknown, no_stack = capsys.readouterr().err.splitlines()
    assert unknown == "./dev redrive: There is no such dead letter."
    assert no_stack.startswith(f"./dev redrive: no stack runs on {tmp_path}")
