"""The text encoder of a CLIP model on the disk."""

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor


class ClipTextEncoder:
    """The text half of a CLIP model in a local Hugging Face folder; nothing is downloaded.

    Args:
        folder: Holds ``config.json``, the weights and the tokenizer's files, as ``save_pretrained`` writes them.

    Raises:
        FileNotFoundError: there is no such folder, or files are missing in it.
        ValueError: it holds another kind of model.
        ImportError: ``transformers`` is not installed.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not (self.folder / "config.json").is_file():
            raise FileNotFoundError(
                f"A CLIP model must be a local folder with config.json: {self.folder} is none. Download one with "
                "huggingface-cli download openai/clip-vit-base-patch16 --local-dir FOLDER, or use --encoder one-hot."
            )
        try:
            from transformers import AutoConfig, CLIPTextModelWithProjection, CLIPTokenizer
        except ImportError as error:
            raise ImportError(
                "Text encoders need the package transformers, which is not installed: pip install pointcept[language]."
            ) from error
        kind = AutoConfig.from_pretrained(self.folder, local_files_only=True).model_type
        if kind not in ("clip", "clip_text_model"):
            raise ValueError(
                f"The text encoder must be a CLIP model: {self.folder} holds a {kind!r}. Choose a CLIP checkpoint."
            )
        try:
            self._tokenizer = CLIPTokenizer.from_pretrained(self.folder, local_files_only=True)
            self._model = CLIPTextModelWithProjection.from_pretrained(self.folder, local_files_only=True).eval()
        except OSError as error:
            raise FileNotFoundError(
                f"A CLIP folder must hold weights and the tokenizer's files: {self.folder} lacks some "
                f"({str(error).splitlines()[0]}). Download it completely."
            ) from error

    @property
    def name(self) -> str:
        """For the metadata of a table."""
        return f"CLIP text encoder, {self.folder.resolve().name}"

    @torch.no_grad()
    def __call__(self, texts: list[str]) -> Float[Tensor, "_N _D"]:
        """One embedding per text, in the space that CLIP shares with images.

        Raises:
            ValueError: a text is longer than the encoder reads.
        """
        tokens = self._tokenizer(texts, padding=True, return_tensors="pt")
        longest = self._model.config.max_position_embeddings
        if tokens["input_ids"].shape[1] > longest:
            raise ValueError(
                f"A prompt may have at most {longest} tokens: the longest of these has "
                f"{tokens['input_ids'].shape[1]}: {max(texts, key=len)!r}. Shorten the name or the template."
            )
        return self._model(**tokens).text_embeds
