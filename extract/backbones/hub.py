"""Files of the Hugging Face hub: from its cache on this machine, else fetched, unless offline."""

from collections.abc import Sequence
from pathlib import Path

from data.offline import NOT_ALLOWED, is_offline
from extract.backbones.download import HubAnswers
from extract.backbones.fetched import WEIGHTS_FOLDER, weights_folder
from extract.errors import ExtractError

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")


def hub_file(repository: str, typed: str, names: Sequence[str] = WEIGHT_FILES) -> Path:
    """The first of these files that a repository of the hub has.

    It comes from the hub's cache on this machine where it lies there.

    typed : the model as `permafrost fetch` takes it.

    Raises ExtractError, in one line that says what to do: offline and not there, an unknown or a
    gated repository, no such file, no connection.
    """
    wanted = " or ".join(names)
    for name in names:
        found = _file(HubAnswers(repository, carried(typed)), name)
        if found is not None:
            return found
    if is_offline():
        raise ExtractError(
            f"{wanted} of {repository} is not on this machine, and {NOT_ALLOWED}: {carried(typed)}"
        )
    raise ExtractError(f"{repository} has no {wanted}: choose another model")


def carried(typed: str) -> str:
    """What can be done where the hub can't be reached."""
    return (
        f"run `permafrost fetch {typed} --to DIR` where there is a network, and set "
        f"{WEIGHTS_FOLDER}=DIR here (looked in {weights_folder()})"
    )


def _file(answers: HubAnswers, name: str) -> Path | None:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    offline = is_offline()

    def download() -> Path | None:
        try:
            return Path(hf_hub_download(answers.repository, name, local_files_only=offline))
        except LocalEntryNotFoundError:
            if offline:
                return None
            raise  # the hub can't be reached
        except EntryNotFoundError:
            return None

    return answers(download)
