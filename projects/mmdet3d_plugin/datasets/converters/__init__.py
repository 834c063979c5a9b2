"""From the files of public datasets to the info files of this project."""
