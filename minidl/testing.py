"""What goes into a test file of your own: gradients asserted, and hypothesis strategies for images and convolutions.

    from hypothesis import given
    from minidl.testing import assert_gradients, images

    @given(images(values="apart"))
    def test_my_operation(x):
        assert_gradients(my_operation, x)

The strategies need hypothesis (the extra `test`); `assert_gradients` needs nothing but minidl.
"""
from minidl.checking.assertions import assert_gradients
from minidl.checking.report import GradcheckError, Report
from minidl.checking.strategies import (
                                        ConvGeometry,
                                        PoolGeometry,
                                        conv_geometries,
                                        image_shapes,
                                        images,
                                        make_array,
                                        pool_geometries,
)

__all__ = ["ConvGeometry", "GradcheckError", "Report", "PoolGeometry", "assert_gradients", "conv_geometries",
           "image_shapes", "images", "make_array", "pool_geometries"]
