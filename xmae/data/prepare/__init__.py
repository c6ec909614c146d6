"""From recordings to a store of windows: find the files, read, cut, assemble."""
