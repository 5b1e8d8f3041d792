# ScanNet from scratch with Point Transformer V3; -w starts from a pre-trained backbone.
_base_ = ["../_base_/segmentor_ptv3.py", "../_base_/semseg_scannet.py"]

model = dict(num_classes=20, backbone=dict(in_channels=6))

epoch = 800
param_dicts = [dict(keyword="block", lr=0.0006)]
