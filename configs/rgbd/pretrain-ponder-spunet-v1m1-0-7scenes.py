# One real RGB-D sequence of 7-Scenes: the rays of some frames train, the held-out frames are scored.
# The sequence is converted first, as docs/data/rgbd-sequences.md says, to data/rgbd_sequences.
_base_ = ["../_base_/pretrain_ponder_indoor.py"]

_scene = dict(
    type="RGBDSceneDataset",
    data_root="data/rgbd_sequences",
    split="train",
    segment_key=None,
    image_size=(120, 160),
    condition="7-Scenes",
)
data = dict(train=dict(**_scene, loop=20), val=dict(**_scene, num_views=8))

batch_size = 1
epoch = 24
eval_epoch = 2
