"""What losses may ask of a host's dense head, whatever its outputs look like."""
