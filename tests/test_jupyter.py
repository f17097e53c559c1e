"The README's second command brings JupyterLab: does it start, and does a notebook's kernel see the package?"
import asyncio, json, subprocess, sys, time, urllib.request
from pathlib import Path

import pytest

from conftest import environment, free_port

ROOT = Path(__file__).resolve().parents[1]

pytestmark = pytest.mark.slow

def test_lab_starts_and_a_kernel_imports_the_package(tmp_path):
    pytest.importorskip("jupyterlab")
    from jupyter_client.asynchronous import AsyncKernelClient
    port, token = free_port(), "t0ken"
    server = subprocess.Popen([sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}", f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={ROOT}"],
                              env=environment() | dict(JUPYTER_RUNTIME_DIR=str(tmp_path), JUPYTER_CONFIG_DIR=str(tmp_path), HOME=str(tmp_path)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    def ask(path, data=None):
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, {"Authorization": f"token {token}"})
        return urllib.request.urlopen(request, timeout=30).read()
    try:
        end = time.monotonic() + 90
        while True:
            try: ask("/api/status"); break
            except OSError: assert server.poll() is None and time.monotonic() < end, server.communicate()[0]; time.sleep(0.3)
        assert b"JupyterLab" in ask("/lab")
        assert json.loads(ask("/api/contents/nbs/00_core.ipynb?content=0"))["type"] == "notebook"
        kernel = json.loads(ask("/api/kernels", b'{"name": "python3"}'))["id"]
        client = AsyncKernelClient(connection_file=str(next(tmp_path.glob(f"*{kernel}.json")))); client.load_connection_file(); client.start_channels()
        async def run(code):
            said = []
            reply = await client.execute_interactive(code, timeout=60, output_hook=lambda m: said.append(m["content"].get("text", "")))
            return reply["content"]["status"], "".join(said)
        assert asyncio.run(run("from gtsrb.core import CLASSES; print(len(CLASSES))")) == ("ok", "43\n")
        client.stop_channels()
    finally: server.terminate(); server.wait(30)
