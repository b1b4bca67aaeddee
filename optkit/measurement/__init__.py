"""Models in processes of their own: timed, loaded, assessed and compared side by side."""
