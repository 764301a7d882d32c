"""Test-time training and continual test-time adaptation: the helper package of the study."""

__version__ = "0.1.0"
