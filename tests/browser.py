"""A browser that visits pages of a built book one after the other, and tells what a script found on each.

The pages come from a server of the test's own, which adds the script to them; what it finds is sent back there.
"""

from __future__ import annotations

import functools
import json
import os
import queue
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

#: No page takes longer on a slow machine.
SECONDS = 60
VISIT = """
<script src="/added.js"></script>
<script>
addEventListener("load", async () => {
  let told;
  try { told = await (async () => { %s })(); } catch (error) { told = {failed: String(error)}; }
  const next = await fetch("/told", {method: "POST", body: JSON.stringify({page: location.pathname, told})});
  const where = await next.text();
  if (where) location = where;
});
</script>
"""


def chromium() -> str:
    """The browser; the test is skipped where there is none."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    return found or pytest.skip("there is no Chromium; on Debian: apt install chromium")


def axe() -> Path:
    """axe-core's script, which `$KDNB_AXE` names; the test is skipped where it does not."""
    named = os.environ.get("KDNB_AXE", "")
    if not named:
        pytest.skip("$KDNB_AXE names no axe.min.js; `npm install axe-core` has one in node_modules/axe-core")
    return Path(named)


def visited(
    html: Path, pages: Sequence[str], script: str, added: Path | None = None, width: int = 1280
) -> dict[str, Any]:
    """What `script`, the body of an async function, returns on each of the pages, in the order of their visits."""
    told: queue.Queue[dict[str, Any]] = queue.Queue()
    handler = functools.partial(_Pages, pages=list(pages), script=VISIT % script, added=added, told=told, root=html)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with _browsing(f"http://127.0.0.1:{server.server_port}/{pages[0]}", width):
            answers = [told.get(timeout=SECONDS) for _ in pages]
    finally:
        server.shutdown()
        server.server_close()
    return {answer["page"].lstrip("/"): answer["told"] for answer in answers}


@contextmanager
def _browsing(address: str, width: int) -> Iterator[None]:
    with tempfile.TemporaryDirectory(prefix="kdnb-browser-", ignore_cleanup_errors=True) as place:
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        options += [f"--window-size={width},900", "--no-first-run", "--remote-debugging-port=0"]
        options += [f"--user-data-dir={place}"]
        browser = subprocess.Popen(
            [chromium(), *options, address], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            yield
        finally:
            browser.terminate()
            try:
                browser.wait(timeout=SECONDS)
            except subprocess.TimeoutExpired:
                browser.kill()
                browser.wait()


class _Pages(SimpleHTTPRequestHandler):
    """Files of the book; pages have the script, and what it posts leads the browser to the next page."""

    def __init__(self, *arguments: Any, pages: list[str], script: str, added: Path | None, told: Any, root: Path):
        self.pages, self.script, self.added, self.told = pages, script, added, told
        super().__init__(*arguments, directory=str(root))

    def do_GET(self) -> None:
        path = self.path.partition("?")[0].lstrip("/")
        if path == "added.js":
            self._answer(self.added.read_bytes() if self.added else b"", "text/javascript")
        elif path in self.pages:
            text = (Path(self.directory) / path).read_text(encoding="utf-8")
            self._answer(text.replace("</body>", self.script + "</body>").encode(), "text/html; charset=utf-8")
        else:
            super().do_GET()

    def do_POST(self) -> None:
        found = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.told.put(found)
        rest = self.pages[self.pages.index(found["page"].lstrip("/")) + 1 :]
        self._answer(f"/{rest[0]}".encode() if rest else b"", "text/plain")

    def _answer(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Quiet."""
