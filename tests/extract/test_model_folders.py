"""Models of the hub: from its cache, fetched once, and what is said where that fails."""

import contextlib
import hashlib
import http.server
import shutil
import threading
from pathlib import Path
from typing import ClassVar

import huggingface_hub
import pytest
from huggingface_hub import constants

from data.offline import offline_where
from extract import ExtractError, load_backbone
from extract.backbones import names as names_file
from extract.backbones.fetched import Fetched, FetchedFile, write_record
from extract.backbones.model_folders import find_checkpoint
from extract.weights import file_sha256
from tests.extract.encoders import make_encoder, write_encoder

COMMIT = "0" * 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("vit")
    write_encoder(made, "vit")
    return made


class Hub(http.server.BaseHTTPRequestHandler):
    """Answers as the hub does for `lab/NAME`: those of `files`, and the faults of `refused`."""

    files: ClassVar[dict[str, Path]] = {}
    refused: ClassVar[dict[str, tuple[int, str]]] = {}
    asked: ClassVar[list[str]] = []

    def do_HEAD(self):
        self.answer(with_body=False)

    def do_GET(self):
        self.answer(with_body=True)

    def answer(self, with_body):
        self.asked.append(f"{self.command} {self.path}")
        name, _, file = self.path.removeprefix("/lab/").partition("/resolve/main/")
        refused = self.refused.get(name, (404, "RepoNotFound"))
        body = b""
        if name in self.files:
            path = self.files[name] / file
            refused = None if path.is_file() else (404, "EntryNotFound")
            body = path.read_bytes() if path.is_file() else b""
        self.send_response(refused[0] if refused else 200)
        if refused:
            self.send_header("X-Error-Code", refused[1])
            self.send_header("X-Error-Message", "said by the hub")
        else:
            self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(tmp_path, monkeypatch, folder):
    """A hub on this machine with `lab/vit`; its cache is empty."""
    monkeypatch.setattr(names_file, "_shared", type(names_file._shared)())
    monkeypatch.setattr(Hub, "files", {"vit": folder})
    monkeypatch.setattr(
        Hub, "refused", {"gated": (403, "GatedRepo"), "hidden": (401, "RepoNotFound")}
    )
    monkeypatch.setattr(Hub, "asked", [])
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    set_place(monkeypatch, tmp_path / "cache", f"http://127.0.0.1:{server.server_port}")
    yield Hub
    server.shutdown()
    server.server_close()


def set_place(monkeypatch, cache, endpoint):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


def test_a_model_of_the_hub_is_fetched_once_and_without_a_bar(hub, folder, capfd):
    digest = load_backbone("hf:lab/vit").card.digest
    assert digest == load_backbone(f"hf:{folder}").card.digest
    assert not huggingface_hub.utils.are_progress_bars_disabled()
    assert any("model.safetensors" in line for line in hub.asked)
    assert not any("pytorch_model" in line for line in hub.asked)
    hub.asked.clear()
    names_file._shared.clear()
    assert load_backbone("hf:lab/vit").card.digest == digest
    assert hub.asked == []
    assert capfd.readouterr().err == ""


def test_random_weights_fetch_none(hub):
    assert load_backbone("hf:lab/vit", "random").card.first_untrained is None
    assert not any("model" in line for line in hub.asked)


def test_the_parts_of_a_large_model_are_fetched(hub, tmp_path):
    parts = tmp_path / "parts"
    make_encoder("vit").save_pretrained(parts, max_shard_size="20KB")
    hub.files["parts"] = parts
    found = find_checkpoint("lab/parts", with_weights=True)
    assert len(found.weights) == len([*parts.glob("model-*.safetensors")]) > 2
    assert found.processor is None
    # one lost of the cache is fetched again
    found.weights[1].unlink()
    assert len(find_checkpoint("lab/parts", with_weights=True).weights) == len(found.weights)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("lab/vitt", "the hub knows no model lab/vitt, .* the spelling"),
        ("lab/hidden", "log in with `hf auth login`"),
        ("lab/gated", "accept its terms .* log in with `hf auth login`"),
        ("lab/empty", "lab/empty has no config.json"),
        ("lab/weightless", "lab/weightless has no model.safetensors"),
        ("lab/gone/vit", "no such folder"),
        ("./gone", "no such folder"),
        ("gone folder", "no such folder"),
        ("", "no such folder"),
    ],
)
def test_what_is_not_there_is_said_in_one_line(hub, tmp_path, folder, name, said):
    for other in ("empty", "weightless"):
        (tmp_path / other).mkdir()
        hub.files[other] = tmp_path / other
    shutil.copy(folder / "config.json", tmp_path / "weightless")
    with pytest.raises(ExtractError, match=said) as caught:
        load_backbone(f"hf:{name}")
    assert "\n" not in str(caught.value)


def test_offline_nothing_is_asked_and_what_lacks_is_named(hub, tmp_path):
    lacking = pytest.raises(ExtractError, match=r"^config.json of lab/vit is not on this machine")
    with offline_where(True), lacking:
        load_backbone("hf:lab/vit")
    assert hub.asked == []
    digest = load_backbone("hf:lab/vit").card.digest
    names_file._shared.clear()
    [weights] = (tmp_path / "cache").rglob("snapshots/*/model.safetensors")
    with offline_where(True):
        assert load_backbone("hf:lab/vit").card.digest == digest
        weights.unlink()
        with pytest.raises(ExtractError, match=r"^model.safetensors .* is not on this machine"):
            load_backbone("hf:lab/vit")


def test_a_fetched_model_comes_before_the_hub(hub, folder, tmp_path, monkeypatch):
    monkeypatch.setenv("PERMAFROST_WEIGHTS", str(tmp_path / "fetched"))
    place = tmp_path / "fetched" / "hf" / "vit"
    shutil.copytree(folder, place)
    files = {
        path.name: FetchedFile(path.stat().st_size, file_sha256(path)) for path in place.iterdir()
    }
    write_record(Fetched(place, "hf", "lab/vit", "DEFAULT", "the hub", files=files))
    assert load_backbone("hf:lab/vit").card.digest == load_backbone(f"hf:{folder}").card.digest
    assert hub.asked == []


def test_no_hub_is_said_in_one_line(monkeypatch, tmp_path):
    set_place(monkeypatch, tmp_path, "http://127.0.0.1:9")
    monkeypatch.setattr("time.sleep", lambda _: None)  # it tries again
    with contextlib.suppress(AttributeError):
        huggingface_hub.close_session()
    with pytest.raises(ExtractError, match=r"the files of lab/vit can't be brought") as caught:
        load_backbone("hf:lab/vit")
    assert "\n" not in str(caught.value)


def test_a_file_is_no_folder(folder):
    with pytest.raises(ExtractError, match="is a file: expected the folder around it"):
        load_backbone(f"hf:{folder / 'model.safetensors'}")
