"""What vcframe relies on, checked on this codec: one case for each promise."""

import pytest
from vcframe_example import ExampleCodec

from vcframe.testing import Check, codec_checks


@pytest.mark.parametrize("check", codec_checks(ExampleCodec()))
def test_promise(check: Check) -> None:
    check()
