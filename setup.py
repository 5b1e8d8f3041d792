"""Packaging: what is installed, and what each extra adds."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent

# The scripts read these two literals to see whether an environment is complete.
CORE = [
    "torch>=2.8",
    "torchvision",
    "timm>=1.0",
    "numpy>=1.26",
    "scipy>=1.11",
    "einops>=0.7",
    "addict>=2.4",
    "pillow>=10",
    "safetensors>=0.4",
    "tensorboard>=2.15",
    "plyfile>=1.0",
    "jaxtyping>=0.2.34",
    "tqdm",
    "scikit-image>=0.22",
]
EXTRAS = {
    "spconv": ["spconv-cu120; python_version < '3.12'", "spconv-cu126; python_version >= '3.12'"],
    "triton": ["spconv-triton"],
    "cluster": ["torch-cluster"],
    "las": ["laspy[lazrs]>=2.5"],
    "plots": ["matplotlib>=3.8"],
    "language": ["transformers>=4.45"],
    "dev": [
        "pytest>=8",
        "pytest-xdist>=3.5",
        "beartype>=0.18",
        "ruff>=0.9",
        "playwright>=1.45",
        "laspy[lazrs]>=2.5",
        "matplotlib>=3.8",
        "transformers>=4.45",
    ],
    "docs": ["mkdocs>=1.6", "mkdocs-material>=9.5"],
}


def version() -> str:
    """The one written in the package."""
    text = (ROOT / "pointcept" / "__init__.py").read_text(encoding="utf-8")
    return re.search(r'^__version__ = "(.+)"$', text, flags=re.MULTILINE).group(1)


def readme() -> str:
    """The front page, where there is one."""
    path = ROOT / "README.md"
    return path.read_text(encoding="utf-8") if path.is_file() else ""


setup(
    name="pointcept",
    version=version(),
    description="Rendering pre-training of 3D and 2D backbones",
    long_description=readme(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=["pointcept", "pointcept.*", "ponder2d", "ponder2d.*"]),
    package_data={"pointcept.ops.sparse": ["native.c"], "pointcept.visualization.inspect": ["page/*"]},
    install_requires=CORE,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["pointcept-train = pointcept.train:main"]},
)
