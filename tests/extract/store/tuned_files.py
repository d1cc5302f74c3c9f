"""What tuning leaves in a cache, of a network of two tensors."""

import json

import torch

from extract.files import write_remembered, write_sealed
from extract.weights import digest_of, file_sha256, save_tensors

KEY = "0123456789abcdef" * 2


def write_tuned_files(cache, key=KEY):
    """The weights of a network, the history of its training, and a training that is not over."""
    folder = cache / "tuned"
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {"layer.weight": torch.arange(60.0).view(6, 10), "layer.bias": torch.zeros(6)}
    network = folder / f"{key}.safetensors"
    said = {"schema": 1, "digest": digest_of(tensors)}
    save_tensors(tensors, network, {"permafrost": json.dumps(said)})
    write_remembered(folder / f"{key}.json", {"sha256": file_sha256(network), "best": 3})
    write_sealed(folder / f"{key}.checkpoint", bytes(range(200)))
    return network
