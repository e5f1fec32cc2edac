"""The console: what is mailed is kept and shown, and nothing that it shows can act."""

import json
import re
import smtplib
import socket
from collections.abc import Iterator
from email.message import EmailMessage

import httpx
import psutil
import pytest

from infra import targets
from infra.local import api_docs, console
from infra.local.stack import Stack, ephemeral


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with ephemeral(["console"]) as running:
        yield running


def send(stack: Stack, to: str, subject: str, text: str, html: str | None = None) -> None:
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "hello@i9lyfe.local", to, subject
    mail.set_content(text)
    if html:
        mail.add_alternative(html, subtype="html")
    host, _, port = stack.smtp.partition(":")
    with smtplib.SMTP(host, int(port)) as client:
        client.send_message(mail)


def inbox(stack: Stack, to: str) -> list[dict[str, object]]:
    return httpx.get(f"{stack.console}/inbox.json", params={"to": to}).json()


def test_a_mail_is_in_the_inbox_as_soon_as_it_is_taken(stack: Stack):
    send(stack, "Ada@Example.org", "Ihr Code: 123 456 ❤️", "Your code is 123456.\n", "<b>123456</b>")
    [mail] = inbox(stack, "ada@example.org")
    assert mail["to"] == "ada@example.org"
    assert mail["subject"] == "Ihr Code: 123 456 ❤️"
    assert mail["text"] == "Your code is 123456.\n"
    assert mail["html"] == "<b>123456</b>\n"
    assert isinstance(mail["at"], int)


def test_the_newest_mail_is_first_and_only_the_addressees_are_shown(stack: Stack):
    send(stack, "bob@example.org", "first", "1")
    send(stack, "bob@example.org", "second", "2")
    send(stack, "eve@example.org", "hers", "3")
    assert [mail["subject"] for mail in inbox(stack, "BOB@example.org")] == ["second", "first"]


@pytest.mark.parametrize(
    "content",
    [
        b"Subject: =?utf-99?q?=ff?=\r\nContent-Type: text/plain; charset=nope\r\n\r\n\xff\xfe",
        b"",
        b"\x00\xff\r\n\r\n\x00",
        b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\nbroken",
        b"Subject: \xf0\x9f\r\n\r\n\xed\xa0\x80",
    ],
)
def test_a_mail_that_no_parser_likes_is_kept_all_the_same(stack: Stack, content: bytes):
    before = len(inbox(stack, "odd@example.org"))
    host, _, port = stack.smtp.partition(":")
    with smtplib.SMTP(host, int(port)) as client:
        client.sendmail("a@example.org", ["odd@example.org"], content)
    assert len(inbox(stack, "odd@example.org")) == before + 1
    assert httpx.get(f"{stack.console}/inbox").is_success


def test_what_a_mail_holds_cannot_act_on_the_page(stack: Stack):
    send(stack, "mallory@example.org", "<script>a</script>", "<img onerror=b>", '"><script>c</script>')
    page = httpx.get(f"{stack.console}/inbox", params={"to": "mallory@example.org"})
    assert "<script" not in page.text
    assert "<img" not in page.text
    assert "<iframe sandbox " in page.text
    assert page.headers["Content-Security-Policy"].startswith("default-src 'none'")


def test_a_name_from_elsewhere_that_points_here_is_refused(stack: Stack):
    assert httpx.get(f"{stack.console}/inbox.json", headers={"Host": "evil.example"}).status_code == 400


def test_a_broker_that_is_down_is_a_problem_and_no_crash(stack: Stack):
    answer = httpx.get(f"{stack.console}/events.json")
    assert answer.status_code == 503
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert httpx.get(f"{stack.console}/dead-letters").status_code == 503
    assert httpx.get(f"{stack.console}/nowhere").status_code == 404
    assert httpx.get(f"{stack.console}/").is_success


def test_a_path_that_is_no_page_is_said_to_be_none(stack: Stack):
    page = httpx.get(f"{stack.console}/<b>nowhere</b>")
    assert page.status_code == 404
    assert "There is no page /&lt;b&gt;nowhere&lt;/b&gt;." in page.text


@pytest.mark.parametrize("path", ["/", "/inbox", "/functions"])
def test_the_navigation_marks_the_page_that_is_shown(stack: Stack, path: str):
    page = httpx.get(f"{stack.console}{path}", timeout=30)
    assert re.findall(r'<a href="([^"]+)" aria-current="page">', page.text) == [path]


def test_an_empty_inbox_says_how_a_mail_comes_about(stack: Stack):
    page = httpx.get(f"{stack.console}/inbox", params={"to": "nobody@example.org"})
    assert "No mail to nobody@example.org yet." in page.text
    assert "POST /v1/signup" in page.text


def test_the_functions_are_those_that_the_code_declares(stack: Stack):
    items = httpx.get(f"{stack.console}/functions.json", timeout=30).json()["items"]
    targets.load()
    assert items == json.loads(json.dumps(list(targets.rows())))
    page = httpx.get(f"{stack.console}/functions", timeout=30).text
    assert '<a href="/docs#login">login</a>' in page
    assert '<a href="/events?type=post_created">post_created</a>' in page


def test_what_failed_stands_out_with_its_reason():
    event = {"id": "1", "type": "post_created", "function": "fan_out_post", "attempts": 3, "ms": 1.0, "at": 0}
    outcomes = [("delivered", ""), ("retrying", "500 <b>"), ("dead", "404")]
    items = [event | {"outcome": outcome, "reason": reason} for outcome, reason in outcomes]
    page = console.PAGES.get_template("events.html").render(title="Events", path="/events", items=items)
    assert '<span class="good">delivered</span>' in page
    assert '<span class="warn">retrying: 500 &lt;b&gt;</span>' in page
    assert '<span class="bad">dead: 404</span>' in page


def test_mails_outlive_the_console(stack: Stack):
    send(stack, "kept@example.org", "kept", "kept")
    process = psutil.Process(stack.pids["console"])
    process.kill()
    process.wait()
    host, _, port = stack.smtp.partition(":")
    for _ in range(200):
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
            break
        except OSError:
            psutil.wait_procs([psutil.Process()], timeout=0.05)
    assert [mail["subject"] for mail in inbox(stack, "kept@example.org")] == ["kept"]


def test_the_docs_show_operations_and_models_by_what_the_document_says():
    document = {
        "info": {"title": "i9lyfe", "version": "1"},
        "paths": {
            "/v1/posts/{post_id}": {
                "get": {
                    "operationId": "get_post",
                    "tags": ["posts"],
                    "parameters": [{"name": "post_id", "in": "path", "required": True, "schema": {"type": "string"}}],
                    "summary": "A post.",
                    "description": "A post. Or `gone`.",
                    "responses": {
                        "200": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Post"}}}},
                        "404": {"$ref": "#/components/responses/404"},
                    },
                }
            }
        },
        "components": {
            "responses": {"404": {"description": "Gone."}},
            "schemas": {
                "Post": {
                    "required": ["id"],
                    "properties": {
                        "id": {"type": "string", "maxLength": 13},
                        "tags": {"type": "array", "items": {"type": "string"}},
                    },
                }
            },
        },
    }
    docs = api_docs.view(document)
    [operation] = docs.groups["posts"]
    assert (operation.id, operation.method, operation.path) == ("get_post", "GET", "/v1/posts/{post_id}")
    assert operation.description == "Or `gone`."
    assert [(a.name, a.model, a.description) for a in operation.answers] == [("200", "Post", ""), ("404", "", "Gone.")]
    assert [(f.name, f.type, f.required) for f in docs.models["Post"]] == [
        ("id", "string (at most 13)", True),
        ("tags", "[string]", False),
    ]
