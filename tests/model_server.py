"""A real `vllm serve` on loopback, to be started, killed and started again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx

KEY = "sk-test-7c1f0e9ab2"
START = 240.0
"""Seconds for vLLM to start on a busy machine."""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
    return port


class VllmServer:
    """One process group: the API server and its engine."""

    def __init__(self, model: Path, adapters: Mapping[str, Path], log: Path, further: Sequence[str] = ()) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self._log = log
        modules = [f"{name}={path}" for name, path in adapters.items()]
        lora = ["--enable-lora", "--max-lora-rank", "8", "--lora-modules", *modules] if adapters else []
        # `python -m` and not `vllm serve`, which asks for metadata that the build for CPUs has under another name.
        self._command = [
            *(sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model)),
            *("--served-model-name", "tiny", "--host", "127.0.0.1", "--port", str(self.port)),
            *("--dtype", "float32", "--enforce-eager", "--no-enable-chunked-prefill", *lora, *further),
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, wait: bool = True) -> None:
        quiet = {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1", "PYTHONWARNINGS": "ignore"}
        cpu = {
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_CPU_NUM_OF_RESERVED_CPU": "0",
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        }
        environment = os.environ | quiet | cpu | {"OMP_NUM_THREADS": "1", "VLLM_API_KEY": KEY}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=log, env=environment, start_new_session=True
            )
        if wait:
            self.wait()

    def wait(self) -> None:
        """Until it answers."""
        assert self._process is not None
        until = time.monotonic() + START
        while time.monotonic() < until:
            assert self._process.poll() is None, self._log.read_text("utf-8", "replace")[-3000:]
            try:
                with httpx.Client(trust_env=False) as client:
                    if client.get(f"http://127.0.0.1:{self.port}/health").status_code == 200:
                        return
            except httpx.TransportError:
                pass
            time.sleep(0.2)
        raise AssertionError(self._log.read_text("utf-8", "replace")[-3000:])

    def kill(self) -> None:
        """SIGKILL, to all of it."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None
