"""Requests to other servers, for plugins whose manifest names them under `[http]`, in actions.

    answer = http.get("https://api.example.com/weather", params={"city": city}, headers={"accept": "application/json"})
    if answer.ok:
        return answer.json()["temperature"]

An action has five seconds, which the other server may take for itself: let the manifest say more, as
`action = "30s"` under `[limits]`. A mutation may be run again, and then sends again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from json import JSONDecodeError, loads
from typing import Any
from urllib.parse import urlencode

from . import host
from .errors import Failed
from .table import to_json


@dataclass(frozen=True)
class Response:
    """What came back, whatever its status says."""

    status: int
    headers: dict[str, str]
    """By their names in lower case. Those of one name are joined by `, `."""
    body: bytes

    @property
    def ok(self) -> bool:
        """Whether the status is of the two hundreds."""
        return 200 <= self.status < 300

    @property
    def text(self) -> str:
        """What came, read as UTF-8; what is none becomes U+FFFD."""
        return self.body.removeprefix(b"\xef\xbb\xbf").decode(errors="replace")

    def json(self) -> Any:
        """What came, read as JSON; raises `Failed` when it is none."""
        try:
            return loads(self.text)
        except (JSONDecodeError, RecursionError) as error:
            raise Failed(f"the answer ({self.status}) is not JSON: {error}") from error


_NOTHING: Any = object()
"""What `json` is when it is not given; `None` is a value of JSON."""


def request(
    method: str,
    url: str,
    *,
    params: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
    body: str | bytes = b"",
    json: Any = _NOTHING,
) -> Response:
    """Sends a request to an absolute URL, and waits for the whole answer.

    `params` are added to the URL's query, `body` is a text (sent as UTF-8) or bytes, `json` a value that is
    sent as JSON instead. A redirect is an answer, and not followed. Raises `Denied` for a host that was not
    granted, `Invalid` for what is no request, `Failed` when there is no answer.
    """
    if params:
        url += ("&" if "?" in url else "?") + urlencode(params, doseq=True)
    fields = list((headers or {}).items())
    if json is not _NOTHING:
        body = to_json(json)
        if not any(name.lower() == "content-type" for name, _ in fields):
            fields.append(("content-type", "application/json"))
    content = body.encode() if isinstance(body, str) else bytes(body)
    wit = host.http
    sent = wit.Request(method, url, [wit.Header(name, str(value)) for name, value in fields], content)
    answer = host.ask(wit.send, sent)
    joined: dict[str, str] = {}
    for header in answer.headers:
        joined[header.name] = f"{joined[header.name]}, {header.value}" if header.name in joined else header.value
    return Response(answer.status, joined, bytes(answer.body))


def get(url: str, *, params: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None) -> Response:
    """A request for what is there."""
    return request("GET", url, params=params, headers=headers)


def post(
    url: str,
    *,
    params: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
    body: str | bytes = b"",
    json: Any = _NOTHING,
) -> Response:
    """A request that sends something."""
    return request("POST", url, params=params, headers=headers, body=body, json=json)
