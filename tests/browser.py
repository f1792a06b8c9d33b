"""A headless Chromium for the slow tests, driven over the DevTools protocol: it sees what scripts draw."""

from __future__ import annotations

import asyncio
import base64
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any, Self

import aiohttp
import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)
ALL_TEXT = """(() => { const walk = node => {
  if (node.nodeType == 3) return node.data + ' ';
  if (node.nodeType != 1 || getComputedStyle(node).display == 'none') return '';
  return [...(node.shadowRoot ? node.shadowRoot.childNodes : []), ...node.childNodes].map(walk).join(''); };
  return walk(document.body).replace(/\\s+/g, ' '); })()"""


def chromium_or_skip() -> str:
    """Return the browser's path, or skip the test where there is none."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"no Chromium here ({', '.join(NAMES)}): apt-get install chromium")
    return found


class Chromium:
    """A browser with one page, closed at the end of `with`.

    Args:
        profile: folder for the browser's own files.
        width: of the window, in pixels.
        height: of the window.
    """

    def __init__(self, profile: Path, *, width: int = 1200, height: int = 1600) -> None:
        self.profile, self.size = profile, f"--window-size={width},{height}"
        self.loop = asyncio.new_event_loop()
        self.sent = 0

    def __enter__(self) -> Self:
        command = [chromium_or_skip(), *FLAGS, self.size, f"--user-data-dir={self.profile}", "about:blank"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            self.loop.run_until_complete(self._connect())
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.run_until_complete(self._disconnect())
        self._end()

    def open(self, url: str) -> None:
        """Go to a page and wait until it and what it names have loaded; `wait_for` waits for the scripts."""
        self.call("Page.navigate", url=url)
        self.wait_until("document.readyState == 'complete' && location.href != 'about:blank'")

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def text(self) -> str:
        """Return the text that the page shows, that in shadow roots included, which `--dump-dom` leaves out."""
        return self.evaluate(ALL_TEXT)

    def wait_until(self, expression: str, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not self.evaluate(expression):
            assert time.monotonic() < end, f"{expression}: not within {seconds:.0f} s"
            time.sleep(0.2)

    def wait_for(self, *words: str, seconds: float = 60) -> str:
        """Return the page's text once all words are in it."""
        end = time.monotonic() + seconds
        while missing := [word for word in words if word not in self.text()]:
            assert time.monotonic() < end, f"not on the page: {missing}\n{self.text()[:3000]}"
            time.sleep(0.3)
        return self.text()

    def screenshot(self, path: Path) -> Path:
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))
        return path

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        return self.loop.run_until_complete(self._call(method, params))

    async def _call(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        self.sent += 1
        await self.socket.send_json({"id": self.sent, "method": method, "params": params})
        while True:
            answer = await self.socket.receive_json(timeout=60)
            if answer.get("id") == self.sent:
                assert "error" not in answer, answer
                return answer["result"]

    async def _connect(self) -> None:
        file, end = self.profile / "DevToolsActivePort", time.monotonic() + 60
        while not (file.is_file() and "\n" in file.read_text()):
            assert self.process.poll() is None, "Chromium ended"
            assert time.monotonic() < end, "Chromium did not start"
            await asyncio.sleep(0.1)
        port = file.read_text().split()[0]
        self.session = aiohttp.ClientSession()  # takes no proxy from the environment
        async with self.session.get(f"http://127.0.0.1:{port}/json/list") as answer:
            pages = [target for target in await answer.json() if target["type"] == "page"]
        self.socket = await self.session.ws_connect(pages[0]["webSocketDebuggerUrl"], max_msg_size=0)

    async def _disconnect(self) -> None:
        await self.socket.close()
        await self.session.close()

    def _end(self) -> None:
        self.process.terminate()
        self.process.wait(30)
        self.loop.close()
