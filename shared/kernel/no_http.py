"""What is no HTTP, or of a method that the server's parser doesn't know: no function hears of it."""

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from shared.kernel import codec, http
from shared.kernel.problems import Unreadable


class Protocol(HttpToolsProtocol):
    """uvicorn's, which refuses in plain text; here by a problem document, as all else is."""

    def send_400_response(self, msg: str) -> None:
        """Refuse what can't be read, and hang up: nobody knows where the next request would begin."""
        request_id = http.new_request_id()
        problem = Unreadable("unreadable_request", "This is no HTTP request, or one of an unknown method.")
        body = codec.encode(problem.document(request_id), "json")
        answer = http.Answer(problem.status, body, http.PROBLEM_TYPE)
        answer.set("x-request-id", request_id)
        answer.set("content-length", str(len(body)))
        answer.set("connection", "close")
        head = b"".join([b"%b: %b\r\n" % field for field in [*self.server_state.default_headers, *answer.fields]])
        self.transport.write(b"HTTP/1.1 400 Bad Request\r\n%b\r\n%b" % (head, body))
        self.transport.close()
