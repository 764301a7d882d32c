"""What the adaptation methods share: the adapter, its optimisers, losses, statistics and views."""
