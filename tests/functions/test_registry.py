"""What is declared once must come out the same everywhere: main.py, registry, OpenAPI, the contract's page."""

import itertools
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from openapi_spec_validator import validate

import main
from infra import targets
from shared.kernel import openapi
from shared.kernel.endpoint import ENDPOINTS
from shared.kernel.events import REACTIONS

ROOT = Path(main.__file__).parent
ENDPOINT_NAMES = {name for names in main.ENDPOINT_TARGETS.values() for name in names.split()}
EVENT_NAMES = {name for names in main.EVENT_TARGETS.values() for name in names.split()}
# Clients that cost a read's cold start more than the read itself.
HEAVY = ("google.cloud.storage", "google.cloud.pubsub_v1", "google.cloud.sql", "neo4j", "argon2", "jinja2", "smtplib")


@pytest.fixture(scope="module", autouse=True)
def _loaded() -> None:
    targets.load()


def contract_rows() -> dict[str, str]:
    """Target → its row on the contract's page, or the sentence that names it and the line after."""
    rows: dict[str, str] = {}
    lines = (ROOT / "docs/API.md").read_text().splitlines()
    for line, following in itertools.pairwise([*lines, ""]):
        for name in re.findall(r"`([a-z_]+)`", line):
            rows.setdefault(name, line if line.startswith("|") else f"{line} {following}")
    return rows


def test_main_names_what_the_registry_has() -> None:
    assert set(ENDPOINTS) == ENDPOINT_NAMES
    assert set(REACTIONS) == EVENT_NAMES
    for module, names in (main.ENDPOINT_TARGETS | main.EVENT_TARGETS).items():
        for name in names.split():
            declared = ENDPOINTS[name].function if name in ENDPOINTS else REACTIONS[name].function
            assert declared.__module__ == module


def test_names_are_of_one_kind_only() -> None:
    assert not ENDPOINT_NAMES & EVENT_NAMES
    assert not {"api", "background"} & (ENDPOINT_NAMES | EVENT_NAMES)


@pytest.mark.parametrize("name", sorted(ENDPOINT_NAMES))
def test_an_endpoint_is_as_the_contract_has_it(name: str) -> None:
    one = ENDPOINTS[name]
    line = contract_rows()[name]
    assert one.method in line
    # The page shortens what rows share: its last fixed segment is always there.
    fixed = [segment for segment in one.path.split("/") if segment and not segment.startswith("{")]
    assert fixed[-1] in line
    assert one.description.strip()


def test_openapi_has_every_endpoint_and_is_valid() -> None:
    document: Any = msgspec.json.decode(openapi.encoded())
    validate(document)
    operations = {
        operation["operationId"]: (method.upper(), path)
        for path, item in document["paths"].items()
        for method, operation in item.items()
    }
    assert operations == {one.name: (one.method, one.path) for one in ENDPOINTS.values()}


def test_openapi_tells_bodies_answers_and_problems_apart() -> None:
    document: Any = msgspec.json.decode(openapi.encoded())
    create = document["paths"]["/v1/posts"]["post"]
    for media_type in ("application/json", "application/vnd.msgpack"):
        assert create["requestBody"]["content"][media_type]["schema"] == {"$ref": "#/components/schemas/NewPost"}
        assert create["responses"]["201"]["content"][media_type]["schema"] == {"$ref": "#/components/schemas/Post"}
    assert create["security"] == [{"bearer": []}, {"cookie": []}]
    assert {"400", "401", "403", "409", "413", "415", "422", "429", "503"} <= create["responses"].keys()
    assert document["components"]["schemas"]["NewPost"]["additionalProperties"] is False
    delete = document["paths"]["/v1/posts/{post_id}"]["delete"]
    assert "content" not in delete["responses"]["204"]
    assert document["paths"]["/v1/signup"]["post"]["security"] == []


def test_an_unknown_target_is_missing_and_a_broken_one_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AttributeError, match="no target"):
        _ = main.no_such_target

    def breaks(name: str) -> None:
        raise AttributeError("a typo")

    monkeypatch.setattr(main, "_make", breaks)
    monkeypatch.delitem(vars(main), "get_post", raising=False)
    # functions-framework takes an AttributeError for a missing target.
    with pytest.raises(ImportError, match="a typo"):
        _ = main.get_post


@pytest.mark.slow
@pytest.mark.usefixtures("stack")
@pytest.mark.parametrize("name", [*sorted(ENDPOINT_NAMES | EVENT_NAMES), "api", "background"])
def test_every_target_loads_by_itself(name: str) -> None:
    reads = name in ENDPOINTS and ENDPOINTS[name].is_async
    unwanted = HEAVY if reads else ()
    code = f"import main, sys; main.{name}; print(*[m for m in {unwanted!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
