"""First-party codec backends, one file each; they register through the entry-point group `vcframe`."""
