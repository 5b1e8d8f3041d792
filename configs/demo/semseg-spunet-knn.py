# Nearest-neighbour probe: points of the test rooms get the classes of the most similar features of the training rooms.
# Nothing is trained; the weights are those of a pre-training:
#   sh scripts/test.sh -c demo/semseg-spunet-knn -w exp/demo/pretrain-ponder-spunet/model/model_last.pth
from pointcept.config.blocks import scene_transforms

_base_ = ["./semseg-spunet.py"]

model = dict(
    _delete_=True,
    type="SpUNet-v1m1",
    in_channels=6,
    base_channels=24,
    channels=(24, 48, 64, 96, 96, 64, 48, 32),
    layers=(1, 1, 1, 1, 1, 1, 1, 1),
    norm_momentum=0.1,
)

_rooms = dict(type="SyntheticRoomDataset", data_root="data/synthetic_rooms", num_train=96, num_val=4, num_views=0)
_transform = scene_transforms(0.06, ("color", "normal"))["val"]
data = dict(test=dict(transform=_transform))
test = dict(
    _delete_=True,
    type="KNNProbe",
    memory=dict(**_rooms, split="train", transform=_transform),
    evaluator=dict(type="SemSegEvaluator", num_classes=20, class_names="scannet20"),
)
