# SemanticKITTI from scratch with Point Transformer V3, with the rates that are published for nuScenes.
_base_ = ["../_base_/segmentor_ptv3.py", "../_base_/semseg_semantic_kitti.py"]

model = dict(num_classes=19, backbone=dict(in_channels=4))

optimizer = dict(lr=0.002, weight_decay=0.005)
scheduler = dict(max_lr=(0.002, 0.0002), pct_start=0.04, final_div_factor=100.0)
param_dicts = [dict(keyword="block", lr=0.0002)]
mix_prob = 0.8
