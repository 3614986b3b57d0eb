"""The conformance kit for codec authors: what vcframe relies on, checked on any `Codec`.

    @pytest.mark.parametrize("check", codec_checks(MyCodec()))
    def test_my_codec(check):
        check()

`vcframe check NAME` runs the same checks. Nothing here needs torch.
"""

from vcframe.testing.failure import CheckFailed
from vcframe.testing.golden import write_golden
from vcframe.testing.kit import Check, Outcome, codec_checks

__all__ = ["Check", "CheckFailed", "Outcome", "codec_checks", "write_golden"]
