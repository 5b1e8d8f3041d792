# Structured3D from scratch with SparseUNet.
_base_ = ["../_base_/segmentor_spunet.py", "../_base_/semseg_structured3d.py"]

model = dict(backbone=dict(in_channels=6, num_classes=25))

epoch = 100
optimizer = dict(type="SGD", lr=0.05, momentum=0.9, weight_decay=0.0001, nesterov=True)
scheduler = dict(type="OneCycleLR", max_lr=0.05, pct_start=0.05, div_factor=10.0, final_div_factor=10000.0)
