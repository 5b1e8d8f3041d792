"""Small helpers without knowledge of points, models or training: processes, seeds, files, log output."""
