"""The obvious implementations: what the library is tested against and timed against."""
