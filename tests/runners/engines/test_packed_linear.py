"""Packed linear layers compute what the plain ones do."""

import pytest

torch = pytest.importorskip("torch")

from runners.engines.deepspeed.packed_linear import PackedLinear, pack  # noqa: E402 - torch may be absent


@pytest.fixture(autouse=True)
def _onednn():
    if not torch.backends.mkldnn.is_available():
        pytest.skip("PyTorch has no oneDNN here")


@pytest.mark.parametrize("rows", [1, 2, 8, 33])
@pytest.mark.parametrize("bias", [True, False])
def test_any_number_of_rows_comes_out_as_from_the_plain_layer(rows, bias):
    plain = torch.nn.Linear(48, 80, bias=bias)
    given = torch.randn(2, rows, 48)
    with torch.inference_mode():
        torch.testing.assert_close(PackedLinear(plain)(given), plain(given))


def test_plain_float32_layers_are_replaced_and_nothing_else():
    class Special(torch.nn.Linear):
        """Does something of its own."""

    model = torch.nn.Sequential(
        torch.nn.Linear(4, 4),
        torch.nn.Sequential(torch.nn.Linear(4, 4), Special(4, 4)),
        torch.nn.Linear(4, 4, dtype=torch.bfloat16),
    )
    assert pack(model) == 2
    kinds = [type(module) for module in model.modules()]
    assert kinds.count(PackedLinear) == 2
    assert kinds.count(Special) == kinds.count(torch.nn.Linear) == 1
