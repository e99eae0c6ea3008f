"""A server of S3 on this machine for tests: moto's, which keeps what it has while it is stopped."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

BUCKET = "results"
SECRET = "a-secret-that-nobody-may-find"


class S3:
    """The server; it listens on one port from the first start on."""

    def __init__(self) -> None:
        self.port = 0
        self.start()

    def start(self) -> None:
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=self.port, verbose=False)
        self._server.start()
        self.port = self._server.get_host_and_port()[1]

    def stop(self) -> None:
        self._server.stop()

    def environment(self) -> dict[str, str]:
        return {
            "AWS_ACCESS_KEY_ID": "somebody",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
        }

    def objects(self, prefix: str = "") -> dict[str, bytes]:
        """Name -> content, of all objects below a prefix."""
        client: Any = boto3.client("s3")
        listed = client.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])
        return {x["Key"]: client.get_object(Bucket=BUCKET, Key=x["Key"])["Body"].read() for x in listed}


@contextmanager
def serving() -> Iterator[S3]:
    """A server with an empty bucket, which this process and its children find by their environment."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = S3()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment().items():
            patch.setenv(name, value)
        patch.delenv("AWS_PROFILE", raising=False)
        boto3.client("s3").create_bucket(Bucket=BUCKET)
        try:
            yield server
        finally:
            server.stop()
