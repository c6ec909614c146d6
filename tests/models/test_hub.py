"""The layout of model hubs: on a folder without a network, and against a hub of our own."""

import base64
import json
import socket
import threading
from hashlib import sha1
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
import yaml
from huggingface_hub import constants

import xmae
from xmae.cli import main
from xmae.errors import UserError
from xmae.evaluation.heads.heads import heads_of
from xmae.models.hub import HubEncoder

PPG = torch.linspace(-1, 1, 1000).repeat(2, 1, 1)


class Hub(BaseHTTPRequestHandler):
    """Enough of a hub to take a repository and give it back."""

    files = {}  # of the one repository, by name

    def log_message(self, *words):
        pass

    def answer(self, status=200, body=b"", **headers):
        self.send_response(status)
        for name, value in ({"Content-Length": len(body)} | headers).items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def as_json(self, value):
        self.answer(200, json.dumps(value).encode(), Content_Type="application/json")

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        name = self.path.rpartition("/resolve/main/")[2]
        if not self.path.startswith("/org/pulse/resolve/main/") or name not in self.files:
            code = "EntryNotFound" if self.path.startswith("/org/pulse/") else "RepoNotFound"
            return self.answer(404, X_Error_Code=code)
        body = self.files[name]
        tag = f'"{sha1(body).hexdigest()}"'
        return self.answer(200, body, ETag=tag, X_Repo_Commit="c" * 40)

    def do_POST(self):
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else self.chunks()
        if self.path.endswith("/preupload/main"):
            names = [file["path"] for file in json.loads(body)["files"]]
            modes = {"uploadMode": "regular", "shouldIgnore": False, "oid": None}
            return self.as_json({"files": [{"path": name} | modes for name in names]})
        if "/commit/main" in self.path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    content = base64.b64decode(line["value"]["content"])
                    self.files[line["value"]["path"]] = content
            url = f"http://{self.headers['Host']}/org/pulse/commit/" + "c" * 40
            return self.as_json({"commitUrl": url, "commitOid": "c" * 40, "success": True})
        if self.path == "/api/validate-yaml":
            return self.as_json({"errors": [], "warnings": []})
        url = f"http://{self.headers['Host']}/org/pulse"
        return self.as_json({"url": url, "name": "org/pulse", "id": "org/pulse"})

    def chunks(self):
        """Return a body that is sent in chunks."""
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        return body


@pytest.fixture
def endpoint(monkeypatch, tmp_path):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", url)
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", "hf_of_nobody")
    Hub.files = {}
    yield url
    server.shutdown()
    server.server_close()


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*words, **settings):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)


@torch.no_grad()
def test_a_folder_needs_no_network(tmp_path, no_network, capsys):
    folder = tmp_path / "pulse"
    assert main(["publish", str(folder), "--model", "student-mcu-s"]) == 0
    assert "config.json" in capsys.readouterr().err
    assert {path.name for path in folder.iterdir()} == {
        "config.json", "model.safetensors", "heads.json", "README.md"
    }  # fmt: skip
    assert heads_of(folder) == heads_of("student-mcu-s") != {}
    wanted = xmae.load("student-mcu-s")(PPG)
    for encoder in (
        xmae.load(str(folder)),
        xmae.from_pretrained(folder),
        HubEncoder.from_pretrained(folder),
    ):
        torch.testing.assert_close(encoder(PPG), wanted, rtol=0, atol=0)
    config = json.loads((folder / "config.json").read_text())
    assert config["model_type"] == "xmae" and config["config"]["tier"] == "mcu-s"
    card = (folder / "README.md").read_text()
    meta = yaml.safe_load(card.split("---")[1])
    assert meta["license"] == "apache-2.0" and meta["library_name"] == "xmae"
    assert "ppg" in meta["tags"] and meta["pipeline_tag"] == "feature-extraction"
    assert "/" not in json.dumps(config["provenance"].get("settings", {}).get("data", ""))


@torch.no_grad()
def test_up_to_a_hub_and_back(endpoint, tmp_path, capsys, monkeypatch):
    words = ["publish", str(tmp_path / "pulse"), "--model", "student-mcu-s", "--to", "org/pulse"]
    assert main(words) == 0, capsys.readouterr().err
    assert {"config.json", "model.safetensors", "heads.json", "README.md"} <= Hub.files.keys()
    wanted = xmae.load("student-mcu-s")(PPG)
    torch.testing.assert_close(xmae.load("hf://org/pulse")(PPG), wanted, rtol=0, atol=0)
    assert heads_of("hf://org/pulse") == heads_of("student-mcu-s") != {}
    # once it was there, the cache serves while the hub cannot be reached
    gone = "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", gone)
    torch.testing.assert_close(xmae.load("hf://org/pulse")(PPG), wanted, rtol=0, atol=0)
    assert heads_of("hf://org/pulse") != {}


def test_a_name_on_a_hub_without_heads(endpoint, tmp_path):
    assert main(["publish", str(tmp_path / "pulse"), "--model", "student-mcu-s"]) == 0
    Hub.files = {"model.safetensors": (tmp_path / "pulse" / "model.safetensors").read_bytes()}
    assert heads_of("hf://org/pulse") == {}


def test_what_a_hub_does_not_have_is_one_line(endpoint):
    for name in ("hf://org/other", "hf://pulse", "hf://org/pulse/more"):
        with pytest.raises(UserError, match=f"{name}: (not to be had|expected hf://)"):
            xmae.load(name)
