"""Checking gradients by measuring slopes. The faces are `minidl.gradcheck` and `minidl.testing`."""
