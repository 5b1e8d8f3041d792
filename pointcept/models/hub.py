"""Finding a checkpoint: on the disk, or on the Hugging Face Hub, from which it is downloaded once."""

import re
from pathlib import Path

from pointcept.models.checkpoints import some_of

_SCHEME = "hf://"
_SUFFIXES = (".safetensors", ".pth")
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


def local_file(source: str | Path) -> Path:
    """The path of a checkpoint, after downloading it where it is named by a Hub id.

    Args:
        source: a path; ``hf://owner/name/path/in/repository``; or ``owner/name``, for a repository with one checkpoint
            or with a ``model.safetensors``. What exists on the disk is taken from there. Private repositories need
            ``hf auth login`` or ``HF_TOKEN``; ``HF_HUB_OFFLINE=1`` uses what was downloaded earlier.

    Raises:
        FileNotFoundError: the file is neither on the disk nor on the Hub, or the Hub cannot be reached.
        ValueError: the id is incomplete, or the repository has several checkpoints.
        ImportError: a Hub id needs huggingface_hub, which is not installed.
    """
    text = str(source)
    if text.startswith(_SCHEME):
        owner, _, rest = text.removeprefix(_SCHEME).partition("/")
        name, _, file = rest.partition("/")
        if not owner or not name:
            raise ValueError(f"A Hub id must be hf://owner/name/file: got {text!r}. Add what is missing.")
        return _downloaded(f"{owner}/{name}", file, text)
    path = Path(source)
    is_repository = isinstance(source, str) and _REPOSITORY.fullmatch(text) and path.suffix not in _SUFFIXES
    if is_repository and not path.exists():
        return _downloaded(text, "", text)
    return path


def _downloaded(repository: str, file: str, source: str) -> Path:
    try:
        import huggingface_hub
        from huggingface_hub.errors import HfHubHTTPError
    except ImportError as error:
        raise ImportError(
            f"A checkpoint on the Hugging Face Hub needs the package huggingface_hub: {source!r} was asked for. "
            "Install it with pip install huggingface_hub, or give the path of a file."
        ) from error
    try:
        if not file:
            file = _only_checkpoint(huggingface_hub.list_repo_files(repository), repository)
        return Path(huggingface_hub.hf_hub_download(repository, file))
    except (OSError, HfHubHTTPError, *transport_errors()) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise FileNotFoundError(
            f"A checkpoint must be a file or on the Hugging Face Hub: {source!r} is no file here and could not be "
            f"downloaded from {repository} ({reason}). Check the name, the network and, for private repositories, "
            "HF_TOKEN."
        ) from error


def _only_checkpoint(files: list[str], repository: str) -> str:
    checkpoints = sorted(file for file in files if file.endswith(_SUFFIXES))
    if "model.safetensors" in checkpoints:
        return "model.safetensors"
    if len(checkpoints) != 1:
        raise ValueError(
            f"A repository must have one checkpoint to be named without a file: {repository} has "
            f"{len(checkpoints)} ({some_of(checkpoints)}). Write {_SCHEME}{repository}/<file>."
        )
    return checkpoints[0]


def transport_errors() -> tuple[type[Exception], ...]:
    """What huggingface_hub lets through when there is no network; older versions use requests, whose are OSErrors."""
    try:
        import httpx
    except ImportError:
        return ()
    return (httpx.HTTPError,)
