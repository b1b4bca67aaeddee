"""OpenVINO IR: read without OpenVINO, with names that stay the same from one conversion to the next."""
