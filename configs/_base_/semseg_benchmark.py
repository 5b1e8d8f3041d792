# The settings that Pointcept publishes for all benchmarks of semantic segmentation.
_base_ = ["./default_runtime.py"]

test = dict(type="SemSegTester", inference=dict(type="FragmentInference"))

batch_size = 12
enable_amp = True
