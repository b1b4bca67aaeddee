"""Where the time goes: operators of two models aligned, causes of the difference, remedies."""
