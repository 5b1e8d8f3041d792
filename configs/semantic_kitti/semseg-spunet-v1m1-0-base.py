# SemanticKITTI from scratch with SparseUNet.
_base_ = ["../_base_/segmentor_spunet.py", "../_base_/semseg_semantic_kitti.py"]

model = dict(backbone=dict(in_channels=4, num_classes=19))

optimizer = dict(type="AdamW", lr=0.002, weight_decay=0.005)
scheduler = dict(type="OneCycleLR", max_lr=0.002, pct_start=0.04, div_factor=10.0, final_div_factor=100.0)
