"""Config files: reading, overriding, checking and writing them."""

from pointcept.config.dump import dump_config
from pointcept.config.files import load_config
from pointcept.config.language import Config
from pointcept.config.settings import RunSettings, validate_config

__all__ = ["Config", "RunSettings", "dump_config", "load_config", "validate_config"]
