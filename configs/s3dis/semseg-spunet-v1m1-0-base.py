# S3DIS from scratch with SparseUNet, as Pointcept publishes it: 5 cm voxels, position and colour as features; tested on
# Area 5. For 6-fold cross-validation change the three splits.
from pointcept.config.blocks import scene_transforms

_base_ = ["../_base_/segmentor_spunet.py", "../_base_/semseg_s3dis.py"]

model = dict(backbone=dict(in_channels=6, num_classes=13))

_grid_size = 0.05
_transforms = scene_transforms(_grid_size, ("coord", "color"), crops=[dict(point_max=100000)], elastic=True)
data = dict(train=dict(transform=_transforms["train"]), val=dict(transform=_transforms["val"]))
test = dict(inference=dict(grid_size=_grid_size, post_transform=_transforms["fragment"]))

epoch = 3000
optimizer = dict(type="SGD", lr=0.1, momentum=0.9, weight_decay=0.0001, nesterov=True)
scheduler = dict(type="PolyLR")
