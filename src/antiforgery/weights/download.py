"""Downloads one file of weights: resumes what was begun, checks it, then gives it its name."""

from __future__ import annotations

import http.client
import ssl
import urllib.error
import urllib.request
from typing import IO, TYPE_CHECKING
from urllib.parse import urlsplit

from antiforgery.errors import WeightsError
from antiforgery.weights.reference import WeightsRef, sha256_of

if TYPE_CHECKING:
    from email.message import Message
    from pathlib import Path

CHUNK = 1 << 18
TIMEOUT_SECONDS = 30
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_RANGE_REFUSED = http.client.REQUESTED_RANGE_NOT_SATISFIABLE
_NETWORK_ERRORS = (
    urllib.error.URLError,
    http.client.HTTPException,
    ConnectionError,
    TimeoutError,
    ssl.SSLError,
)


def download(ref: WeightsRef, target: Path) -> None:
    """Fetch ``ref.url`` to ``target``, which appears only when it is complete and checked.

    What arrives is kept as ``NAME.part`` until then, so that a later call goes on from there.
    The caller holds a lock on ``target``.

    Raises:
        WeightsError: The server cannot be reached, stops early, or sends something else.
        OSError: The disk refuses.
    """
    url = ref.url or ""
    part = target.with_name(target.name + ".part")
    received = part.stat().st_size if part.is_file() else 0
    if received < ref.bytes:
        try:
            _fetch(url, part, received, ref.bytes)
        except _NETWORK_ERRORS as error:
            if isinstance(error, urllib.error.HTTPError):
                error.close()
                if error.code == _RANGE_REFUSED:
                    part.unlink(missing_ok=True)
            reason = error.reason if type(error) is urllib.error.URLError else error
            raise WeightsError(
                f"cannot download {url}: {reason}; run again to go on, or put the file at {target} "
                f"({ref.bytes} bytes, sha256 {ref.sha256}, licence: {ref.licence})"
            ) from error
    _accept(ref, part, target)


def _fetch(url: str, part: Path, received: int, expected: int) -> None:
    headers = {"User-Agent": "antiforgery", "Accept-Encoding": "identity"}
    if received:
        headers["Range"] = f"bytes={received}-"
    _require_safe(url)
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - checked above
    opener = urllib.request.build_opener(_SafeRedirects)
    with opener.open(request, timeout=TIMEOUT_SECONDS) as response:
        goes_on = response.status == http.client.PARTIAL_CONTENT
        if goes_on and not _starts_at(response.headers, received):
            raise http.client.HTTPException("the server sent another part than was asked for")
        size = received if goes_on else 0
        with part.open("ab" if goes_on else "wb") as file:
            # One byte more than expected is enough to know that it is not the file.
            while size <= expected and (chunk := response.read(CHUNK)):
                file.write(chunk)
                size += len(chunk)


def _starts_at(headers: Message, offset: int) -> bool:
    return str(headers.get("Content-Range", "")).startswith(f"bytes {offset}-")


def _accept(ref: WeightsRef, part: Path, target: Path) -> None:
    size = part.stat().st_size
    if size < ref.bytes:
        raise WeightsError(
            f"the download of {ref.url} stopped after {size} of {ref.bytes} bytes: "
            f"run again to go on"
        )
    found = sha256_of(part)
    if size == ref.bytes and found == ref.sha256:
        part.replace(target)
        return
    part.unlink()
    raise WeightsError(
        f"what {ref.url} sent is not the file that is wanted: {size} bytes with sha256 {found} "
        f"instead of {ref.bytes} bytes with {ref.sha256}; nothing was kept"
    )


def _require_safe(url: str) -> None:
    """Let https pass, and http only from this very machine."""
    parts = urlsplit(url)
    if parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK):
        return
    raise WeightsError(f"weights are downloaded by https only, so {url} was not opened")


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows a redirect only to where a download may start."""

    def redirect_request(  # noqa: PLR0917 - the signature is the standard library's
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        """Refuse unsafe addresses, then do as usual."""
        try:
            _require_safe(newurl)
        except WeightsError:
            fp.close()
            raise
        return super().redirect_request(req, fp, code, msg, headers, newurl)
