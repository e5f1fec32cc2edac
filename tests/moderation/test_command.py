"""`./dev moderator`: says what it did, and by its exit code whether it could."""

from pathlib import Path

import pytest

from infra import moderator
from infra.local.stack import Stack
from tests.client import Person
from tests.moderation.accounts import id_of, logged, reported


def test_it_says_what_it_did(stack: Stack, alice: Person, capsys: pytest.CaptureFixture[str]) -> None:
    data = ["--data", str(stack.data)]
    name = alice.username
    assert alice.ask("GET", "/v1/reports").status_code == 403
    said = []
    for arguments in ([name.upper()], [name], [name, "--remove"], [name, "--remove"], ["--unsuspend", name]):
        assert moderator.main([*arguments, *data]) == 0
        said.append(capsys.readouterr().out.removesuffix("\n"))
        status = alice.ask("GET", "/v1/reports").status_code
        assert status == (200 if len(said) in (1, 2) else 403)
    assert said == [
        f"{name} is a moderator now",
        f"{name} was a moderator already",
        f"{name} is a moderator no longer",
        f"{name} was no moderator",
        f"{name} was not suspended",
    ]
    assert [entry.action for entry in logged(id_of(alice))] == ["make_moderator", "unmake_moderator"]


def test_a_suspension_is_lifted(
    stack: Stack, alice: Person, bob: Person, person, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ["--data", str(stack.data)]
    boss = person()
    assert moderator.main([boss.username, *data]) == 0
    report = reported(alice, "user", bob.username)
    boss.post(f"/v1/reports/{report['id']}/resolution", {"action": "suspend"})
    capsys.readouterr()
    assert moderator.main([bob.username, *data]) == 1
    assert capsys.readouterr().err == f"./dev moderator: {bob.username} is suspended.\n"
    assert moderator.main(["--unsuspend", bob.username, *data]) == 0
    assert capsys.readouterr().out == f"{bob.username} is suspended no longer\n"
    assert alice.ask("GET", f"/v1/users/{bob.username}").status_code == 200


def test_what_cannot_be_done_is_said_in_a_line(
    stack: Stack, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert moderator.main(["no_such_user", "--data", str(stack.data)]) == 1
    assert moderator.main(["ada", "--data", str(tmp_path)]) == 1
    unknown, no_stack = capsys.readouterr().err.splitlines()
    assert unknown == "./dev moderator: There is no account no_such_user."
    assert no_stack.startswith(f"./dev moderator: no stack runs on {tmp_path}")
    assert "--data" in no_stack
    for arguments in ([], ["ada", "--remove", "--unsuspend"]):
        with pytest.raises(SystemExit) as ended:
            moderator.main(arguments)
        assert ended.value.code == 2
