"""A local server with two operations of Lambda's API, GetFunction and Invoke, in front of a handler of this project."""

import base64
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

REPORT = (
    "START RequestId: 8f5a Version: $LATEST\nREPORT RequestId: 8f5a\tDuration: 4211.07 ms\tBilled Duration: 5532 ms\t"
    "Memory Size: 3008 MB\tMax Memory Used: 412 MB\tInit Duration: 1320.15 ms\t\n"
)
"""The end of a log, as Lambda returns it after a cold start."""


@dataclass
class LambdaApi:
    """A function behind Lambda's API.

    Attributes
    ----------
    function
        Called with each event. An exception becomes Lambda's `FunctionError`.
    refusals
        Errors of the next invocations: the HTTP status, and the error's code.
    invoked
        The names of the functions that were invoked.
    """

    function: Callable[[Any], Any]
    configuration: dict[str, Any]
    log: str = REPORT
    refusals: list[tuple[int, str, str]] = field(default_factory=list)
    invoked: list[str] = field(default_factory=list)
    endpoint: str = ""

    @contextmanager
    def serving(self) -> Iterator["LambdaApi"]:
        """Serve on a free port of the loopback address."""
        api = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(200, {"Configuration": api.configuration, "Code": {}})

            def do_POST(self) -> None:
                event = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                api.invoked.append(unquote(self.path.split("/")[3]))
                if api.refusals:
                    status, code, message = api.refusals.pop(0)
                    self._answer(status, {"Message": message, "Type": "User"}, {"x-amzn-ErrorType": code})
                    return
                headers = {"X-Amz-Executed-Version": "$LATEST"}
                if self.headers.get("X-Amz-Log-Type") == "Tail":
                    headers["X-Amz-Log-Result"] = base64.b64encode(api.log.encode()).decode()
                try:
                    answer = api.function(event)
                except Exception as error:  # noqa: BLE001 (as Lambda does)
                    headers["X-Amz-Function-Error"] = "Unhandled"
                    answer = {"errorMessage": str(error), "errorType": type(error).__name__}
                self._answer(200, answer, headers)

            def _answer(self, status: int, document: Any, headers: dict[str, str] | None = None) -> None:
                body = json.dumps(document).encode()
                self.send_response(status)
                for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        self.endpoint = f"http://127.0.0.1:{server.server_port}"
        try:
            yield self
        finally:
            server.shutdown()
            thread.join()
            server.server_close()
