"""The options of each verb, a file each, composed of the groups in ``optkit.options``."""
