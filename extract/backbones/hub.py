"""Files of the Hugging Face hub: from its cache on this machine, else fetched, unless offline."""

from collections.abc import Sequence
from pathlib import Path

from data.offline import is_offline
from extract.errors import ExtractError

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")


def hub_file(repository: str, names: Sequence[str] = WEIGHT_FILES) -> Path:
    """The first of these files that a repository of the hub has.

    It comes from the hub's cache on this machine where it lies there.

    Raises ExtractError, in one line that says what to do: offline and not there, an unknown or a
    gated repository, no such file, no connection.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    page = f"https://huggingface.co/{repository}"
    offline = is_offline()
    wanted = " or ".join(names)
    missing = 0
    for name in names:
        try:
            return Path(hf_hub_download(repository, name, local_files_only=offline))
        except LocalEntryNotFoundError as error:
            if not offline:
                raise _unreached(repository, wanted, error) from error
            missing += 1
        except EntryNotFoundError:
            missing += 1
        except HFValidationError as error:
            raise ExtractError(
                f"{repository!r} is no name of the hub: expected ORGANISATION/MODEL, or a folder"
            ) from error
        except GatedRepoError as error:
            raise ExtractError(
                f"{repository} is gated: accept its licence at {page} and run `hf auth login`, "
                "or name a folder that holds it"
            ) from error
        except RepositoryNotFoundError as error:
            raise ExtractError(
                f"the hub has no {repository} (or it is private): check the spelling, "
                "or name a folder that holds it"
            ) from error
        except (HfHubHTTPError, OSError) as error:
            raise _unreached(repository, wanted, error) from error
    if offline:
        raise ExtractError(
            f"offline, and {wanted} of {repository} is not on this machine: "
            "run `permafrost fetch` on one with a network and carry the folder, or name a folder"
        )
    raise ExtractError(f"{repository} has no {wanted}: choose another model, see {page}")


def _unreached(repository: str, wanted: str, error: Exception) -> ExtractError:
    said = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
    return ExtractError(
        f"could not fetch {wanted} of {repository} ({said}): name a folder that holds it, "
        'or use weights="random"'
    )
