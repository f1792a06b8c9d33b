"""The signals that end the server."""

from __future__ import annotations

import signal


def ending_signals() -> list[int]:
    """Return SIGTERM, SIGINT and SIGHUP, which a terminal sends as it closes; not SIGHUP where `nohup` ignores it."""
    signals: list[int] = [signal.SIGTERM, signal.SIGINT]
    hangup = getattr(signal, "SIGHUP", None)  # Windows has none
    if hangup is not None and signal.getsignal(hangup) is not signal.SIG_IGN:
        signals.append(hangup)
    return signals
