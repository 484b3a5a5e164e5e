"""Files of the Hugging Face hub, in its own cache: HF_HOME, HF_ENDPOINT, HF_HUB_OFFLINE and HF_TOKEN are its own."""

import re
from pathlib import Path

from kcls.errors import KclsError
from kcls.weights.source import sha256


def download(repository: str, name: str, revision: str | None) -> Path:
    """The file of a repository, from the cache or the hub; an interrupted download leaves nothing that looks whole.

    Raises:
        KclsError: there is no such repository, revision or file, the hub cannot be reached, or the cache cannot be
            written.
    """
    try:
        from huggingface_hub import constants, errors, hf_hub_download
    except ImportError:
        raise KclsError("the Hugging Face hub needs: pip install 'kcls[hub]'") from None
    where = f"{constants.ENDPOINT}/{repository}"
    try:
        return Path(hf_hub_download(repository, name, revision=revision))
    except errors.GatedRepoError:
        raise KclsError(f"{where} asks for an agreement: accept it there, then set HF_TOKEN") from None
    except errors.RepositoryNotFoundError:
        raise KclsError(f"there is no {where} (or it needs HF_TOKEN)") from None
    except errors.RevisionNotFoundError:
        raise KclsError(f"{where} has no revision {revision!r}") from None
    except errors.LocalEntryNotFoundError:  # before EntryNotFoundError, its base
        reason = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else "the hub cannot be reached"
        raise KclsError(f"{reason} and {repository}/{name} is not in the cache {constants.HF_HUB_CACHE}") from None
    except errors.EntryNotFoundError:
        raise KclsError(f"{where} has no file {name}") from None
    except errors.HFValidationError as error:
        raise KclsError(f"{repository!r} cannot be the name of a repository: {error}") from None
    except PermissionError as error:
        raise KclsError(f"cannot write the cache {error.filename}: {error.strerror}; HF_HOME chooses another") from None
    except Exception as error:  # of the network, of which its client knows many kinds, or of the disk
        raise KclsError(f"cannot get {name} from {where}: {error}") from None


def verified(path: Path) -> str:
    """The SHA-256 of a file in the hub's cache, which keeps a large file under that very name.

    Raises:
        KclsError: the file is not what the hub promised.
    """
    blob, digest = path.resolve(), sha256(path)
    if re.fullmatch(r"[0-9a-f]{64}", blob.name) and blob.name != digest:
        raise KclsError(f"{blob} is damaged: its SHA-256 is {digest}; remove it, and it is downloaded again")
    return digest


def revision_of(path: Path) -> str | None:
    """The commit of a file in the hub's cache, .../snapshots/<commit>/<name>."""
    return path.parent.name if path.parent.parent.name == "snapshots" else None
