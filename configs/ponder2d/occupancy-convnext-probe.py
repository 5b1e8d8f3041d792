# Semantic occupancy on a frozen backbone: neck, lifting and the volume's network train, as the task needs them.
_base_ = ["./occupancy-convnext.py"]

model = dict(freeze_backbone=True)
