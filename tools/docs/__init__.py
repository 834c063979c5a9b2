"""What writes and builds the documentation: tables from benchmarks/, lists of modules, the site."""
