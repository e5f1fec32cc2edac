"""The developer's console: the mails that were caught, what went through Pub/Sub, and the API's documentation."""

import asyncio
import json
import os
import re
import signal
import sys
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import uvicorn
from aiosmtpd.smtp import SMTP
from jinja2 import Environment, FileSystemLoader, select_autoescape
from markupsafe import Markup, escape
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from infra.local import api_docs, live_docs
from infra.local.mailbox import MAIL_BYTES, Catcher, Mailbox
from infra.local.ports import LOOPBACK
from infra.local.stack import ROOT

ASK_SECONDS = 5.0
# No script runs here, and nothing is loaded from elsewhere: mails are shown as they came.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-src 'self'; form-action 'self'"
PAGES = Environment(
    loader=FileSystemLoader(Path(__file__).with_name("templates")),
    autoescape=select_autoescape(),
    trim_blocks=True,
    lstrip_blocks=True,
)


def _moment(at: object) -> str:
    """An instant in ms since the epoch as a clock's time; anything else as it is."""
    if not isinstance(at, int | float) or isinstance(at, bool):
        return str(at)
    return datetime.fromtimestamp(at / 1000, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _code(text: str) -> Markup:
    """A docstring's text, its `names` set as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


PAGES.filters |= {"moment": _moment, "code": _code}


class Console:
    """The pages, and the JSON beside each."""

    def __init__(self, mailbox: Mailbox, data: Path, broker: str, api: str, client: httpx.AsyncClient) -> None:
        self._mailbox = mailbox
        self._data = data
        self._broker = broker
        self._api = api
        self._client = client

    def routes(self) -> list[Route]:
        """What is served where."""
        return [
            Route("/", self.home),
            Route("/healthz", self.health),
            Route("/inbox", self.inbox),
            Route("/inbox.json", self.inbox_json),
            Route("/events", self.events),
            Route("/events.json", self.events_json),
            Route("/dead-letters", self.dead_letters),
            Route("/dead-letters.json", self.dead_letters_json),
            Route("/functions", self.functions),
            Route("/functions.json", self.functions_json),
            Route("/docs", self.docs),
            Route("/live-docs", self.live_docs),
        ]

    async def health(self, request: Request) -> Response:
        """That the console runs."""
        return JSONResponse({"status": "ok"})

    async def home(self, request: Request) -> Response:
        """Where each part of the stack answers."""
        stack = json.loads((self._data / "stack.json").read_text())
        pids = stack.pop("pids")
        return _page("home.html", "The stack", request, addresses=stack, pids=pids, logs=self._data / "logs")

    async def inbox(self, request: Request) -> Response:
        """The mails, readable."""
        to = request.query_params.get("to", "")
        return _page("inbox.html", "Inbox", request, mails=self._mailbox.newest(to), to=to)

    async def inbox_json(self, request: Request) -> Response:
        """The mails, newest first."""
        return JSONResponse(self._mailbox.newest(request.query_params.get("to")))

    async def events(self, request: Request) -> Response:
        """What went through Pub/Sub, readable."""
        found = await self._from_broker("/events.json", request)
        return _page("events.html", "Events", request, items=found["items"], type=request.query_params.get("type", ""))

    async def events_json(self, request: Request) -> Response:
        """What went through Pub/Sub."""
        return JSONResponse(await self._from_broker("/events.json", request))

    async def dead_letters(self, request: Request) -> Response:
        """What was given up, readable."""
        found = await self._from_broker("/dead-letters.json", request)
        return _page("dead_letters.html", "Dead letters", request, items=found["items"])

    async def dead_letters_json(self, request: Request) -> Response:
        """What was given up."""
        return JSONResponse(await self._from_broker("/dead-letters.json", request))

    async def functions(self, request: Request) -> Response:
        """The function targets, readable."""
        return _page("functions.html", "Functions", request, rows=await _targets())

    async def functions_json(self, request: Request) -> Response:
        """The function targets."""
        return JSONResponse({"items": await _targets()})

    async def docs(self, request: Request) -> Response:
        """The API's documentation, from its own OpenAPI document."""
        document = await self._ask(f"{self._api}/openapi.json", "the API")
        return _page("docs.html", "The API", request, api=api_docs.view(document), source=f"{self._api}/openapi.json")

    async def live_docs(self, request: Request) -> Response:
        """The live protocol's documentation, from its own AsyncAPI document."""
        live = urlsplit(json.loads((self._data / "stack.json").read_text())["live"])
        source = f"http://{live.netloc}/asyncapi.json"
        document = await self._ask(source, "the live service")
        return _page("docs.html", "Live", request, api=live_docs.view(document), source=source)

    async def _from_broker(self, path: str, request: Request) -> Any:
        return await self._ask(f"{self._broker}{path}?{request.url.query}", "the Pub/Sub broker")

    async def _ask(self, url: str, whom: str) -> Any:
        try:
            answer = await self._client.get(url)
            answer.raise_for_status()
            return answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise HTTPException(503, f"{whom} does not answer: {error}") from None


async def _targets() -> Any:
    """What `./dev targets` lists, by a process of its own: this one would never see an edit."""
    command = (sys.executable, "-m", "infra.targets", "--json")
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=pipe, stderr=pipe)
    listed, complaints = await process.communicate()
    if process.returncode:
        reason = complaints.decode(errors="replace").strip().rpartition("\n")[2]
        raise HTTPException(503, f"the functions can't be loaded: {reason}")
    return json.loads(listed)


def _page(template: str, title: str, request: Request, status: int = 200, **values: Any) -> Response:
    page = PAGES.get_template(template).render(title=title, path=request.url.path, status=status, **values)
    return HTMLResponse(page, status, headers={"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff"})


async def _fault(request: Request, fault: Exception) -> Response:
    status, detail = (fault.status_code, fault.detail) if isinstance(fault, HTTPException) else (500, repr(fault))
    if status == 404:
        detail = f"There is no page {request.url.path}."
    if request.url.path.endswith(".json"):
        problem = {"type": "about:blank", "title": "The console can't answer", "status": status, "detail": detail}
        return JSONResponse(problem, status, media_type="application/problem+json")
    return _page("fault.html", "Not now" if status >= 500 else "Not here", request, status, detail=detail)


def make_app(mailbox: Mailbox, data: Path, broker: str, api: str, smtp_port: int) -> Starlette:
    """The console over its mailbox; the SMTP server runs for as long as the application does."""
    client = httpx.AsyncClient(timeout=ASK_SECONDS, trust_env=False)

    @asynccontextmanager
    async def lifespan(_: Starlette):
        catcher = Catcher(mailbox)
        server = await asyncio.get_running_loop().create_server(
            lambda: SMTP(catcher, hostname="localhost", data_size_limit=MAIL_BYTES, enable_SMTPUTF8=True),
            LOOPBACK,
            smtp_port,
        )
        async with server, client:
            yield

    return Starlette(
        routes=Console(mailbox, data, broker, api, client).routes(),
        # A page elsewhere that makes its own name point to this machine could read the codes in the mails.
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=[LOOPBACK, "localhost"])],
        exception_handlers={HTTPException: _fault, Exception: _fault},
        lifespan=lifespan,
    )


def main() -> None:
    """Serve until told to stop."""
    data = Path(os.environ["I9LYFE_STACK"])
    mailbox = Mailbox(data / "mails.sqlite")
    smtp_port = int(os.environ["SMTP_URL"].rpartition(":")[2])
    app = make_app(mailbox, data, os.environ["PUBSUB_HTTP_URL"], os.environ["PUBLIC_URL"], smtp_port)
    config = uvicorn.Config(app, host=LOOPBACK, port=int(os.environ["CONSOLE_PORT"]), log_level="warning")
    config.timeout_graceful_shutdown = 3
    try:
        uvicorn.Server(config).run()
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    finally:
        mailbox.close()


if __name__ == "__main__":
    main()
