# One real RGB-D sequence of 7-Scenes and the smallest ConvNeXt: some frames are encoded, with their measured depth, and
# others rendered; the held-out frames are scored. The sequence is converted first, as docs/data/rgbd-sequences.md says.
_base_ = ["../demo/pretrain-ponder2d-convnext.py"]

_scene = dict(
    _delete_=True,
    type="RGBDSceneDataset",
    data_root="data/rgbd_sequences",
    split="train",
    segment_key=None,
    image_size=(120, 160),
    condition="7-Scenes",
)
_cloud = [
    dict(type="GridSample", grid_size=0.2),
    dict(type="CenterShift", apply_z=True),
    dict(type="Collect", feat_keys=("coord",), keys=("grid_coord",)),
]
data = dict(
    train=dict(**_scene, num_views=4, num_input_views=5, loop=20, transform=_cloud),
    val=dict(**_scene, view_split="heldout", num_views=8, num_input_views=8, transform=_cloud),
)

batch_size = 1
epoch = 24
eval_epoch = 2
