"""Options of the tools, without anything heavy: help and mistakes in a command must not wait for torch."""
