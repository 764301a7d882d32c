"""The obvious implementations: the place to read an algorithm first.

`ttt` is test-time training with masked autoencoders one image at a time, `palm` is PALM tensor by
tensor, and `corruptions` makes the corruptions one image at a time with NumPy, SciPy, OpenCV and
Pillow. The fast versions (`tttlib.ttt`, `tttlib.adapt.palm`, `tttlib.corruptions`) are tested and
timed against them.
"""
