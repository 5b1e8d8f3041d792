"""Embeddings of class names by text encoders."""

from pointcept.language.prompts import INDOOR_TEMPLATES, class_embeddings

__all__ = ["INDOOR_TEMPLATES", "class_embeddings"]
