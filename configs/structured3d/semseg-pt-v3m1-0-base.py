# Structured3D from scratch with Point Transformer V3, with the rates that are published for ScanNet.
_base_ = ["../_base_/segmentor_ptv3.py", "../_base_/semseg_structured3d.py"]

model = dict(num_classes=25, backbone=dict(in_channels=6))

epoch = 100
param_dicts = [dict(keyword="block", lr=0.0006)]
