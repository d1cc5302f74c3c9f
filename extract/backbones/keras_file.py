"""The weights of a network that Keras saved: HDF5, named layer by layer, channels last."""

from pathlib import Path
from typing import Any


def read_keras(path: Path, *, from_bgr: bool = False) -> dict:
    """The tensors of a Keras weights file by name, as torch lays them out, in the layers' order.

    Parameters
    ----------
    path : Path
        Of a file whose checksum was compared: what it says of itself is believed.
    from_bgr : bool
        The network takes blue first: the first convolution's channels are turned round for ours.

    Returns
    -------
    dict of str to torch.Tensor
        Kernels are (out, in, height, width).
    """
    import h5py

    with h5py.File(path, "r") as file:
        layers = [file[name] for name in file.attrs["layer_names"]]
        tensors = {
            name.decode(): _as_torch(layer[name])
            for layer in layers
            for name in layer.attrs["weight_names"]
        }
    if from_bgr:
        first = next(iter(tensors))
        tensors[first] = tensors[first].flip(1)
    return tensors


def _as_torch(values: Any) -> Any:
    import torch

    tensor = torch.from_numpy(values[()])
    return tensor.permute(3, 2, 0, 1).contiguous() if tensor.ndim == 4 else tensor
