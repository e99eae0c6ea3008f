"""Fixtures that test files share."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from joblib.externals.loky import get_reusable_executor


@pytest.fixture(scope="module")
def no_workers_afterwards() -> Iterator[None]:
    """main() says what SIGTERM does and leaves idle workers to joblib; other tests should meet neither."""
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)
    get_reusable_executor().shutdown(wait=True, kill_workers=True)
