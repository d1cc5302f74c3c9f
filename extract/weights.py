"""Where a network's weights come from: a file, read without running any code in it."""

import hashlib
import json
import os
import pickle
import zipfile
from collections.abc import Mapping
from io import BufferedReader
from pathlib import Path
from typing import Any

from extract.checkpoint import NAMES_SAID, Fit, fitting_tensors, largest
from extract.errors import ExtractError
from extract.files import opened

# as `torch.save` is called by people, and safetensors
FILE_SUFFIXES = (".pth", ".pt", ".ckpt", ".bin", ".pth.tar", ".pt.tar", ".safetensors")
EXPECTED = "expected a plain state dict, torch.save(model.state_dict(), 'weights.pth')"
MOST_HEADER = 1 << 24  # bytes that name the tensors of a safetensors file; ten thousand take 1.5 MB
MOST_RECORDS = 1 << 17  # files inside a torch file: one a tensor


def is_file_source(weights: str) -> bool:
    """Whether the text names a file of weights rather than an enum member."""
    return weights.lower().endswith(FILE_SUFFIXES)


def weights_file(weights: str) -> Path | None:
    """The file that these weights name, if they do; ExtractError when it is missing."""
    if not is_file_source(weights):
        return None
    path = Path(weights).expanduser()
    if not path.is_file():
        raise ExtractError(
            f"no weights file {weights}: expected a state dict or checkpoint "
            f"({', '.join(FILE_SUFFIXES)})"
        )
    return path


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load_file(network: Any, path: Path) -> tuple[set[str], Fit]:
    """Fill `network` from a state dict or training checkpoint.

    Which of its tensors are taken is said by `extract.checkpoint.fitting_tensors`; what is missing
    or of another shape is left out (a head for other classes, say), and layers that need it are
    refused later.

    Parameters
    ----------
    network : torch.nn.Module
    path : Path
        A file of one of FILE_SUFFIXES.

    Returns
    -------
    filled : set of str
        Names of the network's tensors that were filled.
    fit : Fit
        What of the file and of the network was left out.

    Raises
    ------
    ExtractError
        A file that can't be read without running code in it, or no tensor that fits.
    """
    found, target = _read(path), network.state_dict()
    tensors, fit = fitting_tensors(found, target)
    if not tensors:
        held = len(fit.unused) + len(fit.misshapen)
        if not held:
            raise _no_tensors(path)
        names = f"it has {fit.unused[0]}, the network {next(iter(target))}" if fit.unused else ""
        raise ExtractError(
            f"none of the {held} tensors in {path} fits this network "
            f"({next(iter(fit.misshapen), names)}): is it another architecture?"
        )
    network.load_state_dict(tensors, strict=False)
    return set(tensors), fit


def read_state_dict(path: Path) -> dict:
    """The tensors of a file by name, in its order: of the largest dict within it."""
    tensors = largest(_read(path))
    if not tensors:
        raise _no_tensors(path)
    return tensors


def _no_tensors(path: Path) -> ExtractError:
    classes = _foreign(path)
    names = ", ".join(" ".join(name.split())[:80] for name in classes[:NAMES_SAID])
    more = f" and {len(classes) - NAMES_SAID} more" if len(classes) > NAMES_SAID else ""
    whole = f", as a network pickled whole does, of {names}{more}" if classes else ""
    return ExtractError(f"{path} holds no tensors by name{whole}: {EXPECTED}")


class Unread:
    """Stands for what a checkpoint holds beside tensors and plain values: nothing of it is kept."""

    def __new__(cls, *arguments: Any) -> "Unread":
        """Take what another class was made with."""
        return super().__new__(cls)

    def __init__(self, *arguments: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...


def _foreign(path: Path) -> list[str]:
    """Names of the classes and functions that a torch file would call, but for torch's own."""
    import torch

    if not zipfile.is_zipfile(path):
        return []  # as torch wrote them before 1.6: only what torch knows is read of those
    return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))


def _read(path: Path) -> Any:
    """What a file holds; no code in it is run: what is of no class of torch is `Unread`."""
    import torch

    try:
        if path.suffix.lower() == ".safetensors":
            from safetensors.torch import load_file as load_safetensors

            _check_header(path)
            return load_safetensors(path)
        _check_records(path)
        with torch.serialization.safe_globals([(Unread, name) for name in _foreign(path)]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # torch would advise to run the code in it
        raise ExtractError(
            f"can't read weights from {path} without running code in it (it is no file of torch's, "
            f"or holds a dict or list of a class of its own); {EXPECTED}"
        ) from error
    # torch reads foreign bytes with a machine of its own, which fails in whatever way they make it
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        reason = "".join(c for c in reason if c.isprintable())
        raise ExtractError(f"can't read weights from {path}: {reason}; {EXPECTED}") from error


def _check_header(path: Path) -> None:
    """ValueError where a safetensors file names more than its bytes can hold."""
    with opened(path) as file:
        _header_bytes(file)


def _header_bytes(file: BufferedReader) -> int:
    """How many bytes name the tensors of a safetensors file, which is then at the first of them."""
    size = os.fstat(file.fileno()).st_size
    header = int.from_bytes(file.read(8), "little")
    if not 2 <= header <= min(size - 8, MOST_HEADER):
        raise ValueError(f"its header is said to have {header} bytes, the file has {size}")
    return header


def read_metadata(path: Path) -> dict[str, str]:
    """What a safetensors file says beside its tensors; torch is not needed for it.

    Raises ExtractError for what is no safetensors file.
    """
    try:
        with opened(path) as file:
            said = json.loads(file.read(_header_bytes(file)))
        own = said.get("__metadata__") or {}
        return {name: value for name, value in own.items() if isinstance(value, str)}
    # its header is whatever a stranger wrote
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ExtractError(f"can't read {path}: {reason}; expected a safetensors file") from error


def _check_records(path: Path) -> None:
    """ValueError where a torch file would unpack to more than it is; torch packs nothing."""
    if not zipfile.is_zipfile(path):
        return  # as torch wrote them before 1.6: what it says of sizes is read, not taken
    size = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        records = archive.infolist()
    if any(record.filename.endswith("/constants.pkl") for record in records):
        raise ValueError("it is a TorchScript program")
    packed = any(record.compress_type != zipfile.ZIP_STORED for record in records)
    declared = sum(record.file_size for record in records)
    if packed or declared > size or len(records) > MOST_RECORDS:
        raise ValueError(
            f"it would unpack to {declared} bytes in {len(records)} files, "
            f"expected at most its {size}"
        )


def tensors_digest(network: Any, names: set[str]) -> str:
    """Hex SHA-256 over name, type, shape and bytes of these tensors, in the order of names."""
    state = network.state_dict()
    return digest_of({name: state[name] for name in names})


def digest_of(tensors: Mapping[str, Any]) -> str:
    """Hex SHA-256 over name, type, shape and bytes of tensors, in the order of names."""
    import torch

    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def save_weights(backbone: Any, path: Path) -> None:
    """Write the tensors a backbone computes with as safetensors."""
    save_tensors(backbone.filled_tensors(), path)


def save_tensors(
    tensors: Mapping[str, Any], path: Path, metadata: dict[str, str] | None = None
) -> None:
    """Write tensors by name as safetensors, with what is said beside them.

    Raises OSError where the file can't be written.
    """
    from safetensors.torch import save

    # tensors that share their bytes are written as two
    own = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    # save_file writes under a name of its own, which a kill would leave, for its user's eyes alone,
    # and names the disk's errors in words
    path.write_bytes(save(own, metadata))
