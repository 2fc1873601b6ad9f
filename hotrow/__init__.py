"""The `hotrow` command: everything else that is installed lies below this one name."""
