# A short real sequence of HoloLens frames: every third frame is held out and scored, the others train.
# Convert it with --holdout-every 3 (docs/data/rgbd-sequences.md).
_base_ = ["./pretrain-ponder-spunet-v1m1-0-7scenes.py"]

_scene = dict(data_root="data/hololens_sequences", holdout_every=3, condition="HoloLens")
data = dict(train=_scene, val=dict(**_scene, num_views=2))
