"""A toolkit that pre-trains 3D and 2D backbones by differentiable rendering and measures what it was worth."""

from pointcept.config import load_config
from pointcept.model_zoo import create_model, list_models

__version__ = "0.1.0"

__all__ = ["__version__", "create_model", "list_models", "load_config"]
