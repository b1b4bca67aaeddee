"""The quantizers: the members of the table in ``optkit.quantization.quantizer``, by engine and method."""
