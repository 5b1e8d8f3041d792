"""Pre-training of 2D image backbones by rendering."""
