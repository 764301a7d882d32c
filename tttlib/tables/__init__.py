"""Tables for readers, made from result rows: accuracies, errors, streams, sizes, claims."""
