# Three real frames of PandaSet and the smallest ConvNeXt on a CPU: two frames train, the third is scored.
_base_ = ["./pretrain-ponder2d-convnext-nuscenes.py"]

_cloud = [
    dict(type="GridSample", grid_size=0.5),
    dict(type="Collect", feat_keys=("strength",), keys=("grid_coord",)),
]
_frames = dict(
    _delete_=True,
    type="PandaSetDrivingDataset",
    data_root="data/pandaset",
    image_size=(128, 352),
    max_range_m=50.0,
    transform=_cloud,
)
data = dict(train=dict(**_frames, split=("002/00", "002/01"), loop=20), val=dict(**_frames, split=("002/02",)))
